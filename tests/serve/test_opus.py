"""Opus over the WebSocket: Ogg and WebM cut anywhere, as ffmpeg and browsers send them, and packets."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from conftest import speak
from served import SENTENCE, TEXTS, Served, limited, run, served, until
from speech import default_recognizer, own_utterances
from test_stream_socket import END, events_of, finals, refusal_of

from lwasr_edge import Final, Recognizer, load_audio
from lwasr_edge.errors import AudioError, MissingExtraError
from lwasr_edge.serve.opus import MAX_PART, ContainerReader, OpusFormat

import aiohttp  # isort: skip

pytest.importorskip("av", reason="needs av (pip install '.[opus]')")
RATE = 48_000


def encoded(kind: str, samples: np.ndarray, channels: int = 1, codec: str = "libopus") -> bytes:
    """(n,) float32 at 48 kHz as Opus in a container, written by ffmpeg as to a socket."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("needs ffmpeg")
    command = [ffmpeg, "-v", "error", "-f", "f32le", "-ar", str(RATE), "-i", "-", "-ac", str(channels)]
    command += ["-c:a", codec, "-f", kind, "-"]
    return subprocess.run(command, input=samples.astype("<f4").tobytes(), capture_output=True, check=True).stdout


def decoded(data: bytes) -> np.ndarray:
    """The samples of all of a stream."""
    reader = ContainerReader("ogg" if data[:4] == b"OggS" else "webm")
    try:
        return np.concatenate([*(reader.process(piece) for piece in reader.pieces(data)), reader.flush()])
    finally:
        reader.close()


def texts_of(recognizer: Recognizer, samples: np.ndarray) -> list[str]:
    stream = recognizer.stream(RATE)
    return [event.text for event in [*stream.accept(samples), *stream.flush()] if isinstance(event, Final)]


def tones() -> np.ndarray:
    return speak(*SENTENCE, sample_rate=RATE)


def packets_of(ogg: bytes) -> list[bytes]:
    """The Opus packets of an Ogg stream."""
    import io

    import av

    with av.open(io.BytesIO(ogg), format="ogg") as file:
        return [bytes(packet) for packet in file.demux(audio=0) if packet.size]


@pytest.mark.parametrize("kind", ["ogg", "webm"])
def test_containers_cut_anywhere(kind: str) -> None:
    data = encoded(kind, tones())
    expected = decoded(data)
    assert abs(len(expected) - len(tones())) <= 960  # WebM has no length of the last packet
    cuts = random.Random(1)
    for longest in (9, 3000):
        reader, found, at = ContainerReader(kind), [], 0
        while at < len(data):
            step = cuts.randint(1, longest)
            found += [reader.process(piece) for piece in reader.pieces(data[at : at + step])]
            at += step
        found.append(reader.flush())
        reader.close()
        assert np.array_equal(np.concatenate(found), expected)
    assert sum(map(len, found[:-1])) > 0.5 * len(expected)  # before the end


@pytest.mark.parametrize(("kind", "channels"), [("ogg", 1), ("ogg", 2), ("webm", 1), ("opus", 1), ("opus", 2)])
def test_the_words_are_those_of_the_samples(recognizer: Recognizer, kind: str, channels: int) -> None:
    data = encoded("ogg" if kind == "opus" else kind, tones(), channels)
    assert texts_of(recognizer, decoded(data)) == TEXTS

    async def scenario() -> None:
        async with served(recognizer) as it:
            if kind == "opus":
                query = f"?format=opus&channels={channels}"
                assert finals(await events_of_messages(it, packets_of(data), query)) == TEXTS
                return
            for block in (331, 10**6):
                events = await events_of(it, data, query=f"?format={kind}", block=block)
                assert finals(events) == TEXTS
            assert any(event["kind"] == "partial" for event in events)
            assert finals(await events_of(it, data, first={"type": "start", "format": kind})) == TEXTS
            assert await events_of(it, b"", query=f"?format={kind}") == []

    run(scenario())
    assert not [thread for thread in threading.enumerate() if thread.name == "lwasr-opus"]


async def events_of_messages(it: Served, messages: Iterable[bytes], query: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession(it.url) as session, session.ws_connect(f"/v1/stream{query}") as socket:
        for message in messages:
            await socket.send_bytes(message)
        await socket.send_json(END)
        return [message.json() async for message in socket]


def test_partial_events_come_while_the_stream_arrives(recognizer: Recognizer) -> None:
    data = encoded("ogg", np.concatenate([tones(), np.zeros(4 * RATE, np.float32)]))

    async def scenario() -> None:
        async with (
            served(recognizer) as it,
            aiohttp.ClientSession(it.url) as session,
            session.ws_connect("/v1/stream?format=ogg") as socket,
        ):
            for start in range(0, len(data), 200):
                await socket.send_bytes(data[start : start + 200])
            texts: list[str] = []
            while TEXTS[1] not in texts:  # no "end" was sent
                texts.append((await socket.receive_json(timeout=10))["text"])

    run(scenario())


def test_what_is_invalid_gives_one_error(recognizer: Recognizer) -> None:
    ogg, webm = encoded("ogg", tones()), encoded("webm", tones())
    vorbis = encoded("ogg", tones(), codec="libvorbis")
    random_bytes = random.Random(2).randbytes(200_000)
    packet = packets_of(ogg)[5]
    cases = [
        ("ogg", [random_bytes], "the audio must be Opus in ogg"),
        ("ogg", [webm], "the audio must be Opus in ogg"),
        ("webm", [ogg], "the audio must be Opus in webm"),
        ("webm", [b"RIFF", random_bytes], "the audio must be Opus in webm"),
        ("ogg", [vorbis], "the audio must be Opus in ogg, got vorbis"),
        ("ogg", [ogg[:100]], "the audio must be Opus in ogg"),
        ("opus", [packet, b"\xff" + random_bytes[:50], packet], "a message must be one Opus packet"),
        ("opus", [ogg], "a message must be one Opus packet"),
    ]

    async def scenario() -> None:
        async with served(recognizer) as it, aiohttp.ClientSession(it.url) as session:
            for kind, messages, expected in cases:
                async with session.ws_connect(f"/v1/stream?format={kind}") as socket:
                    for message in messages:
                        await socket.send_bytes(message)
                    await socket.send_json(END)
                    code, text = await refusal_of(socket)
                    assert (code, text.startswith(expected)) == (1003, True), text
            for query in ("format=ogg&rate=48000", "format=webm&channels=2", "format=opus&channels=3", "format=mp3"):
                with pytest.raises(aiohttp.WSServerHandshakeError, match="400"):
                    await session.ws_connect(f"/v1/stream?{query}")
        await until(lambda: not opus_threads(), "all threads have ended")

    run(scenario())


def opus_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lwasr-opus"]


def test_damaged_streams_end(recognizer: Recognizer) -> None:
    """Bytes of a stream that were changed, left out or repeated: words or one error, and no thread is left."""
    data = encoded("ogg", tones())
    webm = encoded("webm", tones())
    chance = random.Random(3)
    for number in range(40):
        damaged = bytearray((data, webm)[number % 2])
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(len(damaged))
            damaged[at : at + chance.randint(0, 300)] = chance.randbytes(chance.randint(0, 300))
        reader = ContainerReader(("ogg", "webm")[number % 2])
        try:
            for start in range(0, len(damaged), 1000):
                for piece in reader.pieces(bytes(damaged[start : start + 1000])):
                    assert len(reader.process(piece)) <= 10 * RATE
            reader.flush()
        except AudioError as error:
            assert str(error).startswith("the audio must be Opus")
        finally:
            reader.close()
    for thread in opus_threads():
        thread.join(5)
    assert not opus_threads()


def test_a_small_message_with_hours_of_audio_is_divided() -> None:
    """Silence takes three bytes for 20 ms: results stay small, and so does the limit on a stream's audio."""
    silence = encoded("ogg", np.zeros(70 * RATE, np.float32))
    reader = ContainerReader("ogg")
    sizes = [len(reader.process(piece)) for piece in reader.pieces(silence)]
    assert max(sizes) < MAX_PART + RATE // 8
    assert sum(sizes) > 69 * RATE
    reader.close()


def test_clients_that_vanish_leave_no_threads(recognizer: Recognizer) -> None:
    data = encoded("webm", tones())

    async def vanish(it: Served, session: aiohttp.ClientSession, size: int) -> None:
        socket = await session.ws_connect("/v1/stream?format=webm")
        await socket.send_bytes(data[:size])
        await asyncio.sleep(0.02 * (size % 3))
        socket._response.connection.transport.abort()

    async def scenario() -> None:
        async with served(recognizer, limited(clients=40)) as it, aiohttp.ClientSession(it.url) as session:
            await asyncio.gather(*(vanish(it, session, size) for size in range(1, len(data), len(data) // 20)))
            await until(lambda: it.service.open_streams == 0, "all streams have ended")
            await until(lambda: not opus_threads(), "all threads have ended")

    run(scenario())


def test_the_limit_counts_decoded_audio(recognizer: Recognizer) -> None:
    data = encoded("ogg", np.zeros(8 * RATE, np.float32))

    async def scenario() -> None:
        async with (
            served(recognizer, limited(audio_s=5.0)) as it,
            aiohttp.ClientSession(it.url) as session,
            session.ws_connect("/v1/stream?format=ogg") as socket,
        ):
            await socket.send_bytes(data)
            assert await refusal_of(socket) == (1008, "audio must have at most 5 s, got more: reconnect")

    run(scenario())


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[opus\]'"):
        OpusFormat("ogg")


def test_real_speech() -> None:
    recognizer = default_recognizer()
    samples = load_audio(own_utterances()[0].path, target_hz=RATE)

    async def scenario() -> None:
        async with served(recognizer) as it:
            for kind in ("ogg", "webm"):
                data = encoded(kind, samples)
                found = await events_of(it, data, query=f"?format={kind}", block=500)
                assert finals(found) == texts_of(recognizer, decoded(data))
                assert finals(found)

    run(scenario())
