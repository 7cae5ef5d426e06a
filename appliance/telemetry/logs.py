"""Logs: events with keys, one line each, to stderr; for people when stderr is a terminal, JSON otherwise.

Configured once per process; the environment's FEDGATE_LOG names another level than info. It can be changed while running (the
pipe's SetLogLevel).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import sys
from collections.abc import Sequence
from typing import Any

import structlog

LEVELS = ("debug", "info", "warning", "error")
_fields: dict[str, object] = {}
_level = "info"


def configure(process: str, level: str = "info") -> None:
    """Make structlog write to stderr. process: supervisor, control, worker: goes into every line."""
    identify(process=process)
    set_level(level)
    if (wanted := os.environ.get("FEDGATE_LOG", level)) != level:
        try:
            set_level(wanted)
        except ValueError as exc:
            structlog.get_logger().warning("log.level", error=f"FEDGATE_LOG: {exc}", level=level)


def identify(**fields: object) -> None:
    """Keys that every line of this process has from now on, whichever task writes it."""
    _fields.update(fields)


def set_level(level: str) -> None:
    """Write events of this level and above from now on. Raises ValueError for a level that is not in LEVELS."""
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} does not exist; choose one of {', '.join(LEVELS)}")
    global _level
    _level = level
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_fields,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_rendering(sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,  # so that a new level reaches loggers made at import
    )


def append_only(descriptors: Sequence[int] = (1, 2)) -> None:
    """Have files given as standard output and error (`fedgate run … > log 2>&1`) written at their end only. Workers open /dev/stdout
    anew for the access log, with a place of its own in the file; events that are written at the old place would overwrite its lines.
    Holds for the children too, and for whoever else has the same open file, whom it does not hurt."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # a closed descriptor
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
                fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)


def level() -> str:
    """The level in force."""
    return _level


def _rendering(terminal: bool) -> list[Any]:
    if terminal:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]


def _add_fields(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {**event, **_fields}
