"""`python fuzz_worker.py TARGET CORPUS LIBFUZZER-OPTIONS…`: one target under atheris, in a process of its own.

Atheris takes over the process: signal handlers, exit status, output. It watches the branches of our codecs only.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["gateway.native", "gateway.policy"]):
    from fuzz_targets import TARGETS

name, corpus, *options = sys.argv[1:]
check, _ = TARGETS[name]


def one(data: bytes) -> None:
    check(data)


atheris.Setup([sys.argv[0], *options, corpus], one)
atheris.Fuzz()
