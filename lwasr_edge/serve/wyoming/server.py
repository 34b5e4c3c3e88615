"""The Wyoming protocol over TCP, a Unix socket or standard streams."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from wyoming.event import async_get_stdin, async_get_stdout

from lwasr_edge.errors import LimitError, OptionError
from lwasr_edge.serve.wyoming.connection import WyomingConnection
from lwasr_edge.serve.wyoming.protocol import MAX_HEADER_BYTES

if TYPE_CHECKING:
    from lwasr_edge.serve.service import Service
    from lwasr_edge.utterance import EndpointRules

log = logging.getLogger("lwasr_edge.serve")


class WyomingServer:
    """Accept clients at one address, each with a task of its own.

    Args:
        service: recognises.
        rules: end-points of streams.
        ends_commands: see `WyomingConnection`.
    """

    def __init__(self, service: Service, rules: EndpointRules, *, ends_commands: bool = False) -> None:
        self._service = service
        self._rules = rules
        self._ends_commands = ends_commands
        self._server: asyncio.AbstractServer | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._socket_path: Path | None = None

    async def start(self, uri: str, at_end: Callable[[], object]) -> str:
        """Listen; return the address, with its port if the port was 0.

        Args:
            uri: tcp://HOST:PORT, unix:///PATH or stdio://.
            at_end: called when standard input has ended; never for the other two.

        Raises:
            OptionError: another kind of address.
            OSError: the address cannot be used.
        """
        host, port, path = parse_uri(uri)
        if path is not None:
            _check_unused(path)
            self._server = await asyncio.start_unix_server(self._on_client, path, limit=MAX_HEADER_BYTES)
            self._socket_path = path
            return uri
        if host is None:
            reader, writer = await async_get_stdin(), await async_get_stdout()
            self._task(self._serve(reader, writer)).add_done_callback(lambda _: at_end())
            return uri
        self._server = await asyncio.start_server(self._on_client, host, port, limit=MAX_HEADER_BYTES)
        bound = self._server.sockets[0].getsockname()[1]
        return f"tcp://{f'[{host}]' if ':' in host else host}:{bound}"

    async def close(self, grace_s: float) -> None:
        """Accept no more clients; wait for those that are served, at most so long."""
        if self._server is not None:
            self._server.close()
        if self._clients:
            await asyncio.wait(self._clients, timeout=grace_s)
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)

    def _task(self, served: Any) -> asyncio.Task[None]:
        task = asyncio.ensure_future(served)
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)
        return task

    def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= self._service.limits.connections:
            self._service.refused("connections", "too many connections")
            writer.transport.abort()
            return
        self._task(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limits = self._service.limits
        connection = WyomingConnection(self._service, self._rules, reader, writer, ends_commands=self._ends_commands)
        try:
            await asyncio.wait_for(connection.run(), limits.session_s)
        except asyncio.TimeoutError:
            log.info("wyoming: a connection must end within %g s, and was closed", limits.session_s)
        except (LimitError, OSError) as error:
            log.debug("wyoming: a client is gone: %s", error)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("wyoming: a client could not be served")
        finally:
            await _closed(writer, limits.idle_s)


async def _closed(writer: asyncio.StreamWriter, patience_s: float) -> None:
    """Close a connection when all was sent, or abort it if the client does not read."""
    writer.close()
    try:
        await asyncio.wait_for(writer.wait_closed(), patience_s)
    except NotImplementedError:  # standard output; everything was sent before
        return
    except (OSError, asyncio.TimeoutError):
        writer.transport.abort()
    except asyncio.CancelledError:
        writer.transport.abort()
        raise


def parse_uri(uri: str) -> tuple[str | None, int, Path | None]:
    """Host and port, or the path of a socket, or neither for standard streams.

    Raises:
        OptionError: another kind of address.
    """
    hint = "--wyoming must be tcp://HOST:PORT, unix:///PATH or stdio://"
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise OptionError(f"{hint}, got {uri!r}: {error}") from None
    if parts.scheme == "tcp" and parts.hostname and port is not None and not parts.path.strip("/"):
        return parts.hostname, port, None
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        if not hasattr(asyncio, "start_unix_server"):
            raise OptionError(f"{hint}, got {uri!r}: this system has no Unix sockets")
        return None, 0, Path(parts.path)
    if parts.scheme == "stdio":
        return None, 0, None
    raise OptionError(f"{hint}, got {uri!r}")


def _check_unused(path: Path) -> None:
    """Refuse the socket of a running service; asyncio replaces any socket, as of a service that was killed.

    Raises:
        OSError: a service answers there.
    """
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(path))
    except OSError:
        return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
