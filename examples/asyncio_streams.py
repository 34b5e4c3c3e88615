"""A TCP server: int16 samples at 16 kHz in, one line of JSON per event out. Each client has a stream of its own.

    python examples/asyncio_streams.py [PORT]
    arecord -t raw -f S16_LE -r 16000 -c 1 | nc localhost PORT

`accept` and `flush` run in threads, so that the event loop never waits for the model.
"""

import asyncio
import contextlib
import json
import sys

from lwasr_edge import Event, Final, Recognizer

recognizer = Recognizer()


def line(event: Event) -> bytes:
    kind = "final" if isinstance(event, Final) else "partial"
    return json.dumps({"kind": kind, "text": event.text}).encode() + b"\n"


async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(ConnectionError), recognizer.stream() as stream:
        while data := await reader.read(32_000):  # any number of bytes, an odd one too; nothing at the end
            writer.writelines(map(line, await asyncio.to_thread(stream.accept, data)))
            await writer.drain()
        writer.writelines(map(line, await asyncio.to_thread(stream.flush)))
        await writer.drain()


async def serve(port: int) -> None:
    server = await asyncio.start_server(serve_client, "127.0.0.1", port)
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
