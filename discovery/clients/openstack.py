"""One client of an OpenStack cloud: openstacksdk's connection, asked in threads.

Theory of operation. openstacksdk and keystoneauth block, so each call runs in a thread of a limiter of its own: a cloud that hangs
holds at most that many threads, and none of what others wait for. The SDK is 40 MB and takes a second to import: it is loaded in such
a thread, by the first call, so that a gateway without OpenStack never has it. Only its sessions are used (credentials, catalog,
versions, tokens that end); what APIs answer is decoded straight into records of our own, as the SDK's own resources cost ten times that.

Before each call the files that the credentials come from are looked at; when one has changed, so has the connection. Nothing that is
raised or logged here holds a secret: errors are made of the call, the status and the service's own words, never of what was sent, and
a YAML error, which quotes the file, is told by its line alone.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec
import trio

from discovery.signature import signature

T = TypeVar("T")

_AT_ONCE = 4  # threads and connections to a cloud: its APIs are Python processes, a handful of workers each
# Seconds for connecting and for each pause in an answer: a listing of thousands takes an API five, its first answer after a start as many.
# Nothing waits for it, as what was known stands.
TIMEOUT = 20.0
_DEADLINE = 60.0  # seconds for a whole listing: longer and what its first page said is too old
_MOST_PAGES = 200  # of 1,000 entries each, as Nova and Neutron have it: far above what a project may own
_MOST_BYTES, _PIECE = 64 << 20, 64 << 10  # of an answer, of a piece of it: 1,000 servers with all their metadata are some 5 MB
_WORDS = 300  # of an API's error that are shown


class CloudAccess(msgspec.Struct, frozen=True):
    """How a cloud is reached: by name in clouds.yaml (`file`, else where openstacksdk looks for it), or by an application credential:
    `auth_url`, `credential` (its id) and `secret_file`. region "": the one that clouds.yaml names, else the catalog's first.
    interface: `public`, `internal`; "" is clouds.yaml's, else public. ca_file: what the APIs' certificates are checked against."""

    cloud: str = ""
    file: str = ""
    region: str = ""
    interface: str = ""
    auth_url: str = ""
    credential: str = ""
    secret_file: str = ""
    ca_file: str = ""

    def __str__(self) -> str:
        return f"cloud {self.cloud}" if self.cloud else f"the cloud at {self.auth_url}"


class CloudError(Exception):
    """A cloud could not be asked, or refused. status: of HTTP, 0 when there was no answer. missing: the cloud's catalog has no such
    service, which is an answer too."""

    def __init__(self, message: str, *, status: int = 0, missing: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.missing = missing


class Project(msgspec.Struct, frozen=True):
    """What the credentials stand for: the project, and the region that is asked ("" if the cloud names none)."""

    id: str
    name: str
    region: str


class OpenStackClient:
    """Asks the APIs of one cloud, as one project. Nothing is connected before the first call; `close` lets go of the connections."""

    def __init__(self, access: CloudAccess) -> None:
        self._access = access
        self._limiter = trio.CapacityLimiter(_AT_ONCE)
        self._opening = threading.Lock()
        self._connection: Any = None
        self._read: tuple[Any, ...] = ()

    async def project(self) -> Project:
        """Whose credentials these are. Raises CloudError."""
        return await self._run("ask for a token", self._project)

    async def listing(self, service: str, path: str, key: str, kind: type[T], **query: str) -> list[T]:
        """Every entry of a paged listing. service: as openstacksdk calls it (`load_balancer`). key: of the entries in each page.

        Raises CloudError, also when an answer is not what the API's reference says. Cancelled, its thread ends by the timeout."""

        def work() -> list[T]:
            return self._pages(service, path, key, kind, query)

        return await self._run(f"list {path}", work)

    async def send(self, service: str, method: str, path: str, body: Mapping[str, object] | None = None) -> bytes:
        """One request; the answer's body. Raises CloudError. Cancelled, it may or may not have been done."""

        def work() -> bytes:
            return self._ask(service, method, path, body=body)

        return await self._run(f"{method} {path}", work)

    def close(self) -> None:
        """Close what is open. The next call connects anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.session.session.close()
            connection.close()

    async def _run(self, what: str, work: Callable[[], T]) -> T:
        try:
            with trio.fail_after(_DEADLINE):
                # Abandoned threads keep their place in the limiter until they end, so there are never more than it allows.
                return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)
        except trio.TooSlowError:
            raise CloudError(f"cannot {what} of {self._access}: no whole answer in {_DEADLINE:.0f} s; look at that API") from None

    # What follows runs in threads.

    def _project(self) -> Project:
        connection = self._connect()
        try:
            access = connection.session.auth.get_access(connection.session)
        except Exception as error:  # whatever the SDK, keystoneauth, requests and urllib3 may raise: made one kind here
            raise self._refused("ask for a token", error) from None
        return Project(access.project_id or "", access.project_name or "", connection.config.get_region_name() or "")

    def _pages(self, service: str, path: str, key: str, kind: type[T], query: Mapping[str, str]) -> list[T]:
        found: list[T] = []
        ends = time.monotonic() + _DEADLINE
        for _ in range(_MOST_PAGES):
            if time.monotonic() > ends:  # nobody waits for this thread any longer, and others wait for its place
                break
            body = self._ask(service, "GET", path, query=query)
            try:
                page = msgspec.json.decode(body)
                found += msgspec.convert(page[key], list[kind], strict=False)  # type: ignore[valid-type]
                marker = _next_page(page, key)
            except (msgspec.DecodeError, msgspec.ValidationError, LookupError, TypeError, AttributeError, ValueError) as error:
                raise CloudError(f"{self._access} answered {path} with what is no listing of {key}: {error}") from None
            if not marker or not page[key]:
                return found
            query = {**query, **marker}
        raise CloudError(
            f"{self._access} lists {path} without end: more than {_MOST_PAGES} pages or {_DEADLINE:.0f} s; narrow the project"
        )

    def _ask(self, service: str, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None) -> bytes:
        connection = self._connect()
        what = f"{method} {path}"
        try:
            proxy = getattr(connection, service)
            answer = proxy.request(path, method, params=query or None, json=body, skip_cache=True)
        except CloudError as error:
            raise CloudError(f"cannot {what} at {self._access}: {error}") from None
        except Exception as error:  # as above
            raise self._refused(what, error) from None
        if answer.status_code >= 400:
            if answer.status_code in (401, 404):
                self._forget(connection)  # credentials may be new; an API that was away when it was looked for has a wrong address
            raise CloudError(_said(what, self._access, answer.status_code, answer.text), status=answer.status_code)
        return bytes(answer.content)

    def _refused(self, what: str, error: Exception) -> CloudError:
        """An exception of the SDK in our words. A token is kept whatever one API does: with Keystone away there would be no other."""
        status = int(getattr(error, "http_status", 0) or getattr(error, "status_code", 0) or 0)
        missing = type(error).__name__ in ("EndpointNotFound", "ServiceDisabledException")
        if missing or status == 401:
            self._forget(self._connection)  # the SDK remembers what a catalog lacked
        if missing:
            hint = "the catalog has no such service in this region; leave it out of the configuration, or look at the region's name"
        elif status in (401, 403):
            hint = "look at the credentials and at the roles they have"
        else:
            hint = "look at whether that API runs and can be reached from here"
        words = " ".join(str(error).split())[:_WORDS]
        return CloudError(
            f"cannot {what} at {self._access}: {type(error).__name__}: {words}; {hint}", status=status, missing=missing
        )

    def _forget(self, connection: object) -> None:
        with self._opening:
            if self._connection is connection:
                self._connection = None

    def _connect(self) -> Any:
        """The connection, made anew if a file of the credentials has changed since."""
        with self._opening:
            import openstack  # noqa: F401  (loads what _open needs; here, as the module says)

            read = tuple(map(signature, _files(self._access)))
            if self._connection is None or read != self._read:
                self._connection = self._open()
                self._read = read
            return self._connection

    def _open(self) -> Any:
        from openstack.connection import Connection

        try:
            region = _configuration(self._access)
        except CloudError:
            raise
        except Exception as error:  # ConfigException, MissingRequiredOptions, KeyError …: of names and files, not of values
            words = " ".join(str(error).split())[:_WORDS]
            raise CloudError(f"cannot use the credentials of {self._access}: {type(error).__name__}: {words}") from None
        connection = Connection(config=region)
        connection.session.session.hooks["response"].append(_bounded)
        return connection

    def __repr__(self) -> str:
        state = "connected" if self._connection is not None else "not connected"
        return f"<OpenStackClient {self._access} {state} threads={self._limiter.borrowed_tokens}>"


def _configuration(access: CloudAccess) -> Any:
    from openstack.config import OpenStackConfig

    options: dict[str, Any] = {"region_name": access.region or None, "interface": access.interface or None}
    options |= {"cacert": access.ca_file or None, "api_timeout": TIMEOUT}
    if not access.cloud:
        secret = _secret(access.secret_file)
        auth = {
            "auth_url": access.auth_url,
            "application_credential_id": access.credential,
            "application_credential_secret": secret,
        }
        configured = OpenStackConfig(load_yaml_config=False, load_envvars=False, app_name="fedgate")
        return configured.get_one(auth_type="v3applicationcredential", auth=auth, **options)
    for path in _files(access):
        _check_yaml(path)
    if not access.file:
        return OpenStackConfig(app_name="fedgate").get_one(cloud=access.cloud, **options)
    if not os.access(access.file, os.R_OK):
        raise CloudError(f"{access.file} cannot be read, so {access} is not known; write the path of a clouds.yaml")
    main, *secure = _files(access)
    configured = OpenStackConfig([main], secure_files=secure, load_envvars=False, app_name="fedgate")
    return configured.get_one(cloud=access.cloud, **options)


def _files(access: CloudAccess) -> list[str]:
    """Where the credentials may stand."""
    if not access.cloud:
        return [access.secret_file]
    if access.file:
        return [access.file, str(Path(access.file).with_name("secure.yaml"))]
    from openstack.config import loader

    override = (os.environ.get("OS_CLIENT_CONFIG_FILE"), os.environ.get("OS_CLIENT_SECURE_FILE"))
    return [*filter(None, override), *loader.CONFIG_FILES, *loader.SECURE_FILES]


def _secret(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CloudError(f"the application credential's secret cannot be read from {path}: {type(error).__name__}") from None


def _check_yaml(path: str) -> None:
    """openstacksdk passes over a file that is no YAML, and logs the line that it stopped at, secret or not: we stop before that."""
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    try:
        yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise CloudError(f"{path} is no YAML: {error.problem or 'a mistake'} in line {line}") from None
    except yaml.YAMLError:
        raise CloudError(f"{path} is no YAML") from None


def _bounded(answer: Any, *_: object, **__: object) -> None:
    """A hook of requests: reads the body, which requests itself would do without a bound. Raises CloudError for what is too large or slow."""
    parts, size, ends = [], 0, time.monotonic() + _DEADLINE
    for part in answer.iter_content(_PIECE):
        size += len(part)
        parts.append(part)
        if size > _MOST_BYTES or time.monotonic() > ends:
            answer.close()
            raise CloudError(f"an answer of more than {_MOST_BYTES >> 20} MiB, or {_DEADLINE:.0f} s; look at that API")
    answer._content = b"".join(parts)  # where `content` looks first; there is no public way to have read it


def _next_page(page: Mapping[str, Any], key: str) -> dict[str, str]:
    """The query that leads to the next page: only that of the link, as its address is often wrong behind a proxy that ends TLS."""
    links = page.get(f"{key}_links") or page.get("links") or {}
    href = (
        links.get("next") if isinstance(links, dict) else next((link["href"] for link in links if link.get("rel") == "next"), None)
    )
    return dict(parse_qsl(urlsplit(href).query)) if href else {}


def _said(what: str, access: CloudAccess, status: int, text: str) -> str:
    words = " ".join(text.split())[:_WORDS]
    return f"{what} at {access}: status {status}: {words or 'no words'}"
