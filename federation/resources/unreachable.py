"""Routes that no request comes to, because an earlier one of the same document takes it (Istio IST0130, IST0131)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from federation.resources.checks import warning
from federation.resources.match import HTTPMatchRequest
from federation.resources.message import Fault, Message


class _Route(Protocol):
    @property
    def match(self) -> Sequence[Message]: ...


def unreachable(field: str, routes: Sequence[_Route]) -> Iterator[Fault]:
    """Behind a route without matches nothing is reached; a match that was there already, or that only narrows an earlier prefix that
    asks for nothing else, takes no request."""
    seen: dict[str, tuple[int, int]] = {}
    prefixes: list[tuple[str, int, int]] = []
    for index, route in enumerate(routes):
        for place, match in enumerate(route.match):
            earlier = seen.setdefault(match.model_dump_json(exclude={"name", "stat_prefix"}), (index, place))
            if earlier == (index, place):
                covering = _covering(match, prefixes)
                text = "its requests all begin with that prefix" if covering else ""
                earlier = covering or earlier
            else:
                text = "it asks for the same"
            if text:
                where = f"{field}[{earlier[0]}].match[{earlier[1]}]"
                yield from warning(
                    (field, index, "match", place), f"no request comes here: {where} is first, and {text}; write this one first"
                )
            elif isinstance(match, HTTPMatchRequest) and _only_prefix(match):
                assert match.uri is not None
                prefixes.append((match.uri.prefix or "", index, place))
        if not route.match:
            for later in range(index + 1, len(routes)):
                yield from warning(
                    (field, later), f"no request comes here: {field}[{index}] has no match and takes all; write it last"
                )
            return


def _only_prefix(match: HTTPMatchRequest) -> bool:
    written = match.model_dump(exclude_defaults=True, exclude={"name", "stat_prefix"})
    return match.uri is not None and match.uri.prefix is not None and set(written) == {"uri"}


def _covering(match: Message, prefixes: Sequence[tuple[str, int, int]]) -> tuple[int, int] | None:
    if not isinstance(match, HTTPMatchRequest) or match.uri is None or match.ignore_uri_case:
        return None
    path = match.uri.exact if match.uri.exact is not None else match.uri.prefix
    if path is None:
        return None
    return next(((index, place) for prefix, index, place in prefixes if path.startswith(prefix)), None)
