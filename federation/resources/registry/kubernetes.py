"""What a Node says of a Kubernetes API: as a source and as a place of documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator

from discovery.here import HOSTNAME
from discovery.kubernetes.services import Reach
from federation.resources.checks import duplicates, is_label
from federation.resources.message import Fault, Message
from federation.resources.registry.hostname import hostname_faults
from federation.resources.scalars import Flag, choice_reader

MOST_NAMESPACES = 20  # each takes five connections to the API; with more of them, one role for all is cheaper and read in five


class KubernetesConnection(Message):
    """kubeconfig "": the Pod's own service account where there is one, else KUBECONFIG, else ~/.kube/config. context "": the current one.
    namespaces: `*` is all."""

    kubeconfig: str = ""
    context: str = ""
    namespaces: tuple[str, ...] = ("*",)

    def faults(self) -> Iterator[Fault]:
        if not self.namespaces:
            yield Fault(("namespaces",), "namespaces is empty, so nothing would be read; write `*` for all, or leave it out")
        if "*" in self.namespaces and len(self.namespaces) > 1:
            yield Fault(("namespaces",), "`*` is all namespaces already; write it alone")
        if len(self.namespaces) > MOST_NAMESPACES:
            yield Fault(("namespaces",), f"{len(self.namespaces)} namespaces, {MOST_NAMESPACES} at most; write `*` for all")
        for index, name in enumerate(self.namespaces):
            if name != "*" and not is_label(name):
                yield Fault(
                    ("namespaces", index), f"`{name[:80]}` is no namespace; use lower-case letters, digits and `-`, 63 at most"
                )
        for index, name in duplicates(list(self.namespaces)):
            yield Fault(("namespaces", index), f"namespace `{name}` is written twice; remove one")


class KubernetesSource(KubernetesConnection):
    """addresses: which of a service's the gateway can reach: Pods, Nodes (by node ports), or load balancers. label_selector: of Services, as
    kubectl writes it. write_status: ServiceExports are told what became of them."""

    addresses: Annotated[Reach, BeforeValidator(choice_reader(Reach, same={"LOADBALANCER": Reach.LOAD_BALANCER}))] = Reach.POD
    label_selector: str = ""
    hostname: str = HOSTNAME
    write_status: Flag = True

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        yield from hostname_faults(self.hostname)


class KubernetesDocuments(KubernetesConnection):
    """Istio's and fedgate's custom resources, and the Secrets that `credentialName` names. secrets: the namespaces that Secrets are read in;
    none: the gateway's own. write_status: conditions are written into the resources."""

    secrets: tuple[str, ...] = ()
    write_status: Flag = True

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        for index, name in enumerate(self.secrets):
            if not is_label(name):  # `*` too: a gateway that may read every Secret of a cluster is a way to all of them
                yield Fault(
                    ("secrets", index), f"`{name[:80]}` is no namespace; write each one whose Secrets are certificates of yours"
                )
