"""The catalog benchmark's made-up registries, and how its figures are judged."""

import io

from rich.console import Console

from bench import catalog, catalog_data
from discovery.catalog import Catalog
from discovery.model import ShardKey
from discovery.update import Reset


def test_the_registries_have_every_service_and_every_endpoint_once():
    found = Catalog("east")
    for index, name in enumerate(catalog_data.SOURCES):
        found = found.apply(ShardKey("east", name), Reset(catalog_data.of_source(index, 1000))).catalog
    assert len(found.services) == 1000
    addresses = [endpoint.address for service in found.services.values() for endpoint in service.endpoints]
    assert len(addresses) == len(set(addresses)) == 1000 * catalog_data.ENDPOINTS
    assert not found.findings
    assert all(len(shard) > 100 for shard in found.shards.values())


def test_each_change_changes_one_service_of_its_source():
    said = {service.hostname: service for service in catalog_data.of_source(1, 1000)}
    for service in catalog_data.changes(1, 9, 1000):
        assert service != said[service.hostname]


def test_what_is_over_the_limit_is_marked():
    spread = {"p50": 1.0, "p99": 2.0, "most": 3.0}
    turns = {"longest_ms": 30.0, "slowest": ["Plane.run 30.0 ms"]}
    details = {
        "merge": {
            "merged_ms": 900.0,
            "merge_processor_ms": 700.0,
            "applied_ms": 9000.0,
            "services": 1,
            "endpoints": 2,
            "turns": turns,
        },
        "change": {"compute_ms": spread, "compute_wall_ms": spread, "applied_ms": spread, "turns": turns},
        "again": {"turns": turns},
        "memory": {"now_mb": 300.0, "most_mb": 310.0},
    }
    result = catalog.judged(details)
    assert set(result["over"]) == {"turn_ms"}
    console = Console(file=io.StringIO(), width=160)
    console.print(catalog.table(result))
    text = console.file.getvalue()
    assert "over" in next(line for line in text.splitlines() if "longest turn" in line)
    assert text.count("over") == 1
