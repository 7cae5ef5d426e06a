"""Registration over HTTP, and `fedgate workload`, on real unix sockets and over TLS."""

import hashlib
import json
import signal
import socket
import stat
import subprocess
import sys

import h11
import pytest
import trio
import trustme
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from running_gateway import until
from starlette.applications import Starlette
from workload_groups import group_document

from appliance.admin.server import serve, unix_socket
from appliance.admin.workloads import registration, routes
from federation.workloads.office import Office

TOKEN = "fgw_secret"
SUM = hashlib.sha256(TOKEN.encode()).hexdigest()


@pytest.fixture
async def office(nursery, tmp_path):
    made = Office(tmp_path)
    made.agree([group_document(sums=[SUM]), group_document("closed")])
    await nursery.start(made.run)
    yield made
    nursery.cancel_scope.cancel()


async def ask(path, method, target, body=None, **headers):
    """(status, JSON) over a unix socket."""
    client = h11.Connection(h11.CLIENT)
    data = b"" if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
    stream = await trio.open_unix_socket(str(path))
    async with stream:
        head = [("host", "x"), ("content-length", str(len(data))), *((k.replace("_", "-"), v) for k, v in headers.items())]
        await stream.send_all(client.send(h11.Request(method=method, target=target, headers=head)) + client.send(h11.Data(data)))
        status, answer = 0, b""
        while True:
            event = client.next_event()
            if event is h11.NEED_DATA:
                client.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                answer += bytes(event.data)
            else:
                return status, json.loads(answer) if answer.startswith(b"{") else answer


async def test_the_administrator_registers_sees_and_takes_out(nursery, office, tmp_path):
    nursery.start_soon(serve, Starlette(routes=routes(office)), unix_socket(tmp_path / "admin.sock"))
    where = "/api/v1/workloads/shop/closed/10.0.0.7"
    status, row = await ask(tmp_path / "admin.sock", "PUT", where, {"ports": {"http": 8080}, "lease": 60})
    assert (status, row["state"], row["address"]) == (200, "up", "10.0.0.7")
    status, rows = await ask(tmp_path / "admin.sock", "GET", "/api/v1/workloads")
    assert [each["group"] for each in rows["items"]] == ["closed"]
    assert (await ask(tmp_path / "admin.sock", "DELETE", where))[0] == 200
    assert (await ask(tmp_path / "admin.sock", "DELETE", where))[0] == 404


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "no claim"),
        ({"port": 1}, 400, "port"),
        ({"ports": {"a": 0}}, 400, "ports.a"),
        (b'"' + b"x" * 70_000 + b'"', 400, "longer"),
    ],
)
async def test_claims_that_are_wrong(nursery, office, tmp_path, body, status, words):
    nursery.start_soon(serve, Starlette(routes=routes(office)), unix_socket(tmp_path / "admin.sock"))
    answered, said = await ask(tmp_path / "admin.sock", "PUT", "/api/v1/workloads/shop/reviews/10.0.0.7", body)
    assert answered == status
    assert words in said["error"]
    assert office.rows() == ()


async def test_other_machines_need_the_token_of_that_group(nursery, office, tmp_path):
    door = tmp_path / "registration.sock"
    nursery.start_soon(serve, registration(office), unix_socket(door))
    where = "/api/v1/workloads/shop/{}/10.0.0.7"
    refused = [
        await ask(door, "PUT", where.format("reviews"), {}),
        await ask(door, "PUT", where.format("reviews"), {}, authorization="Bearer other"),
        await ask(door, "PUT", where.format("reviews"), {}, authorization=f"Basic {TOKEN}"),
        await ask(door, "DELETE", where.format("reviews"), {}),
    ]
    assert {status for status, _ in refused} == {403}
    for group in ("closed", "missing"):
        status, said = await ask(door, "PUT", where.format(group), {}, authorization=f"Bearer {TOKEN}")
        assert (status, said["error"]) == (403, f"this token does not register workloads of shop/{group}")
    assert office.rows() == ()
    assert (await ask(door, "PUT", where.format("reviews"), {}, authorization=f"Bearer {TOKEN}"))[0] == 200
    assert (await ask(door, "GET", where.format("reviews"), authorization=f"Bearer {TOKEN}"))[0] == 405
    assert (await ask(door, "DELETE", where.format("reviews"), authorization=f"Bearer {TOKEN}"))[0] == 200


async def test_self_is_the_client_that_the_gateway_saw(nursery, office, tmp_path):
    door = tmp_path / "registration.sock"
    nursery.start_soon(serve, registration(office), unix_socket(door))
    where = "/api/v1/workloads/shop/reviews/self"
    bearer = f"Bearer {TOKEN}"
    status, row = await ask(door, "PUT", where, {}, authorization=bearer, x_forwarded_for="6.6.6.6, 10.0.0.9")
    assert (status, row["address"]) == (200, "10.0.0.9")
    assert (await ask(door, "PUT", where, {}, authorization=bearer))[0] == 400


async def test_other_machines_do_not_lead_back_to_this_one(nursery, office, tmp_path):
    """Else the gateway would be a way to what only it can reach, its own admin port among it."""
    nursery.start_soon(serve, registration(office), unix_socket(tmp_path / "registration.sock"))
    nursery.start_soon(serve, Starlette(routes=routes(office)), unix_socket(tmp_path / "admin.sock"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))
        mine = sock.getsockname()[0]  # where this machine has a route out, its address there; nothing is sent
    for address in ("127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "self", mine):
        where = f"/api/v1/workloads/shop/reviews/{address}"
        how = {"authorization": f"Bearer {TOKEN}", "x_forwarded_for": "127.0.0.1"}
        status, said = await ask(tmp_path / "registration.sock", "PUT", where, {"ports": {"http": 15000}}, **how)
        assert (status, "own machine" in said["error"]) == (403, True)
    status, said = await ask(
        tmp_path / "registration.sock", "PUT", "/api/v1/workloads/shop/reviews/10.0.0.7", {"labels": {"app": "payments"}}, **how
    )
    assert (status, "labels.app" in said["error"]) == (403, True)
    assert office.rows() == ()
    assert (await ask(tmp_path / "admin.sock", "PUT", "/api/v1/workloads/shop/reviews/127.0.0.1", {}))[0] == 200


# ------------------------------------------------------------------------------------------------------- the command


def command(*arguments):
    return [sys.executable, "-P", "-m", "appliance", "workload", *arguments]


async def fedgate(*arguments):
    done = await trio.run_process(command(*arguments), capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, done.stdout.decode() + done.stderr.decode()


@pytest.mark.slow
async def test_the_command_on_the_gateway_s_machine(nursery, office, tmp_path):
    nursery.start_soon(serve, Starlette(routes=routes(office)), unix_socket(tmp_path / "admin.sock"))
    there = ("--state-dir", str(tmp_path))
    register = (
        "register",
        "closed",
        "-n",
        "shop",
        "--address",
        "10.0.0.7",
        "--port",
        "http=8080",
        "--label",
        "a=b",
        "--locality",
        "eu",
    )
    status, said = await fedgate(*register, *there)
    assert (status, said) == (0, "shop/closed 10.0.0.7: registered, up\n")
    (document,) = office.documents.value.documents
    assert document.content["spec"]["ports"] == {"http": 8080}
    assert document.content["spec"]["labels"] == {"app": "reviews", "a": "b"}
    assert "10.0.0.7" in (await fedgate("list", *there))[1]
    assert (await fedgate("deregister", "closed", "-n", "shop", "--address", "10.0.0.7", *there))[0] == 0
    assert office.rows() == ()
    status, said = await fedgate("register", "missing", "-n", "shop", "--address", "10.0.0.7", *there)
    assert status == 1
    assert "no WorkloadGroup shop/missing" in said


@pytest.mark.slow
async def test_a_workload_that_keeps_itself_registered_leaves_in_order(nursery, office, tmp_path):
    nursery.start_soon(serve, Starlette(routes=routes(office)), unix_socket(tmp_path / "admin.sock"))
    arguments = (
        "register",
        "closed",
        "-n",
        "shop",
        "--address",
        "10.0.0.7",
        "--lease",
        "5",
        "--keep",
        "--state-dir",
        str(tmp_path),
    )

    async def renewed():
        return office.desk.registered["shop", "closed", "10.0.0.7"].expires

    process = await trio.lowlevel.open_process(command(*arguments), stdout=subprocess.DEVNULL)
    try:
        with trio.fail_after(30):
            seen, _ = await office.documents.newer_than(0)
            first = await renewed()
            await until(renewed, lambda expires: expires != first)
            process.send_signal(signal.SIGTERM)
            await office.documents.newer_than(seen)
            await process.wait()
    finally:
        process.kill()
    assert office.rows() == ()


@pytest.mark.slow
async def test_the_command_on_another_machine_speaks_tls_with_its_token(nursery, office, tmp_path):
    token = tmp_path / "token"
    status, said = await fedgate("token", str(token))
    assert status == 0
    made = token.read_text().strip()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert hashlib.sha256(made.encode()).hexdigest() in said
    assert (await fedgate("token", str(token)))[0] == 1
    office.agree([group_document(sums=[hashlib.sha256(made.encode()).hexdigest()])])
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    leaf.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "leaf.pem"))
    config = Config()
    config.certfile = config.keyfile = str(tmp_path / "leaf.pem")
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    (url,) = await nursery.start(lambda *, task_status: hypercorn_serve(registration(office), config, task_status=task_status))
    there = ("--gateway", url, "--token-file", str(token), "--ca-file", str(tmp_path / "ca.pem"))
    assert (await fedgate("register", "reviews", "-n", "shop", "--address", "10.0.0.7", *there))[0] == 0
    assert len(office.rows()) == 1
    status, said = await fedgate("register", "closed", "-n", "shop", "--address", "10.0.0.7", *there)
    assert status == 1
    assert made not in said
    status, said = await fedgate("register", "reviews", "--gateway", url.replace("https", "http"), "--token-file", str(token))
    assert status == 1
    assert "https" in said
