"""Consul's list of all checks of a datacenter, read in slices: with 20,000 of them it is 10 MB, and decoding that in one piece would hold up
everything else of this process for 20 to 50 ms, again with every check that changes.

Theory of operation. Nothing but a JSON parser knows where an element ends, but in what Consul writes the text between two checks,
`},{"Node":`, is found nowhere else: in a string its quotes would be escaped. Cut there, each slice is a list of its own. Should that ever
not hold, a slice is no JSON, and the answer is decoded whole.
"""

from __future__ import annotations

import msgspec
import trio

_BETWEEN = b'},{"Node":'
_SLICE = 256 << 10  # bytes of JSON: half a millisecond, and some 500 checks


class Check(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """service_name "": it is one of the node, and so of all services there."""

    node: str
    check_id: str = msgspec.field(name="CheckID")
    status: str = ""
    service_name: str = ""


_CHECKS = msgspec.json.Decoder(list[Check] | None)


async def decode_checks(body: bytes) -> list[Check]:
    """The checks, with other tasks in between. Raises msgspec.DecodeError."""
    try:
        return await _decode_sliced(body)
    except msgspec.DecodeError:
        return _CHECKS.decode(body) or []


async def _decode_sliced(body: bytes) -> list[Check]:
    found: list[Check] = []
    begin, opening = 0, b""
    while (end := body.find(_BETWEEN, begin + _SLICE)) >= 0:
        found += _CHECKS.decode(b"%b%b}]" % (opening, body[begin:end])) or ()
        begin, opening = end + 2, b"["
        await trio.lowlevel.checkpoint()
    found += _CHECKS.decode(opening + body[begin:]) or ()
    return found
