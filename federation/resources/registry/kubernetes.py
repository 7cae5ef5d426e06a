"""What a Node says of a Kubernetes API: as a source and as a place of documents."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator

from discovery.here import HOSTNAME
from federation.resources.message import Fault, Message
from federation.resources.registry.hostname import hostname_faults
from federation.resources.scalars import choice_reader


class Reach(enum.Enum):
    """Which addresses of a service this gateway can reach."""

    POD = "pod"
    NODE = "node"
    LOAD_BALANCER = "loadBalancer"


class KubernetesConnection(Message):
    """kubeconfig "": the Pod's own service account where there is one, else ~/.kube/config. context "": the current one.
    namespaces: `*` is all."""

    kubeconfig: str = ""
    context: str = ""
    namespaces: tuple[str, ...] = ("*",)

    def faults(self) -> Iterator[Fault]:
        if not self.namespaces:
            yield Fault(("namespaces",), "namespaces is empty, so nothing would be read; write `*` for all, or leave it out")


class KubernetesSource(KubernetesConnection):
    addresses: Annotated[Reach, BeforeValidator(choice_reader(Reach, same={"LOADBALANCER": Reach.LOAD_BALANCER}))] = Reach.POD
    label_selector: str = ""
    hostname: str = HOSTNAME

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        yield from hostname_faults(self.hostname)


class KubernetesDocuments(KubernetesConnection):
    """Istio's and fedgate's custom resources, and the Secrets that `credentialName` names."""
