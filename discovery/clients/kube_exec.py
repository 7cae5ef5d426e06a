"""Credential plugins of a kubeconfig (`exec`, client.authentication.k8s.io): a program that prints a token or a certificate.

The program is the one that the kubeconfig's owner named; it is run without a shell, with no terminal, for a bounded time, and what it
prints is never logged, not even when it fails.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec
import trio

_WITHIN = 30.0  # seconds; `aws eks get-token` takes 1 to 3, its own request timeout is 60 twice over
_EARLY = timedelta(seconds=60)  # renewed so long before it expires: clocks differ, and a request takes its time
_MAX_BYTES = 1 << 20
_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class ExecError(Exception):
    """The plugin gave no credential."""


class _Variable(msgspec.Struct, frozen=True):
    name: str
    value: str = ""


class ExecPlugin(msgspec.Struct, frozen=True, rename="camel"):
    """As a kubeconfig says it."""

    command: str
    api_version: str
    args: tuple[str, ...] | None = None
    env: tuple[_Variable, ...] | None = None
    interactive_mode: str = "IfAvailable"
    provide_cluster_info: bool = False

    def __repr__(self) -> str:
        return f"<ExecPlugin {self.command}>"  # arguments and environment may hold secrets


class _Status(msgspec.Struct, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _Answer(msgspec.Struct, rename="camel"):
    kind: Literal["ExecCredential"]
    status: _Status


class ExecCredential:
    """What a plugin said; `is_due` once it should be asked again."""

    __slots__ = ("certificate", "expires", "key", "token")

    def __init__(self, token: str, certificate: bytes, key: bytes, expires: datetime | None) -> None:
        self.token, self.certificate, self.key, self.expires = token, certificate, key, expires

    def is_due(self) -> bool:
        return self.expires is not None and datetime.now(UTC) >= self.expires - _EARLY

    def __repr__(self) -> str:
        return f"<ExecCredential expires={self.expires}>"


async def run_plugin(
    plugin: ExecPlugin, *, folder: Path, environment: Mapping[str, str], cluster: Mapping[str, object]
) -> ExecCredential:
    """Ask the program once. folder: the kubeconfig's, where a relative command with a slash is looked for. cluster: what it is told of
    it if it wants to know (provideClusterInfo). Raises ExecError. Cancelled, it ends the program."""
    if plugin.api_version not in _VERSIONS:
        raise ExecError(f"exec of version {plugin.api_version[:80]} is not known; write {_VERSIONS[0]}")
    if plugin.interactive_mode == "Always":
        raise ExecError(f"{plugin.command} wants a terminal (interactiveMode: Always); a gateway has none: use a token instead")
    command = str(folder / plugin.command) if "/" in plugin.command else plugin.command
    spec = {"interactive": False, **({"cluster": dict(cluster)} if plugin.provide_cluster_info else {})}
    wanted = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    variables = {**environment, **{each.name: each.value for each in plugin.env or ()}}
    variables["KUBERNETES_EXEC_INFO"] = msgspec.json.encode(wanted).decode()
    try:
        with trio.fail_after(_WITHIN):
            printed, status = await _run([command, *(plugin.args or ())], variables)
    except trio.TooSlowError:
        raise ExecError(f"{plugin.command} gave no credential within {_WITHIN:.0f} s; run it by hand to see why") from None
    except OSError as error:
        raise ExecError(f"{plugin.command} cannot be run: {error.strerror}; install it, or write its path") from None
    if status:
        raise ExecError(f"{plugin.command} failed with exit status {status}; run it by hand to see why")
    return _credential(plugin, printed)


async def _run(command: list[str], variables: Mapping[str, str]) -> tuple[bytes, int]:
    """(what it printed, up to a byte more than _MAX_BYTES; its status). Cancelled, or told too much, it ends the program."""
    none = subprocess.DEVNULL
    process = await trio.lowlevel.open_process(command, env=variables, stdin=none, stdout=subprocess.PIPE, stderr=none)
    printed = b""
    assert process.stdout is not None
    async with process.stdout:
        try:
            while len(printed) <= _MAX_BYTES and (part := await process.stdout.receive_some(_MAX_BYTES + 1 - len(printed))):
                printed += part
            return printed, 0 if len(printed) > _MAX_BYTES else await process.wait()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):  # a program that was killed ends at once
                await process.wait()


def _credential(plugin: ExecPlugin, printed: bytes) -> ExecCredential:
    if len(printed) > _MAX_BYTES:
        raise ExecError(
            f"{plugin.command} prints more than {_MAX_BYTES >> 20} MiB, which is no credential; run it by hand to see what it prints"
        )
    try:
        status = msgspec.json.decode(printed, type=_Answer).status
    except msgspec.MsgspecError:
        raise ExecError(f"{plugin.command} printed no ExecCredential; run it by hand to see what it prints") from None
    if not status.token and not status.client_certificate_data:
        raise ExecError(f"{plugin.command} printed neither a token nor a certificate; run it by hand to see why")
    expires = status.expiration_timestamp
    if expires is not None and expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    return ExecCredential(status.token, status.client_certificate_data.encode(), status.client_key_data.encode(), expires)
