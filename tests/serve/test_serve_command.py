"""`lwasr serve` as a program: addresses, options, signals and errors."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from locations import BENCHMARKS, ROOT
from served import pcm, run

from lwasr_edge.cli import build_parser, main
from lwasr_edge.cli.commands.serve import chosen_limits
from lwasr_edge.serve.http.server import parse_address
from lwasr_edge.serve.program import is_loopback

from wyoming.asr import Transcript  # isort: skip
from wyoming.audio import AudioChunk, AudioStart, AudioStop  # isort: skip
from wyoming.client import AsyncClient  # isort: skip
from wyoming.event import async_read_event, async_write_event  # isort: skip


def command(*options: str | Path) -> list[str]:
    return [sys.executable, "-m", "lwasr_edge", "serve", *map(str, options)]


@pytest.fixture
def service(model_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A service on free ports, and its two addresses."""
    options = ("--wyoming", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0", "--model", model_path)
    process = subprocess.Popen(command(*options), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        addresses = [process.stderr.readline().split()[-1] for _ in range(2)]
        yield process, *addresses
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_last_words(
    service: tuple[subprocess.Popen[str], str, str], number: signal.Signals
) -> None:
    process, wyoming, http = service

    async def scenario() -> None:
        client = AsyncClient.from_uri(wyoming)
        await client.connect()
        await client.write_event(AudioStart(16_000, 2, 1).event())
        await client.write_event(AudioChunk(16_000, 2, 1, pcm(0.2, "\u2581two")).event())
        for _ in range(100):
            with await asyncio.to_thread(urllib.request.urlopen, f"{http}/health") as response:
                if json.load(response)["streams"] == 1:
                    break
        process.send_signal(number)
        texts = []
        while (event := await client.read_event()) is not None:
            if Transcript.is_type(event.type):
                texts.append(Transcript.from_event(event).text)
        assert texts == ["two"]
        await client.disconnect()

    run(scenario())
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "stopping" in log
    assert "two" not in log and "Traceback" not in log


def test_standard_streams(model_path: Path) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            *command("--wyoming", "stdio://", "--model", model_path, "--quiet"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for event in (
            AudioStart(16_000, 2, 1),
            AudioChunk(16_000, 2, 1, pcm(0.2, "\u2581two", "\u2581one")),
            AudioStop(),
        ):
            await async_write_event(event.event(), process.stdin)
        process.stdin.close()  # its end ends the service
        texts = []
        while (message := await async_read_event(process.stdout)) is not None:
            if Transcript.is_type(message.type):
                texts.append(Transcript.from_event(message).text)
        assert texts == ["two one"]
        assert (await process.wait(), await process.stderr.read()) == (0, b"")

    run(scenario())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "lwasr serve needs --wyoming URI or --http HOST:PORT, got neither: add one or both"),
        (["--http", "8080x"], "--http must be HOST:PORT, got '8080x'"),
        (["--http", "0.0.0.0:0"], "--http 0.0.0.0:0 can be reached by other machines and must have a token, got none"),
        (["--http", "127.0.0.1:0", "--token", "short"], "a token must have at least 8 ASCII characters"),
        (["--http", "127.0.0.1:0", "--token-file", "/no/such"], "--token-file /no/such cannot be read: No such file"),
        (["--http", "no.such.host.invalid:80"], "the host must be an address of this machine"),
        (["--http", "127.0.0.1:0", "--zeroconf", "x"], "--zeroconf announces a Wyoming server, got none"),
        (["--wyoming", "stdio://", "--zeroconf", "x"], "--zeroconf announces a TCP server, got stdio://"),
        (["--wyoming", "unix:///no/such/folder/s"], "unix:///no/such/folder/s must be a free address"),
        (["--wyoming", "tcp://127.0.0.1:0", "--phrases", "/no/such"], "the phrases in /no/such cannot be read"),
    ],
)
def test_errors_are_one_line(
    options: list[str], message: str, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--model", str(model_path), *options]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "listening" not in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"lwasr: error: {message}")


def test_a_port_that_is_in_use(
    service: tuple[subprocess.Popen[str], str, str], model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, wyoming, http = service
    for option, address in (("--wyoming", wyoming), ("--http", http.removeprefix("http://"))):
        assert main(["serve", "--model", str(model_path), option, address]) == 2
        assert f"{address} must be a free address of this machine, got an error: " in capsys.readouterr().err


def test_without_the_extra(model_path: Path) -> None:
    for name in ("aiohttp", "wyoming"):
        code = (
            f"import sys; sys.modules[{name!r}] = None\n"
            f"from lwasr_edge.cli import main; sys.exit(main(['serve', '--http', '127.0.0.1:0']))"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert ended.returncode == 2
        assert ended.stderr == f"lwasr: error: {name} is not installed: pip install '.[serve]'\n"


def test_a_token_from_a_file_and_from_the_environment(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lwasr_edge.cli.commands.serve import read_token

    path = tmp_path / "token"
    path.write_text("from-the-file\n", encoding="utf-8")
    monkeypatch.setenv("LWASR_TOKEN", "from-the-environment")
    for options, token in (
        ([], "from-the-environment"),
        (["--token", "from-the-option"], "from-the-option"),
        (["--token-file", str(path)], "from-the-file"),
        (["--no-token"], None),
    ):
        assert read_token(build_parser().parse_args(["serve", *options])) == token


def test_limits_of_the_command() -> None:
    limits = chosen_limits(build_parser().parse_args(["serve"]))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert (limits.clients, limits.files) == (4 * cores, 2 * cores)
    options = ["--max-clients", "3", "--max-files", "1", "--max-upload-mb", "2", "--idle-s", "0.5"]
    limits = chosen_limits(build_parser().parse_args(["serve", *options]))
    assert (limits.clients, limits.files, limits.upload_bytes, limits.idle_s) == (3, 1, 2_000_000, 0.5)


def test_addresses() -> None:
    assert parse_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert parse_address("[::1]:80") == ("::1", 80)
    assert parse_address("8080") == parse_address(":8080") == ("127.0.0.1", 8080)
    assert is_loopback("127.0.0.1") and is_loopback("localhost") and not is_loopback("0.0.0.0")


@pytest.mark.slow
@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="needs the checkout, not an install")
def test_the_load_program(model_path: Path) -> None:
    program = [sys.executable, str(BENCHMARKS / "speed" / "serve_load.py")]
    options = ["--seconds", "1", "--first", "2", "--last", "2", "--max-clients", "1", "--model", str(model_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([*program, *options], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "2 clients" in ended.stdout and "0 failed" in ended.stdout
