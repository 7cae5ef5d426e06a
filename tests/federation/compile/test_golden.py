"""Whole compilations, in → out: tests/golden/compile/<case>/{in,out}.yaml. `--update-golden` writes out.yaml."""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from compiling import FILES, IDENTITY, OLD, WEB, inputs_of

from federation.compile.services import described
from federation.compile.whole import Compiled, compile_all
from gateway.faults import validate

CASES = sorted((Path(__file__).parents[2] / "golden" / "compile").iterdir())
STAND_IN = {
    WEB.chain: "<chain of web>",
    WEB.key.digest: "<key of web>",
    OLD.chain: "<chain of old>",
    OLD.key.digest: "<key of old>",
    IDENTITY.key.digest: "<key of the gateway>",
    FILES["/certs/ca.pem"].data.decode(): "<public ca>",
}
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")  # certificates of tests are made anew each time


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden(case: Path, update_golden: bool) -> None:
    inputs = inputs_of((case / "in.yaml").read_text())
    made = compile_all(inputs, described(inputs.resources, inputs.node).problems)
    assert validate(made.snapshot) == []
    assert {"<key of the gateway>", *(STAND_IN.get(digest, digest) for digest in made.secrets)} == {
        *keys(made),
        "<key of the gateway>",
    }
    text = yaml.safe_dump(shown(made), sort_keys=False, width=140)
    expected = case / "out.yaml"
    if update_golden:
        expected.write_text(text)
    assert text == expected.read_text()


def keys(made: Compiled) -> set[str]:
    """Every key that the Snapshot names."""
    text = made.snapshot.json().decode()
    return {name for digest, name in STAND_IN.items() if digest in text and name.startswith("<key")}


def shown(made: Compiled) -> dict[str, Any]:
    """Parts by name without what is default, and what is wrong with which document."""
    parts = {name: plain(part) for name, part in sorted(made.snapshot.parts.items())}
    notes = [
        f"{each.subject} {each.path}: {each.reason}{' (warning)' if each.warning else ''}: {each.message}" for each in made.findings
    ]
    bad = {
        str(subject): [condition.type for condition in status.conditions if not condition.status]
        for subject, status in sorted(made.statuses.items())
        if not status.good
    }
    return {"parts": parts, "findings": [MOMENT.sub("<moment>", note) for note in notes], "not good": bad}


def plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        defaults = dict(zip(reversed(value.__struct_fields__), reversed(value.__struct_defaults__), strict=False))
        pairs = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return {name: plain(each) for name, each in pairs if name not in defaults or each != defaults[name]}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return STAND_IN.get(value, value) if isinstance(value, str) else value
