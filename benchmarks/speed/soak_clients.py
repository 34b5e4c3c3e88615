"""Clients of `lwasr serve` for serve_soak.py: some behave; others vanish, stall, or send what is invalid."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event

RATE = 16_000
BLOCK = RATE // 5 * 2  # bytes of 200 ms
PING = b"\x89\xfd\0\0\0\0" + bytes(125)  # a frame of a WebSocket
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST, as a machine that loses its network does


@dataclass(frozen=True)
class Target:
    """The service, and audio with the text that it must give."""

    url: str  # of HTTP
    wyoming: str
    audio: bytes  # int16, 16 kHz
    wav: bytes  # the same, as a file
    ogg: bytes  # the same, as Ogg Opus
    text: str  # of the stream
    file_text: str
    idle_s: float  # of the service

    def address(self, uri: str) -> tuple[str, int]:
        """Host and port of one of the two."""
        parts = urlsplit(uri)
        return parts.hostname or "", parts.port or 0


Client = Callable[[Target], Awaitable[str]]  # returns what happened, in a word or two


async def finals_at_end(ws: aiohttp.ClientWebSocketResponse) -> list[str]:
    """End a stream, and read the texts of its finals until the server closes."""
    await ws.send_json({"type": "end"})
    events = [json.loads(message.data) async for message in ws]
    return [event["text"] for event in events if event["kind"] == "final"]


async def ws_speaks(target: Target) -> str:
    """Streams five times as fast as real time, and compares the words."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{target.url}/v1/stream") as ws:
        for start in range(0, len(target.audio), BLOCK):
            await ws.send_bytes(target.audio[start : start + BLOCK])
            await asyncio.sleep(0.04)
        texts = await finals_at_end(ws)
    if ws.close_code == 1013:
        return "refused"
    return "right words" if " ".join(texts) == target.text else f"WRONG WORDS {ws.close_code}: {' '.join(texts)!r}"


async def ws_sends_opus(target: Target) -> str:
    """Streams Ogg Opus in small messages; half of these clients vanish in the middle."""
    is_whole = random.random() < 0.5
    data = target.ogg if is_whole else target.ogg[: random.randrange(len(target.ogg))]
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{target.url}/v1/stream?format=ogg") as ws:
        for start in range(0, len(data), 500):
            await ws.send_bytes(data[start : start + 500])
            await asyncio.sleep(0.04)
        if not is_whole:
            ws._response.connection.transport.abort()
            return "gone"
        texts = await finals_at_end(ws)
    if ws.close_code == 1013:
        return "refused"
    return "words" if ws.close_code == 1000 and texts else f"WRONG ANSWER {ws.close_code}: {texts}"


async def ws_vanishes(target: Target) -> str:
    """Is gone in the middle of a stream, without a close frame."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{target.url}/v1/stream") as ws:
        for start in range(0, random.randrange(BLOCK, len(target.audio)), BLOCK):
            await ws.send_bytes(target.audio[start : start + BLOCK])
        await asyncio.sleep(random.uniform(0, 1))
        ws._response.connection.transport.abort()
    return "gone"


async def ws_stalls(target: Target) -> str:
    """Sends some audio, then nothing: must be closed."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{target.url}/v1/stream") as ws:
        await ws.send_bytes(target.audio[:BLOCK])
        async for _ in ws:
            pass
    return "closed" if ws.close_code in (1008, 1013) else f"WRONG CODE {ws.close_code}"


async def ws_reads_nothing(target: Target) -> str:
    """Sends pings whose answers it never reads: must be disconnected."""
    host, port = target.address(target.url)
    _, writer = await asyncio.open_connection(host, port, limit=1)
    try:
        writer.write(handshake(host))
        for _ in range(1_000_000):
            writer.write(PING)
            await asyncio.wait_for(writer.drain(), 60)
    except ConnectionError:
        return "closed"
    finally:
        abort(writer)
    return "NOT CLOSED"


async def ws_sends_rubbish(target: Target) -> str:
    """Text that is no JSON, unknown settings, or frames that are none."""
    choice = random.randrange(3)
    if choice == 2:
        host, port = target.address(target.url)
        return await raw((host, port), handshake(host) + os.urandom(random.randrange(1, 5000)))
    text = "x" * random.randrange(1, 10_000) if choice else json.dumps({"rate": random.choice([0, -1, "x", [], 1e99])})
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{target.url}/v1/stream") as ws:
        await ws.send_str(text)
        async for _ in ws:
            pass
    return "closed" if ws.close_code in (1003, 1013) else f"WRONG CODE {ws.close_code}"


async def wyoming_speaks(target: Target) -> str:
    """A satellite: a request, audio, the transcript."""
    async with AsyncClient.from_uri(target.wyoming) as client:
        await client.write_event(Transcribe(language="en").event())
        await client.write_event(AudioStart(RATE, 2, 1).event())
        for start in range(0, len(target.audio), BLOCK):
            await client.write_event(AudioChunk(RATE, 2, 1, target.audio[start : start + BLOCK]).event())
            await asyncio.sleep(0.04)
        await client.write_event(AudioStop().event())
        while (event := await client.read_event()) is not None:
            if event.type == "error":
                return "refused"
            if Transcript.is_type(event.type):
                text = Transcript.from_event(event).text
                return "right words" if text == target.text else f"WRONG WORDS: {text!r}"
    return "CLOSED WITHOUT AN ANSWER"


async def wyoming_vanishes(target: Target) -> str:
    """Is gone in the middle of a command."""
    async with AsyncClient.from_uri(target.wyoming) as client:
        await client.write_event(AudioStart(RATE, 2, 1).event())
        for start in range(0, random.randrange(BLOCK, len(target.audio)), BLOCK):
            await client.write_event(AudioChunk(RATE, 2, 1, target.audio[start : start + BLOCK]).event())
        abort(client._writer)
    return "gone"


async def wyoming_stalls(target: Target) -> str:
    """Begins a command and sends nothing more: must get an error and be closed."""
    async with AsyncClient.from_uri(target.wyoming) as client:
        await client.write_event(AudioStart(RATE, 2, 1).event())
        event = await client.read_event()
        return "closed" if event is not None and event.type == "error" else f"WRONG ANSWER {event}"


async def wyoming_sends_rubbish(target: Target) -> str:
    """Lines that are no events, huge lengths, or events that do not fit each other."""
    lines = [
        os.urandom(random.randrange(1, 5000)),
        b"x" * 100_000 + b"\n",
        b'{"type": "audio-chunk", "payload_length": 999999999999}\n',
        b'{"type": "audio-start", "data": {"rate": -1, "width": 2, "channels": 1}}\n',
        b'{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}, "payload_length": 100}\n12',
        b"[" * 50_000 + b"\n",
    ]
    return await raw(target.address(target.wyoming), random.choice(lines))


async def wyoming_repeats(target: Target) -> str:
    """Several requests over one connection, each of them empty."""
    async with AsyncClient.from_uri(target.wyoming) as client:
        for _ in range(random.randrange(1, 10)):
            await client.write_event(Event("describe"))
            info = await client.read_event()
            if info is None or info.type != "info":
                return "refused" if info is None else f"WRONG ANSWER {info.type}"
    return "answered"


def handshake(host: str) -> bytes:
    """A request for a WebSocket."""
    lines = ["GET /v1/stream HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""]
    return "\r\n".join(lines).encode()


async def raw(address: tuple[str, int], data: bytes, rest_s: float = 30.0) -> str:
    """Send bytes; return when the service closes the connection, or vanish after some seconds."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(data)
        while await asyncio.wait_for(reader.read(1 << 16), rest_s):
            pass
    except ConnectionError:
        pass
    except asyncio.TimeoutError:
        return "gone"
    finally:
        abort(writer)
    return "closed"


def abort(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a reset, without what is still to be sent."""
    with contextlib.suppress(OSError, AttributeError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
