"""Machines that no registry knows register themselves: at the gateway's own socket, and from elsewhere over its TLS port with a token."""

import hashlib
import sys

import pytest
import trio
import trustme
from running import Fedgate, Workloads, document, listening, routes, running, server, to
from running_gateway import until

pytestmark = [pytest.mark.slow]

HOST = "reviews.shop.example"
TOKEN = "fgw_a-token-of-this-test"


def group(gateway, port):
    made = document(
        "WorkloadGroup",
        "reviews",
        {
            "metadata": {"labels": {"app": "reviews"}},
            "template": {"labels": {"class": "vm"}},
            "probe": {"periodSeconds": 1, "failureThreshold": 1, "httpGet": {"path": "/healthz", "port": port}},
        },
    )
    made["metadata"]["annotations"] = {
        "workloads.fedgate.io/token-sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
        "workloads.fedgate.io/networks": "127.0.0.0/8",
    }
    return made


def entry():
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    spec = {"hosts": [HOST], "location": "MESH_INTERNAL", "resolution": "STATIC", "ports": [port]}
    return document("ServiceEntry", "reviews", spec | {"workloadSelector": {"labels": {"app": "reviews"}}})


async def fedgate(*arguments):
    command = [sys.executable, "-P", "-m", "appliance", "workload", *arguments]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, done.stdout.decode() + done.stderr.decode()


async def _text(path):
    return path.read_text() if path.exists() else ""


async def answered(gateway, good):
    await until(lambda: gateway.get(host=HOST), lambda answer: good(answer.status))


async def test_a_workload_registers_is_probed_and_leaves(tmp_path):
    workloads, gateway = Workloads(tmp_path, "vm"), Fedgate(tmp_path)
    gateway.write("shop", group(gateway, workloads.ports["vm"]), entry())
    there = ("--state-dir", str(gateway.state))
    who = ("reviews", "-n", "shop", "--address", workloads.address)
    with running(workloads, gateway):
        await answered(gateway, lambda status: status >= 500)
        status, said = await fedgate("register", *who, "--port", f"http={workloads.ports['vm']}", "--lease", "600", *there)
        assert status == 0, said
        await answered(gateway, lambda status: status == 200)
        await until(lambda: _text(gateway.state / "workloads.json"), lambda text: workloads.address in text)
        gateway.kill()
        gateway.start()
        await trio.to_thread.run_sync(gateway.wait_ready)
        await answered(gateway, lambda status: status == 200)
        workloads.kill()
        await answered(gateway, lambda status: status >= 500)
        await until(lambda: fedgate("list", *there), lambda answer: "down" in answer[1])
        workloads.start()
        await trio.to_thread.run_sync(workloads.wait_ready)
        await answered(gateway, lambda status: status == 200)
        assert (await fedgate("deregister", *who, *there))[0] == 0
        await answered(gateway, lambda status: status >= 500)


async def test_a_lease_that_is_not_renewed_ends(tmp_path):
    workloads, gateway = Workloads(tmp_path, "vm"), Fedgate(tmp_path)
    gateway.write("shop", group(gateway, workloads.ports["vm"]), entry())
    with running(workloads, gateway):
        where = ("reviews", "-n", "shop", "--address", workloads.address, "--port", f"http={workloads.ports['vm']}")
        status, said = await fedgate("register", *where, "--lease", "5", "--state-dir", str(gateway.state))
        assert status == 0, said
        await answered(gateway, lambda status: status == 200)
        await answered(gateway, lambda status: status >= 500)


async def test_another_machine_registers_over_the_gateway_s_tls_port_with_its_token(tmp_path):
    workloads, gateway = Workloads(tmp_path, "vm"), Fedgate(tmp_path)
    authority = trustme.CA()
    leaf = authority.issue_cert(gateway.address)
    leaf.cert_chain_pems[0].write_to_path(str(gateway.folder / "chain.pem"))
    leaf.private_key_pem.write_to_path(str(gateway.folder / "key.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    tls = {"mode": "SIMPLE", "serverCertificate": str(gateway.folder / "chain.pem"), "privateKey": str(gateway.folder / "key.pem")}
    door = document(
        "ServiceEntry",
        "registration",
        {
            "hosts": ["registration.fedgate.internal"],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": f"unix://{gateway.state}/registration.sock"}],
        },
    )
    only = {"match": [{"uri": {"prefix": "/api/v1/workloads/"}}], "route": [to("registration.fedgate.internal")]}
    gateway.write(
        "shop",
        group(gateway, workloads.ports["vm"]),
        entry(),
        door,
        listening("registration", server(gateway, ["*"], tls=tls)),
        routes("registration", ["*"], only, gateways=["registration"]),
    )
    who = ("reviews", "-n", "shop", "--address", workloads.address, "--port", f"http={workloads.ports['vm']}")
    there = ("--gateway", f"https://{gateway.address}:{gateway.secure}", "--ca-file", str(tmp_path / "ca.pem"))
    with running(workloads, gateway):
        status, said = await fedgate("register", *who, *there, "--token-file", str(token))
        assert status == 0, said
        await answered(gateway, lambda status: status == 200)
        token.write_text("fgw_another\n")
        status, said = await fedgate(
            "deregister", "reviews", "-n", "shop", "--address", workloads.address, *there, "--token-file", str(token)
        )
        assert status == 1
        assert "does not register" in said
