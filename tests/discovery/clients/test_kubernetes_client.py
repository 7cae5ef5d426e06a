"""The Kubernetes client against an API in memory: refusals in words, tokens that are renewed, certificates that are rotated, watches."""

import gzip
import ssl

import httpx2
import kube_api
import pytest
import trio
import trustme
from kube_api import SERVICES, KubeApi

from discovery.clients import kubernetes as module
from discovery.clients.kubeconfig import Credentials
from discovery.clients.kubernetes import Kubernetes, KubernetesError


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def server_tls(authority, *, clients=False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "api.test").configure_cert(context)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    return context


async def api_of(nursery, tmp_path, api=None, *, tls=None, user=None, **cluster):
    api = api or KubeApi()
    server = await nursery.start(lambda task_status: api.serve(tls=tls, task_status=task_status))
    return api, Credentials(kube_api.kubeconfig(tmp_path, server, user=user, cluster=cluster))


def names(events):
    return [(event.type, event.object) for event in events]


async def test_lists_come_in_pages(nursery, tmp_path):
    api, credentials = await api_of(nursery, tmp_path)
    for name in "abc":
        api.put(SERVICES, kube_api.service(name))
    async with Kubernetes(credentials) as client:
        page = await client.page(SERVICES, {}, limit=2)
        assert len(page.items) == 2
        rest = await client.page(SERVICES, {}, limit=2, after=page.metadata.next)
        assert (len(rest.items), rest.metadata.next) == (1, "")
    nursery.cancel_scope.cancel()


async def test_a_refusal_says_what_the_server_said_and_where(nursery, tmp_path):
    api, credentials = await api_of(nursery, tmp_path)
    api.refusals[SERVICES] = (403, "Forbidden")
    async with Kubernetes(credentials) as client:
        with pytest.raises(KubernetesError, match=r"GET /api/v1/services: 403 the test said Forbidden") as caught:
            await client.page(SERVICES, {})
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")
    nursery.cancel_scope.cancel()


async def test_a_refused_token_is_read_anew_once(nursery, tmp_path, authority):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "token").write_text("old")
    tls = server_tls(authority)
    user = {"tokenFile": "token"}
    api, credentials = await api_of(nursery, tmp_path, tls=tls, user=user, **{"certificate-authority": "ca.pem"})
    async with Kubernetes(credentials) as client:
        await client.page(SERVICES, {})
        api.tokens = {"new"}
        (tmp_path / "token").write_text("new")
        await client.page(SERVICES, {})
        assert [authorization for *_, authorization in api.requests] == ["Bearer old", "Bearer old", "Bearer new"]
        api.tokens = {"newer"}
        with pytest.raises(KubernetesError) as caught:
            await client.page(SERVICES, {})
        assert caught.value.status == 401
        assert "new" not in repr(client)
    nursery.cancel_scope.cancel()


async def test_a_rotated_certificate_takes_new_connections_and_leaves_watches_alone(nursery, tmp_path, authority):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    def rotate():
        leaf = authority.issue_cert("me.test", common_name="me")
        leaf.private_key_pem.write_to_path(tmp_path / "me.key")
        (tmp_path / "me.pem").write_bytes(leaf.cert_chain_pems[0].bytes())

    rotate()
    user = {"client-certificate": "me.pem", "client-key": "me.key"}
    tls = server_tls(authority, clients=True)
    api, credentials = await api_of(nursery, tmp_path, tls=tls, user=user, **{"certificate-authority": "ca.pem"})
    seen, begun = trio.Event(), trio.Event()
    async with Kubernetes(credentials) as client, trio.open_nursery() as watching:

        async def watch():
            await client.watch(SERVICES, {}, "0", lambda event: seen.set(), begun=begun.set)

        watching.start_soon(watch)
        await begun.wait()
        await client.page(SERVICES, {})
        before = len(api._streams)
        rotate()
        credentials.refused()
        await client.page(SERVICES, {})
        assert len(api._streams) == before + 1
        api.put(SERVICES, kube_api.service("a"))
        with trio.fail_after(5):
            await seen.wait()
        api.end_watches()
    nursery.cancel_scope.cancel()


async def test_the_name_of_the_certificate_may_be_said(nursery, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.test").configure_cert(context)
    cluster = {"certificate-authority": "ca.pem", "tls-server-name": "api.test"}
    _, credentials = await api_of(nursery, tmp_path, tls=context, **cluster)
    async with Kubernetes(credentials) as client:
        assert (await client.page(SERVICES, {})).items == []
        assert await client.namespace() == "shop"
    nursery.cancel_scope.cancel()


async def test_another_authoritys_server_is_not_spoken_to(nursery, tmp_path, authority):
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = server_tls(authority)
    api, credentials = await api_of(nursery, tmp_path, tls=tls, user={"token": "hush"}, **{"certificate-authority": "ca.pem"})
    async with Kubernetes(credentials) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.page(SERVICES, {})
    assert api.requests == []
    nursery.cancel_scope.cancel()


async def test_groups_and_their_contents(nursery, tmp_path):
    api, credentials = await api_of(nursery, tmp_path)
    api.groups["a.example"] = ["v2", "v1"]
    api.contents["/apis/a.example/v2"] = [{"name": "things", "kind": "Thing", "namespaced": True, "verbs": ["list"]}]
    async with Kubernetes(credentials) as client:
        assert await client.versions("a.example") == ("v2", "v1")
        assert await client.versions("b.example") == ()
        assert [each.kind for each in await client.resources("/apis/a.example/v2")] == ["Thing"]
        api.refusals["/apis/a.example"] = (500, "InternalError")
        with pytest.raises(KubernetesError):
            await client.versions("a.example")
    nursery.cancel_scope.cancel()


async def test_an_error_in_a_watch_is_raised(nursery, tmp_path):
    api, credentials = await api_of(nursery, tmp_path)
    api.error(SERVICES, 410, "Expired")
    async with Kubernetes(credentials) as client:
        with pytest.raises(KubernetesError, match="said Expired") as caught, trio.fail_after(5):
            await client.watch(SERVICES, {}, "0", lambda event: None, begun=lambda: None)
    assert caught.value.status == 410
    nursery.cancel_scope.cancel()


async def test_a_watch_that_says_nothing_is_ended_from_this_side(nursery, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SILENCE", 0.05)
    _, credentials = await api_of(nursery, tmp_path)
    async with Kubernetes(credentials) as client:
        with trio.fail_after(5):
            await client.watch(SERVICES, {}, "0", lambda event: None, begun=lambda: None)
    nursery.cancel_scope.cancel()


async def test_an_answer_without_end_is_cut(nursery, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    api, credentials = await api_of(nursery, tmp_path)
    api.put(SERVICES, kube_api.service("a", labels={"long": "x" * 2000}))
    async with Kubernetes(credentials) as client:
        with pytest.raises(KubernetesError, match="more than"):
            await client.page(SERVICES, {})
    nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------ answers that are no answers


@pytest.fixture
async def says(nursery, tmp_path):
    """A server that answers every request so; its credentials."""

    async def begin(body, *headers):
        async def serve(stream):
            async with stream:
                await stream.receive_some()
                lines = (b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), b"connection: close", *headers)
                await stream.send_all(b"\r\n".join(lines) + b"\r\n\r\n" + body)

        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        return Credentials(kube_api.kubeconfig(tmp_path, f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"))

    yield begin
    nursery.cancel_scope.cancel()


PACKED = b"content-encoding: gzip"


@pytest.mark.parametrize("headers", [(), (PACKED,)])
@pytest.mark.parametrize("body", [b"<html>log in</html>", b"[1]", b'{"items": 5}', b'{"items": [{}', b""])
async def test_what_is_no_answer_of_a_kubernetes_api_is_said(says, body, headers):
    credentials = await says(gzip.compress(body) if headers else body, *headers)
    async with Kubernetes(credentials) as client:
        for asking in (client.page(SERVICES, {}), client.versions("a.example"), client.resources("/apis/a.example/v1")):
            if body == b'{"items": 5}' and asking.__name__ != "page":
                asking.close()  # a group without versions, a table without lines
                continue
            with pytest.raises(KubernetesError, match="none of a Kubernetes API") as caught:
                await asking
            assert caught.value.status == 0


async def test_lists_may_come_packed(says):
    async with Kubernetes(await says(gzip.compress(b'{"items": [{"a": 1}]}'), PACKED)) as client:
        assert [bytes(each) for each in (await client.page(SERVICES, {})).items] == [b'{"a": 1}']


@pytest.mark.parametrize("header", [PACKED, b"content-encoding: br"])
async def test_what_cannot_be_unpacked_is_said(says, header):
    async with Kubernetes(await says(b'{"items": []}', header)) as client:
        with pytest.raises(KubernetesError, match="its body is"):
            await client.page(SERVICES, {})


async def test_what_unpacks_without_end_is_cut(says, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    async with Kubernetes(await says(gzip.compress(b" " * 100_000), PACKED)) as client:
        with pytest.raises(KubernetesError, match="more than"):
            await client.page(SERVICES, {})


@pytest.mark.parametrize("event", [b'{"type": "ERROR", "object": 5}', b'{"type": "ADDED"}', b"HTTP/1.1 400 Bad Request"])
async def test_a_watch_of_something_else_is_said(says, event):
    async with Kubernetes(await says(event + b"\n")) as client:
        with pytest.raises(KubernetesError, match="is it a Kubernetes API"):
            await client.watch(SERVICES, {}, "0", lambda event: None, begun=lambda: None)


def test_lines_are_cut_wherever_the_pieces_end():
    whole = b'{"a":1}\n\n{"b":2}\n{"c":3}\n'
    for size in range(1, len(whole) + 1):
        lines = module._Lines()
        found = [line for start in range(0, len(whole), size) for line in lines.add(whole[start : start + size])]
        assert found == [b'{"a":1}', b'{"b":2}', b'{"c":3}']


def test_an_event_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 10)
    lines = module._Lines()
    lines.add(b"12345")
    with pytest.raises(KubernetesError, match="larger"):
        lines.add(b"678901")


def test_what_is_no_event_says_so():
    with pytest.raises(KubernetesError, match="is it a Kubernetes API"):
        module._event(b"<html>")
