"""The Huffman code of HPACK (RFC 7541 section 5.2 and Appendix B), decoding only: what we send is not Huffman coded (see hpack_lines).

Theory of operation. The code is canonical, so the lengths of its 257 code words say all. A decoder is a walk in the tree of code words;
the walk is tabled, a whole byte at a step: (place in the tree, byte) → (symbols that it completes, next place). Steps are composed of two
tabled half-bytes when they are first needed, and kept: usual text needs a few thousand of the 65,536.

Pure.
"""

from __future__ import annotations

from typing import Final

_EOS: Final = 256
# Bits of the code word of each symbol, 0 to 255 and EOS: RFC 7541 Appendix B.
# fmt: off
_LENGTHS: Final = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
)
# fmt: on
_KEPT = 16_384  # steps, a quarter of all: text of one language uses some 5,000; 3 MB at most, whatever strings a client thinks up


class HuffmanFault(Exception):
    """Not a string of this code: EOS within it, or padding that is too long or not all ones."""


def _tree() -> list[list[int]]:
    """nodes[node][bit] → a node, or ~symbol. Node 0 is the root."""
    nodes = [[0, 0]]
    code = last = 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(_LENGTHS)):
        code <<= length - last
        last = length
        at = 0
        for shift in range(length - 1, 0, -1):
            bit = code >> shift & 1
            if not nodes[at][bit]:
                nodes.append([0, 0])
                nodes[at][bit] = len(nodes) - 1
            at = nodes[at][bit]
        nodes[at][code & 1] = ~symbol
        code += 1
    return nodes


def _half_steps(nodes: list[list[int]]) -> list[tuple[bytes, int] | None]:
    """[node << 4 | four bits] → (symbols completed, next node); None where EOS would be completed."""
    steps: list[tuple[bytes, int] | None] = []
    for start in range(len(nodes)):
        for bits in range(16):
            at, symbols = start, b""
            for shift in (3, 2, 1, 0):
                at = nodes[at][bits >> shift & 1]
                if at == ~_EOS:
                    break
                if at < 0:
                    symbols += bytes((~at,))
                    at = 0
            steps.append(None if at == ~_EOS else (symbols, at))
    return steps


def _endings(nodes: list[list[int]]) -> frozenset[int]:
    """Places (shifted as in _Steps) where a string may end: the root, or up to seven ones beyond it (RFC 7541 section 5.2)."""
    places, at = {0}, 0
    for _ in range(7):
        at = nodes[at][1]
        places.add(at << 8)
    return frozenset(places)


_NODES = _tree()
_HALVES = _half_steps(_NODES)
_ENDINGS = _endings(_NODES)


class _Steps(dict[int, tuple[bytes, int]]):
    """[node << 8 | byte] → (symbols completed, next node << 8)."""

    def __missing__(self, key: int) -> tuple[bytes, int]:
        first = _HALVES[key >> 4]
        if first is None:
            raise HuffmanFault("EOS in a string")
        second = _HALVES[first[1] << 4 | key & 15]
        if second is None:
            raise HuffmanFault("EOS in a string")
        step = first[0] + second[0], second[1] << 8
        if len(self) < _KEPT:
            self[key] = step
        return step


_steps = _Steps()


def decode(coded: bytes) -> bytes:
    """The string that was coded. Raises HuffmanFault."""
    steps = _steps
    place = 0
    out = []
    for byte in coded:
        symbols, place = steps[place | byte]
        out.append(symbols)
    if place not in _ENDINGS:
        raise HuffmanFault("bad padding of a string")
    return b"".join(out)
