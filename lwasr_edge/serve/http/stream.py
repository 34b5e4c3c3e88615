"""The WebSocket /v1/stream: samples in, events as JSON out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from lwasr_edge.errors import AudioError, LimitError, LwasrError
from lwasr_edge.serve.http.stream_settings import parse_settings
from lwasr_edge.serve.session import Session, open_session
from lwasr_edge.utterance import EndpointRules
from lwasr_edge.validate import shown

if TYPE_CHECKING:
    from lwasr_edge.events import Event
    from lwasr_edge.serve.service import Service

log = logging.getLogger("lwasr_edge.serve")

# Other reasons: 1013, "try again later".
CLOSE_CODES = {
    "stopping": WSCloseCode.GOING_AWAY,
    "size": WSCloseCode.MESSAGE_TOO_BIG,
    "audio": WSCloseCode.POLICY_VIOLATION,
    "idle": WSCloseCode.POLICY_VIOLATION,
    "session": WSCloseCode.POLICY_VIOLATION,
}
MAX_REASON_BYTES = 120  # of a close frame
LAST_WORDS_S = 5.0  # for an error and the close frame: a client that reads needs no more


async def stream_socket(request: web.Request, service: Service, rules: EndpointRules) -> web.StreamResponse:
    """Serve one client of /v1/stream.

    Raises:
        LwasrError: before the WebSocket is open, for invalid settings in the address.
    """
    settings = dict(request.query)
    parse_settings(settings, rules, service.recognizer.info.language or "en")  # refused before the handshake
    limits = service.limits
    socket = web.WebSocketResponse(max_msg_size=limits.message_bytes, compress=False, timeout=5.0)
    if not socket.can_prepare(request).ok:
        raise web.HTTPUpgradeRequired(text="/v1/stream must be opened as a WebSocket, got another request")
    await socket.prepare(request)
    transport = request.transport  # asked for now: a request has none after its WebSocket is closed
    client = _StreamClient(service, rules, socket, settings)
    try:
        await asyncio.wait_for(client.run(), limits.session_s)
    except asyncio.TimeoutError:
        await client.end_with(LimitError(f"a stream must end within {limits.session_s:g} s: reconnect", "session"))
    except LwasrError as error:
        await client.end_with(error)
    except (ConnectionError, RuntimeError) as error:  # the latter is aiohttp's for a socket that is closing
        log.debug("stream: a client is gone: %s", error)
    finally:  # closing waits until everything is sent, which a client that does not read can prevent
        if transport is not None and client.reads_nothing:
            transport.abort()
        elif transport is not None:
            asyncio.get_running_loop().call_later(LAST_WORDS_S, _abort_unsent, transport)
    return socket


def _abort_unsent(transport: asyncio.Transport) -> None:
    if transport.get_write_buffer_size():
        transport.abort()


class _StreamClient:
    def __init__(
        self, service: Service, rules: EndpointRules, socket: web.WebSocketResponse, settings: dict[str, Any]
    ) -> None:
        self._service = service
        self._rules = rules
        self._socket = socket
        self._settings = settings
        self._session: Session[str] | None = None
        self.reads_nothing = False

    async def run(self) -> None:
        """Recognise until the client sends "end", closes or vanishes, or the service stops."""
        with self._service.stream_slot("websocket"):
            try:
                await self._recognise()
            finally:
                if self._session is not None:
                    self._session.close()

    async def _recognise(self) -> None:
        try:
            while (data := await self._next_audio()) is not None:
                session = await self._opened()
                async for event in session.accept(data):
                    await self._send(event)
        except LimitError as error:
            if error.reason == "stopping":
                await self._finish()
            raise
        await self._finish()
        await self._close(WSCloseCode.OK, "")

    async def _next_audio(self) -> bytes | None:
        """The next bytes; None at the end. Settings may come before the first of them.

        Raises:
            AudioError: a message of another kind.
            LimitError: see `Service.next_of`; or the message is too large.
            ConnectionError: the client is gone, or has closed without "end".
        """
        while True:
            message: WSMessage = await self._service.next_of(self._socket.receive())
            if message.type is WSMsgType.BINARY:
                return bytes(message.data)
            if message.type is WSMsgType.TEXT:
                wanted = _json_object(message.data)
                if wanted == {"type": "end"}:
                    return None
                if self._session is not None:
                    raise AudioError(f'text after audio must be {{"type": "end"}}, got {shown(message.data)}')
                self._settings |= {name: value for name, value in wanted.items() if name != "type"}
                await self._opened()
            elif message.type is WSMsgType.ERROR:
                raise ConnectionError(str(message.data))
            else:
                raise ConnectionError("closed")

    async def _opened(self) -> Session[str]:
        if self._session is None:
            language = self._service.recognizer.info.language or "en"
            form, settings = parse_settings(self._settings, self._rules, language)
            self._session = await open_session(self._service, form, self._json, **settings)
        return self._session

    async def _finish(self) -> None:
        if self._session is not None:
            for event in await self._session.finish():
                await self._send(event)

    async def end_with(self, error: LwasrError) -> None:
        """Tell the client what was wrong, and close."""
        code = WSCloseCode.UNSUPPORTED_DATA
        if isinstance(error, LimitError):
            code = CLOSE_CODES.get(error.reason, WSCloseCode.TRY_AGAIN_LATER)
        message = json.dumps({"kind": "error", "message": str(error)})
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self._in_time(self._socket.send_str(message), LAST_WORDS_S)
            await self._close(code, str(error))

    def _json(self, event: Event) -> str:
        return json.dumps(self._service.forms.event(event), ensure_ascii=False)

    async def _send(self, text: str) -> None:
        """Send one message.

        Raises:
            ConnectionError: the client is gone, or does not read.
        """
        await self._in_time(self._socket.send_str(text))

    async def _close(self, code: int, reason: str) -> None:
        short = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
        await self._in_time(self._socket.close(code=code, message=short), LAST_WORDS_S)

    async def _in_time(self, sending: Any, longest_s: float = math.inf) -> None:
        limit_s = min(self._service.limits.idle_s, longest_s)
        try:
            await asyncio.wait_for(sending, limit_s)
        except asyncio.TimeoutError:
            self.reads_nothing = True
            raise ConnectionError(f"results must be read within {limit_s:g} s") from None


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise AudioError(f"text must be a JSON object, got {shown(text)}: send samples as binary messages")
    return value
