"""Failover that would not happen: never asked for in Istio's way (FG0001), or stopped by maxEjectionPercent (FG0002).

Both judge the effective policy of each service, as compile makes it, and say the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from discovery.model import Service
from federation.analyze.finding import Finding, Level, View, about
from federation.compile import policies
from federation.compile.policies import Blocks, Spread
from federation.compile.priorities import priorities
from federation.resources.fedgate import ServicePolicy

INERT, CAPPED = "FG0001", "FG0002"
OVERPROVISIONING = 140  # Envoy: a priority keeps all its load down to 100/140 of its hosts


def inert_failover(view: View) -> Iterator[Finding]:
    """Under `defaults: istio`: endpoints in several localities, and no outlierDetection, so that the near ones are not even preferred."""
    if view.inputs.fedgate:
        return
    for service, blocks in _policies(view):
        balancer = blocks.load_balancer
        setting = balancer.locality_lb_setting if balancer else None
        zones = balancer.zone_aware_lb_setting if balancer else None
        # Also what spreads over localities on purpose, for which no outlierDetection is needed.
        switched_off = (setting is not None and (setting.enabled is False or bool(setting.distribute))) or zones is not None
        places = sorted({str(endpoint.locality) or "(no locality)" for endpoint in service.endpoints})
        if blocks.outlier_detection is None and len(places) > 1 and not switched_off:
            message = (
                f"{service.hostname}: locality failover expected but inert: no outlierDetection in the effective policy, so traffic goes to "
                f"{', '.join(places)} alike; write trafficPolicy.outlierDetection (maxEjectionPercent: 100), or defaults: fedgate"
            )
            yield _finding(view, service, INERT, message)


def capped_ejection(view: View) -> Iterator[Finding]:
    """So few may be ejected that the nearest priority keeps traffic when all of it is dead."""
    for service, blocks in _policies(view):
        endpoints = service.endpoints
        made = policies.policy(blocks, Spread.of(endpoints), _checks(view, service), own_defaults=view.inputs.fedgate)
        near = _nearest(priorities(endpoints, view.inputs.place, made.locality))
        if made.outlier is None or made.health_check is not None or near is None:
            continue  # no ejection to cap; active checks, which no cap holds back; or nowhere to go
        percent = made.outlier.max_ejection_percent
        ejectable = ejectable_of(len(endpoints), percent)
        kept = kept_percent(near, min(near, ejectable))
        if kept:
            verdict = "impossible" if kept == 100 else "incomplete"
            message = (
                f"{service.hostname}: maxEjectionPercent makes failover {verdict} for {len(endpoints)} endpoints: {percent} % of "
                f"{len(endpoints)} ejects {ejectable}, the nearest locality has {near}; when all of them are dead it keeps "
                f"min(100, {OVERPROVISIONING}·{near - min(near, ejectable)}/{near}) = {kept} % of the traffic; write maxEjectionPercent: 100"
            )
            yield _finding(view, service, CAPPED, message)


def ejectable_of(hosts: int, percent: int) -> int:
    """Envoy ejects one more while 100·(ejected+1)/hosts ≤ maxEjectionPercent."""
    return hosts * percent // 100


def kept_percent(near: int, ejected: int) -> int:
    """The load that a priority of `near` hosts keeps with `ejected` of them out (Envoy's integers), another being all healthy."""
    return min(100, OVERPROVISIONING * (near - ejected) // near)


def _nearest(ranks: Sequence[int]) -> int | None:
    """How many endpoints are of priority 0; None when all are, so that there is nothing behind them."""
    near = ranks.count(0)
    return near if 0 < near < len(ranks) else None


def _checks(view: View, service: Service) -> ServicePolicy | None:
    return view.scope.policy_for(service.hostname)


def _policies(view: View) -> Iterator[tuple[Service, Blocks]]:
    """Each service that has endpoints, with the policy of its first routed port: one finding a service is enough."""
    for hostname in sorted(view.services):
        service = view.services[hostname]
        port = next((port.number for port in service.ports if port.protocol.is_http), None)
        if service.endpoints and port is not None:
            blocks = policies.effective(view.scope.rule(hostname, service.namespace), port, "")
            yield service, policies.with_baseline(blocks, view.inputs.node.spec.default_traffic_policy)


def _finding(view: View, service: Service, code: str, message: str) -> Finding:
    """About the DestinationRule where there is one, else about the Node, whose defaults hold."""
    rule = view.scope.rule(service.hostname, service.namespace)
    return about(rule.documents[0] if rule else view.inputs.node, code, Level.WARNING, message)
