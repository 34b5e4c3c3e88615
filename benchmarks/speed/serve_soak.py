"""Whether `lwasr serve` leaks: an hour of clients that stream, die, stall, read nothing, and send what is invalid.

    python benchmarks/speed/serve_soak.py                  # starts a service; 60 minutes
    python benchmarks/speed/serve_soak.py --minutes 5 --json soak.json

Every `--every` minutes all clients end, and memory, open files, threads and asyncio tasks of the service are sampled
when it has closed what was left: these figures "at rest" must stay. The peaks between are sampled every second. Needs
ffmpeg, and the extra `opus`.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import io
import json
import os
import random
import re
import subprocess
import sys
import time
import wave
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from soak_clients import RATE, Client, Target
from soak_uploads import CLIENTS

from lwasr_edge import Final, Recognizer, load_audio
from lwasr_edge.bench.recordings import CLIP

AUDIO_S = 6.0
TO_OPUS = ["ffmpeg", "-v", "error", "-i", "-", "-c:a", "libopus", "-b:a", "24k", "-f", "ogg", "-"]
CLIENT_TIMEOUT_S = 120.0
REST_TIMEOUT_S = 60.0
FIGURES = {
    "memory_mb": "process_resident_memory_bytes",
    "files": "process_open_fds",
    "threads": "lwasr_threads",
    "tasks": "lwasr_tasks",
    "streams": "lwasr_streams_open",
}


@dataclass
class Sample:
    """The service at one time."""

    minute: float
    memory_mb: float = 0.0
    files: float = 0.0
    threads: float = 0.0
    tasks: float = 0.0
    streams: float = 0.0


class Soak:
    """Clients of a running service, and what was seen.

    Args:
        target: the service.
        workers: clients at a time.
        names: kinds of clients; none for all.
    """

    def __init__(self, target: Target, workers: int, names: list[str]) -> None:
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.at_rest: list[Sample] = []
        self.peak = Sample(0.0)
        self._target = target
        self._workers = workers
        self._clients = {one: weight for one, weight in CLIENTS.items() if not names or one.__name__ in names}
        self._began_s = time.monotonic()

    async def run(self, minutes: float, every: float) -> None:
        """Load the service, with a rest at the beginning, between and at the end."""
        await self._rest()
        while (left := minutes - self._minute()) > 0.05:
            until_s = time.monotonic() + 60 * min(every, left)
            await asyncio.gather(self._watch(until_s), *(self._work(until_s) for _ in range(self._workers)))
            await self._rest()

    def _minute(self) -> float:
        return (time.monotonic() - self._began_s) / 60

    async def _work(self, until_s: float) -> None:
        while time.monotonic() < until_s:
            (client,) = random.choices(list(self._clients), list(self._clients.values()))
            self.outcomes[f"{client.__name__}: {await self._outcome(client)}"] += 1
            await asyncio.sleep(random.uniform(0, 0.5))

    async def _outcome(self, client: Client) -> str:
        try:
            return await asyncio.wait_for(client(self._target), CLIENT_TIMEOUT_S)
        except asyncio.TimeoutError:
            return "TOOK TOO LONG"
        except aiohttp.WSServerHandshakeError as error:
            return f"refused with {error.status}"
        except (OSError, aiohttp.ClientError) as error:
            return type(error).__name__

    async def _watch(self, until_s: float) -> None:
        while time.monotonic() < until_s:
            with contextlib.suppress(aiohttp.ClientError, KeyError, OSError):
                sample = await sampled(self._target.url, self._minute())
                highest = {name: max(getattr(self.peak, name), getattr(sample, name)) for name in FIGURES}
                self.peak = Sample(sample.minute, **highest)
            await asyncio.sleep(1)

    async def _rest(self) -> None:
        """Wait until the service has ended everything, and sample it."""
        deadline_s = time.monotonic() + REST_TIMEOUT_S
        await asyncio.sleep(2 * self._target.idle_s)
        sample = await sampled(self._target.url, self._minute())
        while time.monotonic() < deadline_s and self.at_rest and sample.tasks > self.at_rest[0].tasks:
            await asyncio.sleep(1)
            sample = await sampled(self._target.url, self._minute())
        self.at_rest.append(sample)
        print(
            f"minute {sample.minute:5.1f}: {sample.memory_mb:6.1f} MB, {sample.files:g} files, "
            f"{sample.threads:g} threads, {sample.tasks:g} tasks, "
            f"{sample.streams:g} streams at rest; {sum(self.outcomes.values())} clients; "
            f"peak {self.peak.memory_mb:.0f} MB; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


async def sampled(url: str, minute: float) -> Sample:
    """The figures of /metrics."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
        lines = (await response.text()).splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line[:1] != "#")
    found = {name: float(values[metric]) for name, metric in FIGURES.items()}
    found["memory_mb"] /= 1e6
    return Sample(round(minute, 2), **found)


@contextlib.asynccontextmanager
async def service(idle_s: float, log: Path) -> AsyncIterator[tuple[str, str]]:
    """A service of its own process; yields the addresses of HTTP and Wyoming."""
    command = [sys.executable, "-m", "lwasr_edge", "serve", "--http", "127.0.0.1:0", "--wyoming", "tcp://127.0.0.1:0"]
    command += ["--idle-s", str(idle_s), "--max-clients", "16", "--max-files", "4", "--max-session-s", "100"]
    with log.open("w") as written:
        process = subprocess.Popen(command, stderr=written)
    try:
        while not (found := re.findall(r"listening on (\S+)", log.read_text()))[1:]:
            await asyncio.sleep(0.1)
            if process.poll() is not None:
                raise SystemExit(log.read_text())
        yield found[1], found[0]
    finally:
        process.terminate()
        print(f"exit status after SIGTERM: {await asyncio.to_thread(process.wait)}")


def target_of(url: str, wyoming: str, idle_s: float) -> Target:
    """The addresses, and the words of a piece of the packaged recording, recognised in this process."""
    samples = (load_audio(CLIP, target_hz=RATE)[: int(AUDIO_S * RATE)] * 32767).astype("<i2")
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    recognizer = Recognizer(threads=1)
    with recognizer.stream() as stream:
        events = stream.accept(samples.tobytes()) + stream.flush()
    text = " ".join(event.text for event in events if isinstance(event, Final))
    file_text = recognizer.transcribe((np.asarray(samples), RATE)).text
    ogg = subprocess.run(TO_OPUS, input=written.getvalue(), capture_output=True, check=True).stdout
    return Target(url, wyoming, samples.tobytes(), written.getvalue(), ogg, text, file_text, idle_s)


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run; return what was seen."""
    async with service(args.idle_s, args.log) as (url, wyoming):
        soak = Soak(target_of(url, wyoming, args.idle_s), args.workers, args.client or [])
        await soak.run(args.minutes, args.every)
    return {
        "minutes": args.minutes,
        "clients_at_a_time": args.workers,
        "at_rest": [asdict(sample) for sample in soak.at_rest],
        "peak": asdict(soak.peak),
        "outcomes": dict(sorted(soak.outcomes.items())),
        "log_lines": args.log.read_text().splitlines()[:200],
    }


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="(default: 60)")
    parser.add_argument("--every", type=float, default=5.0, help="minutes between two rests (default: 5)")
    parser.add_argument("--workers", type=int, default=8, help="clients at a time (default: 8)")
    parser.add_argument(
        "--client",
        action="append",
        choices=[client.__name__ for client in CLIENTS],
        help="only this kind of client; may be repeated (default: all)",
    )
    parser.add_argument("--idle-s", type=float, default=5.0, help="of the service (default: 5)")
    parser.add_argument("--log", type=Path, default=Path("soak.log"), help="of the service (default: soak.log)")
    parser.add_argument("--json", type=Path, help="write what was seen to a file")
    args = parser.parse_args()
    seen = asyncio.run(measure(args))
    for outcome, count in seen["outcomes"].items():
        print(f"{count:6d} {outcome}")
    if args.json is not None:
        args.json.write_text(json.dumps(seen, indent=1) + "\n")


if __name__ == "__main__":
    main()
