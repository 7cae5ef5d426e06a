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
    from federation.resources.registry import consul, openstack
    from federation.store import SharedStore as Store

STORE_PREFIX = "fedgate"  # of keys in a shared Consul


def registry(wanted: Registry) -> Source:
    """A federation.registries.MakeRegistry. Raises ValueError or OSError when the source cannot be made."""
    written, here, folder = wanted.written, wanted.here, wanted.folder
    if written.consul is not None:
        from discovery.sources.consul import ConsulSource, ConsulSourceOptions

        spec = written.consul
        return ConsulSource(
            written.name,
            here,
            ConsulSourceOptions(
                connection=consul_connection(spec, folder),
                peers=spec.peers,
                tags=spec.tags,
                default_namespace=spec.default_namespace,
                allow_stale=spec.allow_stale,
                most_watched=spec.max_queries,
            ),
        )
    if written.kubernetes is not None:
        from discovery.kubernetes.services import Reach
        from discovery.sources.kubernetes import KubernetesOptions, KubernetesSource

        kube = written.kubernetes
        return KubernetesSource(
            written.name,
            here,
            KubernetesOptions(
                kubeconfig=_path(kube.kubeconfig, folder),
                context=kube.context,
                namespaces=kube.namespaces,
                addresses=Reach(kube.addresses.value),
                label_selector=kube.label_selector,
                write_status=kube.write_status,
            ),
        )
    if written.nomad is not None:
        from discovery.clients.nomad import NomadOptions
        from discovery.sources.nomad import NomadSource, NomadSourceOptions

        nomad = written.nomad
        options = NomadOptions(
            address=nomad.address,
            region=nomad.region,
            token_file=_path(nomad.token_file, folder),
            ca_file=_path(nomad.ca_file, folder),
            cert_file=_path(nomad.cert_file, folder),
            key_file=_path(nomad.key_file, folder),
        )
        chosen = NomadSourceOptions(
            connection=options, namespaces=nomad.read_namespaces, tags=nomad.tags, allow_stale=nomad.allow_stale
        )
        return NomadSource(written.name, here, chosen)
    if written.openstack is not None:
        from discovery.sources.openstack import Discover, OpenStackOptions, OpenStackSource

        cloud = written.openstack
        discover = tuple(Discover(each.value) for each in cloud.discover)
        return OpenStackSource(
            written.name, here, OpenStackOptions(cloud_access(cloud, folder), discover=discover, interval=cloud.interval / 1000)
        )
    raise ValueError(f"source {written.name} names no registry")


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


def consul_connection(spec: consul.ConsulConnection, folder: str) -> ConsulConnection:
    """Where and as whom."""
    from discovery.clients.consul import ConsulConnection

    return ConsulConnection(
        address=spec.address,
        datacenter=spec.datacenter,
        namespace=spec.namespace,
        partition=spec.partition,
        token_file=_path(spec.token_file, folder),
        ca_file=_path(spec.ca_file, folder),
        cert_file=_path(spec.cert_file, folder),
        key_file=_path(spec.key_file, folder),
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
