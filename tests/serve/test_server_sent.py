"""POST /v1/audio/transcriptions with stream=true, through the `openai` client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading

import pytest
from served import SENTENCE, TEXTS, Served, limited, pcm, run, served, until
from speech import default_recognizer, own_utterances
from test_http import client_of, wav

from lwasr_edge import Recognizer

openai = pytest.importorskip("openai", reason="needs openai (pip install '.[dev]')")
import aiohttp  # noqa: E402 - `served` skips without it

LONG = (*SENTENCE, 14.0, "\u2581one", 14.0, "\u2581two", 0.1)  # its parts are decoded one after the other


async def events_of(client: openai.AsyncOpenAI, recording: bytes, **options: object) -> list:
    created = await client.audio.transcriptions.create(
        file=("a.wav", recording), **{"model": "tiny", "stream": True} | options
    )
    return [event async for event in created]


def test_the_openai_client_gets_the_text_in_parts(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        async with served(recognizer) as it, client_of(it) as client:
            for recording in (wav(*SENTENCE), wav(*LONG), wav(0.5)):
                expected = recognizer.transcribe(recording).text
                *deltas, done = await events_of(client, recording, prompt="x", temperature=0)
                assert (done.type, done.text) == ("transcript.text.done", expected)
                assert {delta.type for delta in deltas} <= {"transcript.text.delta"}
                assert "".join(delta.delta for delta in deltas) == expected
                assert len(deltas) == {0: 0, 4: 2, 6: 4}[len(expected.split())]
            assert (await events_of(client, wav(*SENTENCE), response_format="text"))[-1].text == " ".join(TEXTS)
            with pytest.raises(openai.BadRequestError, match="the file must be WAV, FLAC"):
                await events_of(client, b"no audio at all, but text")

    run(scenario())


def test_the_bytes_are_server_sent_events(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        page = "https://page.example"
        async with served(recognizer, origins=frozenset([page])) as it, aiohttp.ClientSession(it.url) as session:
            form = aiohttp.FormData({"stream": "true"})
            form.add_field("file", wav(*SENTENCE), filename="a.wav")
            headers = {"Origin": page}
            async with session.post("/v1/audio/transcriptions", data=form, headers=headers) as response:
                assert (response.status, response.content_type) == (200, "text/event-stream")
                assert response.headers["Access-Control-Allow-Origin"] == page
                text = await response.text()
            assert text.endswith("\n\n")
            for block in text.strip().split("\n\n"):
                event, data = block.split("\n")
                assert event.removeprefix("event: ") == json.loads(data.removeprefix("data: "))["type"]

    run(scenario())


class Paused:
    """Gives one part of a recording, and the rest, or an error, when it is told to."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.info = recognizer.info
        self.gate = threading.Event()
        self.ended = threading.Event()
        self._recognizer = recognizer

    def transcribe(self, source: object, *, progress: object, on_segment: object) -> object:
        transcript = self._recognizer.transcribe(wav(*SENTENCE))
        on_segment(transcript.words[:3])
        try:
            while not self.gate.wait(0.01):
                if not progress(0.0, 0.0):
                    return transcript
            progress(1e9, 1e9)  # more audio than allowed
            return transcript
        finally:
            self.ended.set()


def test_parts_are_sent_while_the_rest_is_recognised(recognizer: Recognizer) -> None:
    """An error that comes later is an event, for which the client raises an exception."""

    async def scenario() -> None:
        paused = Paused(recognizer)
        async with served(paused) as it, client_of(it) as client:
            created = await client.audio.transcriptions.create(file=("a.wav", wav(0.1)), model="tiny", stream=True)
            events = aiter(created)
            assert (await anext(events)).delta == "one fourteen two"
            paused.gate.set()
            with pytest.raises(openai.APIError, match="audio must have at most"):
                await anext(events)

    run(scenario())


@pytest.mark.parametrize("how", ["resets", "gives up"])
def test_a_client_that_vanishes_ends_the_recognition(recognizer: Recognizer, how: str) -> None:
    async def vanish(it: Served) -> None:
        host, port = it.http.split(":")
        body = b'--b\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n--b\r\n'
        body += b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + pcm(0.1) + b"\r\n--b--\r\n"
        head = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert b"200 OK" in await reader.readline()
        writer.transport.abort()

    async def scenario() -> None:
        paused = Paused(recognizer)
        async with served(paused, limited(idle_s=0.2)) as it:
            if how == "resets":
                await vanish(it)
            else:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(events_of(client_of(it), wav(0.1)), 0.5)
            await until(lambda: paused.ended.is_set() and it.service.open_files == 0, "the recognition has ended")

    run(scenario())


def test_real_speech() -> None:
    recognizer = default_recognizer()

    async def scenario() -> None:
        async with served(recognizer) as it, client_of(it) as client:
            for utterance in own_utterances()[:1]:
                *deltas, done = await events_of(client, utterance.path.read_bytes(), model="whisper-1")
                assert done.text == recognizer.transcribe(utterance.path).text
                assert "".join(delta.delta for delta in deltas) == done.text

    run(scenario())
