"""The WebSocket /v1/stream, through aiohttp's client."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest
from conftest import speak
from served import SENTENCE, TEXTS, Served, limited, open_descriptors, pcm, run, served, until

from lwasr_edge import Recognizer
from lwasr_edge.cli.commands.listen import event_to_dict

import aiohttp.web  # isort: skip

END = {"type": "end"}


HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def events_of(
    it: Served, data: bytes, *, query: str = "", first: dict[str, Any] | None = None, block: int = 3_201
) -> list[dict[str, Any]]:
    """Send audio and "end"; return all events. The server then closes with 1000."""
    async with aiohttp.ClientSession(it.url) as session, session.ws_connect(f"/v1/stream{query}") as socket:
        if first is not None:
            await socket.send_json(first)
        for start in range(0, len(data), block):
            await socket.send_bytes(data[start : start + block])
        await socket.send_json(END)
        events = [json.loads(message.data) async for message in socket]
        assert socket.close_code == 1000
        return events


def finals(events: list[dict[str, Any]]) -> list[str]:
    return [event["text"] for event in events if event["kind"] == "final"]


async def refusal_of(socket: aiohttp.ClientWebSocketResponse) -> tuple[int | None, str]:
    """Close code and message of a refusal."""
    message = await socket.receive_json(timeout=10)
    assert message["kind"] == "error"
    assert (await socket.receive(timeout=10)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    return socket.close_code, message["message"]


def test_events_are_those_of_a_stream(recognizer: Recognizer) -> None:
    data = pcm(*SENTENCE)
    stream = recognizer.stream(16_000)
    expected = [*stream.accept(data), *stream.flush()]

    async def scenario() -> None:
        async with served(recognizer) as it:
            found = await events_of(it, data)
            assert finals(found) == TEXTS
            assert found == json.loads(json.dumps([event_to_dict(event) for event in expected]))
            assert {event["kind"] for event in found} == {"partial", "final"}

    run(scenario())


@pytest.mark.parametrize(
    "settings",
    [
        {"rate": 8_000},
        {"rate": 48_000, "width": 2, "channels": 2},
        {"rate": 44_100, "width": 3},
        {"width": 1},
        {"width": 4, "channels": 3, "hop_ms": 160, "right_context_ms": 0, "silence_s": 0.5, "language": "en-US"},
    ],
)
def test_settings_in_the_address_or_in_the_first_message(recognizer: Recognizer, settings: dict[str, Any]) -> None:
    form = {name: settings[name] for name in ("width", "channels") if name in settings}
    data = pcm(*SENTENCE, sample_rate=settings.get("rate", 16_000), **form)

    async def scenario() -> None:
        query = "?" + "&".join(f"{name}={value}" for name, value in settings.items())
        async with served(recognizer) as it:
            assert finals(await events_of(it, data, query=query)) == TEXTS
            assert finals(await events_of(it, data, first=settings)) == TEXTS
            assert finals(await events_of(it, data, first={"type": "start", **settings}, block=100_000)) == TEXTS

    run(scenario())


def test_floats_and_a_stream_without_endpoints(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        data = speak(*SENTENCE).astype("<f4").tobytes()
        async with served(recognizer) as it:
            assert finals(await events_of(it, data, query="?format=float")) == TEXTS
            assert finals(await events_of(it, data, query="?format=float&endpoint=false")) == [" ".join(TEXTS)]
            assert await events_of(it, b"") == []
            address = f"{it.url}/v1/stream?endpoint=false&rate=1000&width=1"
            async with aiohttp.ClientSession() as session, session.ws_connect(address) as socket:
                await socket.send_bytes(b"\x80" * 601_000)
                assert await refusal_of(socket) == (1008, "audio must have at most 600 s, got more: reconnect")

    run(scenario())


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("rate=fast", "rate must be a number"),
        ("rate=12", "rate must be a whole number of Hz"),
        ("rate=nan", "rate must be a finite number"),
        ("width=5", "width must be a whole number <= 4"),
        ("width=2&format=float", "width must be 4"),
        ("channels=1000", "channels must be"),
        ("format=mp3", "format must be one of pcm, float, ogg, webm, opus, got 'mp3'"),
        ("language=de", "language must be en"),
        ("endpoint=perhaps", "endpoint must be true or false"),
        ("silence_s=-1", "silence_after_speech_s must be"),
        ("sample_rate=16000", "settings must be among format, rate"),
        ("hop_ms=33", "hop_ms must be"),
        ("right_context_ms=10000", "right_context_ms must be at most 16 times hop_ms, got 10000 and 320"),
    ],
)
def test_invalid_settings(recognizer: Recognizer, query: str, message: str) -> None:
    async def scenario() -> None:
        async with served(recognizer) as it, aiohttp.ClientSession(it.url) as session:
            if "hop_ms" not in query:  # it depends on the model, and is refused when the stream is opened
                async with session.get(f"/v1/stream?{query}") as response:
                    assert (response.status, message in await response.text()) == (400, True)
            wanted = dict(pair.split("=") for pair in query.split("&"))
            async with session.ws_connect("/v1/stream") as socket:
                await socket.send_json(wanted)
                code, refusal = await refusal_of(socket)
                assert (code, message in refusal) == (1003, True), refusal
            await until(lambda: it.service.open_streams == 0, "the stream is closed")

    run(scenario())


def test_malformed_messages(recognizer: Recognizer, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        infinite = np.full(8, np.inf, "<f4").tobytes()
        for query, messages in [
            ("", ["no JSON"]),
            ("", ["[1]"]),
            ("", [pcm(0.1), '{"rate": 8000}']),
            ("", ["[" * 100_000]),
            ("", ['{"right_context_ms": 1%s}' % ("0" * 400)]),
            ("", ['{"rate": 1%s}' % ("0" * 400)]),
            ("", ['{"format": [], "hop_ms": {}}']),
            ("?format=float", [infinite]),
        ]:
            async with (
                served(recognizer) as it,
                aiohttp.ClientSession(it.url) as session,
                session.ws_connect(f"/v1/stream{query}") as socket,
            ):
                for message in messages:
                    await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
                assert (await refusal_of(socket))[0] == 1003
        assert not [record for record in caplog.records if record.exc_info]

    run(scenario())


def test_limits(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        limits = limited(clients=1, audio_s=2.0, message_kb=100.0, idle_s=0.5)
        async with served(recognizer, limits) as it, aiohttp.ClientSession(it.url) as session:
            async with session.ws_connect("/v1/stream") as first:
                await first.send_bytes(pcm(0.1))
                await until(lambda: it.service.open_streams == 1, "the first is served")
                async with session.ws_connect("/v1/stream") as second:
                    assert await refusal_of(second) == (1013, "streams must be at most 1: try again later")
                assert await refusal_of(first) == (1008, "nothing was received for 0.5 s: send audio, or close")
            await until(lambda: it.service.open_streams == 0, "the first is gone")
            async with session.ws_connect("/v1/stream") as socket:
                for _ in range(3):
                    await socket.send_bytes(pcm(1.0))
                code, message = await refusal_of(socket)
                assert (code, message) == (1008, "audio must have at most 2 s, got more: reconnect")
            async with session.ws_connect("/v1/stream") as socket:
                await socket.send_bytes(bytes(200_000))
                await socket.receive(timeout=10)
                assert socket.close_code == 1009

    run(scenario())


def test_a_stream_that_lasts_too_long(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        async with (
            served(recognizer, limited(session_s=0.3)) as it,
            aiohttp.ClientSession(it.url) as session,
            session.ws_connect("/v1/stream") as socket,
        ):
            assert await refusal_of(socket) == (1008, "a stream must end within 0.3 s: reconnect")

    run(scenario())


def test_a_service_that_is_late_refuses_new_streams(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        async with served(recognizer, limited(late_s=0.3)) as it, aiohttp.ClientSession(it.url) as session:
            release = threading.Event()
            cores = it.service._stream_pool._max_workers
            others = contextlib.ExitStack()  # as many streams as there are threads
            for _ in range(cores):
                others.enter_context(it.service.stream_slot("test"))
            busy = [asyncio.ensure_future(it.service.run_for_stream(release.wait)) for _ in range(cores)]
            waiting = asyncio.ensure_future(it.service.run_for_stream(lambda: None))
            await asyncio.sleep(0.5)
            release.set()
            await asyncio.gather(*busy, waiting)
            async with session.ws_connect("/v1/stream") as socket:
                code, message = await refusal_of(socket)
                assert (code, "in time" in message) == (1013, True)
            others.close()  # a stall of the machine is no reason to refuse the only stream
            assert finals(await events_of(it, pcm("\u2581two", 0.1))) == ["two"]

    run(scenario())


def test_a_client_that_does_not_read_is_disconnected(recognizer: Recognizer) -> None:
    """Results pile up only as far as the sockets' buffers."""

    async def scenario() -> None:
        async with served(recognizer, limited(idle_s=0.3)) as it:
            object.__setattr__(it.service.forms, "event", lambda event: {"text": "x" * 8_000_000})
            host, port = it.http.split(":")
            descriptors = open_descriptors()
            reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()
            data = pcm("\u2581one", 0.1, "\u2581two", 1.0, "\u2581one", 1.0)
            writer.write(b"\x82\xff" + len(data).to_bytes(8, "big") + bytes(4) + data)
            await until(lambda: it.service.open_streams == 1, "it is served")
            await until(lambda: it.service.open_streams == 0, "the stream is closed")
            await until(lambda: open_descriptors() <= descriptors + 1, "the server's end is closed")
            writer.transport.abort()

    run(scenario())


def flood(host: str, port: int) -> bool:
    """Send pings and read nothing, for 30 s at most; whether the server closed."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, port))
        client.sendall(HANDSHAKE)
        client.settimeout(0.5)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                client.sendall(50 * (b"\x89\xfd" + bytes(4) + bytes(125)))
            except TimeoutError:
                continue
            except OSError:
                return True
    return False


def test_a_client_that_floods_and_does_not_read_is_disconnected(recognizer: Recognizer) -> None:
    """Pings are answered; the answers that it does not read do not hold the connection open."""

    async def scenario() -> None:
        async with served(recognizer, limited(idle_s=0.3)) as it:
            host, port = it.http.split(":")
            closed = asyncio.get_running_loop().run_in_executor(None, flood, host, int(port))
            assert await asyncio.wait_for(closed, 40.0), "the server's end is closed"

    run(scenario())


def test_a_stop_of_the_service_gives_the_last_words(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        async with served(recognizer) as it:
            session = aiohttp.ClientSession(it.url)
            socket = await session.ws_connect("/v1/stream")
            await socket.send_bytes(pcm(0.2, "\u2581two"))
            await until(lambda: it.service.open_streams == 1, "it is served")
            await asyncio.sleep(0.1)
            receiving = asyncio.ensure_future(_all(socket))
        events = await receiving
        assert finals(events) == ["two"]
        assert socket.close_code == 1001
        await session.close()

    async def _all(socket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
        return [json.loads(message.data) async for message in socket]

    run(scenario())


def test_hundreds_of_clients_that_vanish_leave_nothing(
    recognizer: Recognizer, caplog: pytest.LogCaptureFixture
) -> None:
    audio = pcm(0.1, "\u2581one")

    async def vanish(it: Served, number: int) -> None:
        async with aiohttp.ClientSession(it.url) as session:
            try:
                socket = await session.ws_connect("/v1/stream")
                if number % 3:
                    await socket.send_bytes(audio)
                if number % 3 == 2:
                    await socket.send_str("?")
                if number % 2:
                    socket._response.connection.transport.abort()  # a reset, without a close frame
            except aiohttp.ClientError:
                pass

    async def scenario() -> None:
        async with served(recognizer, limited(clients=100)) as it:
            assert finals(await events_of(it, pcm("\u2581two", 0.1))) == ["two"]
            threads, descriptors, tasks = threading.active_count(), open_descriptors(), len(asyncio.all_tasks())
            for group in range(10):
                await asyncio.gather(*(vanish(it, group + i) for i in range(30)))
            await until(lambda: it.service.open_streams == 0, "all streams are closed")
            await until(lambda: len(asyncio.all_tasks()) <= tasks, "all tasks have ended")
            await until(lambda: open_descriptors() <= descriptors, "all sockets are closed")
            assert threading.active_count() <= threads + 2
            gc.collect()
            assert not [held for held in gc.get_objects() if type(held) is aiohttp.web.WebSocketResponse]
            assert "never retrieved" not in caplog.text
            assert finals(await events_of(it, pcm("\u2581two", 0.1))) == ["two"]

    run(scenario())
