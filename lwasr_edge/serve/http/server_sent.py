"""A transcript as server-sent events, as OpenAI's clients read them with `stream=True`."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, BinaryIO

from aiohttp import web

from lwasr_edge.errors import LwasrError
from lwasr_edge.words import join_words

if TYPE_CHECKING:
    from lwasr_edge.recognizer import Transcript
    from lwasr_edge.serve.service import Service
    from lwasr_edge.words import Word

log = logging.getLogger("lwasr_edge.serve")

READ_TIMES = 4  # times `idle_s`, in which an event must be read


async def send_events(request: web.Request, service: Service, file: BinaryIO) -> web.StreamResponse:
    """Transcribe a file, and send the text of each part of it when it is recognised.

    An error after the first event is an event, too; OpenAI's clients raise an exception for it.

    Raises:
        LwasrError: before the first event.
    """
    loop = asyncio.get_running_loop()
    deltas: asyncio.Queue[str | None] = asyncio.Queue()

    def on_segment(words: tuple[Word, ...]) -> None:
        if words:
            loop.call_soon_threadsafe(deltas.put_nowait, join_words(words))

    run = asyncio.ensure_future(service.transcribe(file, on_segment))
    run.add_done_callback(lambda _: deltas.put_nowait(None))
    try:
        text = await deltas.get()
        if text is None:
            await run  # raises the error, if there is one
        return await _events(request, service.limits.idle_s, text, deltas, run)
    finally:
        if not run.done():
            run.cancel()
            await asyncio.wait({run})


async def _events(
    request: web.Request,
    idle_s: float,
    text: str | None,
    deltas: asyncio.Queue[str | None],
    run: asyncio.Future[Transcript],
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    try:
        await response.prepare(request)
        space = ""
        while text is not None:
            await _send(response, {"type": "transcript.text.delta", "delta": space + text}, idle_s)
            space, text = " ", await deltas.get()
        try:
            await _send(response, {"type": "transcript.text.done", "text": (await run).text}, idle_s)
        except LwasrError as error:
            code = getattr(error, "reason", "invalid_value")
            body = {"message": str(error), "type": "server_error", "param": None, "code": code}
            await _send(response, {"type": "error", "error": body}, idle_s)
        await asyncio.wait_for(response.write_eof(), READ_TIMES * idle_s)
    except ConnectionError:
        log.debug("http: a client of events is gone")
    except asyncio.TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    return response


async def _send(response: web.StreamResponse, event: dict[str, Any], idle_s: float) -> None:
    line = f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"
    await asyncio.wait_for(response.write(line.encode()), READ_TIMES * idle_s)
