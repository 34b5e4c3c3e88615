"""POST /v1/audio/transcriptions through the `openai` client, and the other HTTP routes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import re
import threading
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import speak
from locations import ROOT
from served import SENTENCE, TEXTS, Served, limited, open_descriptors, pcm, run, served, until
from speech import default_recognizer, own_utterances

from lwasr_edge import Recognizer
from lwasr_edge.cli.subtitles import to_srt, to_vtt

openai = pytest.importorskip("openai", reason="needs openai (pip install '.[dev]')")
import aiohttp  # noqa: E402 - `served` skips without it


def wav(*spoken: str | float) -> bytes:
    """A recording of tones."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(pcm(*spoken))
    return written.getvalue()


def client_of(it: Served, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{it.url}/v1", api_key=key, max_retries=0, timeout=30)


def test_the_openai_client(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        recording = wav(*SENTENCE)
        expected = recognizer.transcribe(recording)
        async with served(recognizer) as it, client_of(it) as client:
            create = client.audio.transcriptions.create
            upload = ("a.wav", recording)
            for model in ("tiny", "whisper-1"):
                assert (await create(file=upload, model=model)).text == " ".join(TEXTS)
            assert await create(file=upload, model="tiny", response_format="text") == " ".join(TEXTS) + "\n"
            assert await create(file=upload, model="tiny", response_format="srt") == to_srt(expected)
            assert await create(file=upload, model="tiny", response_format="vtt") == to_vtt(expected)
            ignored = {"prompt": "three", "temperature": 0.5, "language": "en"}
            assert (await create(file=upload, model="tiny", **ignored)).text == " ".join(TEXTS)
            assert [model.id async for model in client.models.list()] == ["tiny"]
            assert (await client.models.retrieve("tiny")).id == "tiny"
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("base")

    run(scenario())


def test_verbose_json(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        recording = wav(*SENTENCE)
        expected = recognizer.transcribe(recording)
        async with served(recognizer) as it, client_of(it) as client:

            async def verbose(*granularities: str) -> object:
                return await client.audio.transcriptions.create(
                    file=("a.wav", recording),
                    model="tiny",
                    response_format="verbose_json",
                    timestamp_granularities=list(granularities),
                )

            found = await verbose("word", "segment")
            assert (found.text, found.language) == (" ".join(TEXTS), "english")
            assert found.duration == pytest.approx(expected.duration_s, abs=1e-3)
            assert [word.word for word in found.words] == " ".join(TEXTS).split()
            for word, own in zip(found.words, expected.words, strict=True):
                assert (word.start, word.end) == pytest.approx((own.start_s, own.end_s), abs=1e-3)
            assert [segment.text for segment in found.segments] == [f" {text}" for text in TEXTS]
            assert [segment.id for segment in found.segments] == [0, 1]
            assert found.segments[1].start == found.words[3].start
            assert found.segments[0].avg_logprob <= 0
            assert (await verbose()).words is None and len((await verbose()).segments) == 2
            assert (await verbose("word")).segments is None

    run(scenario())


def test_what_is_refused_says_why(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        recording = ("a.wav", wav("\u2581one", 0.1))
        async with served(recognizer) as it, client_of(it) as client:
            for message, options in [
                ("model must be tiny, got 'base'", {"model": "base"}),
                ("language must be en, got 'de'", {"language": "de"}),
                ("response_format must be one of", {"response_format": "diarized_json"}),
                ("stream needs response_format json or text, got srt", {"stream": True, "response_format": "srt"}),
                ("needs response_format verbose_json", {"timestamp_granularities": ["word"]}),
                ("the file must be WAV, FLAC", {"file": ("a.wav", b"no audio at all, but text")}),
                ("holds no audio", {"file": ("a.wav", b"")}),
            ]:
                with pytest.raises(openai.BadRequestError, match=re.escape(message)):
                    await client.audio.transcriptions.create(**{"file": recording, "model": "tiny"} | options)
            with pytest.raises(openai.NotFoundError):
                await client.audio.translations.create(file=recording, model="tiny")

    run(scenario())


@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionHeader")
def test_malformed_requests(recognizer: Recognizer, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with served(recognizer) as it, aiohttp.ClientSession(it.url) as session:
            path = "/v1/audio/transcriptions"
            async with session.post(path, json={"file": "a.wav"}) as response:
                assert response.status == 400
                error = (await response.json())["error"]
                assert error["message"] == "the request must be multipart/form-data, got 'application/json'"
                assert set(error) == {"message", "type", "param", "code"}
            for kind, body in [
                ("multipart/form-data", b"x"),
                ("multipart/form-data; boundary=b", b""),
                ("multipart/form-data; boundary=b", b"--c\r\n\r\nx"),
                ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nxx'),
                ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n--b--'),
                ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: \xff; name\r\n\r\nx\r\n--b--\r\n"),
                ("multipart/form-data; boundary=b", b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n"),
                ("multipart/form-data; boundary=b", b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c--"),
            ]:
                async with session.post(path, data=body, headers={"Content-Type": kind}) as response:
                    assert response.status == 400, (body, await response.text())
                    assert (await response.json())["error"]["message"]
            form = aiohttp.FormData([(f"field{i}", "x") for i in range(100)])
            form.add_field("file", b"x", filename="a.wav")
            async with session.post(path, data=form) as response:
                assert (response.status, "fields" in await response.text()) == (400, True)
            async with session.get("/nothing") as response:
                assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")
            async with session.get("/v1/stream") as response:
                assert response.status == 426
        assert not [record for record in caplog.records if record.exc_info]

    run(scenario())


def test_limits_of_uploads(recognizer: Recognizer) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    async def scenario() -> None:
        async with served(recognizer, limited(upload_mb=0.2, audio_s=5.0, files=1)) as it, client_of(it) as client:
            create = client.audio.transcriptions.create
            with pytest.raises(openai.APIStatusError, match="a file must have at most 0.2 MB") as refused:
                await create(file=("a.wav", bytes(1_000_000)), model="tiny")
            assert refused.value.status_code == 413
            with pytest.raises(openai.APIStatusError, match="audio must have at most 5 s") as refused:
                await create(file=("a.wav", wav(6.0)), model="tiny")
            assert refused.value.status_code == 413
            form = aiohttp.FormData()  # without a Content-Length
            form.add_field("file", endless(), filename="a.wav")
            async with aiohttp.ClientSession(it.url) as session:
                try:
                    async with session.post("/v1/audio/transcriptions", data=form) as response:
                        assert response.status == 413
                except aiohttp.ClientError:  # the connection is closed while the client still sends
                    pass
            await until(lambda: it.service.open_files == 0, "the upload has ended")
            with it.service.file_slot(), pytest.raises(openai.RateLimitError, match="files must be at most 1") as busy:
                await create(file=("a.wav", wav("\u2581one")), model="tiny")
            assert busy.value.response.headers["Retry-After"] == "2"
            assert (await create(file=("a.wav", wav("\u2581one", 0.1)), model="tiny")).text == "one"

    run(scenario())


def test_an_upload_that_trickles_in(recognizer: Recognizer) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x"
            await asyncio.sleep(0.05)

    async def scenario() -> None:
        async with served(recognizer, limited(idle_s=0.3)) as it, aiohttp.ClientSession(it.url) as session:
            form = aiohttp.FormData()
            form.add_field("file", trickle(), filename="a.wav")
            with contextlib.suppress(aiohttp.ClientError):  # the connection may be closed while the client sends
                async with session.post("/v1/audio/transcriptions", data=form) as response:
                    assert response.status == 408
            await until(lambda: it.service.open_files == 0, "the upload has ended", timeout_s=5)

    run(scenario())


def test_a_token(recognizer: Recognizer) -> None:
    token = "abcdefgh12345678"

    async def scenario() -> None:
        async with served(recognizer, token=token) as it, aiohttp.ClientSession(it.url) as session:
            for header in (None, "Bearer", "Bearer abcdefgh12345679", f"Basic {token}", token, "Bearer \u00e9", "  "):
                headers = {} if header is None else {"Authorization": header}
                for path in ("/v1/models", "/metrics", "/v1/stream", "/nothing"):
                    async with session.get(path, headers=headers) as response:
                        assert response.status == 401, (path, header)
                        assert response.headers["WWW-Authenticate"] == "Bearer"
                        assert token not in await response.text()
            async with session.get("/health") as response:
                assert (response.status, (await response.json())["status"]) == (200, "ok")
            async with client_of(it, token) as client:
                assert [model.id async for model in client.models.list()] == ["tiny"]
            async with client_of(it, "a wrong one") as client:
                with pytest.raises(openai.AuthenticationError):
                    await client.audio.transcriptions.create(file=("a.wav", wav("\u2581one")), model="tiny")

    run(scenario())


def test_web_pages_need_permission(recognizer: Recognizer) -> None:
    """Any page in a browser can send requests to a service on the same computer."""
    page, other = "https://page.example", "https://other.example"

    async def scenario() -> None:
        async with served(recognizer, origins=frozenset([page])) as it, aiohttp.ClientSession(it.url) as session:
            for origin, status in ((page, 200), (other, 403), ("null", 403), (it.url, 403), (None, 200)):
                headers = {} if origin is None else {"Origin": origin}
                async with session.get("/v1/models", headers=headers) as response:
                    assert response.status == status, origin
                    allowed = response.headers.get("Access-Control-Allow-Origin")
                    assert allowed == (origin if status == 200 else None)
            async with session.options("/v1/audio/transcriptions", headers={"Origin": page}) as response:
                assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, page)
                assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await session.ws_connect("/v1/stream", headers={"Origin": other})
            async with session.ws_connect("/v1/stream", headers={"Origin": page}):
                pass

    run(scenario())


def test_health_and_metrics(recognizer: Recognizer) -> None:
    async def scenario() -> None:
        async with served(recognizer) as it, client_of(it) as client, aiohttp.ClientSession(it.url) as session:
            await client.audio.transcriptions.create(file=("a.wav", wav(*SENTENCE)), model="tiny")
            async with session.get("/metrics") as response:
                assert response.content_type == "text/plain"
                lines = dict(
                    line.rsplit(" ", 1) for line in (await response.text()).splitlines() if not line.startswith("#")
                )
            assert lines['lwasr_files_total{result="ok"}'] == "1.0"
            duration_s = recognizer.transcribe(wav(*SENTENCE)).duration_s
            assert float(lines['lwasr_audio_seconds_total{source="file"}']) == pytest.approx(duration_s)
            assert lines["lwasr_streams_open"] == "0.0"
            async with session.get("/health") as response:
                health = await response.json()
            assert (health["status"], health["model"], health["streams"]) == ("ok", "tiny", 0)

    run(scenario())


def test_the_log_has_transcripts_only_if_asked(recognizer: Recognizer, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(log_transcripts: bool) -> None:
        async with served(recognizer, log_transcripts=log_transcripts) as it, client_of(it) as client:
            await client.audio.transcriptions.create(file=("a.wav", wav(*SENTENCE)), model="tiny")
            with pytest.raises(openai.BadRequestError):
                await client.audio.transcriptions.create(
                    file=("fourteen.wav", wav(*SENTENCE)), model="fourteen", prompt="fourteen"
                )

    caplog.set_level("DEBUG", "lwasr_edge")
    run(scenario(False))
    assert "fourteen" not in caplog.text
    run(scenario(True))
    assert " ".join(TEXTS) in caplog.text


def test_uploads_that_vanish_leave_nothing(recognizer: Recognizer, caplog: pytest.LogCaptureFixture) -> None:
    head = (
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    endings = [b"", b"POST /v1/aud", head, head + part, head + part + wav(*SENTENCE), head + b"--b\r\nhalf a he"]

    async def vanish(it: Served, number: int) -> None:
        host, port = it.http.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(endings[number % len(endings)])
        await asyncio.sleep(0.01 * (number % 3))
        if number % 2:
            writer.transport.abort()
        writer.close()

    async def scenario() -> None:
        async with served(recognizer, limited(files=100)) as it, client_of(it) as client:

            async def text() -> str:
                file = ("a.wav", wav("\u2581two", 0.1))
                return (await client.audio.transcriptions.create(file=file, model="tiny")).text

            await asyncio.gather(*(text() for _ in range(5)))
            threads, descriptors, tasks = threading.active_count(), open_descriptors(), len(asyncio.all_tasks())
            for group in range(8):
                await asyncio.gather(*(vanish(it, group + i) for i in range(36)))
            await until(lambda: it.service.open_files == 0, "all uploads have ended")
            await until(lambda: len(asyncio.all_tasks()) <= tasks, "all tasks have ended")
            await until(lambda: open_descriptors() <= descriptors, "all files and sockets are closed")
            assert threading.active_count() <= threads + 8  # asyncio's own writers
            gc.collect()
            assert "never retrieved" not in caplog.text
            assert await text() == "two"

    run(scenario())


def test_a_client_that_does_not_read_is_disconnected(recognizer: Recognizer) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="response_format"\r\n\r\nsrt\r\n--b\r\n'
    body += b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + wav("\u2581one") + b"\r\n--b--\r\n"
    head = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"

    async def scenario() -> None:
        async with served(recognizer, limited(idle_s=0.2)) as it:
            object.__setattr__(it.service.forms, "srt", lambda transcript: "x" * 20_000_000)
            host, port = it.http.split(":")
            descriptors = open_descriptors()
            _, writer = await asyncio.open_connection(host, int(port), limit=1024)
            writer.transport.pause_reading()
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await until(lambda: open_descriptors() == descriptors + 2, "both ends are open")
            await until(lambda: open_descriptors() <= descriptors + 1, "the server's end is closed")
            writer.transport.abort()

    run(scenario())


def test_connections_without_a_request(recognizer: Recognizer) -> None:
    """They are closed after `idle_s`; beyond a limit, new ones are refused at once."""

    async def scenario() -> None:
        limits = limited(clients=1, files=1, idle_s=1.0)
        async with served(recognizer, limits) as it:
            host, port = it.http.split(":")
            silent = [await asyncio.open_connection(host, int(port)) for _ in range(limits.connections)]
            reader, writer = await asyncio.open_connection(host, int(port))
            assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
            writer.close()
            assert await asyncio.wait_for(silent[0][0].read(), 10) == b""
            for _, writer in silent:
                writer.close()
            async with aiohttp.ClientSession(it.url) as session, session.get("/health") as response:
                assert response.status == 200

    run(scenario())


def test_a_stop_ends_files_after_the_time_of_grace(recognizer: Recognizer) -> None:
    class Endless:
        """Transcribes until it is told to end."""

        info = recognizer.info

        def transcribe(self, source: object, *, progress: object, on_segment: object) -> object:
            begun.set()
            while progress(0.0, 0.0):
                threading.Event().wait(0.01)
            return recognizer.transcribe(speak(0.1), 16_000)

    begun = threading.Event()

    async def scenario() -> None:
        async with served(Endless(), grace_s=0.2) as it:
            client = client_of(it)
            file = ("a.wav", wav(0.1))
            waiting = asyncio.ensure_future(client.audio.transcriptions.create(file=file, model="tiny"))
            await asyncio.to_thread(begun.wait)
        with pytest.raises((openai.InternalServerError, openai.APIConnectionError)):
            await waiting
        await client.close()

    run(scenario())


def test_real_speech() -> None:
    recognizer = default_recognizer()
    utterance = own_utterances()[1]  # Ogg/Opus

    async def scenario() -> None:
        async with served(recognizer) as it, client_of(it) as client:
            with utterance.path.open("rb") as file:
                found = await client.audio.transcriptions.create(file=file, model=recognizer.info.name)
            assert found.text == recognizer.transcribe(utterance.path).text

    run(scenario())


@pytest.mark.skipif(not (ROOT / "docs" / "serve.md").is_file(), reason="needs the checkout, not an install")
def test_the_code_of_the_page_runs(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "speech.raw").write_bytes(pcm(*SENTENCE))
    (tmp_path / "meeting.mp3").write_bytes(wav(*SENTENCE))
    monkeypatch.chdir(tmp_path)

    async def scenario() -> None:
        async with served(recognizer) as it:
            for block in blocks:
                await asyncio.to_thread(exec, block.replace("127.0.0.1:8080", it.http), {})

    run(scenario())
    assert len(blocks) == 2
    *events, text = capsys.readouterr().out.splitlines()
    assert [line.removeprefix("final ") for line in events if line.startswith("final")] == TEXTS
    assert text == " ".join(TEXTS)
