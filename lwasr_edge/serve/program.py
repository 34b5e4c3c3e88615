"""Start the servers that were asked for, and end them after a signal."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lwasr_edge.errors import LwasrError, OptionError
from lwasr_edge.serve.phrase_file import watch_phrases

if TYPE_CHECKING:
    from pathlib import Path

    from lwasr_edge.recognizer import Recognizer
    from lwasr_edge.serve.service import Service
    from lwasr_edge.utterance import EndpointRules

log = logging.getLogger("lwasr_edge.serve")

StopBySignals = Callable[[Callable[[], None]], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Plan:
    """What is to be served, and where."""

    wyoming: str | None  # tcp://HOST:PORT, unix:///PATH or stdio://
    http: str | None  # HOST:PORT
    rules: EndpointRules
    ends_commands: bool = False  # see WyomingConnection
    zeroconf: str | None = None  # name of the announcement
    token: str | None = None
    is_open: bool = False  # whether other machines need no token
    origins: frozenset[str] = frozenset()
    phrases: Path | None = None  # read again when it changes
    grace_s: float = 5.0  # for clients, after a signal


def serve(service: Service, plan: Plan, remake: Callable[[], Recognizer], stop_by_signals: StopBySignals) -> None:
    """Serve until a signal, or until standard input ends with stdio://.

    Args:
        service: recognises; it is closed at the end.
        plan: what to serve.
        remake: a recogniser with the phrases as they are now.
        stop_by_signals: a context in which the first signal calls its argument.

    Raises:
        OptionError: nothing to serve, or an address that cannot be used.
    """
    if plan.wyoming is None and plan.http is None:
        raise OptionError("lwasr serve needs --wyoming URI or --http HOST:PORT, got neither: add one or both")
    if plan.zeroconf is not None and plan.wyoming is None:
        raise OptionError("--zeroconf announces a Wyoming server, got none: add --wyoming tcp://0.0.0.0:10300")
    try:
        asyncio.run(_run(service, plan, remake, stop_by_signals))
    finally:
        service.close()


async def _run(service: Service, plan: Plan, remake: Callable[[], Recognizer], stop_by_signals: StopBySignals) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def stop_soon() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(stop.set)

    async with running(service, plan, remake, at_end=stop.set):
        with stop_by_signals(stop_soon):
            await stop.wait()
        log.info("stopping; another signal ends at once")


@contextlib.asynccontextmanager
async def running(
    service: Service, plan: Plan, remake: Callable[[], Recognizer], at_end: Callable[[], object] = lambda: None
) -> AsyncIterator[list[str]]:
    """A context in which the servers run. At its end, clients get the results of what they have sent, in the time of
    `grace_s`.

    Args:
        service, plan, remake: as for `serve`.
        at_end: called when standard input has ended.

    Yields:
        The addresses of the servers, with their ports: Wyoming's, then that of HTTP.
    """
    async with contextlib.AsyncExitStack() as started:
        closing: list[Close] = []
        addresses: list[str] = []
        if plan.wyoming is not None:
            await _start_wyoming(service, plan, at_end, closing, addresses)
        if plan.http is not None:
            await _start_http(service, plan, closing, addresses)
        try:
            if plan.phrases is not None:
                watching = asyncio.ensure_future(watch_phrases(service, plan.phrases, remake))
                started.callback(watching.cancel)
            if plan.zeroconf is not None:
                await _announce(plan, addresses[0], started)
            yield addresses
        finally:
            service.stop()
            await asyncio.gather(*(close(plan.grace_s) for close in closing))


Close = Callable[[float], Awaitable[Any]]


async def _start_wyoming(
    service: Service, plan: Plan, at_end: Callable[[], object], closing: list[Close], addresses: list[str]
) -> None:
    from lwasr_edge.serve.wyoming.server import WyomingServer, parse_uri

    assert plan.wyoming is not None
    host, _, _ = parse_uri(plan.wyoming)
    if plan.zeroconf is not None and host is None:
        raise OptionError(f"--zeroconf announces a TCP server, got {plan.wyoming}: use tcp://0.0.0.0:10300")
    server = WyomingServer(service, plan.rules, ends_commands=plan.ends_commands)
    addresses.append(await _listening(server.start(plan.wyoming, at_end), plan.wyoming))
    closing.append(server.close)
    log.info("wyoming: listening on %s", addresses[-1])
    if host is not None and not is_loopback(host):
        log.warning("wyoming: the protocol has no passwords: every machine that can reach this port may use it")


async def _start_http(service: Service, plan: Plan, closing: list[Close], addresses: list[str]) -> None:
    from lwasr_edge.serve.http.app import Access
    from lwasr_edge.serve.http.server import HttpServer, parse_address

    assert plan.http is not None
    host, port = parse_address(plan.http)
    if plan.token is None and not plan.is_open and not is_loopback(host):
        raise OptionError(
            f"--http {plan.http} can be reached by other machines and must have a token, got none: add --token-file "
            "FILE, or --no-token to let everybody use it"
        )
    server = HttpServer(service, Access(plan.token, plan.origins), plan.rules)
    addresses.append(await _listening(server.start(host, port), plan.http))
    closing.append(server.close)
    log.info("http: listening on http://%s", addresses[-1])


async def _announce(plan: Plan, address: str, started: contextlib.AsyncExitStack) -> None:
    from lwasr_edge.serve.wyoming.announcement import announce

    host, _, port = address.removeprefix("tcp://").rpartition(":")
    assert plan.zeroconf is not None
    started.push_async_callback(await announce(plan.zeroconf, host.strip("[]"), int(port)))


async def _listening(starting: Awaitable[str], address: str) -> str:
    try:
        return await starting
    except LwasrError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise OptionError(f"{address} must be a free address of this machine, got an error: {reason}") from error


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach an address.

    Raises:
        OptionError: the name has no address.
    """
    try:
        found = socket.getaddrinfo(host, None)
    except OSError as error:
        raise OptionError(f"the host must be an address of this machine, got {host!r}: {error}") from error
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)
