"""Delegation: a VirtualService whose routes are partly another one's (Istio delegate, one level).

Theory of operation, as in Istio. A root's http route with `delegate` is replaced by the routes of that VirtualService, which has no hosts.
Each of them asks for both matches at once; a match of the delegate that is no subset of one of the root's takes the whole route out. What
the delegate's route does not say (rewrite, timeout, retries, fault, mirrors, CORS, headers) the root's says for it. Names in either are
those of its own namespace, so they are made whole before they are mixed. What cannot be merged is left out alone, and said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from federation.compile.names import resolve, visible
from federation.compile.services import subject_of
from federation.compile.status import Problem, left_out, problem
from federation.resources.destination import Destination
from federation.resources.document import Document
from federation.resources.header import Headers
from federation.resources.match import HTTPMatchRequest, StringMatch
from federation.resources.message import Message
from federation.resources.virtual_service import HTTPRoute, VirtualService

_INHERITED = (  # when the delegate's route does not say
    "rewrite",
    "direct_response",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrors",
    "mirror_percent",
    "mirror_percentage",
    "cors_policy",
)


@dataclass(frozen=True)
class Written:
    """An http route as it holds. document, path: where its author finds it (the delegate's, when it was delegated)."""

    document: Document[VirtualService]
    path: str
    http: HTTPRoute


Delegates = Mapping[tuple[str, str], Document[VirtualService]]
"""(namespace, name) → VirtualService, with hosts or without."""


def written(root: Document[VirtualService], known: Delegates, domain: str, problems: list[Problem]) -> Iterator[Written]:
    """The http routes of a VirtualService that has hosts, in order, with its delegates' in their places."""
    for index, http in enumerate(root.spec.http):
        path = f"spec.http[{index}]"
        if http.delegate is None:
            yield Written(root, path, http)
            continue
        found = _delegate(http, root, known, f"{path}.delegate", problems)
        if found is not None:
            yield from _delegated(root, http, found, domain, problems)


def delegates_of(root: Document[VirtualService]) -> Iterator[tuple[str, str]]:
    """(namespace, name) of every delegate it names."""
    for http in root.spec.http:
        if http.delegate is not None:
            yield http.delegate.namespace or root.namespace, http.delegate.name


def _delegate(
    http: HTTPRoute, root: Document[VirtualService], known: Delegates, path: str, problems: list[Problem]
) -> Document[VirtualService] | None:
    assert http.delegate is not None
    key = (http.delegate.namespace or root.namespace, http.delegate.name)
    found, name = known.get(key), "/".join(key)
    if found is None:
        text = f"there is no VirtualService {name}; write it, without hosts; until then nothing is routed here"
        problems.append(problem(subject_of(root), path, "DelegateNotFound", text))
    elif found.spec.hosts:
        text = f"VirtualService {name} has hosts, so it is no delegate; remove its hosts, or write the routes here"
        problems.append(problem(subject_of(root), path, "DelegateNotFound", text))
    elif not visible(found.spec.export_to, found.namespace, root.namespace):
        text = f"VirtualService {name} is not exported to namespace {root.namespace}; add it to its exportTo"
        problems.append(problem(subject_of(root), path, "DelegateNotExported", text))
    else:
        return found
    return None


def _delegated(
    root: Document[VirtualService],
    http: HTTPRoute,
    delegate: Document[VirtualService],
    domain: str,
    problems: list[Problem],
) -> Iterator[Written]:
    whole = _whole(http, root.namespace, domain)
    for index, each in enumerate(delegate.spec.http):
        path = f"spec.http[{index}]"
        merged = merged_route(whole, _whole(each, delegate.namespace, domain))
        if merged is None:
            text = f"the match is no subset of what {subject_of(root)} delegates; narrow it, or widen the root's match"
            problems.append(left_out(subject_of(delegate), f"{path}.match", "DelegateConflict", text))
        else:
            yield Written(delegate, path, merged)


def merged_route(root: HTTPRoute, delegate: HTTPRoute) -> HTTPRoute | None:
    """The delegate's route as the root lets it hold; None when their matches conflict. Names are whole already."""
    matches = _matches(root.match, delegate.match)
    if matches is None:
        return None
    changes: dict[str, Any] = {"match": matches, "name": _joined(root.name, delegate.name)}
    for name in _INHERITED:
        if getattr(delegate, name) in (None, ()):
            changes[name] = getattr(root, name)
    if delegate.headers == Headers():
        changes["headers"] = root.headers
    return delegate.model_copy(update=changes)


def _joined(root: str, delegate: str) -> str:
    return "-".join(part for part in (root, delegate) if part)


def _matches(root: Sequence[HTTPMatchRequest], delegate: Sequence[HTTPMatchRequest]) -> tuple[HTTPMatchRequest, ...] | None:
    if not root or not delegate:
        return tuple(root or delegate)
    merged: list[HTTPMatchRequest] = []
    for leaf in delegate:
        found = [_merged_match(each, leaf) for each in root if not conflicts(each, leaf)]
        if not found:
            return None
        merged += found
    return tuple(merged)


def _merged_match(root: HTTPMatchRequest, leaf: HTTPMatchRequest) -> HTTPMatchRequest:
    changes: dict[str, Any] = {"name": _joined(root.name, leaf.name)}
    for name in ("uri", "scheme", "method", "authority", "port", "source_namespace", "gateways", "stat_prefix"):
        if not getattr(leaf, name):
            changes[name] = getattr(root, name)
    for name in ("headers", "without_headers", "query_params", "source_labels"):
        changes[name] = {**getattr(root, name), **getattr(leaf, name)}
    return leaf.model_copy(update=changes)


def conflicts(root: HTTPMatchRequest, leaf: HTTPMatchRequest) -> bool:
    """Whether the leaf asks for something that the root does not let through."""
    if any(_string_conflict(getattr(root, name), getattr(leaf, name)) for name in ("uri", "scheme", "method", "authority")):
        return True
    for name in ("headers", "without_headers", "query_params"):
        above: Mapping[str, StringMatch] = getattr(root, name)
        if any(_string_conflict(above.get(key), match) for key, match in getattr(leaf, name).items()):
            return True
    if root.ignore_uri_case != leaf.ignore_uri_case or (root.port and leaf.port and root.port != leaf.port):
        return True
    if root.source_namespace and leaf.source_namespace != root.source_namespace:
        return True
    if any(root.source_labels.get(key, value) != value for key, value in leaf.source_labels.items()):
        return True
    return bool(root.gateways and leaf.gateways) and not set(leaf.gateways) <= set(root.gateways)


def _string_conflict(root: StringMatch | None, leaf: StringMatch | None) -> bool:
    """Expressions cannot be compared, so they are compatible with nothing but silence."""
    if root is None or leaf is None:
        return False
    if root.regex or leaf.regex:
        return True
    if root.exact:
        return leaf.exact != root.exact
    if root.prefix:
        narrower = leaf.prefix or leaf.exact
        return not (narrower and narrower.startswith(root.prefix))
    return True


M = TypeVar("M", bound=Message)


def _whole(http: HTTPRoute, namespace: str, domain: str) -> HTTPRoute:
    """The route with every host and gateway by its full name."""

    def host(destination: Destination) -> Destination:
        return destination.model_copy(update={"host": resolve(destination.host, namespace, domain)})

    def with_host(each: M) -> M:
        return each.model_copy(update={"destination": host(each.destination)})  # type: ignore[attr-defined]

    def gateways(match: HTTPMatchRequest) -> HTTPMatchRequest:
        return match.model_copy(update={"gateways": tuple(gateway_name(name, namespace) for name in match.gateways)})

    changes: dict[str, Any] = {
        "route": tuple(with_host(each) for each in http.route),
        "mirrors": tuple(with_host(each) for each in http.mirrors),
        "mirror": host(http.mirror) if http.mirror is not None else None,
        "match": tuple(gateways(match) for match in http.match),
    }
    return http.model_copy(update=changes)


def gateway_name(written: str, namespace: str) -> str:
    """`namespace/name`, or `mesh`."""
    return written if written == "mesh" or "/" in written else f"{namespace}/{written}"
