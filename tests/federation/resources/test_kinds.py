"""Which kinds are read, refused for now, passed over, unknown."""

import pytest

from federation.resources.kinds import Kind, Passed, Refused, look_up


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
@pytest.mark.parametrize("name", ["Gateway", "VirtualService", "DestinationRule", "ServiceEntry", "WorkloadEntry", "WorkloadGroup"])
def test_istios_kinds_in_every_version(name, version):
    found = look_up(f"networking.istio.io/{version}", name)
    assert isinstance(found, Kind)
    assert found.name == name


@pytest.mark.parametrize(
    ("api_version", "name"),
    [
        ("v1", "Service"),
        ("v1", "Secret"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
        ("fedgate.io/v1", "Node"),
        ("fedgate.io/v1", "Peer"),
        ("fedgate.io/v1", "Export"),
        ("fedgate.io/v1", "ServicePolicy"),
    ],
)
def test_the_other_kinds_that_are_read(api_version, name):
    assert isinstance(look_up(api_version, name), Kind)


@pytest.mark.parametrize(
    ("api_version", "name"),
    [
        ("security.istio.io/v1", "PeerAuthentication"),
        ("security.istio.io/v1", "RequestAuthentication"),
        ("security.istio.io/v1beta1", "AuthorizationPolicy"),
        ("telemetry.istio.io/v1", "Telemetry"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("fedgate.io/v1", "Drill"),
    ],
)
def test_what_is_not_built_yet_is_an_error(api_version, name):
    found = look_up(api_version, name)
    assert isinstance(found, Refused)
    assert "not supported yet" in found.message


@pytest.mark.parametrize(
    ("api_version", "name"),
    [
        ("networking.istio.io/v1", "Sidecar"),
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        ("extensions.istio.io/v1alpha1", "WasmPlugin"),
    ],
)
def test_what_cannot_apply_to_a_gateway_is_named(api_version, name):
    found = look_up(api_version, name)
    assert isinstance(found, Passed)
    assert name in found.message
    assert "cannot apply to a gateway" in found.message


@pytest.mark.parametrize(
    ("api_version", "name"),
    [
        ("apps/v1", "Deployment"),
        ("v1", "ServiceAccount"),
        ("v1", "ConfigMap"),
        ("v1", "Namespace"),
        ("v1", "Node"),
        ("batch/v1", "Job"),
        ("cert-manager.io/v1", "Certificate"),
        ("serving.knative.dev/v1", "Service"),
    ],
)
def test_other_kinds_are_passed_over_by_name(api_version, name):
    found = look_up(api_version, name)
    assert isinstance(found, Passed)
    assert name in found.message
    assert "passed over" in found.message


@pytest.mark.parametrize(
    ("api_version", "name", "part"),
    [
        ("networking.istio.io/v2", "Gateway", "has no version `v2`; write apiVersion networking.istio.io/v1"),
        ("v2", "Service", "write apiVersion v1"),
        ("discovery.k8s.io/v1alpha1", "EndpointSlice", "write apiVersion discovery.k8s.io/v1"),
        ("networking.istio.io/v1", "VirtualServce", "did you mean `VirtualService`"),
        ("fedgate.io/v1", "Nod", "did you mean `Node`"),
        ("fedgate.io/v1", "Zebra", "known: Drill, Export"),
        ("networking.istio.oi/v1", "Gateway", "did you mean `networking.istio.io`"),
        ("securty.istio.io/v1", "AuthorizationPolicy", "did you mean `security.istio.io`"),
        ("v1", "VirtualService", "write apiVersion networking.istio.io/v1"),
        ("v1", "AuthorizationPolicy", "write apiVersion security.istio.io/v1"),
        ("apps/v1", "Peer", "write apiVersion fedgate.io/v1"),
    ],
)
def test_what_is_plainly_a_mistake(api_version, name, part):
    found = look_up(api_version, name)
    assert isinstance(found, Refused)
    assert part in found.message
