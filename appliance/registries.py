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
    from discovery.clients.consul_session import ConsulConnection
    from discovery.clients.openstack import CloudAccess
    from federation.resources.registry import consul, openstack


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
        return NomadSource(
            written.name, here, NomadSourceOptions(connection=options, namespaces=(nomad.namespace,), tags=nomad.tags)
        )
    if written.openstack is not None:
        from discovery.sources.openstack import Discover, OpenStackOptions, OpenStackSource

        cloud = written.openstack
        discover = tuple(Discover(each.value) for each in cloud.discover)
        return OpenStackSource(
            written.name, here, OpenStackOptions(cloud_access(cloud, folder), discover=discover, interval=cloud.interval / 1000)
        )
    raise ValueError(f"source {written.name} names no registry")


def _path(written: str, folder: str) -> str:
    """A path of the Node; "" stays."""
    return posixpath.join(folder, written) if written else ""


def consul_connection(spec: consul.ConsulConnection, folder: str) -> ConsulConnection:
    """Where and as whom."""
    from discovery.clients.consul_session import ConsulConnection

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

    return CloudAccess(cloud=spec.cloud, file=_path(spec.file, folder), region=spec.region)
