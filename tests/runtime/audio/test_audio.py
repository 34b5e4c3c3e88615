"""Recordings and samples: what is read, what is refused, and in which words."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import threading
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lwasr_edge import AudioError, AudioFileNotFoundError, AudioFormatError, AudioWarning, LwasrError, load_audio
from lwasr_edge.audio.reader import AudioReader
from lwasr_edge.audio.samples import StreamResampler, check_sample_rate, to_float32


def sine(seconds: float, sample_rate: int, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)).astype(np.float32)


def encoded(samples: np.ndarray, sample_rate: int, form: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format=form, subtype=subtype)
    return file.getvalue()


def peak_hz(samples: np.ndarray, sample_rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * sample_rate / len(samples)


@pytest.mark.parametrize(
    ("form", "subtype", "sample_rate"),
    [
        ("WAV", "PCM_16", 8000),
        ("WAV", "PCM_24", 44100),
        ("WAV", "FLOAT", 16000),
        ("WAV", "PCM_U8", 22050),
        ("WAV", "ULAW", 8000),
        ("FLAC", "PCM_16", 48000),
        ("OGG", "VORBIS", 44100),
        ("OGG", "OPUS", 48000),
        ("MP3", "MPEG_LAYER_III", 44100),
        ("AIFF", "PCM_16", 96000),
    ],
)
def test_every_format_gives_the_same_samples_at_16_khz(form: str, subtype: str, sample_rate: int) -> None:
    stereo = np.stack([sine(1.0, sample_rate), sine(1.0, sample_rate)], axis=1)
    samples = load_audio(encoded(stereo, sample_rate, form, subtype))
    assert samples.dtype == np.float32
    assert samples.shape == (16000,)
    assert abs(peak_hz(samples, 16000) - 440.0) <= 1.0
    assert 0.3 < np.sqrt(np.mean(samples[2000:-2000] ** 2)) < 0.4  # 0.5 / sqrt(2)


@pytest.mark.parametrize(("form", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_reading_block_by_block_gives_what_reading_at_once_gives(form: str, subtype: str) -> None:
    data = encoded(sine(3.0, 48000), 48000, form, subtype)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    with AudioReader(data) as audio:
        blocks = list(audio.blocks())
    assert len(blocks) > 30
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-6)


def test_path_bytes_file_object_and_array_agree(tmp_path: Path) -> None:
    samples = sine(0.5, 16000)
    path = tmp_path / "a b.wav"
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    data = path.read_bytes()
    with path.open("rb") as file:
        sources = [path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), file, (samples, 16000)]
        for source in sources:
            np.testing.assert_array_equal(load_audio(source), samples)
    np.testing.assert_array_equal(load_audio(samples, 16000), samples)


def test_a_file_object_is_read_from_its_position() -> None:
    file = io.BytesIO(b"other data" + encoded(sine(0.5, 16000), 16000, "WAV"))
    file.seek(10)
    assert len(load_audio(file)) == 8000
    with pytest.raises(AudioError, match=r"holds no audio: 0 bytes \(call seek\(0\)"):
        load_audio(file)


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    data = encoded(sine(0.5, 16000), 16000, "WAV")
    writer = threading.Thread(target=lambda: fifo.write_bytes(data))
    writer.start()
    assert len(load_audio(fifo)) == 8000
    writer.join()


class Pipe(io.RawIOBase):
    """Gives so many bytes, and cannot seek."""

    name = "the pipe"

    def __init__(self, data: bytes, zeros: int = 0) -> None:
        self._data = data
        self._zeros = zeros

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._data) or self._zeros)
        buffer[:count] = self._data[:count] or bytes(count)
        self._data, self._zeros = self._data[count:], self._zeros - (0 if self._data else count)
        return count


def test_ten_minutes_through_a_pipe_take_little_memory() -> None:
    header = bytearray(encoded(np.zeros(1, np.int16), 16000, "WAV")[:44])
    header[4:8] = header[40:44] = b"\xff\xff\xff\xff"
    tracemalloc.start()
    with AudioReader(Pipe(bytes(header), 2 * 16000 * 600)) as audio:
        assert sum(len(block) for block in audio.blocks()) == 16000 * 600
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # the samples are 19 MB


def test_a_full_disk_is_an_ordinary_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("lwasr_edge.audio.source.shutil.copyfileobj", fail)
    with pytest.raises(
        AudioError, match=r"the pipe cannot be read or copied .*\(No space left on device\): .*set TMPDIR"
    ):
        load_audio(Pipe(b"RIFF"))


def test_an_object_with_an_array_interface_is_an_array() -> None:
    class Tensor:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return sine(0.5, 16000)

    assert len(load_audio(Tensor(), 16000)) == 8000
    assert len(load_audio((Tensor(), 16000))) == 8000


def test_an_array_on_the_disk_is_resampled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", sine(0.5, 48000))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert len(load_audio((mapped, 48000))) == 8000


def test_a_single_number_is_refused() -> None:
    with pytest.raises(AudioError, match=r"must be \(N,\) or \(N, channels\), got shape \(\)"):
        load_audio(np.float32(0.5), 16000)


@pytest.mark.parametrize(
    ("dtype", "scale", "tolerance"), [("int16", 32768, 2e-5), ("int32", 2**31, 1e-7), ("float64", 1, 1e-7)]
)
def test_sample_types_are_scaled_alike(dtype: str, scale: float, tolerance: float) -> None:
    samples = sine(0.1, 16000)
    mono = to_float32((samples.astype(np.float64) * scale).astype(dtype))
    assert mono.dtype == np.float32
    np.testing.assert_allclose(mono, samples, atol=2 * tolerance)


def test_full_scale_integers_become_minus_one() -> None:
    np.testing.assert_array_equal(to_float32(np.array([-32768, 0, 16384], np.int16)), [-1.0, 0.0, 0.5])


@pytest.mark.parametrize("shape", [(0,), (0, 2), (1,), (1, 1)])
def test_tiny_blocks_pass(shape: tuple[int, ...]) -> None:
    assert to_float32(np.zeros(shape, np.float32)).shape == shape


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(4, np.uint8), "int16, int32, float32 or float64, got uint8"),
        (np.zeros(4, complex), "got complex128"),
        (np.zeros((2, 2, 2), np.float32), r"got shape \(2, 2, 2\)"),
        (np.zeros((2, 16000), np.float32), "transpose the array"),
        (np.float32(1.0) * np.ones(()), r"got shape \(\)"),
        (np.array([0.0, 12000.0], np.float32), r"in \[-1, 1\], got 12000: divide by 32768"),
        (b"\0\0", "got bytes: np.frombuffer"),
        ([0.0, 0.1], "numpy array, got list"),
    ],
)
def test_samples_of_another_kind_are_refused(samples: object, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        to_float32(samples)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_named(bad: float) -> None:
    samples = sine(1.0, 16000)
    samples[9000] = bad
    with pytest.raises(AudioError, match=rf"samples must be finite, got {bad} at sample 9000"):
        load_audio(samples, 16000)
    with pytest.raises(AudioError, match="at sample 9000"):
        load_audio(np.stack([sine(1.0, 16000), samples], axis=1), 16000)
    with pytest.raises(AudioError, match="the given bytes: .* at sample 9000"):
        load_audio(encoded(samples, 16000, "WAV", "FLOAT"))
    with pytest.raises(AudioError, match="at sample 1009"):
        to_float32(np.array([0.0] * 9 + [bad]), first_sample=1000)


@pytest.mark.parametrize("rate", [8000, 16000, 44100.0, np.int64(48000), np.float32(48000), 192000])
def test_rates_that_are_accepted(rate: float) -> None:
    assert check_sample_rate(rate) == rate
    assert isinstance(check_sample_rate(rate), int)


@pytest.mark.parametrize("rate", [0, -16000, 1, 16, 192001, 22050.5, float("nan"), float("inf"), True, "16000", None])
def test_rates_that_are_refused(rate: object) -> None:
    with pytest.raises(AudioError, match=r"^sample_rate must be a (whole|finite) number"):
        check_sample_rate(rate)


def test_a_rate_in_khz_is_recognised() -> None:
    with pytest.raises(AudioError, match="got 16: multiply by 1000 if it is in kHz"):
        load_audio(sine(1.0, 16000), 16)


def test_an_array_needs_its_rate() -> None:
    with pytest.raises(AudioError, match="pass sample_rate=16000"):
        load_audio(sine(1.0, 16000))


def test_the_target_rate_is_checked() -> None:
    assert len(load_audio(sine(1.0, 16000), 16000, target_hz=np.int64(8000))) == 8000
    with pytest.raises(AudioError, match="target_hz must be a whole number of Hz from 1000"):
        load_audio(sine(1.0, 16000), 16000, target_hz=0)


def test_a_pair_in_the_wrong_order_is_refused() -> None:
    with pytest.raises(AudioError, match=r"\(array, sample_rate\), in this order"):
        load_audio((16000, sine(1.0, 16000)))
    with pytest.raises(AudioError, match="sample_rate must be 16000 Hz, as in the tuple, got 8000 Hz"):
        load_audio((sine(1.0, 16000), 16000), 8000)


def test_a_rate_that_contradicts_the_file_is_refused() -> None:
    data = encoded(sine(0.1, 8000), 8000, "WAV")
    with pytest.raises(AudioError, match="sample_rate must be 8000 Hz, the rate of the given bytes, got 16000"):
        load_audio(data, 16000)
    assert len(load_audio(data, 8000)) == 1600


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such audio file: .*a\.wav"):
        load_audio(tmp_path / "a.wav")
    assert issubclass(AudioFileNotFoundError, LwasrError)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="audio must be a file, got the folder"):
        load_audio(tmp_path)


@pytest.mark.parametrize("content", [b"hello, this is text\n" * 50, np.zeros(8000, np.int16).tobytes()])
def test_bytes_without_a_container_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(AudioFormatError, match=r"must be WAV.* np\.frombuffer\(data, np\.int16\)"):
            load_audio(source)


def test_a_damaged_header_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(sine(0.1, 16000), 16000, "WAV"))
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.integers(0, 60)] = rng.integers(0, 256)
        damaged[rng.integers(0, 60)] = rng.integers(0, 256)
        with contextlib.suppress(AudioError), warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)
            load_audio(bytes(damaged))
    assert capfd.readouterr() == ("", "")


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    path.write_bytes(encoded(sine(0.1, 16000), 16000, "WAV"))
    assert len(load_audio(path)) == len(load_audio(str(path))) == 1600


def test_a_headless_raw_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(3200))
    with pytest.raises(AudioFormatError, match="must be WAV"):
        load_audio(path)


@pytest.mark.parametrize("data", [b"", encoded(np.zeros(0, np.float32), 16000, "WAV")])
def test_empty_audio_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    for source in (path, data, io.BytesIO(data), (np.zeros(0, np.float32), 16000)):
        with pytest.raises(AudioError, match="holds no audio"):
            load_audio(source)


def test_text_file_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(sine(0.1, 16000), 16000, "WAV"))
    with path.open() as file, pytest.raises(AudioError, match="mode 'rb'"):
        load_audio(file)


@pytest.mark.parametrize("source", [None, 5, 1.5, {"a": 1}])
def test_other_sources_are_refused(source: object) -> None:
    with pytest.raises(AudioError, match="audio must be a path, bytes"):
        load_audio(source)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "MP3"])
def test_a_truncated_file_is_read_as_far_as_possible_with_a_warning(form: str) -> None:
    rng = np.random.default_rng(0)
    data = encoded(rng.uniform(-0.5, 0.5, 4 * 16000).astype(np.float32), 16000, form)
    with pytest.warns(AudioWarning, match=r"is truncated or damaged: \d\.\d\d of 4\.\d\d s could be decoded"):
        samples = load_audio(data[: len(data) // 2])
    assert 1.5 * 16000 < len(samples) < 2.1 * 16000


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000, 0x7F000000])  # as programs write it that cannot seek
@pytest.mark.parametrize(("form", "chunk", "order"), [("WAV", b"data", "little"), ("AIFF", b"SSND", "big")])
def test_a_header_without_a_length_gives_no_warning(form: str, chunk: bytes, order: str, length: int) -> None:
    data = bytearray(encoded(sine(1.0, 16000), 16000, form, "PCM_16"))
    start = data.find(chunk) + 4
    data[start : start + 4] = data[4:8] = length.to_bytes(4, order)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_audio(bytes(data))) == 16000


def mp3(samples: np.ndarray, *, bitrate_mode: str, first_frame: bool = True) -> bytes:
    """At 16 kHz; without its first frame the number of frames is unknown."""
    file = io.BytesIO()
    pytest.importorskip("soundfile", minversion="0.13", reason="older soundfile cannot choose the bitrate mode")
    soundfile.write(file, samples, 16000, format="MP3", bitrate_mode=bitrate_mode, compression_level=0.5)
    data = file.getvalue()
    second_frame = data.index(data[:2], 2)
    assert b"Xing" in data[:second_frame] or b"Info" in data[:second_frame]
    return data if first_frame else data[second_frame:]


def loud_and_quiet() -> np.ndarray:
    """20 s whose bit rate varies, at 16 kHz."""
    rng = np.random.default_rng(0)
    return np.concatenate([np.zeros(48000), rng.uniform(-0.3, 0.3, 80000), sine(8, 16000), np.zeros(64000)])


def total_and_seconds(source: object) -> tuple[int, list[float]]:
    """What a source announces, and how long it seems to be after each block."""
    with AudioReader(source) as audio:
        return audio.total_samples, [audio.estimated_duration_s() for _ in audio.blocks()]


@pytest.mark.parametrize("first", ["CONSTANT", "VARIABLE", "VORBIS", "OPUS"])
@pytest.mark.parametrize("lengths_s", [(1.0, 3.0), (3.0, 1.5, 2.0), (2.0, 2.0)])
def test_concatenated_streams_are_read_to_the_end(first: str, lengths_s: tuple[float, ...], tmp_path: Path) -> None:
    parts = []
    for number, length_s in enumerate(lengths_s):
        samples = sine(length_s, 16000, hz=300.0 * (number + 1))
        is_ogg = first in ("VORBIS", "OPUS")
        parts.append(encoded(samples, 16000, "OGG", first) if is_ogg else mp3(samples, bitrate_mode=first))
    expected = np.concatenate([load_audio(part) for part in parts])
    assert len(expected) == round(16000 * sum(lengths_s))
    path = tmp_path / "joined"
    path.write_bytes(b"".join(parts))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in (path, b"".join(parts)):
            np.testing.assert_allclose(load_audio(source), expected, atol=1e-6)
        _, seconds = total_and_seconds(path)
    assert seconds[-1] == sum(lengths_s)


def test_tags_between_streams_are_skipped() -> None:
    one, two = (mp3(sine(2.0, 16000, hz), bitrate_mode="CONSTANT") for hz in (300.0, 600.0))
    old_tag, new_tag = b"TAG" + bytes(125), b"ID3\3\0\0\0\0\x20\0" + bytes(4096)
    assert len(load_audio(new_tag + one + old_tag + new_tag + two + old_tag)) == 4 * 16000


@pytest.mark.parametrize("form", ["MP3", "VORBIS", "FLAC"])
@pytest.mark.parametrize("rest", ["zeros", "other rate"])
def test_undecodable_data_after_a_recording_gives_a_warning(form: str, rest: str) -> None:
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 48000).astype(np.float32)

    def data(sample_rate: int) -> bytes:
        return encoded(noise, sample_rate, "OGG" if form == "VORBIS" else form, form if form == "VORBIS" else None)

    joined = data(16000) + (bytes(20_000) if rest == "zeros" else data(22050))
    with pytest.warns(AudioWarning, match=rf"cannot be decoded after 3\.00 s, at byte \d+ of {len(joined)}"):
        assert len(load_audio(joined)) == 48000


def test_a_tag_after_flac_loses_no_sample() -> None:
    data = encoded(sine(1.01, 16000), 16000, "FLAC") + b"TAG" + bytes(125)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_audio(data)) == 16160


@pytest.mark.parametrize("bitrate_mode", ["CONSTANT", "VARIABLE"])
def test_an_estimated_length_gives_no_warning(bitrate_mode: str) -> None:
    data = mp3(loud_and_quiet(), bitrate_mode=bitrate_mode, first_frame=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_audio(data)) / 16000 == pytest.approx(20.0, abs=0.1)
        _, seconds = total_and_seconds(data)
    assert seconds[-1] == pytest.approx(20.0, abs=0.1)


def test_flac_of_unknown_length() -> None:
    data = bytearray(encoded(np.random.default_rng(0).uniform(-0.3, 0.3, 64000), 16000, "FLAC"))
    data[8 + 13] &= 0xF0  # the low 36 bits of these are the total samples
    data[8 + 14 : 8 + 18] = bytes(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_audio(bytes(data))) == 64000
        total, seconds = total_and_seconds(bytes(data))
    assert total == 0
    assert seconds[-1] == 4.0
    assert max(seconds) < 8.0


def test_a_recording_known_by_its_name_alone(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp3")
    path.write_bytes(bytes(1000) + mp3(sine(1.0, 16000), bitrate_mode="CONSTANT"))
    assert len(load_audio(path)) == 16000


def test_blocks_are_small_however_long_the_file(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(60 * 16000, np.int16), 16000)
    with AudioReader(path) as audio:
        sizes = [len(block) for block in audio.blocks()]
    assert sum(sizes) == 60 * 16000 == audio.total_samples
    assert max(sizes) <= 4096


@pytest.mark.parametrize("sample_rate", [8000, 11025, 22050, 44100, 48000, 192000])
@pytest.mark.parametrize("block", [1, 79, 4801])
def test_resampling_does_not_depend_on_the_blocks(sample_rate: int, block: int) -> None:
    samples = sine(0.2, sample_rate)
    at_once = StreamResampler(sample_rate, 16000)
    expected = np.concatenate([at_once.process(samples), at_once.flush()])
    cut = StreamResampler(sample_rate, 16000)
    parts = [cut.process(samples[i : i + block]) for i in range(0, len(samples), block)]
    np.testing.assert_array_equal(np.concatenate([*parts, cut.flush()]), expected)
    assert len(expected) == 3200
