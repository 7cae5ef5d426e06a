"""Lookup order of DestinationRules (FIELD c1), ServicePolicies, exportTo, selectors, conflicts on mesh."""

from __future__ import annotations

import pytest
from compiling import inputs_of

from federation.compile.scope import namespace_of, scope

HOST = "web.shop.svc.cluster.local"


def rule(namespace: str, host: str = HOST, more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: r{abs(hash((host, more)))}, namespace: {namespace}}}
spec: {{host: '{host}'{more}}}
"""


def found(*documents: str, namespace: str = "shop", host: str = HOST) -> str:
    """Where the Rule is from, `namespace/host`."""
    rule = scope(inputs_of("\n---\n".join(documents))).rule(host, namespace)
    return f"{rule.documents[0].namespace}/{rule.host}" if rule else ""


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ([rule("fedgate"), rule("shop"), rule("istio-system")], f"fedgate/{HOST}"),
        ([rule("shop"), rule("istio-system")], f"shop/{HOST}"),
        ([rule("istio-system")], f"istio-system/{HOST}"),
        ([rule("other")], ""),
        ([rule("fedgate", "*.local"), rule("shop")], "fedgate/*.local"),  # the first namespace that has one, not the closest host
        ([rule("shop", "*.local"), rule("shop", "*.shop.svc.cluster.local")], "shop/*.shop.svc.cluster.local"),
        ([rule("shop", "*.local"), rule("shop")], f"shop/{HOST}"),
        ([rule("shop", "web")], f"shop/{HOST}"),
        ([rule("shop", more=", exportTo: ['.']"), rule("istio-system")], f"istio-system/{HOST}"),
        ([rule("istio-system", more=", exportTo: ['.']")], ""),
        ([rule("fedgate", more=", exportTo: ['.']")], f"fedgate/{HOST}"),
        ([rule("shop", more=", exportTo: ['*']")], f"shop/{HOST}"),
    ],
)
def test_lookup_order(documents: list[str], expected: str) -> None:
    assert found(*documents) == expected


SELECTED = ", workloadSelector: {matchLabels: {istio: %s}}"


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ([rule("fedgate", more=SELECTED % "ingressgateway"), rule("fedgate")], "RANDOM"),
        ([rule("fedgate"), rule("fedgate", more=SELECTED % "ingressgateway")], "RANDOM"),
        ([rule("fedgate", more=SELECTED % "other"), rule("fedgate")], ""),
        ([rule("shop", more=SELECTED % "ingressgateway"), rule("shop")], ""),  # it takes gateways of its own namespace only
    ],
)
def test_a_rule_that_selects_this_gateway_holds_alone(documents: list[str], expected: str) -> None:
    text = "\n---\n".join(documents).replace(
        "istio: ingressgateway}}", "istio: ingressgateway}}, trafficPolicy: {loadBalancer: {simple: RANDOM}}"
    )
    scoped = scope(inputs_of(text))
    found = scoped.rule(HOST, "shop")
    assert found is not None
    assert len(found.documents) == 1
    assert (found.policy.load_balancer.simple.value if found.policy else "") == expected
    told = [each for each in scoped.problems if each.reason == "SelectorMismatch" and each.subject.kind == "DestinationRule"]
    assert bool(told) is (not expected)


def test_the_namespace_of_a_service_that_says_none_is_in_its_name() -> None:
    assert namespace_of(HOST, "cluster.local") == "shop"
    assert namespace_of("api.example.com", "cluster.local") == ""
    assert found(rule("shop"), namespace="") == f"shop/{HOST}"


POLICY = (
    "apiVersion: fedgate.io/v1\nkind: ServicePolicy\nmetadata: {name: %s, namespace: shop}\nspec: {hosts: ['%s'], failback: {}}"
)


def test_the_closest_service_policy_holds() -> None:
    made = scope(inputs_of("\n---\n".join(POLICY % pair for pair in [("a", "*"), ("b", "*.local"), ("c", "web"), ("d", HOST)])))
    assert made.service_policy(HOST).name == "c"  # type: ignore[union-attr]
    assert made.service_policy("x.local").name == "b"  # type: ignore[union-attr]
    assert made.service_policy("x.example").name == "a"  # type: ignore[union-attr]


SERVICE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: %s, namespace: shop, creationTimestamp: '%s'}
spec: {hosts: [%s], http: [{route: [{destination: {host: other}}, {destination: {host: web}, weight: 1}]}]%s}
"""


def test_virtual_services_on_mesh() -> None:
    made = scope(
        inputs_of(
            "\n---\n".join(
                [
                    SERVICE % ("young", "2026-02-01T00:00:00Z", "web", ""),
                    SERVICE % ("old", "2026-01-01T00:00:00Z", "web", ""),
                    SERVICE % ("wild", "2026-01-01T00:00:00Z", "'*.shop.svc.cluster.local'", ""),
                    SERVICE % ("private", "2026-01-01T00:00:00Z", "x.example", ", exportTo: ['.']"),
                    SERVICE % ("edge", "2026-01-01T00:00:00Z", "y.example", ", gateways: [edge, other/edge]"),
                ]
            )
        )
    )
    assert made.mesh_holder(HOST).document.name == "old"  # type: ignore[union-attr]
    assert made.mesh_holder("b.shop.svc.cluster.local").document.name == "wild"  # type: ignore[union-attr]
    assert made.mesh_holder("x.example") is None
    assert made.mesh_holder("y.example") is None
    assert made.mesh_holder(HOST).destinations == {"other.shop.svc.cluster.local", HOST}  # type: ignore[union-attr]
    assert [each.document.name for each in made.bound_to("shop/edge")] == ["edge"]
    assert sorted((each.subject.name, each.reason) for each in made.problems) == [
        ("edge", "GatewayNotFound"),
        ("edge", "GatewayNotFound"),
        ("private", "NotExported"),
        ("young", "ConflictingMeshHost"),
    ]


def test_a_gateway_is_selected_by_the_nodes_labels() -> None:
    gateway = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: %s}
spec: {selector: %s, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
"""
    made = scope(
        inputs_of("\n---\n".join([gateway % ("a", "{istio: ingressgateway}"), gateway % ("b", "{}"), gateway % ("c", "{x: y}")]))
    )
    assert [each.name for each in made.gateways] == ["a", "b"]
    assert [(each.subject.name, each.reason) for each in made.problems] == [("c", "SelectorMismatch")]
