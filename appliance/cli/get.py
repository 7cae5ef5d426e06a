"""`fedgate get …`: what a running gateway knows, as tables or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from appliance.cli.client import address, ask
from appliance.cli.output import Output, table

app = typer.Typer(no_args_is_help=True, help="Show what a running gateway knows. Example: fedgate get endpoints -o json")

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]

Address = Annotated[
    str | None, typer.Option("--address", metavar="HOST:PORT", help="Of the gateway's admin API; default 127.0.0.1:15000.")
]
Config = Annotated[
    Path | None, typer.Option("-c", "--config", metavar="PATH", help="The Node document: its listen.admin is asked.")
]
Format = Annotated[Output, typer.Option("-o", "--output", help="table for people, wide with more columns, json for programs.")]


def _words(values: Any) -> str:
    return ",".join(str(value) for value in values)


def _plain(*names: str) -> list[Column]:
    """Columns that show a field as it is; `camelCase` becomes the title CAMEL CASE."""

    def title(name: str) -> str:
        return "".join(f" {c}" if c.isupper() else c for c in name).upper()

    return [(title(name), lambda row, name=name: str(row[name])) for name in names]  # type: ignore[misc]


def _show(path: str, columns: list[Column], where: str, output: Output, wide: Sequence[Column] = ()) -> None:
    """wide: columns that only `-o wide` has."""
    if output is Output.WIDE:
        columns = [*columns, *wide]
    answer = ask(where, path)
    if output is Output.JSON:
        typer.echo(json.dumps(answer["items"], indent=2))
        return
    typer.echo(table([title for title, _ in columns], [[cell(row) for _, cell in columns] for row in answer["items"]]))


def _ago(seconds: float) -> str:
    """`12s`, `3m`, `5h`; "" for never."""
    if seconds < 0:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


@app.command()
def listeners(at: Address = None, config: Config = None, output: Format = Output.TABLE) -> None:
    """Addresses that the gateway listens on, and what is wrong with those it could not bind.

    Example: fedgate get listeners
    """
    columns: list[Column] = [
        *_plain("address", "port", "kind"),
        ("SERVER NAMES", lambda row: _words(name for chain in row["chains"] for name in chain["serverNames"] or ["*"])),
        ("TLS", lambda row: _words(dict.fromkeys(chain["tls"] or "-" for chain in row["chains"]))),
        ("STATE", lambda row: "listening" if row["bound"] else row["error"]),
    ]
    _show("/api/v1/listeners", columns, address(at, config), output)


@app.command()
def routes(at: Address = None, config: Config = None, output: Format = Output.TABLE) -> None:
    """Routes in the order in which they are matched.

    Example: fedgate get routes -c node.yaml
    """
    columns: list[Column] = [
        *_plain("table"),
        ("DOMAINS", lambda row: _words(row["domains"])),
        *_plain("name", "match", "action"),
        ("TIMEOUT", lambda row: f"{row['timeoutMs']}ms" if row["timeoutMs"] else ""),
        *_plain("retries"),
    ]
    _show("/api/v1/routes", columns, address(at, config), output)


@app.command()
def backends(at: Address = None, config: Config = None, output: Format = Output.TABLE) -> None:
    """Backends with the share of each priority (load: per cent, then healthy/total workloads).

    Example: fedgate get backends
    """
    columns: list[Column] = [
        *_plain("name", "balance"),
        ("PRIORITIES", lambda row: " ".join(f"{p['load']}%:{p['healthy']}/{p['total']}" for p in row["priorities"])),
        ("LOCALITIES", lambda row: " ".join("+".join(p["localities"]) or "-" for p in row["priorities"])),
        *_plain("panic", "requests", "retries", "overflow", "tls"),
        ("POLICY", lambda row: _words(sorted(row["policy"]))),
    ]
    _show("/api/v1/backends", columns, address(at, config), output)


@app.command()
def endpoints(
    backend: Annotated[str, typer.Option(help="Only of this backend.")] = "",
    at: Address = None,
    config: Config = None,
    output: Format = Output.TABLE,
) -> None:
    """Endpoints with their health, who says so and why, and their traffic.

    Example: fedgate get endpoints --backend 'outbound|9080||reviews.shop.svc.cluster.local'
    """
    columns: list[Column] = [
        *_plain("backend", "address", "cluster", "locality", "priority", "weight"),
        ("HEALTH", lambda row: f"{row['health']} {row['healthy']}/{row['total']}" if row["peer"] else row["health"]),
        *_plain("active", "requests", "failures"),
        ("P50", lambda row: f"{row['p50Ms']:.1f}ms"),
        ("P99", lambda row: f"{row['p99Ms']:.1f}ms"),
        *_plain("reason"),
    ]
    path = "/api/v1/endpoints" + (f"?{urlencode({'backend': backend})}" if backend else "")
    _show(path, columns, address(at, config), output)


@app.command()
def certs(at: Address = None, config: Config = None, output: Format = Output.TABLE) -> None:
    """Certificates in use: validity, serial, dates, trust domain, names.

    Example: fedgate get certs
    """
    columns: list[Column] = [
        *_plain("name", "kind"),
        ("VALID", lambda row: "yes" if row["valid"] else "NO"),
        *_plain("serial", "notBefore", "notAfter", "trustDomain"),
        ("NAMES", lambda row: _words(row["subjectAltNames"])),
        ("USED BY", lambda row: _words(row["usedBy"])),
    ]
    _show("/api/v1/certificates", columns, address(at, config), output)


@app.command()
def peers(at: Address = None, config: Config = None, output: Format = Output.TABLE) -> None:
    """Peers, the state of the session with each, and how many services it offers.

    Example: fedgate get peers
    """
    columns: list[Column] = [
        *_plain("name", "trustDomain", "cluster", "state", "services", "exported"),
        ("RTT", lambda row: f"{row['rttMs']:.1f}ms" if row["rttMs"] else ""),
        ("ADDRESSES", lambda row: _words(f"{a['address']}({a['verdict'] or a['state']})" for a in row["addresses"])),
        ("REMARKS", lambda row: "; ".join([*([row["problem"]] if row["problem"] else []), *row["findings"]])),
    ]
    _show("/api/v1/peers", columns, address(at, config), output)


_SERVICE_COLUMNS: list[Column] = [
    *_plain("hostname", "namespace"),
    ("PORTS", lambda row: _words(row["ports"])),
    ("CLUSTERS", lambda row: " ".join(f"{cluster}:{count}" for cluster, count in row["clusters"].items())),
    ("SOURCES", lambda row: _words(row["sources"])),
    ("EXPORTED TO", lambda row: _words(row["exportedTo"])),
]


_WIDE_SERVICE_COLUMNS: list[Column] = [
    ("ADDRESSES", lambda row: _words(row["virtualAddresses"] or row["addresses"])),
    ("RESOLUTION", lambda row: row["resolution"] + (" headless" if row["headless"] else "")),
    *_plain("created"),
    ("FINDINGS", lambda row: "; ".join(row["findings"])),
]


@app.command()
def services(at: Address = None, config: Config = None, output: Format = Output.TABLE) -> None:
    """Services by name, with healthy/total endpoints in each cluster and who offers them; wide: where sources contradict each other.

    Example: fedgate get services -o wide
    """
    _show("/api/v1/services", _SERVICE_COLUMNS, address(at, config), output, _WIDE_SERVICE_COLUMNS)


@app.command()
def service(
    name: Annotated[str, typer.Argument(help="The service's host name.")],
    why: Annotated[bool, typer.Option("--why", help="Which source won each field, and why.")] = False,
    at: Address = None,
    config: Config = None,
    output: Format = Output.TABLE,
) -> None:
    """One service; with --why, where each of its fields comes from.

    Example: fedgate get service reviews.shop.svc.cluster.local --why
    """
    answer = ask(address(at, config), f"/api/v1/services/{quote(name)}")
    if output is Output.JSON:
        typer.echo(json.dumps(answer if why else answer["service"], indent=2))
        return
    columns = [*_SERVICE_COLUMNS, *(_WIDE_SERVICE_COLUMNS[:-1] if output is Output.WIDE else ())]
    typer.echo(table([title for title, _ in columns], [[cell(answer["service"]) for _, cell in columns]]))
    if why:
        rows = [[row["field"], row["winner"], row["reason"], _words(row["losers"])] for row in answer["why"]]
        typer.echo("\n" + table(["FIELD", "WINNER", "REASON", "LOSERS"], rows))
    if answer["service"]["findings"]:
        typer.echo("\nfindings:\n" + "\n".join(f"  {finding}" for finding in answer["service"]["findings"]))


@app.command()
def config(at: Address = None, config: Config = None, output: Format = Output.TABLE) -> None:
    """Documents of the configuration, what became of each, and what is wrong with it.

    Example: fedgate get config
    """
    columns: list[Column] = [
        *_plain("kind", "namespace", "name"),
        ("WHERE", lambda row: f"{row['file']}:{row['line']}"),
        ("STATE", lambda row: "good" if row["good"] else "BAD"),
        ("REMARKS", lambda row: "; ".join([*row["errors"], *row["warnings"]])),
    ]
    _show("/api/v1/config", columns, address(at, config), output)


@app.command()
def sources(at: Address = None, config: Config = None, output: Format = Output.TABLE) -> None:
    """Sources of services, and how fresh what they say is.

    Example: fedgate get sources
    """
    columns: list[Column] = [
        *_plain("cluster", "name"),
        ("STATE", lambda row: row["state"] if row["connected"] else f"lost, {row['state']}"),
        *_plain("services", "endpoints"),
        ("AGE", lambda row: _ago(row["ageS"])),
        ("LAST SAID", lambda row: _ago(row["saidS"])),
        *_plain("problem"),
    ]
    wide: list[Column] = [("LOST FOR", lambda row: _ago(row["lostS"])), *_plain("failures", "findings", "damped")]
    _show("/api/v1/sources", columns, address(at, config), output, wide)


@app.command()
def publishers(at: Address = None, config: Config = None, output: Format = Output.TABLE) -> None:
    """Where the merged catalog is written to, how much stands there, and which names somebody else owns.

    Example: fedgate get publishers
    """
    columns: list[Column] = [
        *_plain("name"),
        ("STATE", lambda row: "connected" if row["connected"] else "lost"),
        *_plain("published", "pending"),
        ("CONFLICTS", lambda row: _words(row["conflicts"])),
        *_plain("problem"),
    ]
    _show("/api/v1/publishers", columns, address(at, config), output)
