"""Asks a running gateway's admin API. Standard library only: `fedgate get` is typed often and should answer at once."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from appliance.cli.failure import fail

DEFAULT = "127.0.0.1:15000"
_TIMEOUT_S = 10.0
_COMMAND_TIMEOUT_S = 30.0  # taking back what was published has 20 s in the gateway


def address(given: str | None, config: Path | None) -> str:
    """HOST:PORT of the admin API: as given, as the Node document in `config` says, or the default."""
    if given is not None:
        return given
    if config is None:
        return DEFAULT
    for _, node in _nodes(config):
        listen = (node.get("spec") or {}).get("listen") or {}
        host, _, port = str(listen.get("admin", DEFAULT)).rpartition(":")
        return f"{_reachable(host)}:{port}"
    fail(f"{config} has no Node document; name the gateway's admin address with --address HOST:PORT")


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}.get(host, host)


def _nodes(config: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    import yaml

    files = sorted(p for p in config.rglob("*") if p.suffix in (".yaml", ".yml", ".json")) if config.is_dir() else [config]
    for file in files:
        try:
            documents = list(yaml.safe_load_all(file.read_text()))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
            fail(f"{file} cannot be read: {' '.join(str(exc).split())}")
        for document in documents:
            if isinstance(document, dict) and document.get("kind") == "Node":
                yield file, document


def state_directory(config: Path) -> Path:
    """Of the Node document in `config`; a relative one begins at the document's own."""
    for file, node in _nodes(config):
        written = str((node.get("spec") or {}).get("stateDir") or "./state")
        return file.parent / written
    fail(f"{config} has no Node document; give -c the file or folder that `fedgate run` was given")


class _OverSocket(http.client.HTTPConnection):
    """To a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_COMMAND_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def command(socket_path: Path, method: str, path: str) -> Any:
    """The JSON answer of the writing admin API. Fails with one line when there is none."""
    connection = _OverSocket(socket_path)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        fail(f"no gateway answers on {socket_path} ({reason}); is `fedgate run` running, and is this its user?")
    finally:
        connection.close()
    if response.status >= 300:
        fail(str(answer.get("error", f"the gateway answered with status {response.status}")))
    return answer


def ask(where: str, path: str) -> Any:
    """The JSON answer of GET `path`. Fails with one line when there is none."""
    parts = urlsplit(f"//{where}")
    try:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 15000, timeout=_TIMEOUT_S)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except ValueError as exc:
        fail(f"--address {where}: {exc}; write HOST:PORT")
    except (OSError, http.client.HTTPException) as exc:
        reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        fail(f"no gateway answers on {where} ({reason}); is `fedgate run` running? --address or -c says which one")
    try:
        answer = json.loads(body)
    except ValueError:
        fail(f"what answers on {where} is not a gateway's admin API (status {response.status}); check the port")
    if response.status != 200:
        fail(str(answer.get("error", f"{where} answered with status {response.status}")))
    return answer
