"""`fedgate ca …`: the embedded certificate authority."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.failure import fail
from appliance.cli.output import Output, table

if TYPE_CHECKING:
    from federation.trust.certificate import CertificateFacts

app = typer.Typer(
    no_args_is_help=True, help="The cluster's own CA. Example: fedgate ca init state/ca --trust-domain east.example.com"
)

Directory = Annotated[Path, typer.Argument(metavar="DIRECTORY", help="The CA's directory, or a state directory with `ca/` in it.")]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where the CA shall be.")],
    trust_domain: Annotated[str | None, typer.Option(help="The trust domain, as in the Node document.")] = None,
    cluster: Annotated[str, typer.Option(help="The cluster's name, for the intermediate certificate.")] = "",
    renew: Annotated[bool, typer.Option("--renew", help="A new intermediate for the CA that is there.")] = False,
    root_key: Annotated[Path | None, typer.Option(help="With --renew: the root's key, when it is kept elsewhere.")] = None,
) -> None:
    """Make a CA: a root, whose key may be taken away afterwards, and an intermediate that signs gateways.

    Example: fedgate ca init state/ca --trust-domain east.example.com
    """
    from federation.trust.identity import TrustError
    from federation.trust.operations import init_ca, renew_ca

    if not renew and trust_domain is None:
        raise typer.BadParameter("say which trust domain the CA is for", param_hint="--trust-domain")
    try:
        made = renew_ca(directory, root_key=root_key) if renew else init_ca(directory, trust_domain or "", cluster=cluster)
    except (TrustError, OSError) as exc:
        fail(_text(exc))
    typer.echo(
        f"{made.directory}: CA of {made.trust_domain}; give {made.directory / 'root.pem'} to peers, move root.key off this machine"
    )


@app.command()
def issue(
    directory: Directory,
    identity: Annotated[
        str, typer.Argument(metavar="SPIFFE_ID", help="spiffe://TRUST_DOMAIN/ns/fedgate/sa/gateway for a gateway.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for identity.pem, identity.key, identity-bundle.pem; a state directory.")],
    dns_name: Annotated[list[str] | None, typer.Option("--dns", help="A DNS name or address too; may be repeated.")] = None,
    ttl: Annotated[str, typer.Option(help="How long it is good: 12h, 30d.")] = "24h",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an identity that is there.")] = False,
) -> None:
    """Sign a certificate for a gateway on another machine.

    Example: fedgate ca issue state/ca spiffe://east.example.com/ns/fedgate/sa/gateway --out gw2/state --ttl 30d
    """
    from federation.trust.identity import TrustError
    from federation.trust.operations import issue as sign

    try:
        issued = sign(directory, identity, dns_names=dns_name or (), ttl=_duration(ttl), out=out, overwrite=overwrite)
    except (TrustError, OSError) as exc:
        fail(_text(exc))
    typer.echo(f"{out}: certificate of {issued.identity}, good until {issued.not_after:%Y-%m-%d %H:%M} UTC")


@app.command()
def bundle(directory: Directory) -> None:
    """Print the roots by which other clusters know this one's gateways: the file for their Peer document.

    Example: fedgate ca bundle state/ca > east-bundle.pem
    """
    from federation.trust.identity import TrustError
    from federation.trust.operations import bundle as roots

    try:
        typer.echo(roots(directory), nl=False)
    except (TrustError, OSError) as exc:
        fail(_text(exc))


@app.command()
def show(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A PEM file, a CA's or a state directory.")],
    output: Annotated[Output, typer.Option("-o", "--output", help="table for people, json for programs.")] = Output.TABLE,
) -> None:
    """Show certificates: names, dates, serial numbers.

    Example: fedgate ca show state/ca
    """
    import msgspec

    from federation.trust.identity import TrustError
    from federation.trust.operations import show as facts

    try:
        found = facts(path)
    except (TrustError, OSError) as exc:
        fail(_text(exc))
    if output is Output.JSON:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        typer.echo(table(["SUBJECT", "IDENTITY", "DNS", "CA", "NOT BEFORE", "NOT AFTER", "SERIAL"], [_row(fact) for fact in found]))


def _row(fact: CertificateFacts) -> list[str]:
    dates = [f"{when:%Y-%m-%d %H:%M}" for when in (fact.not_before, fact.not_after)]
    return [fact.subject, fact.identity, ",".join(fact.dns_names), "yes" if fact.authority else "no", *dates, fact.serial]


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if not found:
        raise typer.BadParameter(f"{text!r} is not a duration; write a number and s, m, h or d, like 12h", param_hint="--ttl")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _text(exc: Exception) -> str:
    return f"{exc.filename}: {exc.strerror}" if isinstance(exc, OSError) and exc.filename else str(exc)
