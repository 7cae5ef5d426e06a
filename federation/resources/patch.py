"""Mending a plain tree so that the rest of it can be judged: what is wrong goes out, what has to be there gets a stand-in.

Nothing mended is ever handed out: it serves to find the other faults in the same reading.
"""

from __future__ import annotations

import enum
import types
import typing
from typing import Any

from federation.resources.message import Message, Path
from federation.resources.scalars import HostPort


def _reached(shaped: object, path: Path) -> object:
    for key in path:
        if isinstance(shaped, dict):
            shaped = shaped.get(key)
        elif isinstance(shaped, list) and isinstance(key, int) and key < len(shaped):
            shaped = shaped[key]
        else:
            return None
    return shaped


def cut(shaped: object, path: Path) -> Path | None:
    """Take out the smallest thing at or above `path` that can go without moving its neighbours, and say which; None: it is the root."""
    while path:
        parent = _reached(shaped, path[:-1])
        if isinstance(parent, dict) and path[-1] in parent:
            del parent[path[-1]]
            return path
        path = path[:-1]
    return None


def filled(shaped: object, model: type[Message], path: Path) -> Path | None:
    """Put something of the right type where a required field is missing or a list's item is wrong, so that the rest can be judged;
    None: it is neither. No rule about the place is believed, and the message is never handed out."""
    if not path:
        return None
    key, parent = path[-1], _reached(shaped, path[:-1])
    annotation, required = _wanted(model, path)
    if isinstance(parent, list) and isinstance(key, int) and key < len(parent):
        parent[key] = _stand_in(annotation)
        return path
    if isinstance(parent, dict) and key not in parent and required:
        parent[key] = _stand_in(annotation)
        return path
    return None


def _wanted(model: type[Message], path: Path) -> tuple[Any, bool]:
    """The type that stands at `path`, and whether something has to."""
    annotation: Any = model
    required = True
    for key in path:
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is tuple:
            annotation, required = _plain(arguments[0]), True
        elif origin is dict:
            annotation, required = _plain(arguments[1]), False
        elif isinstance(annotation, type) and issubclass(annotation, Message):
            infos = {info.alias or name: info for name, info in annotation.model_fields.items()}
            if key not in infos:
                return None, False
            annotation, required = _plain(infos[str(key)].annotation), infos[str(key)].is_required()
        else:
            return None, False
    return annotation, required


def _plain(annotation: Any) -> Any:
    """Without Annotated and `| None`."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _plain(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return _plain(next(one for one in typing.get_args(annotation) if one is not type(None)))
    return annotation


def _stand_in(annotation: Any) -> object:
    if annotation is int:
        return 1
    if annotation is HostPort:
        return HostPort("x", 1)
    if typing.get_origin(annotation) is tuple:
        return []
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return next(iter(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return {}  # what it requires is filled in turn
    return "x"
