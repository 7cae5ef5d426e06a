"""The OpenStack client with the real openstacksdk: credentials from files, rotation, faults that name no secret."""

import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
import trio
from cloud import Cloud

from discovery.clients import openstack as module
from discovery.clients.cloud_reader import CloudReader
from discovery.clients.openstack import CloudAccess, CloudError, OpenStackClient
from discovery.octavia import LoadBalancer

pytestmark = [
    pytest.mark.slow,  # the SDK alone takes a second to import
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # the SDK uses what it deprecates
]
CLOUDS = """
clouds:
  mine:
    auth_type: v3applicationcredential
    region_name: R1
    auth: {{auth_url: {url}/identity/v3, application_credential_id: gateway, application_credential_secret: {secret}}}
"""


@pytest.fixture
def cloud():
    cloud = Cloud()
    yield cloud
    cloud.close()


def write(cloud, folder, secret="s3cret-of-the-credential"):
    (folder / "clouds.yaml").write_text(CLOUDS.format(url=cloud.url, secret=secret))
    return CloudAccess(cloud="mine", file=str(folder / "clouds.yaml"))


async def test_a_cloud_of_clouds_yaml_is_whose_project_it_is(cloud, tmp_path):
    client = OpenStackClient(write(cloud, tmp_path))
    project = await client.project()
    assert (project.id, project.name, project.region) == ("p1", "shop", "R1")
    client.close()


async def test_a_file_that_changes_is_read_anew_and_one_that_does_not_keeps_its_token(cloud, tmp_path):
    client = OpenStackClient(write(cloud, tmp_path))
    for _ in range(3):
        assert (await client.project()).name == "shop"
    assert len(cloud.bodies) == 1
    cloud.credentials["gateway"] = "s3cret-that-is-new"
    cloud.project = ("p2", "other")
    assert (await client.project()).name == "shop"
    write(cloud, tmp_path, "s3cret-that-is-new")
    assert (await client.project()).name == "other"
    assert len(cloud.bodies) == 2
    client.close()


async def test_the_secret_may_stand_in_secure_yaml(cloud, tmp_path):
    access = write(cloud, tmp_path, "nothing")
    client = OpenStackClient(access)
    with pytest.raises(CloudError, match="401"):
        await client.project()
    secure = "clouds: {mine: {auth: {application_credential_secret: s3cret-of-the-credential}}}"
    (tmp_path / "secure.yaml").write_text(secure)
    assert (await client.project()).name == "shop"
    client.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clouds:\n  mine:\n    auth: {password: s3cret", r"no YAML.*line 3"),
        ("clouds: {mine: {password: '\x00s3cret'}}", "no YAML"),
        ("clouds: {other: {auth: {password: s3cret}}}", "cannot use the credentials of cloud mine"),
        ("[s3cret]", "cannot use the credentials of cloud mine"),
        ("clouds: {mine: {auth_type: password, auth: {password: s3cret}}}", "auth_url"),
    ],
)
async def test_a_file_that_is_wrong_is_told_without_what_is_in_it(cloud, tmp_path, caplog, text, words):
    caplog.set_level(logging.DEBUG)
    access = write(cloud, tmp_path)
    (tmp_path / "clouds.yaml").write_text(text)
    with pytest.raises(CloudError, match=words) as raised:
        await OpenStackClient(access).project()
    assert "s3cret" not in caplog.text + str(raised.value) + repr(raised.value.__context__)


async def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(CloudError, match=r"clouds\.yaml cannot be read"):
        await OpenStackClient(CloudAccess(cloud="mine", file=str(tmp_path / "clouds.yaml"))).project()
    access = CloudAccess(auth_url="http://127.0.0.1:1/v3", credential="x", secret_file=str(tmp_path / "secret"))
    with pytest.raises(CloudError, match=r"secret cannot be read from .*FileNotFoundError"):
        await OpenStackClient(access).project()


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"loadbalancers": {}},
        {"loadbalancers": [{"name": "x"}]},
        "text",
        {"loadbalancers": [{"id": "a"}], "loadbalancers_links": [5]},
        {"loadbalancers": [{"id": "a"}], "links": "x"},
        {"loadbalancers": [{"id": "a"}], "links": [{"rel": "next"}]},
        {"loadbalancers": [{"id": "a"}], "links": {"next": "http://[x"}},
    ],
)
async def test_an_answer_that_is_no_listing_is_a_fault_of_the_cloud(cloud, tmp_path, answer):
    cloud._list = lambda *_: answer
    with pytest.raises(CloudError, match="no listing of loadbalancers"):
        await OpenStackClient(write(cloud, tmp_path)).listing(
            "load_balancer", "/lbaas/loadbalancers", "loadbalancers", LoadBalancer
        )


async def test_a_listing_without_end_is_left(cloud, tmp_path):
    cloud.put("loadbalancers", id="a", name="a")
    link = {"rel": "next", "href": "http://x/?marker=a"}
    cloud._list = lambda *_: {"loadbalancers": [{"id": "a"}], "loadbalancers_links": [link]}
    with pytest.raises(CloudError, match="without end"):
        await OpenStackClient(write(cloud, tmp_path)).listing(
            "load_balancer", "/lbaas/loadbalancers", "loadbalancers", LoadBalancer
        )


async def test_an_answer_that_is_too_large_or_too_slow_is_left_and_its_thread_ends(cloud, tmp_path, monkeypatch):
    cloud.put("loadbalancers", id="a", name="x" * 5000)
    client = OpenStackClient(write(cloud, tmp_path))

    async def listed():
        return await client.listing("load_balancer", "/lbaas/loadbalancers", "loadbalancers", LoadBalancer)

    assert len(await listed()) == 1
    monkeypatch.setattr(module, "_MOST_BYTES", 4000)
    with pytest.raises(CloudError, match="cannot GET /lbaas/loadbalancers at cloud mine: an answer of more than"):
        await listed()
    monkeypatch.undo()
    clock = iter(range(0, 10_000, 30))  # half a minute passes between two looks at it: that of the listing, two of the answer
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert len(await listed()) == 1
    clock = iter(range(0, 10_000, 61))
    with pytest.raises(CloudError, match="or 60 s"):
        await listed()
    monkeypatch.undo()
    assert len(await listed()) == 1
    assert "threads=0" in repr(client)
    client.close()


async def test_never_more_calls_at_once_than_its_limiter_allows(cloud, tmp_path):
    client = OpenStackClient(write(cloud, tmp_path))
    await client.project()
    for number in range(12):
        cloud.balancer(f"b{number}", members=[{"address": "10.0.0.1"}])
    cloud.broken = {"members": "hang"}
    before = len(cloud.asked)
    with trio.move_on_after(1):
        await CloudReader(client, "p1").balancing()
    assert sum(1 for _, path in cloud.asked[before:] if path.endswith("members")) == 4
    assert "threads=4" in repr(client)


def test_the_sdk_is_not_loaded_before_the_first_call():
    code = "import sys, discovery.sources.openstack, federation.publish.designate; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"openstack", "keystoneauth1", "requests", "yaml"} & set(done.stdout.split())
