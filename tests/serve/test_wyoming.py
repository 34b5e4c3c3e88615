"""The Wyoming protocol, through wyoming's own client."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import speak
from served import LIMITS, SENTENCE, TEXTS, limited, open_descriptors, pcm, run, served, until
from speech import default_recognizer, own_utterances

from lwasr_edge import OptionError, Recognizer
from lwasr_edge.serve.wyoming.server import parse_uri

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStop  # isort: skip
from wyoming.audio import AudioChunk, AudioStart, AudioStop  # isort: skip
from wyoming.client import AsyncClient  # isort: skip
from wyoming.error import Error  # isort: skip
from wyoming.event import Event  # isort: skip
from wyoming.info import Describe, Info  # isort: skip
from wyoming.ping import Ping, Pong  # isort: skip


NOTHING = ("", ["transcript-start", "transcript"])  # the answer to audio without words


async def say(
    client: AsyncClient, data: bytes, *, rate: int = 16_000, width: int = 2, channels: int = 1, block: int = 3_201
) -> None:
    """Send audio as a satellite does, in blocks that cut samples."""
    await client.write_event(Transcribe(language="en").event())
    await client.write_event(AudioStart(rate=rate, width=width, channels=channels).event())
    for start in range(0, len(data), block):
        part = data[start : start + block]
        await client.write_event(AudioChunk(rate=rate, width=width, channels=channels, audio=part).event())
    await client.write_event(AudioStop().event())


async def answer(client: AsyncClient) -> tuple[str, list[str]]:
    """The transcript, and the types of all events up to it."""
    kinds: list[str] = []
    while True:
        event = await client.read_event()
        assert event is not None, kinds
        kinds.append(event.type)
        if Transcript.is_type(event.type):
            return Transcript.from_event(event).text, kinds


async def transcript_of(uri: str, data: bytes, **form: int) -> str:
    async with AsyncClient.from_uri(uri) as client:
        await say(client, data, **form)
        return (await answer(client))[0]


async def error_of(client: AsyncClient) -> Error:
    """The error event, after which the connection is closed."""
    event = await client.read_event()
    assert event is not None and Error.is_type(event.type), event
    assert await client.read_event() is None
    return Error.from_event(event)


def test_describe_and_ping(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        async with served(recognizer) as it, AsyncClient.from_uri(it.wyoming) as client:
            await client.write_event(Describe().event())
            event = await client.read_event()
            (program,) = Info.from_event(event).asr
            (model,) = program.models
            assert (program.name, model.name, model.languages) == ("lwasr", "tiny", ["en"])
            assert program.installed and model.installed and program.supports_transcript_streaming
            assert program.requires_external_vad
            await client.write_event(Ping(text="here").event())
            assert Pong.from_event(await client.read_event()).text == "here"
            await client.write_event(Event(type="of-a-later-version", data={"a": 1}))
            await client.write_event(Describe().event())
            assert Info.is_type((await client.read_event()).type)

    run(scenario())


def test_a_transcript_comes_in_chunks_and_as_a_whole(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        async with served(recognizer) as it, AsyncClient.from_uri(it.wyoming) as client:
            for _ in range(2):  # a connection may be used again
                await say(client, pcm(*SENTENCE))
                kinds, chunks = [], []
                while not kinds or kinds[-1] != "transcript-stop":
                    event = await client.read_event()
                    kinds.append(event.type)
                    if TranscriptChunk.is_type(event.type):
                        chunks.append(TranscriptChunk.from_event(event).text)
                    if Transcript.is_type(event.type):
                        text = Transcript.from_event(event).text
                chunk = "transcript-chunk"
                assert kinds == ["transcript-start", chunk, chunk, "transcript", "transcript-stop"]
                assert chunks == [TEXTS[0], " " + TEXTS[1]]
                assert text == "".join(chunks)

    run(scenario())


@pytest.mark.parametrize(
    ("rate", "width", "channels"),
    [(16_000, 2, 1), (8_000, 2, 1), (48_000, 2, 2), (44_100, 3, 1), (22_050, 4, 2), (16_000, 1, 1), (16_000, 2, 6)],
)
def test_any_format(recognizer: Recognizer, rate: int, width: int, channels: int) -> None:
    async def scenario() -> None:
        data = pcm(*SENTENCE, sample_rate=rate, width=width, channels=channels)
        async with served(recognizer) as it:
            text = await transcript_of(it.wyoming, data, rate=rate, width=width, channels=channels)
            assert text == " ".join(TEXTS)

    run(scenario())


def test_a_client_that_sends_only_chunks_and_one_without_audio(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        async with served(recognizer) as it, AsyncClient.from_uri(it.wyoming) as client:
            await client.write_event(AudioChunk(16_000, 2, 1, pcm("\u2581two", 0.1)).event())
            await client.write_event(AudioStop().event())
            assert (await answer(client))[0] == "two"
            await client.read_event()  # transcript-stop
            await client.write_event(AudioStop().event())
            assert await answer(client) == NOTHING
            await client.read_event()
            await say(client, pcm(2.0))
            assert await answer(client) == NOTHING
            assert TranscriptStop.is_type((await client.read_event()).type)

    run(scenario())


def test_satellites_at_the_same_time(recognizer: Recognizer) -> None:
    words = ["one", "two", "three", "four"]

    async def scenario() -> None:
        async with served(recognizer) as it:
            spoken = [pcm(0.2, f"\u2581{words[i % 4]}", 0.2, f"\u2581{words[i % 3]}") for i in range(12)]
            texts = await asyncio.gather(*(transcript_of(it.wyoming, data) for data in spoken))
            assert texts == [f"{words[i % 4]} {words[i % 3]}" for i in range(12)]

    run(scenario())


def test_a_unix_socket(recognizer: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))

    async def scenario() -> None:
        async with served(recognizer, wyoming=f"unix://{path}") as it:
            assert await transcript_of(it.wyoming, pcm("\u2581two", 0.1)) == "two"
            with pytest.raises(OptionError, match="free address"):  # the other one is still there
                async with served(recognizer, wyoming=f"unix://{path}"):
                    pass
            assert await transcript_of(it.wyoming, pcm("\u2581one", 0.1)) == "one"
        assert not path.exists()

    run(scenario())


@pytest.mark.parametrize("uri", ["tcp://1.2.3.4", "http://1.2.3.4:1", "tcp://h:99999", "unix://", "10300", "tcp://:1"])
def test_addresses_that_are_refused(uri: str) -> None:
    with pytest.raises(OptionError, match="--wyoming must be tcp://HOST:PORT, unix:///PATH or stdio://, got"):
        parse_uri(uri)


@pytest.mark.parametrize(
    ("sent", "code", "message"),
    [
        (b"GET / HTTP/1.1\r\n", "invalid", "an event must be a line of JSON"),
        (b"[1]\n", "invalid", "an event must be a JSON object"),
        (b'{"type": 1}\n', "invalid", "an event must have a type"),
        (b'{"type": "describe", "data": 3}\n', "invalid", "an event must have a type and perhaps data"),
        (b'{"type": "audio-stop", "payload_length": -1}\n', "invalid", "payload_length must be a number of bytes"),
        (b'{"type": "audio-chunk", "payload_length": 1e3}\n', "invalid", "payload_length must be a number of bytes"),
        (b'{"type": "audio-chunk", "payload_length": 9999999999999}\n', "size", "payload_length must be at most"),
        (b'{"type": "audio-chunk", "data_length": 9999999999999}\n', "size", "data_length must be at most"),
        (b'{"type": "audio-chunk", "data_length": 4}\nxxxx', "invalid", "an event must be a line of JSON"),
        (b"a" * 200_000, "size", "the header of an event must have at most"),
        (b'{"type": "audio-start", "data": {"rate": 16000}}\n', "invalid", "got no width"),
        (b'{"type": "audio-start", "data": {"rate": 5, "width": 2, "channels": 1}}\n', "invalid", "rate must be"),
        (b'{"type": "audio-start", "data": {"rate": "x", "width": 2, "channels": 1}}\n', "invalid", "rate must be"),
        (b'{"type": "audio-start", "data": {"rate": 16000, "width": 9, "channels": 1}}\n', "invalid", "width must be"),
        (b'{"type": "audio-start", "data": {"rate": 16000, "width": 2, "channels": 0}}\n', "invalid", "channels must"),
        (b'{"type": "transcribe", "data": {"language": "de"}}\n', "invalid", "language must be en, got 'de'"),
        (b'{"type": "transcribe", "data": {"language": {}, "name": []}}\n{"type": "audio-start"}\n', "invalid", ""),
    ],
)
def test_malformed_events_get_an_error_event(
    recognizer: Recognizer, sent: bytes, code: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with served(recognizer) as it, AsyncClient.from_uri(it.wyoming) as client:
            client._writer.write(sent)
            error = await error_of(client)
            assert (error.code, message in error.text) == (code, True), error
        assert not [record for record in caplog.records if record.exc_info]

    run(scenario())


def test_a_change_of_format_and_a_second_start(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        start = AudioStart(16_000, 2, 1).event()
        for second in (start, AudioChunk(8_000, 2, 1, b"\0\0").event()):
            async with served(recognizer) as it, AsyncClient.from_uri(it.wyoming) as client:
                await client.write_event(start)
                await client.write_event(second)
                assert (await error_of(client)).code == "invalid"
                await until(lambda it=it: it.service.open_streams == 0, "the stream is closed")

    run(scenario())


def test_clients_beyond_the_limit_are_refused_and_then_served(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        async with served(recognizer, limited(clients=1)) as it:
            async with AsyncClient.from_uri(it.wyoming) as first:
                await first.write_event(AudioStart(16_000, 2, 1).event())
                await until(lambda: it.service.open_streams == 1, "the first is served")
                async with AsyncClient.from_uri(it.wyoming) as second:
                    await second.write_event(AudioStart(16_000, 2, 1).event())
                    error = await error_of(second)
                    assert (error.code, error.text) == ("clients", "streams must be at most 1: try again later")
            await until(lambda: it.service.open_streams == 0, "the first is gone")
            assert await transcript_of(it.wyoming, pcm("\u2581two", 0.1)) == "two"

    run(scenario())


def test_a_client_that_is_refused_while_it_sends_can_read_why(recognizer: Recognizer) -> None:
    """Audio that arrives after the error would reset a connection that the service has closed."""

    async def scenario() -> None:
        async with served(recognizer, limited(clients=1)) as it, AsyncClient.from_uri(it.wyoming) as first:
            await first.write_event(AudioStart(16_000, 2, 1).event())
            await until(lambda: it.service.open_streams == 1, "the first client is served")
            async with AsyncClient.from_uri(it.wyoming) as second:
                await second.write_event(AudioStart(16_000, 2, 1).event())
                for _ in range(20):
                    await second.write_event(AudioChunk(16_000, 2, 1, bytes(50_000)).event())
                    await asyncio.sleep(0.01)
                await second.write_event(AudioStop().event())
                assert (await error_of(second)).code == "clients"

    run(scenario())


def test_a_silent_client_is_closed(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        async with served(recognizer, limited(idle_s=0.2)) as it, AsyncClient.from_uri(it.wyoming) as client:
            await client.write_event(AudioStart(16_000, 2, 1).event())
            assert (await error_of(client)).code == "idle"
            await until(lambda: it.service.open_streams == 0, "the stream is closed")

    run(scenario())


def test_a_client_that_does_not_read_is_disconnected(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        async with served(recognizer, limited(idle_s=0.2)) as it:
            host, port = it.wyoming.removeprefix("tcp://").split(":")
            descriptors = open_descriptors()
            _, writer = await asyncio.open_connection(host, int(port), limit=1024)
            writer.transport.pause_reading()
            text = json.dumps({"text": "x" * 60_000}).encode()
            writer.write(b'{"type": "ping", "data_length": %d}\n%b' % (len(text), text) * 400)
            await until(lambda: open_descriptors() == descriptors + 2, "both ends are open")
            await until(lambda: open_descriptors() <= descriptors + 1, "the server's end is closed")
            writer.transport.abort()

    run(scenario())


def test_too_much_audio(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        async with served(recognizer, limited(audio_s=2.0)) as it, AsyncClient.from_uri(it.wyoming) as client:
            await client.write_event(AudioStart(16_000, 2, 1).event())
            await client.write_event(AudioChunk(16_000, 2, 1, pcm(3.0)).event())
            assert (await error_of(client)).code == "audio"

    run(scenario())


def test_the_service_ends_commands(recognizer: Recognizer) -> None:
    """The transcript comes while the client still sends, without audio-stop."""

    async def scenario() -> None:
        async with served(recognizer, ends_commands=True) as it, AsyncClient.from_uri(it.wyoming) as client:
            await client.write_event(Describe().event())
            assert not Info.from_event(await client.read_event()).asr[0].requires_external_vad
            for text, sensitivity in (("two", "aggressive"), ("one", None)):
                await client.write_event(Transcribe(vad_sensitivity=sensitivity).event())
                await client.write_event(AudioStart(16_000, 2, 1).event())
                silence = 0.6 if sensitivity else 1.0
                await client.write_event(AudioChunk(16_000, 2, 1, pcm(0.2, f"\u2581{text}", silence)).event())
                assert (await answer(client))[0] == text
                await client.read_event()  # transcript-stop
                await client.write_event(AudioChunk(16_000, 2, 1, pcm("\u2581four", 1.0)).event())  # ignored
                await client.write_event(AudioStop().event())
            await client.write_event(AudioStart(16_000, 2, 1).event())
            await client.write_event(AudioChunk(16_000, 2, 1, pcm(9.0)).event())
            assert await answer(client) == NOTHING  # nobody speaks
            assert TranscriptStop.is_type((await client.read_event()).type)
            await client.write_event(AudioStop().event())
            await client.write_event(Describe().event())
            assert Info.is_type((await client.read_event()).type)

    run(scenario())


def test_a_stop_of_the_service_gives_the_transcript_so_far(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        async with served(recognizer) as it:
            client = AsyncClient.from_uri(it.wyoming)
            await client.connect()
            await client.write_event(AudioStart(16_000, 2, 1).event())
            await client.write_event(AudioChunk(16_000, 2, 1, pcm(0.2, "\u2581two")).event())
            await until(lambda: it.service.open_streams == 1, "it is served")
            await asyncio.sleep(0.1)
        assert (await answer(client))[0] == "two"
        await client.disconnect()

    run(scenario())


def test_phrases_that_change(model_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("one two\n", encoding="utf-8")
    model = Recognizer(model_path)
    spoken = {"one two": ("\u2581one", 0.1, "\u2581two"), "four": ("\u2581four", 0.1)}

    def remake() -> Recognizer:
        from lwasr_edge.decoding.phrases import PhraseList

        return model.with_decoding(phrases=PhraseList.read(path))

    async def scenario() -> None:
        audio = {text: pcm(0.2, *pieces) for text, pieces in spoken.items()}

        async def texts() -> list[str]:
            return [await transcript_of(it.wyoming, audio[text]) for text in spoken]

        async with served(remake(), remake=remake, phrases=path) as it:
            assert await texts() == ["one two", ""]
            before = it.service.recognizer
            path.write_text("four\nthree\n", encoding="utf-8")
            await until(lambda: it.service.recognizer is not before, "the list is read again")
            assert await texts() == ["", "four"]
            for broken in (b"\xff\xfe\xfa", b"", b"one\tmany\n"):
                caplog.clear()
                path.write_bytes(broken)
                await until(lambda: "the phrases stay as they were" in caplog.text, "it says so")
            path.unlink()
            await until(lambda: "No such file" in caplog.text, "it says so")
            assert await texts() == ["", "four"]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lwasr_edge.serve.phrase_file.LOOK_EVERY_S", 0.05)
        run(scenario())


def test_hundreds_of_clients_that_vanish_leave_nothing(recognizer: Recognizer) -> None:
    """They end in the middle of a header, of a payload, of audio, or do not read what they get."""
    start = json.dumps({"type": "audio-start", "data": {"rate": 16_000, "width": 2, "channels": 1}}).encode() + b"\n"
    chunk = b'{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}, "payload_length": 6400}\n'
    endings = [b"", b'{"type": "aud', start, start + chunk + bytes(100), start + chunk + bytes(6400), start + b"?\n"]

    async def vanish(host: str, port: int, number: int) -> None:
        _, writer = await asyncio.open_connection(host, port)
        writer.write(endings[number % len(endings)])
        if number % 2:
            writer.transport.abort()  # a reset; the others end in an orderly way
        writer.close()

    async def scenario() -> None:
        async with served(recognizer, limited(clients=200)) as it:
            host, port = it.wyoming.removeprefix("tcp://").split(":")
            await transcript_of(it.wyoming, pcm("\u2581two", 0.1))
            threads, descriptors, tasks = threading.active_count(), open_descriptors(), len(asyncio.all_tasks())
            for group in range(10):
                await asyncio.gather(*(vanish(host, int(port), group + i) for i in range(40)))
            await until(lambda: it.service.open_streams == 0, "all streams are closed")
            await until(lambda: len(asyncio.all_tasks()) <= tasks, "all tasks have ended")
            await until(lambda: open_descriptors() <= descriptors, "all sockets are closed")
            assert threading.active_count() <= threads + 2  # workers that had not begun yet
            assert await transcript_of(it.wyoming, pcm("\u2581two", 0.1)) == "two"

    run(scenario())


def test_commands_that_end_in_their_last_word() -> None:
    """The text of real speech whose silence at the end is cut off, as that of a file; soon after the end."""
    recognizer = default_recognizer()

    async def scenario(spoken: Sequence[bytes], texts: Sequence[str]) -> None:
        async with served(recognizer) as it, AsyncClient.from_uri(it.wyoming) as client:
            for data, text in zip(spoken, texts, strict=True):
                await client.write_event(AudioStart(16_000, 2, 1).event())
                for start in range(0, len(data), 3200):
                    await client.write_event(AudioChunk(16_000, 2, 1, data[start : start + 3200]).event())
                await until(lambda: it.service.open_streams == 1, "it is served")
                await client.write_event(AudioStop().event())
                began_s = time.monotonic()
                found = (await answer(client))[0]
                assert time.monotonic() - began_s < 10  # not measured here: the machine may be busy
                assert found.split()[-1] == text.split()[-1]
                assert found == text
                await client.read_event()

    spoken, texts = [], []
    for utterance in own_utterances():
        samples = utterance.samples()
        words = recognizer.transcribe((samples, 16_000)).words
        cut = samples[: round(words[-1].end_s * 16_000)]
        spoken.append((cut * 32767).astype("<i2").tobytes())
        texts.append(recognizer.transcribe((cut, 16_000)).text)
    run(scenario(spoken, texts))


def test_the_announcement_is_found(recognizer: Recognizer) -> None:
    from zeroconf import ServiceBrowser, ServiceStateChange, Zeroconf

    found: list[str] = []

    def on_change(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Added and name.startswith("a test"):
            found.append(name)

    async def scenario() -> None:
        browser_zeroconf = Zeroconf(interfaces=["127.0.0.1"])
        try:
            ServiceBrowser(browser_zeroconf, "_wyoming._tcp.local.", handlers=[on_change])
            async with served(recognizer, zeroconf="a test") as it:
                await until(lambda: bool(found), "it is found")
                info = await asyncio.to_thread(
                    browser_zeroconf.get_service_info, "_wyoming._tcp.local.", found[0], 3000
                )
                assert info is not None
                assert info.port == int(it.wyoming.rpartition(":")[2])
                assert info.parsed_addresses() == ["127.0.0.1"]
        finally:
            await asyncio.to_thread(browser_zeroconf.close)

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            probe.sendto(b"", ("224.0.0.251", 5353))
    except OSError as error:
        pytest.skip(f"no multicast on the loopback device: {error}")
    run(scenario())


def test_defaults() -> None:
    assert LIMITS.connections > LIMITS.clients + LIMITS.files
    assert len(speak("\u2581one")) == 1920  # tests above rely on it
