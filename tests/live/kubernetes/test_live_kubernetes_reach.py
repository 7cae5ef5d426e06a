"""Services of a real Kubernetes API (1.36) by what a gateway outside of the Pods' network reaches: Nodes and their ports, and load balancers
whose addresses (`status.loadBalancer`) these tests write in the place of a cloud's controller."""

from peers.kubernetes_talk import MARKS, addresses, answered_by, in_thread, said, source_of, upsert_of
from running import Fedgate, listening, running, server
from running_gateway import until
from zone import Zone

from discovery.kubernetes.services import Reach
from discovery.resolving import Nameservers

pytestmark = MARKS


async def test_services_by_node_ports(kubernetes):
    made = await in_thread(kubernetes.service, "ported", type="NodePort")
    number = made["spec"]["ports"][0]["nodePort"]
    await in_thread(kubernetes.pod, "ported-1", "10.77.1.121", app="ported")
    source = source_of(kubernetes, addresses=Reach.NODE)
    host = "ported.shop.svc.cluster.local"

    def by_nodes(update):
        services = getattr(update, "services", None) or (getattr(update, "service", None),)
        found = [each for each in services if each is not None and each.hostname == host]
        return found and found[0].endpoints and all(endpoint.health.usable for endpoint in found[0].endpoints)

    async with source.watch() as updates:
        update = await said(updates, by_nodes)
        services = getattr(update, "services", None) or (update.service,)
        service = next(each for each in services if each.hostname == host)
        assert [(each.address, each.port("http"), str(each.locality)) for each in service.endpoints] == [
            ("10.77.1.201", number, "r1/z1"),
            ("10.77.1.202", number, "r1/z2"),
        ]
        await in_thread(kubernetes.node_ready, "node-b", ready=False)
        await said(updates, upsert_of(host, lambda service: addresses(service) == ["10.77.1.201"]))
        await in_thread(kubernetes.node_ready, "node-b")
        await said(updates, upsert_of(host, lambda service: len(service.endpoints) == 2))
        await in_thread(kubernetes.patch, "v1", "services", "ported", {"spec": {"externalTrafficPolicy": "Local"}})
        await said(updates, upsert_of(host, lambda service: addresses(service) == ["10.77.1.201"]))  # where its Pod is
    await in_thread(kubernetes.delete, "v1", "services", "ported")
    await in_thread(kubernetes.delete, "v1", "pods", "ported-1")


async def balanced(kubernetes, name, *ingress):
    """What a cloud's controller does when it has a load balancer for a Service, or has it no more."""
    status = {"loadBalancer": {"ingress": list(ingress) or None}}
    await in_thread(kubernetes.patch, "v1", "services", name, {"status": status}, status=True)


async def test_services_by_load_balancers(kubernetes, nursery):
    host, zone = "lb.shop.svc.cluster.local", Zone({("lb.example", "A"): ["192.0.2.8", "192.0.2.9"]})
    await in_thread(kubernetes.service, "lb", type="LoadBalancer")
    nameservers = Nameservers(("127.0.0.1",), await nursery.start(zone.serve), 2.0)
    source = source_of(kubernetes, addresses=Reach.LOAD_BALANCER, nameservers=nameservers)
    async with source.watch() as updates:
        first = await said(updates, lambda update: True)
        (service,) = [each for each in first.services if each.hostname == host]
        assert service.endpoints == ()
        assert "no load balancer has an address" in service.notes[0]
        await balanced(kubernetes, "lb", {"ip": "192.0.2.7"})
        found = await said(updates, upsert_of(host, lambda service: service.endpoints))
        (endpoint,) = found.service.endpoints
        assert (endpoint.address, endpoint.port("http"), str(endpoint.locality)) == ("192.0.2.7", 80, "r1/z1")
        await balanced(kubernetes, "lb", {"hostname": "lb.example"}, {"ip": "192.0.2.7"})
        everything = ["192.0.2.7", "192.0.2.8", "192.0.2.9"]
        await said(updates, upsert_of(host, lambda service: addresses(service) == everything))
        await balanced(kubernetes, "lb")
        await said(updates, upsert_of(host, lambda service: not service.endpoints))
    await in_thread(kubernetes.delete, "v1", "services", "lb")
    nursery.cancel_scope.cancel()


async def test_traffic_follows_the_load_balancers_address(kubernetes, pods, tmp_path):
    """Two workloads stand for what a cloud puts before a Service; its port is theirs."""
    gateway = Fedgate(tmp_path)
    place = {"kubeconfig": str(kubernetes.kubeconfig()), "addresses": "loadBalancer"}
    gateway.write("node", gateway.node(sources=[{"name": "k8s", "kubernetes": place}]))
    gateway.write("web", listening("web", server(gateway, ["*"])))
    one, two = pods.add("one"), pods.add("two")
    host = "behind.shop.svc.cluster.local:8080"
    await in_thread(kubernetes.service, "behind", port=8080, type="LoadBalancer")
    await balanced(kubernetes, "behind", {"ip": one})
    with running(gateway):
        await until(lambda: answered_by(gateway, host), lambda found: found == (200, "one"))
        await balanced(kubernetes, "behind", {"ip": two})
        await until(lambda: answered_by(gateway, host), lambda found: found == (200, "two"))
        await balanced(kubernetes, "behind")
        await until(lambda: answered_by(gateway, host), lambda found: found[0] == 503)
    await in_thread(kubernetes.delete, "v1", "services", "behind")
    pods.remove(one)
    pods.remove(two)
