"""The admin API over real sockets: answers, guard, unix socket, and no writes on the port."""

import contextlib
import json
import socket
import stat

import msgspec
import trio

from appliance.admin import app
from appliance.admin.rows import ConditionRow, DocumentRow, ServiceRow, SnapshotRow, WinnerRow
from appliance.admin.server import serve, unix_socket
from appliance.telemetry import logs
from federation.publishing import StillPublished

DOCUMENT = DocumentRow(
    kind="Gateway",
    namespace="shop",
    name="web",
    file="a.yaml",
    line=3,
    good=False,
    conditions=(ConditionRow(type="Accepted", status=False, reason="Bad", message="no"),),
    warnings=(),
    errors=("no",),
)
SERVICE = ServiceRow(
    hostname="a.shop", namespace="shop", ports=("80/HTTP",), clusters={"east": "1/2"}, sources=("east/static",), exported_to=()
)
SNAPSHOT = SnapshotRow(version="v", running="v", parts=1, node="n", cluster="east", workers=(), faults=(), problem="")


class FakeView:
    """Answers with little, and counts how often it was refreshed."""

    def __init__(self):
        self.refreshed = 0
        self.fault = ""

    async def refresh(self):
        self.refreshed += 1

    def ready(self):
        return self.fault

    def services(self):
        return [SERVICE]

    def service(self, hostname):
        return SERVICE if hostname == "a.shop" else None

    def winners(self, hostname):
        return [WinnerRow(field="ports", winner="east/static", reason="oldest", losers=())] if hostname == "a.shop" else None

    def publishers(self):
        return []

    def documents(self):
        return [DOCUMENT]

    def endpoints(self, backend):
        return [] if backend == "none" else [SERVICE]

    def backends(self):
        return []

    routes = listeners = peers = certificates = sources = backends

    def snapshot(self):
        return SNAPSHOT

    def dump(self):
        return b'{"parts":{}}'

    def metrics(self):
        return b"fedgate_x 1\n"


class FakeHands:
    def __init__(self):
        self.reloads = self.left = 0
        self.stands = ""

    def reload(self):
        self.reloads += 1

    async def leave(self):
        if self.stands:
            raise StillPublished(self.stands)
        self.left += 1

    def set_level(self, level):
        if level not in logs.LEVELS:
            raise ValueError(f"log level {level!r} does not exist")


@contextlib.asynccontextmanager
async def running(application, sock=None):
    if sock is None:
        sock = socket.create_server(("127.0.0.1", 0))
    where = sock.getsockname()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, application, sock)
        yield where
        nursery.cancel_scope.cancel()


async def ask(where, path, *, method="GET", host="localhost", body=b""):
    """(status, headers, body)"""
    if isinstance(where, str):
        stream = await trio.open_unix_socket(where)
    else:
        stream = await trio.open_tcp_stream(*where)
    async with stream:
        head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        await stream.send_all(head.encode() + body)
        data = b"".join([chunk async for chunk in stream])
    head, _, content = data.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), dict(field.lower().split(": ", 1) for field in fields), content


async def test_lists_are_items_and_take_a_fresh_reading():
    view = FakeView()
    async with running(app.reading(view)) as where:
        status, fields, body = await ask(where, "/api/v1/config")
        assert (status, fields["content-type"]) == (200, "application/json")
        assert json.loads(body) == {"items": [json.loads(msgspec.json.encode(DOCUMENT))]}
        assert view.refreshed == 1
        assert json.loads((await ask(where, "/api/v1/services"))[2])["items"][0]["exportedTo"] == []
        assert json.loads((await ask(where, "/api/v1/endpoints?backend=none"))[2]) == {"items": []}


async def test_why_a_service_is_as_it_is():
    async with running(app.reading(FakeView())) as where:
        answer = json.loads((await ask(where, "/api/v1/services/a.shop"))[2])
        assert answer["service"]["hostname"] == "a.shop"
        assert answer["why"][0]["reason"] == "oldest"
        status, _, body = await ask(where, "/api/v1/services/b.shop")
        assert status == 404
        assert "no service 'b.shop'" in json.loads(body)["error"]


async def test_the_snapshot_short_and_whole():
    async with running(app.reading(FakeView())) as where:
        assert json.loads((await ask(where, "/api/v1/snapshot"))[2])["version"] == "v"
        assert (await ask(where, "/api/v1/snapshot?full=1"))[2] == b'{"parts":{}}'


async def test_readiness_and_metrics():
    view = FakeView()
    async with running(app.reading(view)) as where:
        assert (await ask(where, "/healthz/ready"))[0] == 200
        view.fault = "no worker is up"
        status, _, body = await ask(where, "/healthz/ready")
        assert (status, body) == (503, b"no worker is up\n")
        status, fields, body = await ask(where, "/metrics")
        assert (status, body) == (200, b"fedgate_x 1\n")
        assert fields["content-type"].startswith("text/plain; version=0.0.4")


async def test_a_rebound_name_is_refused():
    async with running(app.reading(FakeView())) as where:
        status, _, body = await ask(where, "/api/v1/config", host="evil.example")
        assert status == 403
        assert "rebound" in json.loads(body)["error"]


async def test_what_does_not_exist_and_what_is_not_read():
    async with running(app.reading(FakeView())) as where:
        assert (await ask(where, "/nothing"))[0] == 404
        assert (await ask(where, "/api/v1/reload", method="POST"))[0] == 404
        assert (await ask(where, "/api/v1/config", method="POST"))[0] == 405


async def test_writes_are_on_the_unix_socket_which_is_private(tmp_path):
    hands, path = FakeHands(), tmp_path / "admin.sock"
    path.write_text("left by a dead process")
    async with running(app.writing(FakeView(), hands), unix_socket(path)) as where:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await ask(where, "/api/v1/config"))[0] == 200
        assert (await ask(where, "/api/v1/reload", method="POST"))[0] == 202
        assert hands.reloads == 1
        assert (await ask(where, "/api/v1/leave", method="POST"))[0] == 200
        hands.stands = "consul: refused"
        status, body = (await ask(where, "/api/v1/leave", method="POST"))[::2]
        assert (status, json.loads(body)) == (502, {"error": "not taken back: consul: refused"})
        assert hands.left == 1
        assert (await ask(where, "/api/v1/log", method="PUT", body=b'{"level": "debug"}'))[0] == 200
        status, _, body = await ask(where, "/api/v1/log", method="PUT", body=b'{"level": "loud"}')
        assert (status, json.loads(body)) == (400, {"error": "log level 'loud' does not exist"})
        assert (await ask(where, "/api/v1/log", method="PUT", body=b"[]"))[0] == 400
        assert (await ask(where, "/api/v1/log", method="PUT", body=b"x" * 100_000))[0] == 400
        assert "levels" in json.loads((await ask(where, "/api/v1/log"))[2])
