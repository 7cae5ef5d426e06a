"""What documents' sources are told."""

from __future__ import annotations

from discovery.document import Condition, Documents, Origin, parse
from federation.compile.services import subject_of
from federation.compile.status import left_out, statuses, warning
from federation.outcomes import outcomes
from federation.reading import Reader, Reading

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: edge}}
spec:
  selector: {{}}
  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ['*']}}]
"""


def read(reader: Reader, **files: str) -> Reading:
    parsed = [parse(text, name) for name, text in files.items()]
    steps = reader.read([Documents(tuple(d for each in parsed for d in each[0]), tuple(e for each in parsed for e in each[1]))])
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_each_document_is_told_its_conditions():
    reading = read(Reader(), a=GATEWAY.format(name="a", port=80), b=GATEWAY.format(name="b", port=81))
    a, b = reading.resources.gateways
    said = statuses(
        [subject_of(a), subject_of(b)],
        [left_out(subject_of(a), "spec.servers[0]", "PortTaken", "is taken"), warning(subject_of(b), "", "Odd", "odd")],
    )
    told = outcomes(reading, said)
    assert [condition.status for condition in told[a.origin].conditions] == [True, True, False]
    assert told[a.origin].conditions[2] == Condition("Programmed", False, "PortTaken", "spec.servers[0]: is taken")
    assert told[b.origin].warnings == ("odd",)


def test_one_that_cannot_be_read_is_not_accepted_though_its_last_good_version_serves():
    reader = Reader()
    good = GATEWAY.format(name="a", port=80)
    first = read(reader, a=good)
    broken = read(reader, a=good.replace("protocol: HTTP", "protocol: SMTP"))
    assert broken.resources.gateways == first.resources.gateways
    origin = broken.problems[0].origin
    condition = outcomes(broken, statuses([subject_of(first.resources.gateways[0])], []))[origin].conditions
    assert [(each.type, each.status, each.reason) for each in condition] == [("Accepted", False, "Invalid")]
    assert condition[0].message.startswith("spec.servers[0].port.protocol: must be one of HTTP")


def test_what_compile_says_nothing_of_is_accepted():
    reading = read(Reader(), a=GATEWAY.format(name="a", port=80))
    assert outcomes(reading, {}) == {reading.resources.gateways[0].origin: outcomes(reading, {})[Origin("a", 2)]}
    assert outcomes(reading, {})[Origin("a", 2)].conditions == (Condition("Accepted", True, "Accepted"),)
