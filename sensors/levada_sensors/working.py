"""
What a product's worker tasks do: build with the domain's rights, audit and publish as the platform.

`build` stages the pinned inputs as the runner and lets dbt run in a process that holds nothing but
the domain's credentials.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from levada.adapters.dbt import DbtWorkers
from levada.adapters.gx import GreatExpectations
from levada.adapters.probes import Probes
from levada.errors import ClaimLost, LandingMoved, LevadaError, TableHeld
from levada.flow import canary, stages
from levada.flow.platform import now, warehouse
from levada.flow.runs import failed, heartbeat
from levada.flow.stages import Platform, Run
from levada.ports import Relation, Stage
from levada.terms import (
    Attempt,
    Partition,
    Product,
    Publication,
    Severity,
    State,
    TableRef,
    Verdict,
)
from levada_sensors import connections
from levada_sensors.judging import CLAIM_LIFETIME, claim_prefix, partition_of

__all__ = ["build", "opened", "publish", "staged", "swapped", "withheld"]

_log = logging.getLogger(__name__)


@contextmanager
def opened(root: Path, *, publishing: bool) -> Iterator[Platform]:
    """
    A platform with the rights of one task. Where it does not publish, its publisher is the runner,
    whom PostgreSQL refuses whatever only a publisher may.
    """
    settings = connections.settings_of(root)
    credentials = connections.AirflowCredentials()
    published = warehouse(settings, credentials)

    workers = DbtWorkers()
    runner = connections.ledger_at(credentials.url(connections.RUNNER))
    publisher = runner
    if publishing:
        publisher = connections.ledger_at(credentials.url(connections.PUBLISHER))
    try:
        yield Platform(
            settings=settings,
            mesh=connections.mesh_of(root),
            runner=runner,
            publisher=publisher,
            warehouse=published,
            builder=workers.build,
            auditor=GreatExpectations(setup=published.reading),
            clock=now,
            probes=Probes(settings.root, connections.outside),
            claim_lifetime=CLAIM_LIFETIME,
        )
    finally:
        workers.close()
        published.close()
        runner.close()
        publisher.close()


def build(root: Path, product_id: str, named: str, dag_run: tuple[str, str]) -> dict[str, Any]:
    """Stage and build what this DAG run's `sense` claimed; where the stage is, for `publish`."""
    with opened(root, publishing=False) as platform:
        product, partition = _target(platform, product_id, named)
        return staged(platform, _claimed(platform, product, partition, claim_prefix(*dag_run)))


def staged(platform: Platform, run: Run) -> dict[str, Any]:
    """Stage and build a claimed run; where its stage is, for `swapped`."""
    _log.info("builds %s as run %s", _named(run), run.id)
    with _told(platform, run), heartbeat(platform, run):
        built = stages.build(platform, run)
        # Until `publish` begins, nobody renews the lease.
        platform.runner.renew(run.id, CLAIM_LIFETIME)
    return {"run": built.id, **_written(built)}


def publish(root: Path, product_id: str, named: str, built: Mapping[str, Any]) -> None:
    """Audit what was built by the recorded contracts; publish it, or withhold it and say why."""
    with opened(root, publishing=True) as platform:
        product, partition = _target(platform, product_id, named)
        run = swapped(platform, product, (partition,), built)
        for attempt in run.attempts:
            raise AirflowFailException(withheld(platform, attempt))


def swapped(
    platform: Platform, product: Product, partitions: Sequence[Partition], built: Mapping[str, Any]
) -> Run:
    """Audit what `staged` has built; swap in what passed, withhold the rest."""
    run = _run_of(platform, str(built["run"]), product, partitions)
    run = _read(run, built, platform)
    with _told(platform, run), heartbeat(platform, run):
        platform.publisher.renew(run.id, platform.settings.lease)
        run = stages.publish(platform, stages.audit(platform, run))
    _drop(platform, run)
    for line in run.lines:
        _log.info(
            "published %s %s, generation %d, %s",
            *(line.table, line.partition, line.generation, line.verdict.value),
        )
    return run


def _target(platform: Platform, product_id: str, named: str) -> tuple[Product, Partition]:
    product = platform.mesh.product(product_id)
    return product, partition_of(named, product.grain, product.zone)


def _claimed(platform: Platform, product: Product, partition: Partition, prefix: str) -> Run:
    """The run that this DAG run's `sense` claimed; claimed again where that took too long."""
    claim = platform.runner.facts((), [product.id]).claims.get((product.id, partition))
    if claim is not None and claim.run.startswith(prefix):
        return _run_of(platform, claim.run, product, (partition,))
    again = Run(f"{prefix}again.{secrets.token_hex(4)}", product, (partition,))
    run = stages.sense(platform, again)
    if run.claims:
        return run
    waits = run.waiting.get(partition)
    if waits is not None and waits.state is State.READY:
        raise AirflowSkipException(f"{product} {partition} is {waits.because}: nothing is to build")
    held = f"run {claim.run} has it" if claim else "another run took it"
    raise AirflowFailException(
        f"the claim of {product} {partition} ran out before the build began, and cannot be had "
        f"again: {waits.because if waits else held}"
    )


def _run_of(platform: Platform, run: str, product: Product, partitions: Sequence[Partition]) -> Run:
    """A claimed run, with the attempts that came before it."""
    claims = platform.runner.claims(run)
    named = _named(Run(run, product, tuple(partitions)))
    if not claims and _is_published(platform, run, product, partitions[0]):
        raise AirflowSkipException(f"{named} was published by run {run} already")
    if not claims:
        raise AirflowFailException(
            f"run {run} no longer holds a claim of {named}: clear the whole DAG run"
        )
    before = platform.runner.facts((), [product.id]).attempts
    return Run(run, product, tuple(c.partition for c in claims), claims=claims, before=before)


def _named(run: Run) -> str:
    """The product and its slices, for people."""
    first, *more = run.partitions
    return f"{run.product} {first}" + (f" .. {more[-1]} ({len(more) + 1})" if more else "")


def _is_published(platform: Platform, run: str, product: Product, partition: Partition) -> bool:
    """Whether a run wrote its lines, whatever was published since."""
    return any(
        isinstance(line, Publication) and line.run == run
        for mart in product.marts
        for line in platform.runner.history(mart.table, partition)
    )


@contextmanager
def _told(platform: Platform, run: Run) -> Iterator[None]:
    """What goes wrong becomes a line of the ledger and one sentence in Airflow."""
    try:
        yield
    except (ClaimLost, LandingMoved, TableHeld) as error:
        platform.runner.release(run.id, run.partitions, str(error))
        _drop(platform, run)
        raise AirflowFailException(f"{_named(run)}: {error}") from error
    except (LevadaError, OSError) as error:
        failed(platform, run, error)
        _drop(platform, run)
        raise AirflowFailException(f"{_named(run)}: {error}") from error


def _drop(platform: Platform, run: Run) -> None:
    for each in (run.id, f"{run.id}.old"):
        stage = Stage(each, platform.settings.home / "stages" / each, {}, {})
        platform.warehouse.discard(stage)


def withheld(platform: Platform, attempt: Attempt) -> str:
    """One sentence: which check of which table, and whom to ask."""
    named = f"{attempt.product} {attempt.partition} is withheld"
    blocking = [r for r in attempt.results if r.check.severity is Severity.BLOCKING]
    failing = [r for r in blocking if r.verdict is Verdict.FAIL] or blocking
    if not failing:
        return f"{named}: {attempt.because}"
    first = failing[0]
    more = f" and {len(failing) - 1} more" if len(failing) > 1 else ""
    how = "failed" if first.verdict is Verdict.FAIL else "could not be told"
    return (
        f"{named}: check {first} of {first.table} {how}{more}; "
        f"ask {platform.mesh.owner(first.table)}"
    )


# A stage between two tasks


def _written(run: Run) -> dict[str, Any]:
    """Where the stage of a run is and, of a canary, that of the old version."""
    if run.canary is None or run.old is None or run.old.stage is None:
        if run.stage is None:
            raise AirflowFailException(f"run {run.id} left no stage")
        of = {"canary": run.canary.id} if run.canary else {}
        return {"stage": _place(run.stage), **of}
    return {
        "stage": _place(run.stage) if run.stage else None,
        "canary": run.canary.id,
        "old": _place(run.old.stage),
        "failed": run.failed,
    }


def _place(stage: Stage) -> dict[str, Any]:
    def places(relations: Mapping[TableRef, Relation]) -> dict[str, list[str]]:
        return {str(t): [r.database, r.schema, r.name] for t, r in relations.items()}

    return {
        "path": str(stage.path),
        "run": stage.run,
        "outputs": places(stage.outputs),
        "inputs": places(stage.inputs),
        "private": stage.private,
    }


def _read(run: Run, built: Mapping[str, Any], platform: Platform) -> Run:
    """The run with what its `build` left; the canary is the one by which it was built."""
    stage = _stage(built["stage"], platform) if built["stage"] else None
    if "canary" not in built:
        return replace(run, stage=stage)
    known = {each.id: each for each in platform.runner.canaries(run.product.id)}
    found = known[built["canary"]]
    if "old" not in built:
        return replace(run, stage=stage, canary=found)
    old = replace(canary.old_run(platform, run, found), stage=_stage(built["old"], platform))
    return replace(run, stage=stage, canary=found, old=old, failed=str(built["failed"]))


def _stage(written: Mapping[str, Any], platform: Platform) -> Stage:
    def places(relations: Mapping[str, Sequence[str]]) -> dict[TableRef, Relation]:
        return {TableRef.parse(table): Relation(*words) for table, words in relations.items()}

    path = Path(written["path"])
    if not path.is_relative_to(platform.settings.home / "stages"):
        raise AirflowFailException(f"{path} is no stage of this project")
    outputs, inputs = places(written["outputs"]), places(written["inputs"])
    return Stage(str(written["run"]), path, outputs, inputs, str(written["private"]))
