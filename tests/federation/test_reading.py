"""Documents read again and again: what broke keeps its last good version, what is gone is forgotten, what did not change is not read."""

from __future__ import annotations

from discovery.document import DocumentError, Documents, Origin, parse
from federation.reading import Reader, Reading

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: edge}}
spec:
  selector: {{}}
  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ['*']}}]
"""


def documents(**files: str) -> Documents:
    parsed = [parse(text, name) for name, text in files.items()]
    return Documents(tuple(d for each in parsed for d in each[0]), tuple(e for each in parsed for e in each[1]))


def read(reader: Reader, *sources: Documents) -> Reading:
    steps = reader.read(sources)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def ports(reading: Reading) -> dict[str, int]:
    return {each.name: each.spec.servers[0].port.number for each in reading.resources.gateways}


def test_a_document_that_breaks_keeps_its_last_good_version() -> None:
    reader = Reader()
    read(reader, documents(a=GATEWAY.format(name="a", port=80), b=GATEWAY.format(name="b", port=81)))
    broken = read(reader, documents(a=GATEWAY.format(name="a", port="nonsense"), b=GATEWAY.format(name="b", port=82)))
    assert ports(broken) == {"a": 80, "b": 82}
    assert broken.stale == (("Gateway", "edge", "a"),)
    assert [(problem.file, problem.name) for problem in broken.problems] == [("a", "a")]
    still = read(reader, documents(a=GATEWAY.format(name="a", port="worse"), b=GATEWAY.format(name="b", port=82)))
    assert ports(still) == {"a": 80, "b": 82}
    mended = read(reader, documents(a=GATEWAY.format(name="a", port=90), b=GATEWAY.format(name="b", port=82)))
    assert ports(mended) == {"a": 90, "b": 82}
    assert not mended.stale
    assert not mended.problems


def test_one_that_never_was_good_is_left_out() -> None:
    reading = read(Reader(), documents(a=GATEWAY.format(name="a", port="nonsense"), b=GATEWAY.format(name="b", port=82)))
    assert ports(reading) == {"b": 82}
    assert reading.problems
    assert not reading.stale


def test_one_that_is_gone_is_forgotten() -> None:
    reader = Reader()
    read(reader, documents(a=GATEWAY.format(name="a", port=80)))
    assert ports(read(reader, documents())) == {}
    assert ports(read(reader, documents(a=GATEWAY.format(name="a", port="nonsense")))) == {}


def test_what_did_not_change_is_not_read_again() -> None:
    reader = Reader()
    first = read(reader, documents(a=GATEWAY.format(name="a", port=80), b=GATEWAY.format(name="b", port=81)))
    steps = reader.read([documents(a=GATEWAY.format(name="a", port=80), b=GATEWAY.format(name="b", port=82))])
    assert len(list(steps)) == 1
    second = read(reader, documents(a=GATEWAY.format(name="a", port=80), b=GATEWAY.format(name="b", port=82)))
    assert second.resources.gateways[0] is first.resources.gateways[0]


def test_of_two_with_one_name_the_first_stands() -> None:
    reading = read(Reader(), documents(a=GATEWAY.format(name="a", port=80)), documents(c=GATEWAY.format(name="a", port=81)))
    assert ports(reading) == {"a": 80}
    assert "written already at a:2" in reading.problems[0].message


def test_what_cannot_be_parsed_is_a_problem_with_its_line() -> None:
    reading = read(Reader(), documents(a="{", b=GATEWAY.format(name="b", port=80)))
    assert ports(reading) == {"b": 80}
    assert reading.problems[0].file == "a"


def test_what_was_good_in_an_earlier_process_stands_in_for_what_is_broken_at_the_beginning() -> None:
    earlier = Reader()
    read(earlier, documents(**{"a.yaml": GATEWAY.format(name="a", port=80), "b.yaml": GATEWAY.format(name="b", port=81)}))
    later = Reader()
    later.remember(earlier.good)
    faulty = read(later, documents(**{"a.yaml": GATEWAY.format(name="a", port="nonsense"), "b.yaml": "kind: ["}))
    assert ports(faulty) == {"a": 80, "b": 81}
    assert {key[2] for key in faulty.stale} == {"a", "b"}
    assert {problem.file for problem in faulty.problems} == {"a.yaml", "b.yaml"}
    assert {raw.origin.file for raw in later.good} == {"a.yaml", "b.yaml"}, "still known to the next one"
    mended = read(later, documents(**{"a.yaml": GATEWAY.format(name="a", port=90), "b.yaml": GATEWAY.format(name="b", port=91)}))
    assert ports(mended) == {"a": 90, "b": 91}
    assert not mended.stale


def test_what_was_good_in_an_earlier_process_and_is_gone_is_forgotten() -> None:
    earlier = Reader()
    read(earlier, documents(**{"d/a.yaml": GATEWAY.format(name="a", port=80), "d/b.yaml": GATEWAY.format(name="b", port=81)}))
    later = Reader()
    later.remember(earlier.good)
    assert ports(read(later, documents(**{"d/a.yaml": GATEWAY.format(name="a", port=80)}))) == {"a": 80}
    folder = Reader()
    folder.remember(earlier.good)
    gone = Documents((), (DocumentError(Origin("d"), "cannot be listed", "mount it"),))
    assert ports(read(folder, gone)) == {"a": 80, "b": 81}
    other = Reader()
    other.remember(earlier.good)
    assert ports(read(other, Documents((), (DocumentError(Origin("dd"), "x", "y"),)))) == {}
