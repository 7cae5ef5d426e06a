"""Route matches and actions as one line of text, in the words of the documents they came from. Pure."""

from __future__ import annotations

from gateway.snapshot import DirectResponse, Forward, MatchKind, NamedMatch, Redirect, RouteMatch, StringMatch

_SIGN = {MatchKind.EXACT: "=", MatchKind.PREFIX: "=^", MatchKind.REGEX: "=~"}


def match_text(match: RouteMatch) -> str:
    """`path=^/api method==GET header end-user=john`; "*" when everything matches."""
    words = [
        _one(name, match)
        for name, match in (
            ("path", match.path),
            ("method", match.method),
            ("authority", match.authority),
            ("scheme", match.scheme),
        )
        if match is not None
    ]
    words += [_named("header", each) for each in match.headers]
    words += [_named("query", each) for each in match.query]
    if match.port:
        words.append(f"port={match.port}")
    return " ".join(words) or "*"


def _one(name: str, match: StringMatch) -> str:
    if match.kind is MatchKind.PRESENT:
        return name
    return f"{name}{_SIGN[match.kind]}{match.value}{' (any case)' if match.ignore_case else ''}"


def _named(what: str, each: NamedMatch) -> str:
    return f"{'without ' if each.inverted else ''}{what} {_one(each.name, each.match)}"


def action_text(action: Forward | Redirect | DirectResponse) -> str:
    """`forward`, `redirect 301 https`, `answer 404`."""
    match action:
        case Forward():
            total = sum(split.weight for split in action.splits)
            shares = [f"{split.weight * 100 / total:.4g}% {split.backend}" if total else split.backend for split in action.splits]
            text = "forward " + (", ".join(shares) if len(shares) > 1 else action.splits[0].backend if action.splits else "nowhere")
            return text + (f" rewrite {action.rewrite_prefix}" if action.rewrite_prefix is not None else "")
        case Redirect():
            target = f"{action.scheme and action.scheme + '://'}{action.authority}{action.uri or ''}"
            return f"redirect {action.status} {target}".rstrip()
        case DirectResponse():
            return f"answer {action.status}"
