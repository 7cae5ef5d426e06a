"""The `fedgate` command: its verbs, one file per group. A verb imports what it needs when it is called, so `fedgate version` is quick."""

from __future__ import annotations

import typer

from appliance.cli import analyze, ca, demo, expand, get, leave, run, validate, version, workload

app = typer.Typer(
    name="fedgate",
    help="A multi-cluster federation gateway, configured with Istio's resources.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(run.run)
app.command()(validate.validate)
app.command()(analyze.analyze)
app.command()(expand.expand)
app.add_typer(get.app, name="get")
app.add_typer(ca.app, name="ca")
app.add_typer(workload.app, name="workload")
app.command()(leave.leave)
app.command()(demo.demo)
app.command()(version.version)
