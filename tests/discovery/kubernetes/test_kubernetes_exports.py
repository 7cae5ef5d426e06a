"""What a ServiceExport is told."""

import kube_api
import msgspec
import pytest

from discovery.kubernetes import objects as kube
from discovery.kubernetes.exports import export_conditions
from discovery.merge import Finding
from discovery.model import ShardKey

HOST = "web.shop.svc.clusterset.local"
EAST, WEST = ShardKey("east", "k8s"), ShardKey("west", "k8s")


def told(service, findings=None):
    found = msgspec.convert(service, kube.Service) if service else None
    return {each.type: (each.status, each.reason) for each in export_conditions(found, HOST, findings)}


def finding(field, host=HOST):
    return Finding(host, field, f"east is followed on {field}", EAST, (WEST,))


@pytest.mark.parametrize(
    ("service", "reason"),
    [(None, "NoService"), (kube_api.service("web", type="ExternalName", externalName="a.b"), "InvalidServiceType")],
)
def test_what_cannot_be_exported(service, reason):
    assert told(service, ()) == {"Valid": (False, reason), "Ready": (False, "Failed")}


@pytest.mark.parametrize(
    ("findings", "conflict"),
    [
        (None, None),  # nobody has compared yet
        ((), (False, "NoConflicts")),
        ((finding("ports[80].protocol"),), (True, "PortConflict")),
        ((finding("headless"), finding("ports[80].name")), (True, "PortConflict,TypeConflict")),
    ],
)
def test_what_is_exported(findings, conflict):
    expected = {"Valid": (True, "Valid"), "Ready": (True, "Exported")} | ({"Conflict": conflict} if conflict else {})
    assert told(kube_api.service("web"), findings) == expected
