"""Signing in at a real Kubernetes API (1.36): the documented role, tokens and certificates that are rotated under a running watch, and
plugins (`exec`) that print what a real server gave and that it later takes back."""

import base64
import datetime
import json
import stat

import pytest
import trio
from peers.kubernetes_talk import MARKS, apply_role, in_thread, said, source_of, upsert_of
from running_gateway import until

from discovery.clients import kubernetes as module
from discovery.clients.kubeconfig import Credentials
from discovery.clients.kubernetes import Kubernetes as Api
from discovery.clients.kubernetes import KubernetesError
from discovery.documents.kubernetes import KubernetesDocuments, KubernetesDocumentsOptions

pytestmark = MARKS


async def test_the_role_of_the_documentation_is_enough_and_rotated_tokens_are_used(kubernetes, tmp_path):
    await in_thread(apply_role, kubernetes)
    await in_thread(kubernetes.service, "roled")
    token = tmp_path / "token"
    token.write_text(await in_thread(kubernetes.token_for, "fedgate", namespace="fedgate"))
    path = kubernetes.kubeconfig("robot", credential={"tokenFile": str(token)})
    source = source_of(kubernetes, kubeconfig=path)
    async with source.watch() as updates:
        first = await said(updates, lambda update: True)
        assert "roled.shop.svc.cluster.local" in {service.hostname for service in first.services}
    documents = KubernetesDocuments(KubernetesDocumentsOptions(kubeconfig=str(path), secrets=("fedgate",)))

    async def errors():
        return documents.documents.value.errors

    async with trio.open_nursery() as nursery:
        await nursery.start(documents.run)
        await until(errors, lambda found: found == ())  # one that has just begun says 429 for a moment
        nursery.cancel_scope.cancel()
    credentials = Credentials(str(path))
    async with Api(credentials) as api:

        async def status():
            try:
                await api.page("/api/v1/services", {})
            except KubernetesError as error:
                return error.status
            return 200

        assert await status() == 200
        token.write_text("of-an-account-that-is-no-more")
        credentials.refused()  # reads at once, instead of within a second
        assert await status() == 401
        token.write_text(await in_thread(kubernetes.token_for, "fedgate", namespace="fedgate"))
        assert await status() == 200  # the refusal had it read again
    await in_thread(kubernetes.delete, "v1", "services", "roled")


async def test_a_rotated_client_certificate_is_used(kubernetes):
    kubernetes.certificate("rotating", "system:masters")
    credentials = Credentials(str(kubernetes.kubeconfig("rotating")))
    async with Api(credentials) as api:
        await api.page("/api/v1/services", {})
        first = (await credentials.login()).tls
        kubernetes.certificate("rotating", "nobody")
        credentials.refused()  # reads at once, instead of within a second
        with pytest.raises(KubernetesError) as caught:
            await api.page("/api/v1/services", {})
        assert caught.value.status == 403
        assert (await credentials.login()).tls is not first


async def status(api):
    """What the API says to a list of all Services."""
    try:
        await api.page("/api/v1/services", {}, limit=1)
    except KubernetesError as error:
        return error.status
    return 200


async def revocable(kubernetes, name):
    """A token that ends when the Secret of this name is deleted."""
    made = await in_thread(kubernetes.create, "v1", "secrets", {"metadata": {"name": name}}, namespace="fedgate")
    bound = {"apiVersion": "v1", "kind": "Secret", "name": name, "uid": made["metadata"]["uid"]}
    return await in_thread(kubernetes.token_for, "fedgate", namespace="fedgate", bound=bound)


async def revoke(kubernetes, name, token):
    """Returns when the server refuses it: it believes what it has just checked for ten seconds."""
    await in_thread(kubernetes.delete, "v1", "secrets", name, namespace="fedgate")
    path = kubernetes.kubeconfig(f"revoked-{name}", credential={"token": token})
    async with Api(Credentials(str(path))) as api:
        await until(lambda: status(api), lambda found: found == 401)


async def test_a_token_file_that_is_rotated_under_a_watch_costs_nothing(kubernetes, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_WATCH", (1, 2))  # seconds: each ends soon, and the next one signs in anew
    await in_thread(apply_role, kubernetes)
    first, file = await revocable(kubernetes, "rotated"), tmp_path / "token"
    file.write_text(first)
    source = source_of(kubernetes, kubeconfig=kubernetes.kubeconfig("watching", credential={"tokenFile": str(file)}))
    async with source.watch() as updates:
        await said(updates, lambda update: True)
        file.write_text(await in_thread(kubernetes.token_for, "fedgate", namespace="fedgate"))
        await revoke(kubernetes, "rotated", first)
        await in_thread(kubernetes.service, "rotated")
        await said(updates, upsert_of("rotated.shop.svc.cluster.local", lambda service: True))
    await in_thread(kubernetes.delete, "v1", "services", "rotated")


# ------------------------------------------------------------------------------------------------------------------ plugins


class Plugin:
    """A credential plugin of a kubeconfig: a script that prints what `gives` was told last."""

    def __init__(self, folder, kubernetes, name):
        self._says, self._runs, self._asked = folder / "credential.json", folder / "runs", folder / "asked.json"
        script = folder / "plugin"
        script.write_text(
            f'#!/bin/sh\necho run >> {self._runs}\nprintf %s "$KUBERNETES_EXEC_INFO" > {self._asked}\ncat {self._says}\n'
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        version = "client.authentication.k8s.io/v1"
        user = {"exec": {"apiVersion": version, "command": str(script), "interactiveMode": "Never", "provideClusterInfo": True}}
        self.kubeconfig = kubernetes.kubeconfig(name, credential=user)

    def gives(self, **status):
        said = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
        self._says.write_text(json.dumps(said))

    @property
    def asked(self):
        """What it was told by KUBERNETES_EXEC_INFO."""
        return json.loads(self._asked.read_text())

    @property
    def runs(self):
        return len(self._runs.read_text().splitlines()) if self._runs.exists() else 0


async def test_a_plugins_token_of_a_service_account(kubernetes, tmp_path):
    await in_thread(apply_role, kubernetes)
    await in_thread(kubernetes.service, "plugged")
    plugin = Plugin(tmp_path, kubernetes, "plugged-token")
    plugin.gives(token=await in_thread(kubernetes.token_for, "fedgate", namespace="fedgate"))
    source = source_of(kubernetes, kubeconfig=plugin.kubeconfig)
    async with source.watch() as updates:
        first = await said(updates, lambda update: True)
    assert "plugged.shop.svc.cluster.local" in {service.hostname for service in first.services}
    assert plugin.runs == 1  # for five collections that are asked for at once
    assert plugin.asked["spec"]["cluster"]["server"] == kubernetes.server
    assert base64.b64decode(plugin.asked["spec"]["cluster"]["certificate-authority-data"]) == kubernetes.ca.cert_pem.bytes()
    await in_thread(kubernetes.delete, "v1", "services", "plugged")


async def test_a_plugins_certificate_and_the_next_one_when_it_ends(kubernetes, tmp_path):
    def certificate(user, group, ends):
        kubernetes.certificate(user, group)
        pem, key = ((kubernetes.folder / f"{user}.{kind}").read_text() for kind in ("pem", "key"))
        plugin.gives(clientCertificateData=pem, clientKeyData=key, expirationTimestamp=ends.strftime("%Y-%m-%dT%H:%M:%SZ"))

    plugin, now = Plugin(tmp_path, kubernetes, "plugged-certificate"), datetime.datetime.now(datetime.UTC)
    certificate("plugged-one", "system:masters", now + datetime.timedelta(seconds=63))  # it is renewed a minute before
    async with Api(Credentials(str(plugin.kubeconfig))) as api:
        assert await status(api) == 200
        assert plugin.runs == 1
        certificate("plugged-two", "nobody", now + datetime.timedelta(hours=1))
        assert await until(lambda: status(api), lambda found: found != 200) == 403  # signed in, as somebody who may not
    assert plugin.runs == 2


async def test_a_plugins_token_that_the_server_takes_back_is_asked_for_anew(kubernetes, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_WATCH", (1, 2))
    await in_thread(apply_role, kubernetes)
    plugin = Plugin(tmp_path, kubernetes, "plugged-again")
    first = await revocable(kubernetes, "taken-back")
    plugin.gives(token=first)  # it tells no end, as a program may that does not know of one
    source = source_of(kubernetes, kubeconfig=plugin.kubeconfig)
    async with source.watch() as updates:
        await said(updates, lambda update: True)
        plugin.gives(token=await in_thread(kubernetes.token_for, "fedgate", namespace="fedgate"))
        await revoke(kubernetes, "taken-back", first)

        async def runs():
            return plugin.runs

        await until(runs, lambda count: count > 1)  # watches that were begun before go on to their end
        await in_thread(kubernetes.service, "again")
        await said(updates, upsert_of("again.shop.svc.cluster.local", lambda service: True))
    assert plugin.runs == 2  # every watch was refused, and one of them asked
    await in_thread(kubernetes.delete, "v1", "services", "again")


async def test_a_plugin_without_a_credential_is_told_apart_from_a_server_that_refuses_one(kubernetes, tmp_path):
    plugin = Plugin(tmp_path, kubernetes, "plugged-badly")
    plugin.gives(token="of-nobody")
    async with Api(Credentials(str(plugin.kubeconfig))) as api:
        assert await status(api) == 401
    assert plugin.runs == 2  # a refused one is asked for once more
