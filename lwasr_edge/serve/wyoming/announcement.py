"""The announcement of a Wyoming server on the local network (zeroconf, mDNS), by which Home Assistant finds it."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable

from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from lwasr_edge.errors import OptionError

log = logging.getLogger("lwasr_edge.serve")

SERVICE_TYPE = "_wyoming._tcp.local."
A_MULTICAST_ADDRESS = ("224.0.0.251", 1)  # nothing is sent to it


async def announce(name: str, host: str, port: int) -> Callable[[], Awaitable[None]]:
    """Announce a TCP address on the local network; return what takes the announcement back.

    Args:
        name: shown in Home Assistant.
        host: that the server is bound to; "0.0.0.0" for the address that leads to the local network.
        port: of the server.

    Raises:
        OptionError: there is no network.
    """
    try:
        address = own_address() if host in ("0.0.0.0", "::") else socket.gethostbyname(host)
        zeroconf = AsyncZeroconf(interfaces=[address])
    except OSError as error:
        raise OptionError(f"--zeroconf needs a local network, got none: {error}: leave it out") from error
    info = AsyncServiceInfo(SERVICE_TYPE, f"{name}.{SERVICE_TYPE}", addresses=[socket.inet_aton(address)], port=port)
    await zeroconf.async_register_service(info, allow_name_change=True)
    if address.startswith("127."):
        log.warning("the announced address %s can be reached from this machine alone: use tcp://0.0.0.0:PORT", address)
    log.info("announced as %s at %s:%d", info.name, address, port)

    async def withdraw() -> None:
        with contextlib.suppress(Exception):
            await zeroconf.async_unregister_all_services()
        await zeroconf.async_close()

    return withdraw


def own_address() -> str:
    """IPv4 address of this machine in its local network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(A_MULTICAST_ADDRESS)
        return str(probe.getsockname()[0])
