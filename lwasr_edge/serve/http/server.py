"""The HTTP server: its address, and a limit on open sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from lwasr_edge.errors import OptionError
from lwasr_edge.serve.http.app import Access, make_app

if TYPE_CHECKING:
    from lwasr_edge.serve.service import Service
    from lwasr_edge.utterance import EndpointRules

TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HttpServer:
    """Accept HTTP clients at one address.

    Args:
        service: recognises.
        access: who may use it.
        rules: default end-points of streams.
    """

    def __init__(self, service: Service, access: Access, rules: EndpointRules) -> None:
        self._service = service
        self._runner = web.AppRunner(
            make_app(service, access, rules),
            access_log=None,
            handler_cancellation=True,  # a client that is gone ends its recognition
            keepalive_timeout=service.limits.idle_s,  # also for headers that do not come
            shutdown_timeout=1.0,  # `close` has waited before
        )
        self._server: asyncio.AbstractServer | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen; return the address as HOST:PORT, with its port if the port was 0.

        Raises:
            OSError: the address cannot be used.
        """
        await self._runner.setup()
        self._server = await asyncio.get_running_loop().create_server(self._protocol, host, port)
        return join_address(host, self._server.sockets[0].getsockname()[1])

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        if len(server.connections) >= self._service.limits.connections:
            self._service.refused("connections", "too many connections")
            return _Refusal()
        return server()

    async def close(self, grace_s: float) -> None:
        """Accept no more clients; wait for those that are served, at most so long."""
        if self._server is not None:
            self._server.close()
        deadline_s = asyncio.get_running_loop().time() + grace_s
        while self._is_busy() and asyncio.get_running_loop().time() < deadline_s:
            await asyncio.sleep(0.02)
        self._service.abandon_files()
        await self._runner.cleanup()

    def _is_busy(self) -> bool:
        return bool(self._service.open_files or self._service.open_streams)


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(TOO_MANY)
        transport.close()


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT, [IPV6]:PORT or PORT alone, which is on 127.0.0.1.

    Raises:
        OptionError: anything else.
    """
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (port.isascii() and port.isdigit() and int(port) < 65_536) or (":" in host and "[" not in text):
        raise OptionError(f"--http must be HOST:PORT, got {text!r}")
    return host or "127.0.0.1", int(port)


def join_address(host: str, port: int) -> str:
    """HOST:PORT; IPv6 addresses in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
