"""Names that lead nowhere (IST0101), hosts that no Gateway serves (IST0132) or two VirtualServices have (IST0109), ports that nobody chose
(IST0112)."""

from __future__ import annotations

from collections.abc import Iterator

from federation.analyze.finding import Finding, Level, View, about
from federation.compile.delegates import delegates_of
from federation.compile.names import covers, intersection, split_gateway_host
from federation.compile.scope import MESH, namespace_of
from federation.resources.document import Document
from federation.resources.gateway import Gateway

NOT_FOUND, HOST_NOT_IN_GATEWAY, PORT_NEEDED, CONFLICT = "IST0101", "IST0132", "IST0112", "IST0109"


def gateways_not_found(view: View) -> Iterator[Finding]:
    """A VirtualService that names a Gateway that is not there."""
    known = {f"{gateway.namespace}/{gateway.name}" for gateway in view.inputs.resources.gateways}
    for document in view.inputs.resources.virtual_services:
        spec = document.spec
        matched = [name for http in spec.http for match in http.match for name in match.gateways]
        matched += [name for tls in spec.tls for match in tls.match for name in match.gateways]
        matched += [name for tcp in spec.tcp for match in tcp.match for name in match.gateways]
        for name in dict.fromkeys((*document.spec.gateways, *matched)):
            full = name if "/" in name else f"{document.namespace}/{name}"
            if name != MESH and full not in known:
                message = f"there is no Gateway {full}; write it, or name one as namespace/name"
                yield about(document, NOT_FOUND, Level.ERROR, message, "spec.gateways" if name in spec.gateways else "spec")


def delegates_not_found(view: View) -> Iterator[Finding]:
    """A route that delegates to a VirtualService that is not there, or has hosts of its own."""
    known = {(each.namespace, each.name) for each in view.inputs.resources.virtual_services if not each.spec.hosts}
    for document in view.inputs.resources.virtual_services:
        for namespace, name in dict.fromkeys(delegates_of(document)):
            if (namespace, name) not in known:
                message = f"there is no VirtualService {namespace}/{name} without hosts to delegate to; write it, or mend the name"
                yield about(document, NOT_FOUND, Level.ERROR, message)


def hosts_not_found(view: View) -> Iterator[Finding]:
    """A destination that no source knows. What a peer may still tell us of is not judged."""
    imports = [pattern.lower() for peer in view.inputs.resources.peers for pattern in peer.spec.imports]
    for document, path, _, host in view.destinations():
        if view.service(host) is None and not any(covers(pattern, host) for pattern in imports):
            message = f"nobody knows a service {host}; write a ServiceEntry or Service, or mend the name"
            yield about(document, NOT_FOUND, Level.ERROR, message, f"{path}.host")


def subsets_not_found(view: View) -> Iterator[Finding]:
    """A destination's subset that no DestinationRule for its host defines."""
    for document, path, destination, host in view.destinations():
        if not destination.subset:
            continue
        service = view.service(host)
        namespace = service.namespace if service else namespace_of(host, view.scope.cluster_domain)
        rule = view.scope.rule(host, namespace)
        if rule is None or destination.subset not in rule.subsets:
            known = f"it has {', '.join(rule.subsets)}" if rule and rule.subsets else "there is none for this host"
            message = f"no DestinationRule for {host} has subset {destination.subset} ({known}); write it there"
            yield about(document, NOT_FOUND, Level.ERROR, message, f"{path}.subset")


def credentials_not_found(view: View) -> Iterator[Finding]:
    """A Gateway's credentialName without a Secret in the Node's namespace or the Gateway's own, where compile looks."""
    known = {(secret.namespace, secret.name) for secret in view.inputs.resources.secrets}
    for gateway in view.scope.gateways:
        places = tuple(dict.fromkeys((view.scope.client, gateway.namespace)))
        for index, server in enumerate(gateway.spec.servers):
            for name in server.tls.named_secrets if server.tls else ():
                if any((place, name) in known for place in places):
                    continue
                message = f"there is no Secret {name} in namespace {' or '.join(places)}; write it"
                yield about(gateway, NOT_FOUND, Level.ERROR, message, f"spec.servers[{index}].tls.credentialName")


def hosts_not_in_gateway(view: View) -> Iterator[Finding]:
    """A VirtualService's host that no server of the Gateways it names takes: its routes are not served."""
    gateways = {f"{gateway.namespace}/{gateway.name}": gateway for gateway in view.inputs.resources.gateways}
    for bound in view.scope.virtual_services:
        named = [gateways[name] for name in sorted(bound.gateways) if name in gateways]
        if not named or MESH in bound.gateways:
            continue
        for host in bound.hosts:
            if not any(_takes(gateway, host, bound.document.namespace) for gateway in named):
                names = ", ".join(f"{gateway.namespace}/{gateway.name}" for gateway in named)
                message = (
                    f"host {host} is in no server of Gateway {names}, so it is not served; add it to spec.servers[].hosts there"
                )
                yield about(bound.document, HOST_NOT_IN_GATEWAY, Level.WARNING, message, "spec.hosts")


def hosts_of_several(view: View) -> Iterator[Finding]:
    """A host that an older VirtualService has for gateway mesh, where they are not merged."""
    for bound in view.scope.virtual_services:
        for host in bound.hosts if MESH in bound.gateways else ():
            holder = view.scope.mesh[host].document
            if holder is not bound.document:
                message = f"host {host} has {holder.namespace}/{holder.name} for gateway mesh, and only the older one holds; make them one"
                yield about(bound.document, CONFLICT, Level.ERROR, message, "spec.hosts")


def _takes(gateway: Document[Gateway], host: str, namespace: str) -> bool:
    for server in gateway.spec.servers:
        for written in server.hosts:
            owner, pattern = split_gateway_host(written, gateway.namespace)
            if owner in ("*", namespace) and intersection(pattern, host) is not None:
                return True
    return False


def ports_needed(view: View) -> Iterator[Finding]:
    """A destination without a port whose service has several."""
    for document, path, destination, host in view.destinations():
        service = view.service(host)
        if destination.port is None and service is not None and len(service.ports) > 1:
            ports = ", ".join(str(port.number) for port in service.ports)
            message = f"{host} has several ports ({ports}); write which one is meant"
            yield about(document, PORT_NEEDED, Level.ERROR, message, f"{path}.port")
