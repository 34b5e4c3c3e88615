"""Recording devices, from PortAudio through sounddevice, an extra that is imported when first needed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from types import ModuleType

from lwasr_edge.errors import AudioDeviceError, MissingExtraError
from lwasr_edge.validate import whole_number


@dataclass(frozen=True)
class Device:
    """A device that can record."""

    index: int
    name: str
    channels: int
    sample_rate: int  # Hz, the device's default
    is_default: bool


def list_devices() -> list[Device]:
    """The devices that can record.

    Raises:
        MissingExtraError: sounddevice or PortAudio is not installed.
        AudioDeviceError: the sound system cannot list its devices.
    """
    sounddevice = import_sounddevice()
    try:
        described = list(sounddevice.query_devices())
    except sounddevice.PortAudioError as error:
        raise AudioDeviceError(f"the sound system cannot list its devices: {error}") from error
    default_index = sounddevice.default.device[0]
    if not isinstance(default_index, int) or default_index < 0:  # part of a name, or -1: the system's default, if any
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
    """Find a device by index or name.

    Args:
        wanted: index, or part of a name; an exact name is preferred to others that contain it. None for the default.

    Raises:
        MissingExtraError: see `list_devices`.
        AudioDeviceError: no recording device, none that matches, or several.
        OptionError: `wanted` is of another type.
    """
    devices = list_devices()
    if not devices:
        raise AudioDeviceError("no recording device was found: is a microphone plugged in?")
    if wanted is None:
        return next((device for device in devices if device.is_default), devices[0])
    if isinstance(wanted, str) and not wanted.isdecimal():
        matching = [device for device in devices if wanted.lower() in device.name.lower()]
        exact = [device for device in matching if device.name.lower() == wanted.lower()]
    else:
        index = int(wanted) if isinstance(wanted, str) else whole_number("device", wanted, hint="or part of its name")
        matching = exact = [device for device in devices if device.index == index]
    if exact or len(matching) == 1:
        return (exact or matching)[0]
    what = "several devices match" if matching else "no recording device matches"
    names = ", ".join(f"{device.index} {device.name!r}" for device in matching or devices)
    raise AudioDeviceError(f"{what} {wanted!r}; choose one of: {names}")


def import_sounddevice() -> ModuleType:
    """Import sounddevice, which loads PortAudio.

    Raises:
        MissingExtraError: one of the two is not installed; the message is the command that installs it.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise MissingExtraError("a microphone needs sounddevice: pip install '.[mic]'") from error
    except OSError as error:  # a missing shared library
        raise MissingExtraError(
            f"a microphone needs PortAudio ({error}): sudo apt install libportaudio2 (macOS: brew install portaudio)"
        ) from error
    return sounddevice
