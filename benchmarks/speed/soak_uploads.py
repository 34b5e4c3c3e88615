"""Uploads of serve_soak.py, connections without a request, and how often each kind of client comes."""

from __future__ import annotations

import asyncio
import json
import os
import random

import aiohttp
from soak_clients import (
    Client,
    Target,
    abort,
    raw,
    ws_reads_nothing,
    ws_sends_opus,
    ws_sends_rubbish,
    ws_speaks,
    ws_stalls,
    ws_vanishes,
    wyoming_repeats,
    wyoming_sends_rubbish,
    wyoming_speaks,
    wyoming_stalls,
    wyoming_vanishes,
)


async def answer_of(target: Target, field: tuple[str, str]) -> tuple[int, str]:
    """Status and body of the answer to a file, which is sent as OpenAI's clients do, with one more field."""
    form = aiohttp.FormData([field])
    form.add_field("file", target.wav, filename="a.wav")
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{target.url}/v1/audio/transcriptions", data=form) as response,
    ):
        return response.status, await response.text()


def judged(target: Target, status: int, answer: str) -> str:
    """Whether the JSON of an answer has the right text."""
    if status in (429, 503):
        return "refused"
    is_right = json.loads(answer).get("text") == target.file_text
    return "right words" if is_right else f"WRONG WORDS {status}: {answer!r}"


async def http_uploads(target: Target) -> str:
    """A file as OpenAI's clients send it."""
    return judged(target, *await answer_of(target, ("model", "whisper-1")))


async def http_uploads_for_events(target: Target) -> str:
    """A file whose text is sent as events."""
    status, answer = await answer_of(target, ("stream", "true"))
    return judged(target, status, answer.strip().splitlines()[-1].removeprefix("data: "))


async def http_uploads_and_vanishes(target: Target) -> str:
    """Is gone during the upload, or during the recognition."""
    host, port = target.address(target.url)
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = part + target.wav + b"\r\n--b--\r\n"
    sent = body[: random.choice([len(body), random.randrange(len(body))])]
    lines = ["POST /v1/audio/transcriptions HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += ["Content-Type: multipart/form-data; boundary=b", "", ""]
    return await raw((host, port), "\r\n".join(lines).encode() + sent, rest_s=0.3)


async def http_uploads_rubbish(target: Target) -> str:
    """A file that is no audio."""
    form = aiohttp.FormData()
    form.add_field("file", target.wav[:44] if random.random() < 0.2 else os.urandom(5000), filename="a.wav")
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{target.url}/v1/audio/transcriptions", data=form) as response,
    ):
        return "refused" if response.status in (200, 400, 429, 503) else f"WRONG STATUS {response.status}"


async def http_says_nothing(target: Target) -> str:
    """Connects, and sends nothing or half a request: must be closed."""
    return await raw(target.address(target.url), random.choice([b"", b"GET /health HT", b"GET / HTTP/1.1\r\nA: b\r\n"]))


async def connects_often(target: Target) -> str:
    """Opens many connections at once, and resets them."""
    for uri in (target.url, target.wyoming):
        opened = await asyncio.gather(*(asyncio.open_connection(*target.address(uri)) for _ in range(40)))
        for _, writer in opened:
            abort(writer)
    return "gone"


CLIENTS: dict[Client, int] = {  # weights
    ws_speaks: 6,
    ws_sends_opus: 6,
    ws_vanishes: 4,
    ws_stalls: 2,
    ws_reads_nothing: 1,
    ws_sends_rubbish: 4,
    wyoming_speaks: 6,
    wyoming_vanishes: 4,
    wyoming_stalls: 2,
    wyoming_sends_rubbish: 4,
    wyoming_repeats: 2,
    http_uploads: 4,
    http_uploads_for_events: 4,
    http_uploads_and_vanishes: 4,
    http_uploads_rubbish: 3,
    http_says_nothing: 2,
    connects_often: 1,
}
