"""Findings, and the view of documents that rules have."""

import dataclasses

from analysed import shop, view

from discovery.document import Origin
from discovery.model import Service
from federation.analyze.finding import Finding, Level


def test_a_finding_reads_as_one_line():
    finding = Finding("IST0101", Level.ERROR, "VirtualService", "vs", "there is no Gateway a/b; write it", Origin("a.yaml", 3))
    assert str(finding) == "a.yaml:3 VirtualService/vs error IST0101: there is no Gateway a/b; write it"


def test_a_wildcard_service_is_found_by_its_names():
    seen = view(shop())
    wide = Service("*.wild.example")
    seen = dataclasses.replace(
        seen, inputs=dataclasses.replace(seen.inputs, services={"*.wild.example": wide, "*.example": Service("*.example")})
    )
    assert seen.service("a.wild.example") is wide
    assert seen.service("nowhere.org") is None


def test_destinations_have_their_full_host_and_path():
    ((document, path, destination, host),) = view(shop()).destinations()
    assert (document.name, path, destination.host) == ("vs", "spec.http[0].route[0].destination", "reviews")
    assert host == "reviews.shop.svc.cluster.local"
