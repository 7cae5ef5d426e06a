"""Logins: from a kubeconfig, as a Pod, by a plugin; rotated, broken, and never printed."""

import base64
import json
import os
import sys

import pytest
import trio
import trustme

from discovery.clients import kubeconfig as module
from discovery.clients.kubeconfig import Credentials, CredentialsError

CA = trustme.CA()
LEAF = CA.issue_cert("client.test", common_name="me")
SERVER = "https://10.0.0.1:6443"


def write(folder, *, cluster=None, user=None, context=None, **fields):
    path = folder / "config"
    written = {
        "current-context": "it",
        "clusters": [{"name": "c", "cluster": {"server": SERVER, **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "it", "context": {"cluster": "c", "user": "u", "namespace": "shop", **(context or {})}}],
        **fields,
    }
    path.write_text(json.dumps(written))
    return path


def encoded(blob):
    return base64.b64encode(blob).decode()


def pem():
    return b"".join(blob.bytes() for blob in LEAF.cert_chain_pems)


async def test_a_token_and_a_ca_in_the_file(tmp_path):
    path = write(tmp_path, cluster={"certificate-authority-data": encoded(CA.cert_pem.bytes())}, user={"token": "hush"})
    login = await Credentials(str(path)).login()
    assert (login.server, login.token, login.namespace) == (SERVER, "hush", "shop")
    assert login.tls.context.get_ca_certs()
    assert "hush" not in repr(login)


async def test_files_are_relative_to_the_kubeconfig_and_read_anew_when_they_change(tmp_path, autojump_clock):
    CA.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "me.pem").write_bytes(pem())
    (tmp_path / "me.key").write_bytes(LEAF.private_key_pem.bytes())
    (tmp_path / "token").write_text("one\n")
    user = {"tokenFile": "token", "client-certificate": "me.pem", "client-key": "me.key"}
    credentials = Credentials(str(write(tmp_path, cluster={"certificate-authority": "ca.pem"}, user=user)))
    first = await credentials.login()
    (tmp_path / "token").write_text("two\n")
    assert (await credentials.login()).token == "one"  # within the second
    await trio.sleep(1.1)
    second = await credentials.login()
    assert second.token == "two"
    assert second.tls is first.tls  # its connections may stay
    other = CA.issue_cert("client.test", common_name="me")
    (tmp_path / "me.pem").write_bytes(b"".join(blob.bytes() for blob in other.cert_chain_pems))
    (tmp_path / "me.key").write_bytes(other.private_key_pem.bytes())
    credentials.refused()
    assert (await credentials.login()).tls is not first.tls


async def test_a_file_that_is_being_replaced_leaves_the_last_good_login(tmp_path, autojump_clock):
    (tmp_path / "token").write_text("one")
    credentials = Credentials(str(write(tmp_path, user={"tokenFile": "token"})))
    await credentials.login()
    (tmp_path / "token").unlink()
    await trio.sleep(2)
    assert (await credentials.login()).token == "one"


async def test_the_pod_that_we_run_in(tmp_path):
    (tmp_path / "ca.crt").write_bytes(CA.cert_pem.bytes())
    (tmp_path / "token").write_text("mine")
    (tmp_path / "namespace").write_text("fedgate")
    where = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    login = await Credentials(environment=where, service_account=str(tmp_path)).login()
    assert (login.server, login.token, login.namespace) == ("https://[fd00::1]:6443", "mine", "fedgate")


async def test_a_kubeconfig_that_is_written_comes_before_the_pod(tmp_path):
    (tmp_path / "token").write_text("mine")
    path = write(tmp_path, user={"token": "written"})
    where = {"KUBERNETES_SERVICE_HOST": "10.0.0.9"}
    assert (await Credentials(str(path), environment=where, service_account=str(tmp_path)).login()).token == "written"
    assert (await Credentials(environment={"KUBECONFIG": f"{path}{os.pathsep}/other"}).login()).token == "written"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cluster": {"server": "10.0.0.1"}}, "is no URL"),
        ({"user": {"as": "admin"}}, "impersonates"),
        ({"user": {"username": "me"}}, "gave up"),
        ({"user": {"auth-provider": {"name": "gcp"}}}, "gave up"),
        ({"cluster": {"server": "http://10.0.0.1"}, "user": {"token": "hush"}}, "show the token"),
        ({"cluster": {"certificate-authority-data": "%%"}}, "not base64"),
        ({"cluster": {"certificate-authority-data": encoded(b"no")}}, "no PEM"),
        ({"user": {"client-certificate-data": encoded(b"no"), "client-key-data": encoded(b"hush")}}, "no PEM"),
        ({"user": {"token": ["hush"]}}, "Expected `str`"),
        ({"user": {"tokenFile": "missing"}}, "cannot be read"),
        ({"context": {"cluster": "nowhere"}}, "no cluster named `nowhere`; known: c"),
        ({"current-context": ""}, "no current-context"),
        ({"contexts": None}, "no context named `it`; known: none"),
    ],
)
async def test_what_is_wrong_is_said_without_secrets(tmp_path, changes, words):
    with pytest.raises(CredentialsError, match=words) as caught:
        await Credentials(str(write(tmp_path, **changes))).login()
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [("a: [", "is not YAML"), ("- a", "is no kubeconfig")])
async def test_what_is_no_kubeconfig(tmp_path, text, words):
    (tmp_path / "config").write_text(text)
    with pytest.raises(CredentialsError, match=words):
        await Credentials(str(tmp_path / "config")).login()


async def test_a_missing_kubeconfig_says_where(tmp_path):
    with pytest.raises(CredentialsError, match="nowhere cannot be read"):
        await Credentials(str(tmp_path / "nowhere")).login()


async def test_a_server_is_not_verified_only_where_the_kubeconfig_says_so(tmp_path):
    path = write(tmp_path, cluster={"insecure-skip-tls-verify": True})
    context = (await Credentials(str(path)).login()).tls.context
    assert (context.check_hostname, context.verify_mode.name) == (False, "CERT_NONE")
    context = (await Credentials(str(write(tmp_path))).login()).tls.context
    assert (context.check_hostname, context.verify_mode.name) == (True, "CERT_REQUIRED")


# ------------------------------------------------------------------------------------------------------------- plugins


def plugin(folder, code, **fields):
    script = folder / "plugin.py"
    script.write_text(f"import json, os, sys\n{code}\n")
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": [str(script)], **fields}}


COUNTING = """
count = open(sys.argv[0] + ".count", "a+"); count.write("x"); count.seek(0)
said = {"token": f"hush-{len(count.read())}", "expirationTimestamp": os.environ["UNTIL"]}
print(json.dumps({"kind": "ExecCredential", "status": said}))
"""


@pytest.mark.slow
async def test_a_plugin_is_asked_again_when_its_token_ends_or_is_refused(tmp_path):
    user = plugin(tmp_path, COUNTING, env=[{"name": "UNTIL", "value": "2999-01-01T00:00:00Z"}])
    credentials = Credentials(str(write(tmp_path, user=user)))
    assert (await credentials.login()).token == "hush-1"
    credentials._read_at = float("-inf")
    assert (await credentials.login()).token == "hush-1"
    credentials.refused()
    assert (await credentials.login()).token == "hush-2"
    user = plugin(tmp_path, COUNTING, env=[{"name": "UNTIL", "value": "2000-01-01T00:00:00Z"}])
    credentials = Credentials(str(write(tmp_path, user=user)))
    assert [(await credentials.login()).token for _ in range(2)] == ["hush-3", "hush-3"]  # not for every request
    credentials._read_at = float("-inf")  # as if a second had passed
    assert (await credentials.login()).token == "hush-4"


@pytest.mark.slow
async def test_a_plugin_is_run_once_for_all_who_ask_and_for_all_who_were_refused(tmp_path):
    user = plugin(tmp_path, COUNTING, env=[{"name": "UNTIL", "value": "2999-01-01T00:00:00Z"}])
    credentials = Credentials(str(write(tmp_path, user=user)))
    tokens = []

    async def ask(refused=None):
        if refused is not None:
            credentials.refused(refused)
        tokens.append((await credentials.login()).token)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert tokens == ["hush-1"] * 5
    first = await credentials.login()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask, first)
    await ask(first)  # the last one hears of it when the next token is there
    assert tokens[5:] == ["hush-2"] * 6


@pytest.mark.parametrize("text", ["hush\nhush", "hush hush", "h\u00fcsh", "hush\0"])
async def test_a_token_that_cannot_be_sent_is_refused_before_anybody_quotes_it(tmp_path, text):
    (tmp_path / "token").write_text(text)
    with pytest.raises(CredentialsError, match="write the token alone") as caught:
        await Credentials(str(write(tmp_path, user={"tokenFile": "token"}))).login()
    assert "hush" not in str(caught.value)


@pytest.mark.slow
async def test_a_plugin_is_told_of_the_cluster_and_may_give_a_certificate(tmp_path):
    said = {"clientCertificateData": pem().decode(), "clientKeyData": LEAF.private_key_pem.bytes().decode()}
    code = f"""
spec = json.loads(os.environ["KUBERNETES_EXEC_INFO"])["spec"]
assert spec["interactive"] is False and spec["cluster"]["server"] == {SERVER!r}
print(json.dumps({{"kind": "ExecCredential", "status": {said!r}}}))
"""
    login = await Credentials(str(write(tmp_path, user=plugin(tmp_path, code, provideClusterInfo=True)))).login()
    assert login.tls.certificate
    assert "certificate" in repr(login)


@pytest.mark.parametrize(
    ("code", "fields", "words"),
    [
        ("sys.exit('hush')", {}, "exit status 1"),
        ("print('hush')", {}, "no ExecCredential"),
        ("print(json.dumps({'kind': 'ExecCredential', 'status': {}}))", {}, "neither a token"),
        ("while True: print('hush' * 10_000)", {}, "more than 1 MiB"),
        ("", {"command": "no-such-plugin"}, "cannot be run"),
        ("", {"interactiveMode": "Always"}, "terminal"),
        ("", {"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "is not known"),
    ],
)
async def test_a_plugin_that_gives_nothing_says_why_and_prints_nothing(tmp_path, code, fields, words):
    with pytest.raises(CredentialsError, match=words) as caught:
        await Credentials(str(write(tmp_path, user=plugin(tmp_path, code, **fields)))).login()
    assert "hush" not in str(caught.value)


@pytest.mark.slow
async def test_a_plugin_that_hangs_is_ended(tmp_path, monkeypatch):
    from discovery.clients import kube_exec

    monkeypatch.setattr(kube_exec, "_WITHIN", 0.2)
    with pytest.raises(CredentialsError, match="no credential within"), trio.fail_after(10):
        await Credentials(
            str(write(tmp_path, user=plugin(tmp_path, "sys.stdout.flush(); import select; select.select([], [], [])")))
        ).login()


def test_where_every_pod_finds_its_account():
    assert module.SERVICE_ACCOUNT == "/var/run/secrets/kubernetes.io/serviceaccount"
