"""Devices that can record, as PortAudio (through sounddevice) tells of them.

sounddevice is an extra and is imported when a device is first asked for.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from types import ModuleType

from lwasr_edge.errors import AudioDeviceError, MissingExtraError


@dataclass(frozen=True)
class Device:
    """A device that can record."""

    index: int
    name: str
    channels: int
    sample_rate: int  # Hz, its own
    is_default: bool


def list_devices() -> list[Device]:
    """The devices that can record.

    Raises:
        MissingExtraError: sounddevice or PortAudio is not installed.
        AudioDeviceError: the sound system cannot be asked.
    """
    sounddevice = import_sounddevice()
    try:
        described = list(sounddevice.query_devices())
    except sounddevice.PortAudioError as error:
        raise AudioDeviceError(f"the sound system cannot list its devices: {error}") from error
    default_index = sounddevice.default.device[0]
    if not isinstance(default_index, int) or default_index < 0:  # part of a name; or the system's choice, perhaps none
        with contextlib.suppress(sounddevice.PortAudioError, ValueError):
            default_index = sounddevice.query_devices(kind="input")["index"]
    return [
        Device(
            index=index,
            name=str(entry["name"]),
            channels=int(entry["max_input_channels"]),
            sample_rate=round(entry["default_samplerate"]),
            is_default=index == default_index,
        )
        for index, entry in enumerate(described)
        if entry["max_input_channels"] > 0
    ]


def choose_device(wanted: int | str | None) -> Device:
    """The device that is meant.

    Args:
        wanted: index, or part of a name; a name in full wins over others that contain it. None for the default.

    Raises:
        MissingExtraError: see `list_devices`.
        AudioDeviceError: none that can record, none like this, or several.
    """
    devices = list_devices()
    if not devices:
        raise AudioDeviceError("no device that can record was found: is a microphone plugged in?")
    if wanted is None:
        return next((device for device in devices if device.is_default), devices[0])
    if isinstance(wanted, str) and not wanted.isdecimal():
        matching = [device for device in devices if wanted.lower() in device.name.lower()]
        exact = [device for device in matching if device.name.lower() == wanted.lower()]
    else:
        matching = exact = [device for device in devices if device.index == int(wanted)]
    if exact or len(matching) == 1:
        return (exact or matching)[0]
    what = "several devices match" if matching else "no recording device matches"
    names = ", ".join(f"{device.index} {device.name!r}" for device in matching or devices)
    raise AudioDeviceError(f"{what} {wanted!r}; choose one of: {names}")


def import_sounddevice() -> ModuleType:
    """sounddevice, with PortAudio behind it.

    Raises:
        MissingExtraError: one of the two is not installed; the message is the command that installs it.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise MissingExtraError('a microphone needs sounddevice: pip install "lwasr-edge[mic]"') from error
    except OSError as error:  # sounddevice's word for a missing shared library
        raise MissingExtraError(
            f"a microphone needs PortAudio ({error}): sudo apt install libportaudio2 (macOS: brew install portaudio)"
        ) from error
    return sounddevice
