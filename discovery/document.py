"""Raw documents: what users write, before anyone knows what it means, with the file and line it came from.

A DocumentSource (a directory of files, a Consul prefix, Kubernetes) publishes Documents, one immutable snapshot after the
other, and takes back what became of each. It knows no kinds. `parse` is the pure half: text → documents and errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import trio

from discovery.tree import Tree, join, read
from discovery.watch import Watchable


class Origin(msgspec.Struct, frozen=True, order=True):
    """Where a document stands: a file path (or `consul:fedgate/config/a`, `kubernetes:ns/name`) and its line, 1 the first, 0 if
    there are no lines."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class DocumentError(msgspec.Struct, frozen=True, order=True):
    """What is wrong with a document that could not be read: where, `path` within the document ("" the whole), what, what to do."""

    origin: Origin
    message: str
    remedy: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.origin}: {self.message}; {self.remedy}"


class RawDocument(msgspec.Struct, frozen=True):
    """One mapping as written. `content` holds JSON's types only and is never mutated. `lines` maps a path such as
    `spec.servers[0].port` to its line in the file; use `line`, which answers for any path."""

    origin: Origin
    content: Mapping[str, Any]
    lines: Mapping[str, int] = {}

    def line(self, path: str) -> int:
        """The line of `path`, or of its nearest parent that was written (a missing field has none of its own)."""
        while path not in self.lines and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, self.origin.line)

    def at(self, path: str) -> Origin:
        """Where `path` stands: for an error about it."""
        return Origin(self.origin.file, self.line(path))


class Documents(msgspec.Struct, frozen=True):
    """All documents of one source, ordered by origin, and what of it cannot be read (there the last good documents stand in)."""

    documents: tuple[RawDocument, ...] = ()
    errors: tuple[DocumentError, ...] = ()


class Condition(msgspec.Struct, frozen=True):
    """One of a document's conditions: type (`Accepted`), whether it holds, one CamelCase word why, and text for people."""

    type: str
    status: bool
    reason: str
    message: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a document, given back to its source, which may show it (Kubernetes: status.conditions; files: nowhere).
    conditions: Accepted, ResolvedRefs and Programmed in this order; of a document that cannot be read only Accepted. warnings: what works,
    but not as its author may think."""

    conditions: tuple[Condition, ...]
    warnings: tuple[str, ...] = ()


class DocumentSource(Protocol):
    """Reads raw documents from one place. `documents` is readable at once: before `run` has read anything, it is empty."""

    @property
    def name(self) -> str:
        """`file`, `consul`, `kubernetes`: for status and logs."""
        ...

    @property
    def shows(self) -> bool:
        """Whether anybody sees what `report` is told. Else it need not be called."""
        ...

    @property
    def documents(self) -> Watchable[Documents]: ...

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read, publish, `started()`, then follow changes until cancelled. A place that cannot be read is an error in
        `documents`, never an exception. Cancellation leaves the last Documents published."""
        ...

    def reload(self) -> None:
        """Read everything again now (SIGHUP), without waiting for a change to be noticed. Never blocks."""
        ...

    def report(self, outcomes: Mapping[Origin, Outcome]) -> None:
        """Take back what became of the documents, each by the origin it was published with; those of other sources may be among them.
        Never blocks; the latest call wins."""
        ...


def path_of(location: Sequence[str | int]) -> str:
    """`("spec", "servers", 0, "port")` → `spec.servers[0].port`, the form of `RawDocument.lines`."""
    path = ""
    for key in location:
        path = join(path, key)
    return path


def parse(text: str, file: str) -> tuple[tuple[RawDocument, ...], tuple[DocumentError, ...]]:
    """Every document in `text` (YAML, several separated by `---`, or JSON), and every mistake with its line. A document with
    a mistake is not among the documents; its neighbours are. Empty documents are passed over. Pure; raises nothing."""
    documents: list[RawDocument] = []
    errors: list[DocumentError] = []
    for tree in read(text):
        origin = Origin(file, tree.lines.get("", 1))
        faults = [DocumentError(Origin(file, fault.line), fault.message, fault.remedy) for fault in tree.faults]
        if not faults and not isinstance(tree.value, dict):
            faults = [_not_a_mapping(tree, origin)]
        if faults:
            errors.extend(faults)
        else:
            documents.append(RawDocument(origin, tree.value, tree.lines))
    return tuple(documents), tuple(errors)


def _not_a_mapping(tree: Tree, origin: Origin) -> DocumentError:
    kind = "a list" if isinstance(tree.value, list) else "a single value"
    return DocumentError(
        origin, f"the document is {kind}, not a mapping", "begin it with `apiVersion:` and `kind:`; separate documents by ---"
    )
