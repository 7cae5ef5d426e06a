"""Who we are to a Kubernetes API: from a kubeconfig, or as the Pod that we run in.

Theory of operation. A `Login` is what the next request is made with: server, TLS and token. `Credentials.login` reads every file that
is behind it anew when a second has passed, so tokens and certificates that are rotated on disk are used without a restart; the TLS
context stays the same object while its material does, which is how a client knows that its connections may stay. A file that is being
replaced and cannot be read at the moment leaves the last good login. A plugin's token (`exec`, how EKS and GKE sign in) is kept until
shortly before it expires, or until the server refuses it. Many requests ask for the login at once, and a refusal is heard by all of them:
one reads and runs the plugin, once, and the others take what it got. Nothing of a login prints itself.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio
import yaml

from discovery.clients.kube_exec import ExecCredential, ExecError, ExecPlugin, run_plugin
from discovery.clients.kube_tls import Material, Tls, build

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where every Pod finds its token, authorities and namespace."""
_REREAD_EVERY = 1.0  # seconds; files are read at requests only, of which a quiet gateway makes one in minutes
_MAX_BYTES = 4 << 20  # a kubeconfig of a thousand clusters is 3 MB
_log = structlog.get_logger()


class CredentialsError(Exception):
    """There is no usable login: which file, what of it, what to do. Names no secret."""


class Login:
    """What a request is made with. namespace: the Pod's own, or the context's; "" when neither says."""

    __slots__ = ("namespace", "proxy", "server", "tls", "token")

    def __init__(self, server: str, tls: Tls, token: str, *, namespace: str = "", proxy: str = "") -> None:
        self.server, self.tls, self.token, self.namespace, self.proxy = server.rstrip("/"), tls, token, namespace, proxy

    def __repr__(self) -> str:
        return f"<Login {self.server} {'token' if self.token else 'certificate' if self.tls.certificate else 'anonymous'}>"


class _Cluster(msgspec.Struct, rename="kebab"):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class _User(msgspec.Struct, rename="kebab"):
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    username: str = ""
    impersonate: str = msgspec.field(default="", name="as")
    auth_provider: dict[str, Any] | None = None
    exec: ExecPlugin | None = None


class _Context(msgspec.Struct):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _Written(msgspec.Struct):
    """Everything of one login as the files say it, the plugin's part still to come."""

    server: str
    material: Material
    token: str = ""
    namespace: str = ""
    proxy: str = ""
    plugin: ExecPlugin | None = None
    folder: Path = Path()

    def __repr__(self) -> str:
        return f"<_Written {self.server}>"


class Credentials:
    """kubeconfig "": the Pod's own service account where there is one, else KUBECONFIG's first file, else ~/.kube/config.
    context "": the current one."""

    def __init__(
        self,
        kubeconfig: str = "",
        context: str = "",
        *,
        environment: Mapping[str, str] = os.environ,
        service_account: str = SERVICE_ACCOUNT,
    ) -> None:
        self._path = kubeconfig
        self._context = context
        self._environment = environment
        self._pod = Path(service_account)
        self._read_at = float("-inf")
        self._written: _Written | None = None
        self._login: Login | None = None
        self._plugged: ExecCredential | None = None
        self._reading = trio.Lock()

    async def login(self) -> Login:
        """The login of now. Raises CredentialsError when there never was a good one."""
        if (login := self._recent()) is not None:
            return login
        async with self._reading:
            return self._recent() or await self._renewed()

    def _recent(self) -> Login | None:
        """That of the last second. A plugin's, too: one that prints what has expired already is not run for every request."""
        return self._login if trio.current_time() - self._read_at < _REREAD_EVERY else None

    async def _renewed(self) -> Login:
        try:
            written = await trio.to_thread.run_sync(self._read)
            self._login = await self._logged_in(written)
        except (CredentialsError, ExecError) as error:
            if self._login is None:
                raise error if isinstance(error, CredentialsError) else CredentialsError(str(error)) from error
            _log.warning("kubernetes.credentials_unreadable", error=str(error), used="the last good ones")
        self._read_at = trio.current_time()
        return self._login

    def refused(self, login: Login | None = None) -> None:
        """The server refused what this login shows, None: what the last one does. The next login reads and asks everything anew, unless that
        was replaced already."""
        last = self._login
        if login is None or last is None or (login.token, login.tls) == (last.token, last.tls):
            self._read_at = float("-inf")
            self._plugged = None

    def _expired(self) -> bool:
        return self._plugged is not None and self._plugged.is_due()

    async def _logged_in(self, written: _Written) -> Login:
        material, token = written.material, written.token
        if written.plugin is not None:
            if self._plugged is None or self._expired() or self._written is None or self._written.plugin != written.plugin:
                self._plugged = await run_plugin(
                    written.plugin, folder=written.folder, environment=self._environment, cluster=_told(written)
                )
            token = self._plugged.token or token
            if self._plugged.certificate:
                changed = {"certificate": self._plugged.certificate, "key": self._plugged.key}
                material = msgspec.structs.replace(material, **changed)
        else:
            self._plugged = None
        _check_token(token, self._where())
        self._written = written
        tls = self._login.tls if self._login and self._login.tls.material == material else await self._tls(material)
        return Login(written.server, tls, token, namespace=written.namespace, proxy=written.proxy)

    async def _tls(self, material: Material) -> Tls:
        try:
            tls = await trio.to_thread.run_sync(build, material)
        except (ValueError, OSError) as error:
            raise CredentialsError(f"{self._where()}: {error}") from None
        if not material.verify:
            _log.warning("kubernetes.server_not_verified", where=self._where(), why="insecure-skip-tls-verify is set")
        return tls

    def _where(self) -> str:
        return self._path or "the Kubernetes credentials"

    # ------------------------------------------------------------------------------------------------ reading, in a thread

    def _read(self) -> _Written:
        host = self._environment.get("KUBERNETES_SERVICE_HOST", "")
        if not self._path and host and (self._pod / "token").exists():
            return self._as_pod(host, self._environment.get("KUBERNETES_SERVICE_PORT", "443"))
        return self._from_kubeconfig(self._find())

    def _as_pod(self, host: str, port: str) -> _Written:
        name = f"[{host}]" if ":" in host else host
        return _Written(
            server=f"https://{name}:{port}",
            material=Material(ca=_bytes(self._pod / "ca.crt")),
            token=_bytes(self._pod / "token").decode("ascii", "replace").strip(),
            namespace=_bytes(self._pod / "namespace").decode("ascii", "replace").strip(),
        )

    def _find(self) -> Path:
        listed = self._environment.get("KUBECONFIG", "").split(os.pathsep)[0]
        return Path(self._path or listed or "~/.kube/config").expanduser()

    def _from_kubeconfig(self, path: Path) -> _Written:
        try:
            written = yaml.load(_bytes(path), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError as error:
            line = getattr(getattr(error, "problem_mark", None), "line", None)
            raise CredentialsError(f"{path} is not YAML{f' (line {line + 1})' if line is not None else ''}; mend it") from None
        if not isinstance(written, dict):
            raise CredentialsError(f"{path} is no kubeconfig; it begins with `apiVersion: v1` and `kind: Config`")
        name = self._context or written.get("current-context") or ""
        if not name:
            raise CredentialsError(f"{path} has no current-context; write `context`, or set one with kubectl config use-context")
        context = _named(path, written, "contexts", "context", str(name), _Context)
        cluster = _named(path, written, "clusters", "cluster", context.cluster, _Cluster)
        user = _named(path, written, "users", "user", context.user, _User) if context.user else _User()
        return _login_of(path, cluster, user, context.namespace)


def _check_token(token: str, where: str) -> None:
    """Any other than visible ASCII cannot be sent, and the HTTP client's words for that would show it."""
    if not all("!" <= each <= "~" for each in token):
        raise CredentialsError(f"{where}: the token has a space, a line break or what is no ASCII in it; write the token alone")


def _told(written: _Written) -> dict[str, object]:
    """What a plugin may know of the cluster (client.authentication.k8s.io Cluster)."""
    material = written.material
    return {
        "server": written.server,
        "certificate-authority-data": base64.b64encode(material.ca).decode(),
        "tls-server-name": material.server_name,
        "insecure-skip-tls-verify": not material.verify,
    }


def _login_of(path: Path, cluster: _Cluster, user: _User, namespace: str) -> _Written:
    folder = path.parent
    if not cluster.server.startswith(("https://", "http://")):
        raise CredentialsError(
            f"{path}: the cluster's server `{cluster.server[:80]}` is no URL; write for example https://10.0.0.1:6443"
        )
    if user.impersonate:  # followed silently, the requests would be made with more rights than their author meant
        raise CredentialsError(f"{path}: the user impersonates another (`as`), which is not followed; make a user of its own")
    if user.username or user.auth_provider is not None:
        raise CredentialsError(f"{path}: the user signs in by a way that Kubernetes gave up; use a token, a certificate or exec")
    token = user.token
    if user.token_file and not token:
        token = _bytes(folder / Path(user.token_file).expanduser()).decode("ascii", "replace").strip()
    if token and cluster.server.startswith("http://"):
        raise CredentialsError(f"{path}: the server is http://, which would show the token to everybody; write https://")
    material = Material(
        ca=_data(path, folder, cluster.certificate_authority_data, cluster.certificate_authority),
        certificate=_data(path, folder, user.client_certificate_data, user.client_certificate),
        key=_data(path, folder, user.client_key_data, user.client_key),
        verify=not cluster.insecure_skip_tls_verify,
        server_name=cluster.tls_server_name,
    )
    return _Written(cluster.server, material, token, namespace, cluster.proxy_url, user.exec, folder)


def _named(path: Path, written: dict[str, Any], place: str, kind: str, name: str, made: type[Any]) -> Any:
    entries = written.get(place) or ()
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name:
            try:
                return msgspec.convert(entry.get(kind) or {}, made)
            except msgspec.ValidationError as error:  # says the path and the types, never the value
                raise CredentialsError(f"{path}: {kind} `{name}`: {error}") from None
    raise CredentialsError(f"{path} has no {kind} named `{name[:80]}`; known: {_names(entries)}")


def _names(entries: object) -> str:
    found = [str(entry.get("name")) for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return ", ".join(found[:20]) or "none"


def _data(path: Path, folder: Path, encoded: str, file: str) -> bytes:
    """Data beats a file, as in kubectl."""
    if encoded:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise CredentialsError(f"{path}: certificate or key data is not base64; write it anew with kubectl config") from None
    return _bytes(folder / Path(file).expanduser()) if file else b""


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {error.strerror}; check that it exists and its permissions") from None
