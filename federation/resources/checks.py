"""Rules that several messages share: host names, ports, labels, header names, durations. Each gives the fault's text, or None.

The rules are Istio's (its validation webhook) and Kubernetes'; where they name a limit, the limit is theirs.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import re2

from federation.resources.message import Fault, Path

LONGEST_NAME = 255  # of a host (RFC 1035)
LONGEST_LABEL = 63
LONGEST_REGEX = 1024  # Istio's limit; keeps RE2 programs small

_LABEL = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")
_LABEL_VALUE = re.compile(r"([a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?)?")
_RESOURCE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_RE2_OPTIONS = re2.Options()
_RE2_OPTIONS.log_errors = False  # else RE2 writes to stderr by itself


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_label(text: str) -> bool:
    return _LABEL.fullmatch(text) is not None


def resource_name_fault(name: str) -> str | None:
    """Kubernetes: a DNS-1123 subdomain, lower case."""
    if len(name) <= 253 and _RESOURCE_NAME.fullmatch(name):
        return None
    return f"`{_short(name)}` is no name; use lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit"


def host_fault(host: str, *, wildcard: bool = True) -> str | None:
    """A name, perhaps short, perhaps `*.suffix` or `*`."""
    if not host:
        return "the host is empty; write a name"
    if len(host) > LONGEST_NAME:
        return f"the host has {len(host)} characters, a name at most {LONGEST_NAME}"
    first, _, rest = host.partition(".")
    if "*" in host:
        if not wildcard:
            return f"`{host}` has a wildcard; write a full name here"
        if first != "*" or "*" in rest or (host != "*" and not rest):
            return f"`{host}` is no host: a wildcard is the whole left-most label; write `*.example.com`, or `*`"
        if host == "*":
            return None
        host = rest
    labels = host.removesuffix(".").split(".")
    if labels[-1].isdigit():
        return f"`{_short(host)}` is no host: its last label is a number; write a DNS name"
    bad = next((label for label in labels if not is_label(label)), None)
    if bad is not None:
        return f"`{_short(host)}` is no host: label `{_short(bad)}` is not of letters, digits and `-`, 63 at most"
    return None


def port_fault(number: int, *, zero: bool = False) -> str | None:
    if (0 if zero else 1) <= number <= 65535:
        return None
    return f"port {_number(number)} is not in the range 1..65535"


def range_fault(number: int | None, low: int, high: int = 2**31 - 1) -> str | None:
    """None (not written) is fine. The upper bound is int32's unless given, as the proto has it."""
    if number is None or low <= number <= high:
        return None
    if high == 2**31 - 1:
        return (
            f"{_number(number)} is out of range; write {low} or more"
            if number < low
            else f"{_number(number)} is too large; at most {high}"
        )
    return f"{_number(number)} is not in the range {low}..{high}"


def duration_fault(milliseconds: int | None) -> str | None:
    """Istio: a duration is at least 1 ms."""
    return None if milliseconds is None or milliseconds >= 1 else "the duration must be at least 1ms; write for example 500ms"


def regex_fault(pattern: str) -> str | None:
    if not pattern:
        return "the regex is empty; write one, or leave the match out"
    if len(pattern) > LONGEST_REGEX:
        return f"the regex has {len(pattern)} characters, {LONGEST_REGEX} at most; split the match"
    try:
        re2.compile(pattern, _RE2_OPTIONS)
    except (re2.error, UnicodeError) as error:
        reason = error.args[0] if error.args else error
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        return f"RE2 refuses the regex: {text}; RE2 has no look-around and no back-references"
    return None


def header_name_fault(name: str) -> str | None:
    if _TOKEN.fullmatch(name):
        return None
    return f"`{_short(name)}` is no header name; use letters, digits and `-`"


def header_value_fault(value: str) -> str | None:
    """A value without control characters."""
    return "the value has a control character; remove it" if _CONTROL.search(value) else None


def label_faults(labels: Mapping[str, str], at: Path) -> Iterator[Fault]:
    """Kubernetes' syntax of label keys and values."""
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        if not name or not _LABEL_VALUE.fullmatch(name) or (slash and not _RESOURCE_NAME.fullmatch(prefix)):
            yield Fault((*at, key), f"`{_short(key)}` is no label key; write [prefix/]name of letters, digits, `-`, `_` and `.`")
        if not _LABEL_VALUE.fullmatch(value):
            yield Fault(
                (*at, key), f"`{_short(value)}` is no label value; at most {LONGEST_LABEL} letters, digits, `-`, `_` and `.`"
            )


def export_to_faults(values: Sequence[str]) -> Iterator[Fault]:
    """`*` (everywhere), `.` (this namespace), or names of namespaces."""
    for index, value in enumerate(values):
        if value not in ("*", ".") and not is_label(value):
            message = f"`{_short(value)}` is no namespace; write `*` (everywhere), `.` (this namespace) or names of namespaces"
            yield Fault(("exportTo", index), message)
        elif value in values[:index]:
            yield Fault(("exportTo", index), f"`{value}` is written twice; remove one")
    if "*" in values and len(set(values)) > 1:
        yield Fault(("exportTo",), "`*` already means everywhere; remove the others")


def gateway_name_faults(gateways: Sequence[str]) -> Iterator[Fault]:
    """`mesh`, `name` or `namespace/name`."""
    for index, written in enumerate(gateways):
        namespace, slash, name = written.rpartition("/")
        if resource_name_fault(name) or (slash and not is_label(namespace)):
            yield Fault(("gateways", index), f"`{_short(written)}` names no Gateway; write name, namespace/name or mesh")
        elif not slash and "." in name:
            yield Fault(("gateways", index), "a Gateway is named namespace/name; name.namespace is the old way", warning=True)


def duplicates(values: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """(index, value) of each value that stands there already."""
    seen: set[Any] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield index, value
        seen.add(value)


def fault(path: Path, message: str | None) -> Iterator[Fault]:
    """None or one Fault, to be yielded from."""
    if message is not None:
        yield Fault(path, message)


def warning(path: Path, message: str) -> Iterator[Fault]:
    yield Fault(path, message, warning=True)


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}…"


def _number(number: int) -> str:
    return str(number) if abs(number) < 10**12 else "that many digits"
