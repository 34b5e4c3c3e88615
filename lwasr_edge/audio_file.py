"""Opening recordings: whatever the source, a soundfile.SoundFile that can be read from its beginning to its end."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lwasr_edge.errors import AudioError, AudioFileNotFoundError, AudioFormatError

if TYPE_CHECKING:
    import soundfile


def open_sound_file(source: Any) -> tuple[str, soundfile.SoundFile]:
    """Open a path, bytes or a binary file object; return it with a name for messages."""
    import soundfile

    class SequentialFile(soundfile.SoundFile):
        """After each read, soundfile seeks to where it already is, which makes MP3 decoders drop sound. Not here."""

        def seekable(self) -> bool:
            return False

    name, readable = _name_and_readable(source)
    try:
        return name, SequentialFile(readable if isinstance(readable, (str, bytes)) else SafeFile(readable))
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: soundfile's word for a headless .raw file
        raise AudioFormatError(
            f"{name} is not a recording that can be read ({decoder_reason(error)}). WAV, FLAC, OGG, Opus, MP3 and AIFF "
            "are; samples without a header go in as an array: np.frombuffer(data, np.int16) and its sample_rate"
        ) from error


def announced_samples(file: soundfile.SoundFile) -> int:
    """What the header of a WAV or AIFF file announces; libsndfile quietly trusts the file's size instead.

    Returns 0 for other formats, and for the placeholder length that programs write into a pipe.
    """
    bytes_per_sample = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
    width = bytes_per_sample.get(file.subtype, 0) * file.channels
    for line in file.extra_info.splitlines():
        field, _, rest = line.partition(":")
        if field.strip() in ("data", "SSND") and "should be" in rest:
            size = int(rest.split()[0])
            return size // width if width and size < 0x7FFFFFFF else 0
    return 0


def decoder_reason(error: Exception) -> str:
    """The decoder's own words for an error, to be put in brackets."""
    return getattr(error, "error_string", str(error)).strip().rstrip(".")


class SafeFile:
    """What soundfile needs of a file object, with a seek that never raises.

    A damaged header makes libsndfile seek to impossible places. soundfile would print the traceback of such a seek on
    stderr and go on; here the place stays as it is, and libsndfile finds the damage by itself.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read = file.read
        self.tell = file.tell

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        """Move if that is possible."""
        with contextlib.suppress(OSError, ValueError):
            self._file.seek(offset, whence)


def _name_and_readable(source: Any) -> tuple[str, str | bytes | BinaryIO]:
    if isinstance(source, (str, os.PathLike)):
        return _check_path(os.fspath(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the given bytes", _non_empty("the given bytes", bytes(source))
    if isinstance(source, io.TextIOBase):
        raise AudioError(f"{getattr(source, 'name', 'the file object')} is open as text: open it with mode 'rb'")
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "the file object"))
        if getattr(source, "seekable", lambda: False)() and source.tell() == 0 and source.read(1):
            source.seek(0)
            return name, source
        # A pipe, or a file object read from its middle: libsndfile seeks to absolute places, so give it the rest alone.
        return name, _non_empty(name, source.read())
    raise AudioError(
        "audio is expected as a path, bytes, a binary file object, an array with sample_rate, or (array, sample_rate); "
        f"came {type(source).__name__}"
    )


def _non_empty(name: str, data: bytes) -> BinaryIO:
    if not data:
        raise AudioError(f"{name} holds no audio: 0 bytes (a file object is read from where it stands: seek(0)?)")
    return io.BytesIO(data)


def _check_path(path: str | bytes) -> tuple[str, str | bytes | BinaryIO]:
    path = os.fsdecode(path)
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        raise AudioFileNotFoundError(f"no such audio file: {path}") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{path} is a directory; an audio file is expected")
    try:
        if stat.S_ISREG(status.st_mode):
            if status.st_size == 0:
                raise AudioError(f"{path} holds no audio: 0 bytes")
            with Path(path).open("rb"):  # for the operating system's own words about permissions
                return path, os.fsencode(path) if os.name == "posix" else path  # not every name is valid text
        with Path(path).open("rb") as pipe:
            return path, _non_empty(path, pipe.read())
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror}") from error
