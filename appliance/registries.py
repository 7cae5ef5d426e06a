"""What a Node says of registries → the sources, places of documents, publishers and stores that do it.

Theory of operation. One function a contract, one case a kind: the YAML's words become plain arguments, and paths begin at the Node's
own file. Only the client of a registry that is used is imported: openstacksdk alone is 40 MB of memory.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from discovery.document import DocumentSource
from discovery.source import Source
from federation.places import Place
from federation.publish.publication import Publisher
from federation.publishing import Outlet
from federation.registries import Registry

if TYPE_CHECKING:
    from discovery.clients.consul import ConsulConnection
    from discovery.clients.openstack import CloudAccess
    from federation.resources.node import SharedStore
    from federation.resources.registry import consul, kubernetes, nomad, openstack
    from federation.store import SharedStore as Store

STORE_PREFIX = "fedgate"  # of keys in a shared Consul


def registry(wanted: Registry) -> Source:
    """A federation.registries.MakeRegistry. Raises ValueError or OSError when the source cannot be made."""
    written = wanted.written
    if written.consul is not None:
        return _consul(wanted, written.consul)
    if written.kubernetes is not None:
        return _kubernetes(wanted, written.kubernetes)
    if written.nomad is not None:
        return _nomad(wanted, written.nomad)
    if written.openstack is not None:
        return _openstack(wanted, written.openstack)
    raise ValueError(f"source {written.name} names no registry")


def _consul(wanted: Registry, spec: consul.ConsulSource) -> Source:
    from discovery.sources.consul import ConsulSource, ConsulSourceOptions

    options = ConsulSourceOptions(
        connection=consul_connection(spec, wanted.folder),
        peers=spec.peers,
        tags=spec.tags,
        default_namespace=spec.default_namespace,
        allow_stale=spec.allow_stale,
        most_watched=spec.max_queries,
    )
    return ConsulSource(wanted.written.name, wanted.here, options)


def _kubernetes(wanted: Registry, spec: kubernetes.KubernetesSource) -> Source:
    from discovery.kubernetes.services import Reach
    from discovery.sources.kubernetes import KubernetesOptions, KubernetesSource

    options = KubernetesOptions(
        kubeconfig=_path(spec.kubeconfig, wanted.folder),
        context=spec.context,
        namespaces=spec.namespaces,
        addresses=Reach(spec.addresses.value),
        label_selector=spec.label_selector,
        write_status=spec.write_status,
    )
    return KubernetesSource(wanted.written.name, wanted.here, options)


def _nomad(wanted: Registry, spec: nomad.NomadSource) -> Source:
    from discovery.clients.nomad import NomadOptions
    from discovery.sources.nomad import NomadSource, NomadSourceOptions

    connection = NomadOptions(address=spec.address, region=spec.region, **_files(spec, wanted.folder))
    options = NomadSourceOptions(connection, spec.read_namespaces, spec.tags, spec.allow_stale)
    return NomadSource(wanted.written.name, wanted.here, options)


def _openstack(wanted: Registry, spec: openstack.OpenStackSource) -> Source:
    from discovery.sources.openstack import Discover, OpenStackOptions, OpenStackSource

    discover = tuple(Discover(each.value) for each in spec.discover)
    options = OpenStackOptions(cloud_access(spec, wanted.folder), discover=discover, interval=spec.interval / 1000)
    return OpenStackSource(wanted.written.name, wanted.here, options)


def documents(place: Place) -> DocumentSource:
    """A federation.places.MakeDocuments. Raises ValueError or OSError when the source cannot be made."""
    written = place.written
    if written.consul is not None:
        from discovery.documents.consul import ConsulDocuments

        return ConsulDocuments(consul_connection(written.consul, place.folder), written.consul.prefix)
    if written.kubernetes is not None:
        from discovery.documents.kubernetes import KubernetesDocuments, KubernetesDocumentsOptions

        kube = written.kubernetes
        return KubernetesDocuments(
            KubernetesDocumentsOptions(
                kubeconfig=_path(kube.kubeconfig, place.folder),
                context=kube.context,
                namespaces=kube.namespaces,
                secrets=kube.secrets,
                write_status=kube.write_status,
            )
        )
    raise ValueError("an entry of spec.resources names no place")


def publisher(outlet: Outlet) -> Publisher:
    """A federation.publishing.MakePublisher. Raises ValueError or OSError when the publisher cannot be made."""
    written, folder = outlet.written, outlet.folder
    if written.consul is not None:
        from federation.publish.consul import ConsulPublisher, ConsulPublishOptions

        spec = written.consul
        there = (spec.address, spec.datacenter, spec.namespace, spec.partition)
        same = {
            source.name
            for source in outlet.sources
            if source.consul is not None
            and (source.consul.address, source.consul.datacenter, source.consul.namespace, source.consul.partition) == there
        }
        return ConsulPublisher(
            f"consul {spec.address}",
            ConsulPublishOptions(
                owner=outlet.owner,
                connection=consul_connection(spec, folder),
                prefix=spec.prefix,
                sources=frozenset(same),
                writes_per_second=spec.writes_per_second,
            ),
        )
    if written.designate is not None:
        from federation.publish.designate import DesignateOptions, DesignatePublisher
        from federation.publish.zone_records import ZoneOptions

        zone = written.designate
        return DesignatePublisher(
            f"designate {zone.zone}",
            DesignateOptions(
                access=cloud_access(zone, folder),
                zone=ZoneOptions(zone.zone, owner=outlet.owner.partition("/")[0], prefix=zone.prefix, ttl=zone.ttl),
                writes_per_second=zone.writes_per_second,
            ),
        )
    raise ValueError("an entry of spec.publish names no registry")


def shared_store(written: SharedStore, folder: str) -> Store:
    """What the gateways of one cluster agree through."""
    from federation.consul_store import ConsulStore

    return ConsulStore(consul_connection(written.consul, folder), STORE_PREFIX)


def _path(written: str, folder: str) -> str:
    """A path of the Node; "" stays, and `~` is the home of whoever runs the gateway."""
    return posixpath.join(folder, posixpath.expanduser(written)) if written else ""


def _files(spec: consul.ConsulConnection | nomad.NomadSource, folder: str) -> dict[str, str]:
    """What both agents' clients read of files."""
    names = ("token_file", "ca_file", "cert_file", "key_file")
    return {name: _path(getattr(spec, name), folder) for name in names}


def consul_connection(spec: consul.ConsulConnection, folder: str) -> ConsulConnection:
    """Where and as whom."""
    from discovery.clients.consul import ConsulConnection

    return ConsulConnection(
        address=spec.address,
        datacenter=spec.datacenter,
        namespace=spec.namespace,
        partition=spec.partition,
        **_files(spec, folder),
    )


def cloud_access(spec: openstack.OpenStackConnection, folder: str) -> CloudAccess:
    """Which cloud, and where it is described."""
    from discovery.clients.openstack import CloudAccess

    own = spec.application_credential
    return CloudAccess(
        cloud=spec.cloud,
        file=_path(spec.file, folder),
        region=spec.region,
        interface=spec.interface,
        auth_url=spec.auth_url,
        credential=own.id if own else "",
        secret_file=_path(own.secret_file, folder) if own else "",
        ca_file=_path(spec.ca_file, folder),
    )
