"""How many clients `lwasr serve` can recognise in real time: clients are added until text is late.

    python benchmarks/speed/serve_load.py                        # starts a service and loads it: some minutes
    python benchmarks/speed/serve_load.py --url http://HOST:PORT # loads a running one, with its own --max-clients

Each client streams the packaged recording in a loop, in blocks of 100 ms in real time, over a WebSocket of its own,
and begins at another point of it. The lateness of an event is the time from the end of the audio that it was made from
to its arrival. The load program needs about a tenth of the processor time of the service; run it on another machine,
or read N as a lower bound.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np

from lwasr_edge import load_audio
from lwasr_edge.bench.recordings import CLIP

BLOCK_S = 0.1
RATE = 16_000
LATE_S = 0.5  # of the 95th percentile
PAUSE_S = 1.5  # after each round of the recording


@dataclass
class Figures:
    """What the clients of one round have seen."""

    lateness_s: list[float] = field(default_factory=list)
    finals: int = 0
    refused: int = 0
    failed: int = 0

    def percentile(self, percent: float) -> float:
        """Of the lateness, in seconds."""
        ordered = sorted(self.lateness_s)
        return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))] if ordered else float("nan")


async def client(url: str, data: bytes, offset: int, seconds: float, figures: Figures) -> None:
    """Stream for some seconds; `offset` is where in the recording it begins."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(f"{url}/v1/stream") as socket:
                began_s = time.perf_counter()
                reading = asyncio.ensure_future(read(socket, began_s, figures))
                block = int(BLOCK_S * RATE) * 2
                for number in range(int(seconds / BLOCK_S)):
                    start = (offset + number * block) % len(data)
                    part = data[start : start + block]
                    await asyncio.sleep(max(0.0, began_s + (number + 1) * BLOCK_S - time.perf_counter()))
                    if reading.done():
                        break
                    await socket.send_bytes(part + data[: block - len(part)])
                with contextlib.suppress(ConnectionError):
                    await socket.send_json({"type": "end"})
                await asyncio.wait_for(reading, 60)
        except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError):
            figures.failed += 1


async def read(socket: aiohttp.ClientWebSocketResponse, began_s: float, figures: Figures) -> None:
    """Collect what comes back."""
    async for message in socket:
        event = json.loads(message.data)
        if event["kind"] == "partial":
            figures.lateness_s.append(time.perf_counter() - began_s - event["time_s"])
        figures.finals += event["kind"] == "final"
    figures.refused += socket.close_code == 1013
    figures.failed += socket.close_code not in (1000, 1013)


async def round_of(url: str, data: bytes, n: int, seconds: float) -> Figures:
    """Load a service with n clients."""
    figures = Figures()
    stagger_s = 2.0 / n
    tasks = []
    for number in range(n):
        offset = int(number / n * len(data)) // 2 * 2
        tasks.append(asyncio.ensure_future(client(url, data, offset, seconds, figures)))
        await asyncio.sleep(stagger_s)
    await asyncio.gather(*tasks)
    return figures


async def process_figures(url: str) -> tuple[float, float]:
    """Memory in MB and processor seconds of the service."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
        values = dict(line.rsplit(" ", 1) for line in (await response.text()).splitlines() if line[:1] != "#")
    return (
        float(values.get("process_resident_memory_bytes", "nan")) / 1e6,
        float(values.get("process_cpu_seconds_total", "nan")),
    )


@contextlib.asynccontextmanager
async def service(max_clients: int, model: str | None) -> AsyncIterator[str]:
    """A service of its own process; yields its address."""
    command = [sys.executable, "-m", "lwasr_edge", "serve", "--http", "127.0.0.1:0", "--max-clients", str(max_clients)]
    command += ["--model", model] if model else []
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield (await asyncio.to_thread(process.stderr.readline)).split()[-1]
    finally:
        process.terminate()
        process.communicate()


def speech() -> bytes:
    """The packaged recording and a pause, as int16."""
    samples = np.concatenate([load_audio(CLIP, target_hz=RATE), np.zeros(int(PAUSE_S * RATE), np.float32)])
    return (samples * 32767).astype("<i2").tobytes()


async def measure(args: argparse.Namespace) -> None:
    """Print one line for each number of clients."""
    data = speech()
    print(f"{len(data) / 2 / RATE:.1f} s of audio, {args.seconds:g} s for each number of clients")
    async with contextlib.AsyncExitStack() as stack:
        url = args.url or await stack.enter_async_context(service(args.max_clients, args.model))
        n = args.first
        while n <= args.last:
            before = await process_figures(url)
            began_s = time.perf_counter()
            figures = await round_of(url, data, n, args.seconds)
            after = await process_figures(url)
            cores = (after[1] - before[1]) / (time.perf_counter() - began_s)
            p50, p95 = figures.percentile(50), figures.percentile(95)
            print(
                f"{n:4d} clients: lateness p50 {1000 * p50:6.0f} ms, p95 {1000 * p95:6.0f} ms, "
                f"p99 {1000 * figures.percentile(99):6.0f} ms; {figures.finals} finals, {figures.refused} refused, "
                f"{figures.failed} failed; {after[0]:.0f} MB, {cores:.2f} cores; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
            if p95 > LATE_S and not args.beyond:
                break
            n = max(n + 1, int(n * args.factor))


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="of a running service (default: start one)")
    parser.add_argument("--model", type=Path, help="of the service that is started")
    parser.add_argument("--max-clients", type=int, default=10_000, help="of the service that is started")
    parser.add_argument("--first", type=int, default=4, help="number of clients to begin with (default: 4)")
    parser.add_argument("--last", type=int, default=500, help="largest number of clients (default: 500)")
    parser.add_argument("--factor", type=float, default=1.5, help="from one number to the next (default: 1.5)")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each number (default: 20)")
    parser.add_argument("--beyond", action="store_true", help="go on when text is late")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
