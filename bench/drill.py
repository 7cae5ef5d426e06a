"""A dead region, through fedgate and through two Envoys: two endpoints near, two far, 200 requests a second, and then the near ones
are killed, or stopped (SIGSTOP: they take connections and answer nothing).

fedgate is given nothing but a ServiceEntry, a Gateway and a VirtualService. One Envoy is configured as Istio's defaults configure
it (`outlierDetection: {}`), the other as well as one can by hand.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from rich.console import Console
from rich.table import Table

from appliance.demo.load import Load, Request, percentile
from bench import tools
from bench.peers import (
    ISTIO_RETRIES,
    Ports,
    T,
    envoy_address,
    envoy_chain,
    envoy_cluster,
    envoy_command,
    node_document,
    service_entry,
)
from bench.process import Pinned, free_port, stopping

RATE = 200
BEFORE_S = 3.0  # steady traffic before the event, enough to have every endpoint used and judged healthy
TIMEOUT_S = 5.0  # of the client
EVENTS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}


def _fedgate(folder: Path, ports: Ports) -> list[str]:
    near, far = ports.endpoints[:2], ports.endpoints[2:]
    endpoints = "\n".join(
        f"  - {{address: 127.0.0.1, ports: {{http: {port}}}, locality: {place}}}"
        for place, group in (("region1/a", near), ("region2/b", far))
        for port in group
    )
    (folder / "gateway.yaml").write_text(
        node_document(folder, ports)
        + f"""---
{service_entry(endpoints)}---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: web, namespace: fedgate}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {ports.http}, name: http, protocol: HTTP}}
    bind: 127.0.0.1
    hosts: [be.test]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: be, namespace: fedgate}}
spec:
  hosts: [be.test]
  gateways: [web]
  http:
  - route: [{{destination: {{host: be.test}}}}]
"""
    )
    return [*tools.fedgate(), "run", "-c", str(folder / "gateway.yaml")]


# Istio's defaults (outlierDetection: {}), and what a careful person would set instead: every setting named in Envoy's documents that
# makes it move sooner.
ISTIO: dict[str, Any] = {
    "cluster": {
        "connect_timeout": "10s",
        "outlier_detection": {"consecutive_5xx": 5, "interval": "10s", "base_ejection_time": "30s", "max_ejection_percent": 10},
    },
    "retry": ISTIO_RETRIES,
}
TUNED: dict[str, Any] = {
    "cluster": {
        "connect_timeout": "0.25s",
        "ignore_health_on_host_removal": True,
        "outlier_detection": {
            "consecutive_5xx": 1,
            "consecutive_gateway_failure": 1,
            "enforcing_consecutive_gateway_failure": 100,
            "interval": "0.25s",
            "base_ejection_time": "5s",
            "max_ejection_percent": 100,
        },
        "health_checks": [
            {
                "timeout": "0.25s",
                "interval": "0.25s",
                "no_traffic_interval": "0.25s",
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "http_health_check": {"path": "/"},
            }
        ],
    },
    "retry": {
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,reset,gateway-error",
        "num_retries": 5,
        "per_try_timeout": "0.5s",
        "retry_priority": {
            "name": "previous",
            "typed_config": {
                "@type": T + "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 2,
            },
        },
    },
}


def _envoy(settings: dict[str, Any]) -> Callable[[Path, Ports], list[str]]:
    def write(folder: Path, ports: Ports) -> list[str]:
        localities = [
            {
                "priority": priority,
                "locality": {"region": f"region{priority + 1}"},
                "lb_endpoints": [{"endpoint": {"address": envoy_address(port)}} for port in group],
            }
            for priority, group in enumerate((ports.endpoints[:2], ports.endpoints[2:]))
        ]
        # Panic threshold 0, as Istio sets it; endpoints' changes at once, the fair best case.
        common = {"common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"}}
        chain = envoy_chain(folder, settings["retry"])
        listener = {"name": "http", "address": envoy_address(ports.http), "filter_chains": [chain]}
        return envoy_command(folder, ports, [listener], envoy_cluster(localities, common | settings["cluster"]))

    return write


WRITERS = {"fedgate": _fedgate, "envoy, Istio's defaults": _envoy(ISTIO), "envoy, tuned by hand": _envoy(TUNED)}


def one(writer: Callable[[Path, Ports], list[str]], event: int, *, seconds: float, folder: Path) -> dict[str, Any]:
    """Brings up four endpoints and a proxy, drives them, sends the signal to the near two; figures of what came after it."""
    folder.mkdir(parents=True)
    endpoints = tuple(free_port() for _ in range(4))
    processes: list[Pinned] = []
    with stopping(processes):
        for place, port in zip(("near1", "near2", "far1", "far2"), endpoints, strict=True):
            backend = Pinned(
                place, [str(tools.compiled("backend")), place, "64", f"127.0.0.1:{port}"], core=None, log=folder / f"{place}.log"
            )
            processes.append(backend)
            backend.wait_listening("127.0.0.1", port)
        ports = Ports.fresh(endpoints)
        proxy = Pinned("proxy", writer(folder, ports), core=None, log=folder / "output.log")
        processes.append(proxy)
        proxy.wait_listening("127.0.0.1", ports.http)
        load = Load(("127.0.0.1", ports.http), lambda _: Request("be", "be.test"), rate=RATE, timeout_s=TIMEOUT_S)

        async def drive() -> float:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run, BEFORE_S + seconds)
                await trio.sleep(BEFORE_S)
                at = load.now_s
                for near in processes[:2]:
                    near.signal(event)
            return at

        happened_s = trio.run(drive)
        for near in processes[:2]:
            near.signal(signal.SIGCONT)
    before = [sample for sample in load.samples if sample.due_s + sample.took_ms / 1000 < happened_s]
    if not before or any(sample.failed for sample in before) or not any(sample.served_by.startswith("near") for sample in before):
        raise RuntimeError(
            f"before the event the proxy did not serve from the near endpoints; see its log:\n{proxy.log.read_text()[-2000:]}"
        )
    after = load.samples[len(before) :]  # samples are in the order of completion
    answered = sorted(sample.took_ms for sample in after if not sample.failed)
    failed = [sample for sample in load.samples if sample.failed]
    return {
        "requests": len(after),
        "failed": len(failed),
        "last_failed_ms": round(max((s.due_s - happened_s) * 1000 + s.took_ms for s in failed)) if failed else None,
        "p50_ms": round(percentile(answered, 0.5), 2),
        "p99_ms": round(percentile(answered, 0.99), 2),
        "max_ms": round(answered[-1], 2) if answered else None,
        "far_share": round(sum(s.served_by.startswith("far") for s in after) / max(1, len(after)), 4),
    }


def measure(names: list[str], *, seconds: float, console: Console) -> dict[str, Any]:
    """Every proxy under every event: {proxy: {event: figures}}."""
    chosen = {name: writer for name, writer in WRITERS.items() if name.split(",")[0] in ("fedgate", *names)}
    result: dict[str, Any] = {}
    with TemporaryDirectory(prefix="fedgate-drill-") as scratch:
        for name, writer in chosen.items():
            for event, number in EVENTS.items():
                try:
                    figures = one(writer, number, seconds=seconds, folder=Path(scratch) / f"{name.replace(' ', '-')}-{event}")
                except tools.Missing as missing:
                    console.print(f"[yellow]without {name}:[/] {missing}")
                    continue
                console.print(f"[dim]{name}, near {event}: {figures['failed']} of {figures['requests']} failed[/]")
                result.setdefault(name, {})[event] = figures
    return result


def table(result: dict[str, Any]) -> Table:
    """For people."""
    shown = Table(title=f"Two endpoints near, two far, {RATE} requests/s: the near ones are killed, or stopped")
    for column in ("proxy", "near", "requests after", "failed", "last failed ms", "p50 ms", "p99 ms", "slowest ms"):
        shown.add_column(column, justify="left" if column in ("proxy", "near") else "right")
    for name, events in result.items():
        for event, figures in events.items():
            last = figures["last_failed_ms"]
            shown.add_row(
                name,
                event,
                f"{figures['requests']:,}",
                f"{figures['failed']:,}",
                "–" if last is None else f"{last:,}",
                f"{figures['p50_ms']:.1f}",
                f"{figures['p99_ms']:.1f}",
                "–" if figures["max_ms"] is None else f"{figures['max_ms']:.1f}",
            )
    return shown
