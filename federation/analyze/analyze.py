"""Findings across documents: what each of them alone cannot show. Few, and true."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from federation.analyze.failover import capped_ejection, inert_failover
from federation.analyze.finding import Finding, View
from federation.analyze.references import (
    credentials_not_found,
    delegates_not_found,
    gateways_not_found,
    hosts_not_found,
    hosts_not_in_gateway,
    hosts_of_several,
    ports_needed,
    subsets_not_found,
)
from federation.compile.inputs import Inputs

RULES: tuple[Callable[[View], Iterator[Finding]], ...] = (
    gateways_not_found,
    delegates_not_found,
    hosts_not_found,
    subsets_not_found,
    credentials_not_found,
    hosts_not_in_gateway,
    hosts_of_several,
    ports_needed,
    inert_failover,
    capped_ejection,
)


def analyze(inputs: Inputs, *, every_service: bool = True) -> tuple[Finding, ...]:
    """What all rules find, each finding once, by file and line. `inputs.services` is the merged catalog: what is not in it is not found,
    unless there may be services that it does not have. Pure; raises nothing."""
    view = View.of(inputs)
    rules = RULES if every_service else [rule for rule in RULES if rule is not hosts_not_found]
    found = dict.fromkeys(finding for rule in rules for finding in rule(view))
    return tuple(sorted(found, key=lambda finding: (finding.origin, finding.code, finding.path, finding.message)))
