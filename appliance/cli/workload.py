"""`fedgate workload`: a machine that no registry knows says that it is there (WorkloadGroup).

On the gateway's own machine it speaks through the unix socket in the state directory, elsewhere over TLS with a token. Standard library
only, like `fedgate get`: it may run on every virtual machine there is.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import secrets
import signal
import socket
import ssl
import threading
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import typer

from appliance.cli.failure import fail

app = typer.Typer(name="workload", help="Register this machine as a workload of a WorkloadGroup.", no_args_is_help=True)

_TIMEOUT_S = 10.0
_PREFIX = "fgw_"  # so that a token is recognised where it should not be

Group = Annotated[str, typer.Argument(help="Name of the WorkloadGroup.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Its namespace.")]
Where = Annotated[
    str, typer.Option("--address", help="IP at which the gateway reaches the workload; `self`: where the request comes from.")
]
Socket = Annotated[Path | None, typer.Option("--state-dir", help="The gateway's state directory, on its own machine.")]
Gateway = Annotated[str, typer.Option("--gateway", help="https://HOST:PORT of a gateway's registration listener.")]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="File with the token, for --gateway.")]
CaFile = Annotated[Path | None, typer.Option("--ca-file", help="CA of the gateway's certificate; the system's without it.")]


class _Unix(http.client.HTTPConnection):
    """HTTP over the admin API's unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


class _Door:
    """One way to a gateway. `ask` raises OSError when nobody answers."""

    def __init__(self, state_dir: Path | None, gateway: str, token_file: Path | None, ca_file: Path | None) -> None:
        if (state_dir is None) == (not gateway):
            fail("say where the gateway is: --state-dir DIR on its own machine, or --gateway https://HOST:PORT with --token-file")
        self._state_dir, self._gateway, self._token_file = state_dir, gateway, token_file
        self._tls: ssl.SSLContext | None = None
        if gateway:
            parts = urlsplit(gateway)
            if parts.scheme != "https" or not parts.hostname:
                fail(f"--gateway {gateway}: write https://HOST:PORT, as a token is not sent in clear text")
            if token_file is None:
                fail("--gateway needs --token-file")
            try:
                self._tls = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
            except OSError as error:
                fail(f"--ca-file {ca_file}: {error.strerror or error}")

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        headers = {"content-type": "application/json"}
        if self._token_file is not None:  # read each time: it may be replaced
            headers["authorization"] = f"Bearer {self._token_file.read_text().strip()}"
        connection = self._connection()
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
        except http.client.HTTPException as error:
            raise OSError(str(error) or type(error).__name__) from None
        finally:
            connection.close()
        try:
            return answer.status, json.loads(data)
        except ValueError:
            raise OSError(f"what answers is no gateway (status {answer.status})") from None

    def _connection(self) -> http.client.HTTPConnection:
        if self._state_dir is not None:
            return _Unix(self._state_dir / "admin.sock")
        parts = urlsplit(self._gateway)
        return http.client.HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=_TIMEOUT_S, context=self._tls)


def _pairs(option: str, written: list[str]) -> dict[str, str]:
    pairs = {}
    for each in written:
        key, equals, value = each.partition("=")
        if not equals or not key:
            fail(f"{option} {each}: write NAME=VALUE")
        pairs[key] = value
    return pairs


def _path(namespace: str, group: str, address: str) -> str:
    return "/api/v1/workloads/" + "/".join(quote(each, safe="") for each in (namespace, group, address))


@app.command()
def register(
    group: Group,
    namespace: Namespace = "default",
    address: Where = "self",
    port: Annotated[list[str], typer.Option("--port", help="NAME=NUMBER of a port; repeatable.")] = [],  # noqa: B006
    label: Annotated[list[str], typer.Option("--label", help="KEY=VALUE; repeatable.")] = [],  # noqa: B006
    locality: Annotated[str, typer.Option(help="region[/zone[/subzone]].")] = "",
    weight: Annotated[int, typer.Option(help="Share of the traffic.")] = 0,
    lease: Annotated[float, typer.Option(help="Seconds until it has to be said again.")] = 30.0,
    keep: Annotated[bool, typer.Option("--keep", help="Say it again until ended by a signal, then deregister.")] = False,
    state_dir: Socket = None,
    gateway: Gateway = "",
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Say that this workload is there."""
    door = _Door(state_dir, gateway, token_file, ca_file)
    ports = _pairs("--port", port)
    if bad := next((f"{name}={number}" for name, number in ports.items() if not number.isdigit()), ""):
        fail(f"--port {bad}: write NAME=NUMBER")
    claim = {"ports": {name: int(number) for name, number in ports.items()}, "labels": _pairs("--label", label), "lease": lease}
    claim |= {key: value for key, value in (("locality", locality), ("weight", weight)) if value}
    path = _path(namespace, group, address)
    print(_said(_demand(door, "PUT", path, claim)))
    if keep:
        _keep(door, path, claim, lease)


def _keep(door: _Door, path: str, claim: object, lease: float) -> None:
    """Renew three times a lease, so that one lost request or a restarted gateway costs nothing; leave in order."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    last = ""
    while not ended.wait(lease / 3):
        try:
            status, answer = door.ask("PUT", path, claim)
            said = _said(answer) if status == 200 else f"not renewed: {answer.get('error', status)}"
        except OSError as error:
            said = f"not renewed: {error}"
        if said != last:
            print(said, flush=True)
        last = said
    try:
        door.ask("DELETE", path)
    except OSError as error:
        fail(f"not deregistered ({error}); the lease ends by itself")


@app.command()
def deregister(
    group: Group,
    namespace: Namespace = "default",
    address: Where = "self",
    state_dir: Socket = None,
    gateway: Gateway = "",
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Say that it is not there any more."""
    _demand(_Door(state_dir, gateway, token_file, ca_file), "DELETE", _path(namespace, group, address))


@app.command("list")
def list_(
    state_dir: Annotated[Path, typer.Option("--state-dir", help="The gateway's state directory, on its own machine.")] = Path(
        "state"
    ),
) -> None:
    """Who is registered, and whether its probe passes."""
    rows = _demand(_Door(state_dir, "", None, None), "GET", "/api/v1/workloads")["items"]
    lines = [("NAMESPACE", "GROUP", "ADDRESS", "STATE", "EXPIRES", "REASON")]
    lines += [(r["namespace"], r["group"], r["address"], r["state"], f"{r['expires']:.0f}s", r["reason"]) for r in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


@app.command()
def token(file: Annotated[Path, typer.Argument(help="File to write the token to; it must not exist.")]) -> None:
    """Make a token for workloads on other machines, and print the annotation that admits it."""
    made = _PREFIX + secrets.token_urlsafe(32)
    try:
        with open(file, "x", opener=_private) as out:
            out.write(made + "\n")
    except OSError as error:
        fail(f"{file}: {error.strerror or error}")
    print("write into the WorkloadGroup's metadata:")
    print(f"  annotations: {{workloads.fedgate.io/token-sha256: {hashlib.sha256(made.encode()).hexdigest()}}}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _demand(door: _Door, method: str, path: str, body: object = None) -> Any:
    try:
        status, answer = door.ask(method, path, body)
    except OSError as error:
        fail(f"no gateway answers ({error}); is `fedgate run` running there?")
    if status != 200:
        fail(str(answer.get("error", f"status {status}")))
    return answer


def _said(row: Any) -> str:
    reason = f" ({row['reason']})" if row.get("reason") else ""
    return f"{row['namespace']}/{row['group']} {row['address']}: registered, {row['state']}{reason}"
