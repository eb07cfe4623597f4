"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from levada import __version__
from levada.cli import completing, output
from levada.cli.app_backfill import backfill_app
from levada.cli.app_canary import canary_app
from levada.cli.app_consistency import breaks_app, consistency_app
from levada.cli.options import (
    Authors,
    Commit,
    From,
    Json,
    Project,
    Reviewer,
    Selection,
    Table,
    To,
)

__all__ = ["app"]

app = typer.Typer(
    name="levada",
    help="Data-mesh pipelines wired by tables alone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ledger_app = typer.Typer(help="Look after the ledger.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")
policy_app = typer.Typer(help="Governance's policies.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")
app.add_typer(backfill_app, name="backfill")
waiver_app = typer.Typer(help="Look after waivers.", no_args_is_help=True)
app.add_typer(waiver_app, name="waiver")
app.add_typer(canary_app, name="canary")
app.add_typer(consistency_app, name="consistency")
app.add_typer(breaks_app, name="breaks")

Generation = Annotated[
    int | None, typer.Option("--generation", help="An older line; the newest by default.")
]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"levada {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    no_colour: Annotated[
        bool, typer.Option("--no-color", "--no-colour", help="No colours (as NO_COLOR does).")
    ] = False,
    version: Annotated[  # noqa: ARG001 - eager, answers by itself
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if no_colour:
        output.no_colour()


@app.command()
def check(
    project: Project = None,
    json: Json = False,
    domain: Annotated[
        list[str] | None,
        typer.Option(
            "--domain",
            help="Only the faults of these domains.",
            autocompletion=completing.domains,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--changed-since", help="Only what changed since this commit, and its readers."
        ),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="text, json (as --json) or github (annotations).")
    ] = "text",
) -> None:
    """Contracts, dbt projects, policies, an empty build: every fault at once (exit 2)."""
    from levada.cli import checking

    form = "json" if json else form
    code = checking.check(project, domains=tuple(domain or ()), since=since, form=form)
    raise typer.Exit(code)


@app.command("compile")
def compile_(project: Project = None, json: Json = False) -> None:
    """Write the compiled declarations that DAG parsing, sensors and commands read."""
    from levada.cli import checking

    raise typer.Exit(checking.compile_(project, as_json=json))


@app.command()
def review(
    base: Annotated[str, typer.Option("--base", help="What it would be merged into, like main.")],
    markdown: Annotated[
        str | None,
        typer.Option("--markdown", help="Write a comment for the pull request; - is stdout."),
    ] = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """What a change breaks, whom, and who must approve it. Exit 1 if it does not pass."""
    from levada.cli import reviewing

    raise typer.Exit(reviewing.review(project, base, markdown=markdown, as_json=json))


@app.command()
def run(
    selection: Selection = None,
    first: From = None,
    last: To = None,
    project: Project = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with its reasons; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Plan, then build, audit and publish, without Airflow. Exit 1 if something failed."""
    from levada.cli import running

    days = (first, last)
    code = running.run(project, selection or [], days, dry_run=dry_run, as_json=json)
    raise typer.Exit(code)


@app.command()
def diff(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="domain.table, a .parquet, .csv or .json file, postgres:CONN:table."
        ),
    ],
    b: Annotated[
        str | None,
        typer.Argument(metavar="B", help="The other side; nothing means A as it is now."),
    ] = None,
    at: Annotated[str, typer.Option("--at", help="Read A as it was at this data version.")] = "",
    key: Annotated[
        list[str] | None, typer.Option("--key", help="Column to pair rows by; the contract's key.")
    ] = None,
    interval: Annotated[
        str, typer.Option("--interval", help="Only this interval, like 2013-03-10.")
    ] = "",
    where: Annotated[str, typer.Option("--where", help="Only rows that meet this condition.")] = "",
    tolerance: Annotated[
        list[str] | None, typer.Option("--tolerance", help="column=0.01 or column=1%.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Rows shown of each kind.", min=0)] = 5,
    project: Project = None,
    json: Json = False,
) -> None:
    """What two tables differ in: columns, types, rows, values. Exit 1 if anything differs."""
    from levada.cli import differing

    code = differing.diff(
        project,
        a,
        b,
        at=at,
        key=tuple(key or ()),
        interval=interval,
        where=where,
        tolerance=tuple(tolerance or ()),
        samples=samples,
        as_json=json,
    )
    raise typer.Exit(code)


@app.command("verify-write")
def verify_write(
    statement: Annotated[
        str,
        typer.Argument(
            metavar="STATEMENT",
            help="INSERT, UPDATE, DELETE, MERGE ...; a .sql file; - for stdin; a model's table.",
        ),
    ],
    interval: Annotated[
        str, typer.Option("--interval", help="Of a model: which one is built, like 2013-03-10.")
    ] = "",
    key: Annotated[
        list[str] | None, typer.Option("--key", help="Column to pair rows by; the contract's key.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Rows shown of each kind.", min=0)] = 5,
    project: Project = None,
    json: Json = False,
) -> None:
    """What a statement, or a model as it is written, would change; nothing is written."""
    from levada.cli import differing

    found = differing.verify_write(
        *(project, statement),
        interval=interval,
        key=tuple(key or ()),
        samples=samples,
        as_json=json,
    )
    raise typer.Exit(found)


@app.command()
def replay(
    queries: Annotated[
        list[Path], typer.Argument(metavar="QUERIES...", help="Files of SQL, or folders of them.")
    ],
    old: Annotated[str, typer.Option("--old", help="The table that they read: domain.table@1.")],
    new: Annotated[str, typer.Option("--new", help="What they are to read: domain.table@2.")],
    at: Annotated[str, typer.Option("--at", help="The old one as of this data version.")] = "",
    jobs: Annotated[int, typer.Option("--jobs", help="At once; 0: one a core.", min=0)] = 0,
    seconds: Annotated[float, typer.Option("--timeout", help="For one side of a query.")] = 60.0,
    samples: Annotated[int, typer.Option("--samples", help="Rows shown of each kind.", min=0)] = 5,
    project: Project = None,
    json: Json = False,
) -> None:
    """Ask saved queries of a table's old and new version. Exit 1 if an answer differs."""
    from levada.cli import replaying

    code = replaying.replay(
        *(project, queries, old, new),
        at=at,
        jobs=jobs,
        seconds=seconds,
        samples=samples,
        as_json=json,
    )
    raise typer.Exit(code)


@app.command()
def status(
    selection: Selection = None,
    first: From = None,
    last: To = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """The board: products by intervals, ready, waiting, failed."""
    from levada.cli import looking

    raise typer.Exit(looking.status(project, selection or [], (first, last), as_json=json))


@app.command()
def why(
    table: Table,
    partition: Annotated[str, typer.Argument(help="2013-03-10, 2013-03-10T05Z, or whole.")],
    project: Project = None,
    json: Json = False,
) -> None:
    """Why a table's interval is ready or not, down to the root cause and its owner."""
    from levada.cli import looking

    raise typer.Exit(looking.why(project, table, partition, as_json=json))


@app.command()
def reproduce(
    table: Table,
    partition: Annotated[str, typer.Argument(help="2013-03-10, 2013-03-10T05Z, or whole.")],
    generation: Generation = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """Make a published interval again from what its run recorded, and compare; publish nothing."""
    from levada.cli import reproducing

    code = reproducing.reproduce(project, table, partition, generation, as_json=json)
    raise typer.Exit(code)


@app.command("explain-run")
def explain_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run; or a table, and a partition.")],
    partition: Annotated[str | None, typer.Argument(help="The table's partition.")] = None,
    generation: Generation = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """What a run was made of: code, contracts, inputs with their generations and versions."""
    from levada.cli import reproducing

    code = reproducing.explain(project, run, partition, generation, as_json=json)
    raise typer.Exit(code)


@app.command()
def release(
    table: Table,
    partition: Annotated[
        str | None, typer.Argument(help="The held partition; none for a table changed by hand.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why it may go on.")] = "",
    project: Project = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be released; change nothing.")
    ] = False,
) -> None:
    """Let go what is held: a change that an edge holds, or a table changed by hand."""
    from levada.cli import releasing

    raise typer.Exit(releasing.release(project, table, partition, reason, dry_run=dry_run))


@app.command()
def approve(
    file: Annotated[
        Path, typer.Argument(help="A waiver file, or a contract that breaks.", dir_okay=False)
    ],
    commit: Commit = None,
    reviewer: Reviewer = None,
    author: Authors = None,
    reason: Annotated[str, typer.Option("--reason", help="Why a breaking contract may pass.")] = "",
    project: Project = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be granted; change nothing.")
    ] = False,
) -> None:
    """Let pass, as governance, what a committed file asks for or breaks, as it is now."""
    from levada.cli import approving

    review = approving.Review(commit, reviewer, tuple(author or ()), reason)
    raise typer.Exit(approving.approve(project, file, review, dry_run=dry_run))


@waiver_app.command("list")
def waiver_list(project: Project = None, json: Json = False) -> None:
    """Waivers that are requested, live, expired or revoked, and what they taint."""
    from levada.cli import waiving

    raise typer.Exit(waiving.list_(project, as_json=json))


@waiver_app.command("expiring")
def waiver_expiring(
    within: Annotated[str, typer.Option("--within", help="How soon, like 7d.")] = "7d",
    project: Project = None,
    json: Json = False,
) -> None:
    """Live waivers that end soon (exit 1 if there is one)."""
    from levada.cli import waiving

    raise typer.Exit(waiving.expiring(project, within, as_json=json))


@waiver_app.command("revoke")
def waiver_revoke(
    digest: Annotated[str, typer.Argument(metavar="HASH", help="As `waiver list` shows it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it ends.")] = "",
    project: Project = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be revoked; change nothing.")
    ] = False,
) -> None:
    """End a live waiver now, as governance. It cannot be granted again: ask anew."""
    from levada.cli import waiving

    raise typer.Exit(waiving.revoke(project, digest, reason, dry_run=dry_run))


@app.command()
def doctor(
    older: Annotated[
        str, typer.Option("--older-than", help="What has waited longer is late, like 15m.")
    ] = "15m",
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Replay the ledger's log, too.")
    ] = True,
    project: Project = None,
    json: Json = False,
) -> None:
    """Examine what nobody watches: tail, reconciler, leases, sensors, data, ledger (exit 1)."""
    from levada.cli import doctoring

    raise typer.Exit(doctoring.doctor(project, older=older, verify=verify, as_json=json))


@app.command()
def simulate(
    scenario: Annotated[Path, typer.Argument(help="A YAML file: what arrives when, what fails.")],
    project: Project = None,
    json: Json = False,
) -> None:
    """What the mesh would do, in virtual time, by the same judge: a timeline with its reasons."""
    from levada.cli import simulating

    raise typer.Exit(simulating.simulate(project, scenario, as_json=json))


@app.command()
def catalog(
    sink: Annotated[
        Path | None,
        typer.Option("--sink", help="A file for DataHub; default .levada/catalog/datahub.json."),
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", help="A DataHub server, like http://datahub:8080.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until interrupted.")] = False,
    project: Project = None,
    json: Json = False,
) -> None:
    """Tell DataHub what was published since it was last told."""
    from levada.cli import cataloguing

    code = cataloguing.catalog(project, sink=sink, server=server, follow=follow, as_json=json)
    raise typer.Exit(code)


@app.command()
def up(
    project: Project = None,
    airflow: Annotated[
        bool, typer.Option("--airflow/--no-airflow", help="Start Airflow's components too.")
    ] = True,
) -> None:
    """Start PostgreSQL, with roles as in production, and Airflow, supervised, until `down`."""
    from levada.cli import services

    raise typer.Exit(services.up(project, airflow=airflow))


@app.command()
def down(project: Project = None) -> None:
    """End what `up` started."""
    from levada.cli import services

    raise typer.Exit(services.down(project))


@ledger_app.command("verify")
def ledger_verify(project: Project = None) -> None:
    """Replay the log and compare it with the projections (exit 1 if they differ)."""
    from levada.cli import services

    raise typer.Exit(services.verify(project))


@ledger_app.command("rebuild")
def ledger_rebuild(project: Project = None) -> None:
    """Make the projections anew from the log."""
    from levada.cli import services

    raise typer.Exit(services.rebuild(project))


@policy_app.command("list")
def policy_list(project: Project = None, json: Json = False) -> None:
    """Every policy: where it holds, what it does, how many tables break it."""
    from levada.cli import policing

    raise typer.Exit(policing.list_(project, as_json=json))


@policy_app.command("explain")
def policy_explain(
    name: Annotated[str, typer.Argument(help="A policy.")],
    table: Annotated[str | None, typer.Argument(help="domain.table: what it finds there.")] = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """Why there is a policy, where it holds, what satisfies it; for a table, what it found."""
    from levada.cli import policing

    raise typer.Exit(policing.explain(project, name, table, as_json=json))
