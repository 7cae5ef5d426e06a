"""`fedgate validate`: every document of some files or folders, each judged by itself, with all its errors and warnings at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from discovery.document import DocumentError, Origin, RawDocument, parse
from federation.resources.read import Judged, judge_all
from federation.resources.resources import Problem

SUFFIXES = (".yaml", ".yml", ".json")
LARGEST_FILE = 64 * 1024 * 1024  # far above any configuration; a log file named by mistake is not read into memory


class Remark(msgspec.Struct, frozen=True):
    """path "" = the document as a whole."""

    path: str
    message: str


class Entry(msgspec.Struct, frozen=True):
    """One document. kind and name "" when it could not be read that far."""

    file: str
    line: int
    kind: str
    name: str
    valid: bool
    errors: tuple[Remark, ...] = ()
    warnings: tuple[Remark, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """What `fedgate validate -o json` prints. valid: every document is."""

    valid: bool
    documents: tuple[Entry, ...]


class Validation(msgspec.Struct, frozen=True):
    """The report, and the same for people: `FILE:LINE kind/name path: message`, each with the line of the fault itself."""

    report: Report
    lines: tuple[str, ...]


def validate_paths(paths: Iterable[str | Path]) -> Report:
    """Judge every document of these files, and of the YAML and JSON files in these folders and below. A path that is missing, empty
    or unreadable, and a file that is no YAML, is an entry with an error. Raises nothing."""
    return examine(paths).report


def examine(paths: Iterable[str | Path]) -> Validation:
    """As `validate_paths`, with the text. Raises nothing."""
    entries: list[Entry] = []
    lines: list[str] = []
    for entry, text in _judged(paths):
        entries.append(entry)
        lines += text
    return Validation(Report(all(entry.valid for entry in entries), tuple(entries)), tuple(lines))


def documents_in(paths: Iterable[str | Path]) -> Iterator[RawDocument | DocumentError]:
    """Every document of these files, and of the YAML and JSON files in these folders and below; what could not be read in its place.
    Raises nothing."""
    given = [Path(path) for path in paths]
    for path in given:
        yield from _of_path(path)
    if not given:
        yield DocumentError(Origin(""), "no path was given", "name a file or a folder")


_Found = tuple[Entry, list[str]]


def _judged(paths: Iterable[str | Path]) -> Iterator[_Found]:
    for each in documents_in(paths):
        if isinstance(each, DocumentError):
            yield _unread(each)
        else:
            yield from map(_entry, judge_all((each,)))


def _of_path(path: Path) -> Iterator[RawDocument | DocumentError]:
    if not path.is_dir():
        yield from _of_file(path)
        return
    files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file() and not _hidden(file, path))
    for file in files:
        yield from _of_file(file)
    if not files:
        yield DocumentError(Origin(str(path)), "the folder has no documents", f"put files there that end in {', '.join(SUFFIXES)}")


def _hidden(file: Path, folder: Path) -> bool:
    """`.git`, editors' swap files and Kubernetes' `..data` folders are nobody's documents."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _of_file(file: Path) -> Iterator[RawDocument | DocumentError]:
    origin = Origin(str(file))
    try:
        if file.is_file() and file.stat().st_size > LARGEST_FILE:
            yield DocumentError(origin, f"the file is larger than {LARGEST_FILE >> 20} MiB", "split it")
            return
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as fault:
        yield DocumentError(origin, f"the file is not UTF-8 (byte {fault.start})", "save it as UTF-8")
        return
    except OSError as fault:
        yield DocumentError(origin, fault.strerror or str(fault), "check the path and its permissions")
        return
    except ValueError:  # a NUL in the path
        yield DocumentError(origin, "this is no path", "name a file or a folder")
        return
    documents, errors = parse(text, str(file))
    found: list[RawDocument | DocumentError] = [*errors, *documents]
    yield from sorted(found, key=lambda each: each.origin.line)
    if not found:
        yield DocumentError(origin, "the file has no documents", "write one, or leave the file out")


def _unread(error: DocumentError) -> _Found:
    message = f"{error.message}; {error.remedy}"
    origin = error.origin
    entry = Entry(origin.file, origin.line, "", "", False, (Remark(error.path, message),))
    return entry, [f"{origin} {error.path}: {message}" if error.path else f"{origin}: {message}"]


def _entry(judged: Judged) -> _Found:
    origin = judged.raw.origin
    valid = not judged.errors
    entry = Entry(origin.file, origin.line, judged.kind, judged.name, valid, _remarks(judged.errors), _remarks(judged.warnings))
    warnings = [str(dataclasses.replace(one, message=f"warning: {one.message}")) for one in judged.warnings]
    return entry, [*map(str, judged.errors), *warnings]


def _remarks(problems: Iterable[Problem]) -> tuple[Remark, ...]:
    return tuple(Remark(problem.path, problem.message) for problem in problems)
