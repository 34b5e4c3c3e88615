"""The listener with a fake sounddevice, which plays what the test gives it."""

from __future__ import annotations

import builtins
import json
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import speak

from lwasr_edge import (
    AudioDeviceError,
    EndpointRules,
    Final,
    MissingExtraError,
    Recognizer,
    StreamError,
    list_devices,
)
from lwasr_edge.cli import main
from lwasr_edge.cli.commands.listen import lost_audio, stopped_by_signals
from lwasr_edge.microphone import listener as microphone
from lwasr_edge.model import ChunkResult, Model

SENTENCE = (0.2, "\u2581one", 0.1, "\u2581four", "teen", 0.2)
MICROPHONE = {"name": "USB Microphone", "max_input_channels": 2, "default_samplerate": 44100.0}
SPEAKER = {"name": "Speaker", "max_input_channels": 0, "default_samplerate": 48000.0}
HEADSET = {"name": "USB Headset", "max_input_channels": 1, "default_samplerate": 16000.0}


class PortAudioError(Exception):
    """What sounddevice raises."""


class FakeInputStream:
    """Plays samples into the callback from its own thread, as PortAudio does."""

    def __init__(self, fake: FakeSoundDevice, **settings: Any) -> None:
        self._fake = fake
        self.settings = settings
        self.active = False
        fake.tried.append(settings)
        refused = fake.refused(settings)
        if refused:
            raise PortAudioError(*refused)
        self._thread = threading.Thread(target=self._play)
        self._closed = threading.Event()

    def start(self) -> None:
        if self._fake.cannot_start:
            raise PortAudioError("Device unavailable")
        self.active = True
        self._thread.start()

    def _play(self) -> None:
        for samples, overflow in self._fake.blocks(self.settings):
            if self._closed.is_set():
                return
            self.settings["callback"](samples, len(samples), None, types.SimpleNamespace(input_overflow=overflow))
        self._fake.played.set()
        if self._fake.unplugs:
            self.active = False
            self.settings["finished_callback"]()

    def close(self) -> None:
        self._closed.set()
        self.active = False
        if self._thread.is_alive():
            self._thread.join()


class FakeSoundDevice(types.ModuleType):
    """Stands for the sounddevice module."""

    PortAudioError = PortAudioError

    def __init__(self, samples: np.ndarray) -> None:
        super().__init__("sounddevice")
        self.devices = [SPEAKER, MICROPHONE, HEADSET]
        self.default = types.SimpleNamespace(device=(1, 0))
        self.samples = samples  # at 44100 Hz
        self.refused: Callable[[dict], tuple[str, int] | None] = lambda settings: None
        self.tried: list[dict] = []
        self.has_no_default = False
        self.cannot_start = False
        self.unplugs = False
        self.overflow_at: int | None = None
        self.played = threading.Event()
        self.opened: list[FakeInputStream] = []

    def query_devices(self, device: int | None = None, kind: str | None = None) -> Any:
        if kind == "input":
            name = self.default.device[0] if isinstance(self.default.device[0], str) else ""
            entries = enumerate(self.devices)
            inputs = [i for i, entry in entries if entry["max_input_channels"] and name in entry["name"]]
            if name and not inputs:
                raise ValueError(f"No input device matching {name!r}")
            index = inputs[0] if inputs else None
            if index is None or self.has_no_default:
                raise PortAudioError("Error querying device -1")
            return {**self.devices[index], "index": index}
        return self.devices

    def InputStream(self, **settings: Any) -> FakeInputStream:  # noqa: N802 - sounddevice's name
        self.opened.append(FakeInputStream(self, **settings))
        return self.opened[-1]

    def blocks(self, settings: dict) -> Iterator[tuple[np.ndarray, bool]]:
        scale = 32767 if settings["dtype"] == "int16" else 1
        block = np.zeros((512, settings["channels"]), settings["dtype"])  # PortAudio uses its memory again
        for number, start in enumerate(range(0, len(self.samples) - 511, 512)):
            block[:] = (self.samples[start : start + 512, None] * scale).astype(settings["dtype"])
            yield block, number == self.overflow_at


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeSoundDevice:
    module = FakeSoundDevice(speak(*SENTENCE, sample_rate=44100))
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    monkeypatch.setattr(microphone, "SILENT_DEVICE_S", 0.3)
    monkeypatch.setattr(microphone, "_POLL_S", 0.02)
    return module


def stop_when_played(fake: FakeSoundDevice, listener: microphone.Listener) -> None:
    def wait() -> None:
        fake.played.wait(5)
        listener.stop()

    threading.Thread(target=wait).start()


def test_devices(fake: FakeSoundDevice) -> None:
    assert list_devices() == [
        microphone.Device(1, "USB Microphone", 2, 44100, True),
        microphone.Device(2, "USB Headset", 1, 16000, False),
    ]
    fake.default.device = (-1, -1)  # sounddevice's word for "the system's"
    assert [device.is_default for device in list_devices()] == [True, False]
    fake.default.device = ("USB Head", None)  # as a user may set it
    assert [device.is_default for device in list_devices()] == [False, True]
    fake.default.device = ("no such", None)
    assert [device.is_default for device in list_devices()] == [False, False]
    fake.default.device = (-1, -1)
    fake.has_no_default = True
    assert [device.is_default for device in list_devices()] == [False, False]
    fake.devices = [SPEAKER]
    assert list_devices() == []


def test_words_at_the_devices_own_rate(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    listener = recognizer.listen(hop_ms=160)
    stop_when_played(fake, listener)
    events = list(listener)
    assert [event.text for event in events] == ["one", "one fourteen", "one fourteen"]
    assert isinstance(events[-1], Final)
    assert events[-1].reason == "flush"
    (opened,) = fake.opened
    settings = {key: opened.settings[key] for key in ("device", "samplerate", "channels", "dtype")}
    assert settings == {"device": 1, "samplerate": 44100, "channels": 1, "dtype": "float32"}
    assert not opened.active
    assert (listener.overflow_count, listener.lost_samples) == (0, 0)


@pytest.mark.parametrize(("channels", "dtype"), [(1, "int16"), (2, "float32"), (2, "int16")])
def test_other_kinds_of_samples(fake: FakeSoundDevice, recognizer: Recognizer, channels: int, dtype: str) -> None:
    fake.refused = lambda s: None if (s["channels"], s["dtype"]) == (channels, dtype) else ("Invalid format", -9994)
    listener = recognizer.listen()
    stop_when_played(fake, listener)
    assert list(listener)[-1].text == "one fourteen"


def test_endpoints(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    fake.samples = speak("\u2581one", 0.5, "\u2581two", 0.5, sample_rate=44100)
    listener = recognizer.listen(endpoint=EndpointRules(silence_after_speech_s=0.2))
    stop_when_played(fake, listener)
    assert [event.text for event in listener if isinstance(event, Final)] == ["one", "two"]


@pytest.mark.parametrize(("wanted", "index"), [(None, 1), (2, 2), ("2", 2), ("usb mic", 1), ("USB Headset", 2)])
def test_choice_of_device(fake: FakeSoundDevice, recognizer: Recognizer, wanted: int | str, index: int) -> None:
    with recognizer.listen(wanted) as listener:
        assert listener.device.index == index


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (0, "no recording device matches 0; choose one of: 1 'USB Microphone', 2 'USB Headset'"),
        ("usb", "several devices match 'usb'"),
        ("radio", "no recording device matches 'radio'"),
    ],
)
def test_wrong_choice(fake: FakeSoundDevice, recognizer: Recognizer, wanted: int | str, message: str) -> None:
    with pytest.raises(AudioDeviceError, match=message):
        recognizer.listen(wanted)


def test_no_microphone(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    fake.devices = [SPEAKER]
    with pytest.raises(AudioDeviceError, match="is a microphone plugged in"):
        recognizer.listen()


def test_a_device_that_cannot_be_opened(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    fake.refused = lambda _: ("Device unavailable [PaErrorCode -9985]", -9985)
    with pytest.raises(AudioDeviceError, match=r"'USB Microphone' cannot be opened at .* 44100 Hz.*-9985"):
        recognizer.listen()
    assert {opened["samplerate"] for opened in fake.tried} == {44100}  # another rate would not help


def test_a_device_that_refuses_its_own_rate(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    refusal = ("Invalid sample rate [PaErrorCode -9997]", -9997)
    fake.refused = lambda settings: None if settings["samplerate"] == 16000 else refusal
    fake.samples = speak(*SENTENCE)
    listener = recognizer.listen()
    assert listener.device.sample_rate == 16000
    stop_when_played(fake, listener)
    assert list(listener)[-1].text == "one fourteen"
    fake.refused = lambda _: refusal
    with pytest.raises(AudioDeviceError, match=r"cannot be opened at its default rate, 44100 Hz.*-9997"):
        recognizer.listen()


def test_a_device_that_cannot_be_started(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    fake.cannot_start = True
    with pytest.raises(AudioDeviceError, match="cannot be started: Device unavailable"):
        list(recognizer.listen())


def test_unplugging_ends_with_the_last_words_and_an_error(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    fake.unplugs = True
    events = []
    with pytest.raises(AudioDeviceError, match="stopped recording: was it unplugged"):
        for event in recognizer.listen():
            events.append(event)
    assert events[-1].text == "one fourteen"


def test_a_device_that_falls_silent_is_no_hang(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    started = time.monotonic()
    with pytest.raises(AudioDeviceError, match=r"has delivered no audio for 0\.3 s"):
        list(recognizer.listen())
    assert time.monotonic() - started < 3.0


def test_a_device_that_never_starts_is_given_more_time(
    fake: FakeSoundDevice, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphone, "FIRST_SOUND_S", 0.6)
    fake.samples = np.zeros(0, np.float32)
    started = time.monotonic()
    with pytest.raises(AudioDeviceError, match=r"has delivered no audio for 0\.6 s"):
        list(recognizer.listen())
    assert time.monotonic() - started > 0.6


def test_a_device_that_cannot_be_closed_is_abandoned(
    fake: FakeSoundDevice, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphone, "CLOSE_S", 0.1)
    let_go = threading.Event()
    monkeypatch.setattr(FakeInputStream, "close", lambda self: let_go.wait(10))
    unregistered = []
    monkeypatch.setattr(microphone.atexit, "unregister", unregistered.append)
    fake._exit_handler = lambda: None
    listener = recognizer.listen()
    stop_when_played(fake, listener)
    assert list(listener)[-1].text == "one fourteen"
    assert unregistered == [fake._exit_handler]
    let_go.set()


def test_overflow_of_the_driver_is_counted(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    fake.overflow_at = 3
    listener = recognizer.listen()
    stop_when_played(fake, listener)
    assert list(listener)[-1].text == "one fourteen"
    assert listener.overflow_count == 1
    assert listener.lost_samples == 0


def test_a_slow_recogniser_loses_audio_and_reports_it(
    fake: FakeSoundDevice, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphone, "QUEUE_S", 0.1)  # 4410 samples; blocks of 512
    listener = recognizer.listen()
    for block, _ in fake.blocks({"dtype": "float32", "channels": 1}):  # nobody takes them out
        listener._on_audio(block, len(block), None, types.SimpleNamespace(input_overflow=False))
    blocks = len(fake.samples) // 512
    assert listener.overflow_count == 1  # one loss, however many blocks
    assert listener.lost_samples == (blocks - 9) * 512
    listener.stop()
    taken = sum(len(block) for block in listener._blocks())
    assert taken == 9 * 512
    for _ in range(9):  # room again
        listener._on_audio(block, len(block), None, types.SimpleNamespace(input_overflow=False))
    assert listener.lost_samples == (blocks - 9) * 512
    gap, *rest = listener._blocks()
    assert gap == listener.lost_samples
    assert [len(block) for block in rest] == [512] * 9
    listener.close()


@pytest.mark.parametrize("endpoint", [None, EndpointRules()])
def test_times_hold_through_a_gap_whose_neighbours_are_not_joined(
    fake: FakeSoundDevice, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, endpoint: EndpointRules | None
) -> None:
    monkeypatch.setattr(microphone, "QUEUE_S", 0.5)
    listener = recognizer.listen(hop_ms=160, endpoint=endpoint)
    no_overflow = types.SimpleNamespace(input_overflow=False)

    def record(*spoken: str | float) -> None:
        samples = speak(*spoken, sample_rate=44100)
        for start in range(0, len(samples), 441):
            listener._on_audio(samples[start : start + 441], len(samples[start : start + 441]), None, no_overflow)

    record(0.2, "\u2581four", 0.2)  # to 0.52 s: all that the queue takes
    record(300.0)  # nobody takes any out
    assert listener.lost_samples == pytest.approx(300 * 44100, abs=441)
    fake.samples = np.zeros(0, np.float32)
    listener._samples_taken = listener._samples_put
    record("teen", 0.2)  # at 300.52 s
    listener.stop()
    finals = [event for event in listener if isinstance(event, Final)]
    assert [(final.text, final.reason) for final in finals] == [("four", "gap"), ("teen", "flush")]
    assert finals[0].start_s == pytest.approx(0.2, abs=0.04)
    assert finals[1].start_s == pytest.approx(300.52, abs=0.04)


def test_ctrl_c_while_waiting_gives_the_last_words_first(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    listener = recognizer.listen()
    real_get = listener._queue.get

    class InterruptedQueue:
        put = listener._queue.put
        empty = listener._queue.empty

        @staticmethod
        def get(timeout: float) -> np.ndarray:
            if fake.played.is_set() and listener._queue.empty():
                raise KeyboardInterrupt
            return real_get(timeout=timeout)

    listener._queue = InterruptedQueue
    events = []
    with pytest.raises(KeyboardInterrupt):
        for event in listener:
            events.append(event)
    assert (events[-1].text, events[-1].reason) == ("one fourteen", "flush")
    assert not fake.opened[0].active


def test_ctrl_c_while_recognising_gives_what_was_recorded_first(
    fake: FakeSoundDevice, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Model.run_chunk
    is_first = True

    def step_with_ctrl_c(*args: Any, **kwargs: Any) -> ChunkResult:
        nonlocal is_first
        fake.played.wait(5)
        if is_first:
            is_first = False
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(Model, "run_chunk", step_with_ctrl_c)
    events = []
    with pytest.raises(KeyboardInterrupt):
        for event in recognizer.listen(hop_ms=160):
            events.append(event)
    assert (events[-1].text, events[-1].reason) == ("one fourteen", "flush")
    assert not fake.opened[0].active


def test_stop_before_the_first_block(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    fake.samples = np.zeros(0, np.float32)
    listener = recognizer.listen()
    listener.stop()
    assert list(listener) == []


def test_a_second_loop_continues_with_the_next_event(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    texts = []
    with recognizer.listen(hop_ms=160) as listener:
        stop_when_played(fake, listener)
        for _ in range(2):
            for event in listener:
                texts.append(event.text)
                break
        assert fake.opened[0].active or fake.played.is_set()
        texts += [event.text for event in listener]
    assert texts == ["one", "one fourteen", "one fourteen"]
    assert not fake.opened[0].active


def test_an_ended_listener_raises_an_error(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    listener = recognizer.listen()
    stop_when_played(fake, listener)
    assert list(listener)[-1].text == "one fourteen"
    closed = recognizer.listen()
    closed.close()
    for ended in (listener, closed):
        with pytest.raises(StreamError, match=r"this listener has ended: call recognizer\.listen\(\) again"):
            list(ended)


def test_closing_from_another_thread_ends_the_iteration_quietly(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    listener = recognizer.listen(hop_ms=160)
    events = []
    for event in listener:
        events.append(event.text)
        if len(events) == 2:
            fake.played.wait(5)  # the rest stands in the queue
            closing = threading.Thread(target=listener.close)
            closing.start()
            closing.join()
    assert events == ["one", "one fourteen"]
    assert not fake.opened[0].active


def test_closing_while_the_listener_waits(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    listener = recognizer.listen()

    def close() -> None:
        fake.played.wait(5)
        time.sleep(0.05)
        listener.close()

    threading.Thread(target=close).start()
    assert [event.text for event in listener if isinstance(event, Final)] == []


def test_what_is_recorded_during_a_pause_is_dropped(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    listener = recognizer.listen(hop_ms=160)
    for spoken in ("\u2581one", "\u2581two", "\u2581three"):
        (listener.pause if spoken == "\u2581two" else listener.resume)()
        listener._on_audio(
            speak(0.2, spoken, 0.5, sample_rate=44100), 36162, None, types.SimpleNamespace(input_overflow=False)
        )
    fake.samples = np.zeros(0, np.float32)
    listener.stop()
    finals = [event for event in listener if isinstance(event, Final)]
    assert [(final.text, final.reason) for final in finals] == [("one", "gap"), ("three", "flush")]
    assert finals[1].start_s == pytest.approx(2 * 0.82 + 0.2, abs=0.04)  # times include the pause
    assert (listener.overflow_count, listener.lost_samples) == (0, 0)


def test_a_pause_ends_the_utterance(fake: FakeSoundDevice, recognizer: Recognizer) -> None:
    listener = recognizer.listen()
    for event in listener:
        listener.pause()
        if isinstance(event, Final):
            assert (event.text, event.reason) == ("one fourteen", "gap")
            break
    else:
        pytest.fail("got no final")
    listener.close()


def test_a_pause_may_be_silent(fake: FakeSoundDevice, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "FIRST_SOUND_S", 0.6)
    listener = recognizer.listen()
    listener.pause()

    def resume() -> None:
        fake.played.wait(5)
        time.sleep(1.0)
        listener.resume()

    threading.Thread(target=resume).start()
    started = time.monotonic()
    with pytest.raises(AudioDeviceError, match=r"has delivered no audio for 0\.6 s"):
        list(listener)
    assert time.monotonic() - started > 1.6


def test_sounddevice_is_not_installed(monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[mic\]'"):
        recognizer.listen()


def test_portaudio_is_not_installed(monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer) -> None:
    real_import = builtins.__import__

    def no_portaudio(name: str, *args: Any, **kwargs: Any) -> types.ModuleType:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_portaudio)
    with pytest.raises(ImportError, match=r"PortAudio library not found.*apt install libportaudio2"):
        list_devices()


# The command


@pytest.mark.usefixtures("default_model")
def test_listen_prints_finals_until_ctrl_c(fake: FakeSoundDevice, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)

    def press_ctrl_c() -> None:
        fake.played.wait(5)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=press_ctrl_c).start()
    assert main(["listen"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "one fourteen\n"
    assert captured.err == "listening to 'USB Microphone'; Ctrl-C stops\n"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("default_model")
def test_listen_as_json(fake: FakeSoundDevice, capsys: pytest.CaptureFixture[str]) -> None:
    fake.unplugs = True
    fake.overflow_at = 0
    assert main(["listen", "--json", "--hop-ms", "160", "--no-endpoint", "--device", "usb mic"]) == 2
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert [(event["kind"], event["text"]) for event in events] == [
        ("partial", "one"),
        ("partial", "one fourteen"),
        ("final", "one fourteen"),
    ]
    assert events[1]["stable_text"] == "one"
    assert events[-1]["reason"] == "flush"
    assert "lwasr: warning: audio was lost once\n" in captured.err
    assert captured.err.endswith("lwasr: error: 'USB Microphone' stopped recording: was it unplugged?\n")


@pytest.mark.usefixtures("default_model")
def test_listen_with_alternatives(fake: FakeSoundDevice, capsys: pytest.CaptureFixture[str]) -> None:
    fake.unplugs = True
    assert main(["listen", "--nbest", "1"]) == 2
    assert capsys.readouterr().out == "one fourteen\n    1.00  one fourteen\n"


def test_lost_audio_is_reported() -> None:
    device = microphone.Device(0, "USB Microphone", 1, 44100, True)
    listener = types.SimpleNamespace(overflow_count=2, lost_samples=66150, device=device)
    assert lost_audio(listener) == "audio was lost 2 times, 1.5 s of it because recognition was too slow"


@pytest.mark.usefixtures("default_model")
def test_sigterm_ends_as_ctrl_c_does(fake: FakeSoundDevice, capsys: pytest.CaptureFixture[str]) -> None:
    def ask_to_end() -> None:
        fake.played.wait(5)
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=ask_to_end).start()
    assert main(["listen"]) == 0
    assert capsys.readouterr().out == "one fourteen\n"


def test_the_second_ctrl_c_does_not_wait() -> None:
    asked = []
    with pytest.raises(KeyboardInterrupt), stopped_by_signals(lambda: asked.append(True)):
        signal.raise_signal(signal.SIGINT)
        assert asked == [True]
        signal.raise_signal(signal.SIGINT)


def test_listen_lists_devices(fake: FakeSoundDevice, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["listen", "--list-devices"]) == 0
    assert capsys.readouterr().out == (
        "*   1  USB Microphone  (2 channels, 44100 Hz)\n    2  USB Headset  (1 channel, 16000 Hz)\n"
    )


@pytest.mark.usefixtures("default_model")
def test_the_live_line(
    fake: FakeSoundDevice, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "10")
    fake.unplugs = True
    assert main(["listen", "--hop-ms", "160", "--no-written"]) == 2
    clear = "\r\x1b[K"
    assert capsys.readouterr().out == f"{clear}one{clear}\u2026fourteen{clear}one fourteen\n{clear}"
