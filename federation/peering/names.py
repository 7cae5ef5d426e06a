"""A peer's addresses as written, made into IP addresses and ports, again and again."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import trio

from federation.peering.accept import Address

EVERY = (
    10.0  # seconds between lookups; a gateway added behind the name is used within that, and a lookup costs the resolver's cache
)
AFTER_FAILURE = 2.0  # seconds; until it succeeds the peer may not be reached at all
TIMEOUT = 5.0  # seconds a lookup may take


def split_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[V6]:PORT` → (host, port). Raises ValueError saying how to write it."""
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if (
        not colon
        or not bare
        or not port.isascii()
        or not port.isdigit()
        or not 0 < int(port) < 65536
        or (":" in bare and bare == host)
    ):
        raise ValueError(f"address {text!r} is not HOST:PORT; write it like gw-west.example.com:15443 or [2001:db8::1]:15443")
    return bare, int(port)


def joined(address: str, port: int) -> str:
    """`IP:PORT`, as gateway.snapshot.LbEndpoint.key writes it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class NameLookup:
    """`addresses()` yields the whole set when it changes. `problem`: what is wrong with the last lookup, "" nothing."""

    def __init__(self, written: Sequence[str], lookup: Callable[[str], Awaitable[Sequence[str]]]) -> None:
        self.problem = ""
        self._lookup = lookup
        self._written = [split_address(text) for text in written]
        self._last: dict[str, frozenset[str]] = {}

    async def addresses(self) -> AsyncIterator[frozenset[Address]]:
        """The set now, then whenever it changes. A name that fails keeps its last addresses; empty while it never had any."""
        said: frozenset[Address] | None = None
        while True:
            problems = [text for host, _ in self._written if (text := await self._one(host))]
            self.problem = "; ".join(problems)
            found = frozenset((ip, port) for host, port in self._written for ip in self._last.get(host, ()))
            if found != said:
                said = found
                yield found
            if all(_is_ip(host) for host, _ in self._written):
                await trio.sleep_forever()
            await trio.sleep(AFTER_FAILURE if problems else EVERY)

    async def _one(self, host: str) -> str:
        """Look one host up; returns what went wrong, "" nothing."""
        if _is_ip(host):
            self._last[host] = frozenset({str(ipaddress.ip_address(host))})
            return ""
        try:
            with trio.fail_after(TIMEOUT):
                found = frozenset(await self._lookup(host))
        except trio.TooSlowError:
            return f"{host}: no answer from DNS within {TIMEOUT:.0f} s"
        except OSError as error:
            return f"{host}: cannot be looked up: {error.strerror or error}"
        if not found:
            return f"{host}: has no addresses"
        self._last[host] = found
        return ""


async def system_lookup(host: str) -> Sequence[str]:
    """By the system's resolver. Raises OSError."""
    found = await trio.socket.getaddrinfo(host, None, type=trio.socket.SOCK_STREAM)
    return sorted({str(entry[4][0]) for entry in found})


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
