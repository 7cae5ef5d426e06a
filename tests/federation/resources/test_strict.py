"""Strict reading: every fault at once, where it is, and nothing raised whatever is written."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written import errors, spec, warnings, written

from discovery.document import Origin, RawDocument
from federation.resources.destination_rule import DestinationRule
from federation.resources.gateway import Gateway
from federation.resources.kinds import _READ
from federation.resources.message import Message
from federation.resources.node import Node
from federation.resources.read import judge_all
from federation.resources.strict import MOST_FAULTS, nearest, read_message
from federation.resources.virtual_service import VirtualService


def paths(model, data):
    message, faults = read_message(model, data)
    assert (message is None) == any(not fault.warning for fault in faults)
    return [fault.path for fault in faults if not fault.warning]


def test_names_faults_types_and_rules_are_all_reported_at_once():
    found = errors(
        "VirtualService",
        """
        hosts: [reviews]
        gateways: [a/b/c]
        htpp: []
        http:
        - match: [{uri: {prefix: /a, exat: /b}}]
          route:
          - {destination: {host: reviews}, weight: many}
          - {destination: {}}
          timeout: 0s
        - route: [{destination: {host: a}}]
          redirect: {uri: /x}
        """,
    )
    assert found == {
        "spec.htpp": "unknown field `htpp`; did you mean `http`?",
        "spec.http[0].match[0].uri.exat": "unknown field `exat`; did you mean `exact`?",
        "spec.http[0].route[0].weight": "must be a whole number",
        "spec.http[0].route[1].destination.host": "`host` is required; write it",
        "spec.gateways[0]": "`a/b/c` names no Gateway; write name, namespace/name or mesh",
        "spec.http[0].timeout": "the duration must be at least 1ms; write for example 500ms",
        "spec.http[1]": "route and redirect exclude each other; keep one",
    } | {"spec.http[0].route[0].weight": found["spec.http[0].route[0].weight"]}
    assert "must be a whole number" in found["spec.http[0].route[0].weight"]


def test_every_fault_has_its_own_line():
    judged = written(
        "Gateway", "selector: {a: b}\nservers:\n- port: {number: 0, name: http, protocol: HTTP}\n  hosts: [a.example]\n  bnd: x\n"
    )
    assert [(problem.line, problem.path) for problem in judged.errors] == [
        (9, "spec.servers[0].bnd"),
        (7, "spec.servers[0].port.number"),
    ]


def test_a_misspelt_required_field_is_not_missing_as_well():
    assert errors("DestinationRule", "hots: reviews") == {"spec.hots": "unknown field `hots`; did you mean `host`?"}


def test_an_unknown_field_that_is_near_nothing_says_what_is_known():
    assert errors("DestinationRule", "host: a\nzzzz: 1")["spec.zzzz"].endswith(
        "known here: exportTo, host, subsets, trafficPolicy, workloadSelector"
    )


def test_snake_case_is_read_and_its_faults_are_where_it_is_written():
    assert (
        spec(
            "DestinationRule", "host: a\ntraffic_policy: {load_balancer: {simple: RANDOM}}"
        ).traffic_policy.load_balancer.simple.value
        == "RANDOM"
    )
    judged = written("DestinationRule", "host: a\ntraffic_policy:\n  load_balancer:\n    simple: RANDM\n")
    (problem,) = judged.errors
    assert (problem.path, problem.line) == ("spec.traffic_policy.load_balancer.simple", 8)
    assert "did you mean `RANDOM`" in problem.message


def test_one_field_in_two_spellings_is_refused():
    assert "two spellings" in errors("DestinationRule", "host: a\ntrafficPolicy: {}\ntraffic_policy: {}")["spec.trafficPolicy"]


def test_null_means_not_written():
    assert spec("DestinationRule", "host: a\ntrafficPolicy: null\nsubsets: null").subsets == ()
    assert errors("DestinationRule", "host: null") == {"spec.host": "`host` is required; write it"}
    assert errors("DestinationRule", "host: a\nworkloadSelector: null") == {}


class Unfinished(Message):
    later = ("notBuiltYet",)

    host: str = ""


def test_a_field_of_later_is_refused_by_name_unless_it_says_nothing():
    def told(data: dict[str, object]) -> dict[tuple[str | int, ...], str]:
        return {fault.path: fault.message for fault in read_message(Unfinished, data)[1]}

    assert told({"notBuiltYet": True}) == {("notBuiltYet",): "`notBuiltYet` is not supported yet; remove it"}
    assert told({"notBuiltYet": False}) == {}
    assert "`not_built_yet` is not supported yet" in str(told({"not_built_yet": True}))


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        ({"host": 5}, ("host",), "must be text, not a number; put it in quotes"),
        ({"host": True}, ("host",), "must be text, not true or false; put it in quotes"),
        ({"host": ["a"]}, ("host",), "must be text, not a list"),
        ({"host": "a", "subsets": {}}, ("subsets",), "must be a list, not a mapping; write it as `- …` lines or in []"),
        ({"host": "a", "subsets": ["v1"]}, ("subsets", 0), "must be a mapping, not text"),
        ({"host": "a", "subsets": [None]}, ("subsets", 0), "must be a mapping, not null"),
        (
            {"host": "a", "subsets": [{"name": "a", "labels": {"v": 1}}]},
            ("subsets", 0, "labels", "v"),
            "must be text, not a number; put it in quotes",
        ),
        ({"host": "a", "trafficPolicy": "x"}, ("trafficPolicy",), "must be a mapping, not text"),
        ([], (), "must be a mapping, not a list"),
    ],
)
def test_wrong_types_say_what_is_wanted_and_what_is_there(data, path, message):
    _, faults = read_message(DestinationRule, data)
    assert [(fault.path, fault.message) for fault in faults] == [(path, message)]


@pytest.mark.parametrize("value", ["5", 5, 5.0])
def test_a_whole_number_as_protobuf_writes_it(value):
    message, _ = read_message(
        DestinationRule, {"host": "a", "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": value}}}
    )
    assert message.traffic_policy.outlier_detection.consecutive_5xx_errors == 5


@pytest.mark.parametrize("value", ["five", 5.5, True, [], {}, float("nan"), float("inf"), "5" * 30, ""])
def test_no_whole_number(value):
    data = {"host": "a", "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": value}}}
    assert paths(DestinationRule, data) == [("trafficPolicy", "outlierDetection", "consecutive5xxErrors")]


def test_a_rule_about_what_was_cut_out_is_not_believed():
    # `route` is cut for its fault; that the http route does nothing would be said only because of that
    assert errors("VirtualService", "hosts: [a]\nhttp: [{route: nothing}]") == {
        "spec.http[0].route": "must be a list, not text; write it as `- …` lines or in []"
    }


def test_what_is_missing_does_not_hide_the_rest():
    assert errors("Gateway", "servers:\n- hosts: [short]\n- port: {number: 0}\n  hosts: []") == {
        "spec.servers[0].port": "`port` is required; write it",
        "spec.servers[0].hosts[0]": "`short` is a short name; write the full one (with a dot), or `*`",
        "spec.servers[1].port.name": "`name` is required; write it",
        "spec.servers[1].port.protocol": "`protocol` is required; write it",
        "spec.servers[1].port.number": "port 0 is not in the range 1..65535",
        "spec.servers[1].hosts": "a server needs at least one host; write one, or `*`",
    }


def test_a_wrong_item_does_not_hide_its_neighbours():
    assert list(errors("VirtualService", "hosts: [a, 5, a]\nhttp: [5, {match: [x], name: a}]")) == [
        "spec.hosts[1]",
        "spec.http[0]",
        "spec.http[1].match[0]",
        "spec.hosts[2]",
    ]
    assert list(errors("Peer", "trustDomain: w\naddresses: [a, 'b:0']\nbundle: {path: x}")) == [
        "spec.addresses[0]",
        "spec.addresses[1]",
    ]


def test_warnings_leave_the_document_right():
    body = "hosts: [a]\nhttp: [{match: [{sourceLabels: {app: x}}], route: [{destination: {host: a}}]}]"
    assert errors("VirtualService", body) == {}
    assert list(warnings("VirtualService", body)) == ["spec.http[0].match[0].sourceLabels"]


def test_faults_are_bounded_however_much_is_wrong():
    _, faults = read_message(Gateway, {f"field{number}": 1 for number in range(10_000)})
    assert 0 < len(faults) <= MOST_FAULTS
    _, faults = read_message(VirtualService, {"hosts": [1] * 10_000, "http": [1] * 10_000})
    assert 0 < len(faults) <= MOST_FAULTS


def test_nearest():
    assert nearest("hots", ["hosts", "http"]) == "; did you mean `hosts`?"
    assert nearest("zzz", ["hosts"]) == ""


# Values of JSON, biased towards names and values that the classes know, so that the reading gets deep.
_KNOWN = [
    "route",
    "destination",
    "match",
    "uri",
    "regex",
    "port",
    "number",
    "weight",
    "name",
    "tls",
    "mode",
    "loadBalancer",
    "labels",
    "addresses",
    "outlierDetection",
    "trafficPolicy",
    "interval",
    "headers",
    "request",
    "set",
    "localityLbSetting",
    "failover",
    "from",
    "to",
    "services",
    "hosts",
    "http",
    "servers",
    "host",
    "subsets",
    "endpoints",
    "ports",
    "cluster",
    "listen",
]
_TEXTS = ["1s", "a", "*", "*.a.b", "SIMPLE", "STATIC", "HTTP", "(", "80", "\udc80"]
_keys = st.one_of(st.sampled_from(_KNOWN), st.text(max_size=6))
_leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(_TEXTS))
_values = st.recursive(
    _leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_keys, inner, max_size=6)),
    max_leaves=30,
)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.sampled_from(sorted(_READ.values(), key=lambda kind: kind.name)), _values)
def test_whatever_is_written_becomes_a_message_or_faults_and_never_an_exception(kind, value):
    message, faults = read_message(kind.model, value)
    assert (message is None) == any(not fault.warning for fault in faults)
    assert all(fault.message and isinstance(fault.message, str) for fault in faults)


@pytest.mark.slow
@settings(max_examples=200)
@given(
    st.dictionaries(st.sampled_from(["apiVersion", "kind", "metadata", "spec", "items", "x"]), _values),
    st.sampled_from(["v1", "fedgate.io/v1", "networking.istio.io/v1"]),
    st.sampled_from(["Node", "Service", "Gateway", "Secret", "List"]),
)
def test_any_mapping_is_a_document_or_problems(content, version, kind):
    for whole in (content, {**content, "apiVersion": version, "kind": kind}):
        for judged in judge_all([RawDocument(Origin("f", 1), whole)]):
            assert judged.document is not None or judged.errors or judged.warnings
            for problem in (*judged.errors, *judged.warnings):
                msgspec.json.encode(problem)


def test_messages_are_frozen_and_equal_by_value():
    first, second = (read_message(Node, {"cluster": "a"})[0] for _ in range(2))
    assert first == second
    with pytest.raises(Exception, match="frozen"):
        first.cluster = "b"
