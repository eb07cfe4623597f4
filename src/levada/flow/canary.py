"""
A canary: the new version of a product built beside the old one, from the same pins.

Both are built in stages of their own. Where every table comes out equal, the new one is published;
where anything differs, or the new one cannot be built or compared, the old one is, by a run of its
own. So an interval is of one version, and whatever goes wrong serves what was served before.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levada import sense as sensing
from levada.adapters.diffing import DuckSide, compare
from levada.adapters.warehouses._session import scratch
from levada.adapters.warehouses._sql import literal, name, within_partitions
from levada.build import manifest_path
from levada.diff import Difference, Question
from levada.errors import (
    ClaimLost,
    DeclarationError,
    LawBroken,
    LevadaError,
    NotPublishable,
    ToolError,
)
from levada.flow.inspecting import send
from levada.flow.keeping import Kept, as_it_was, kept_as
from levada.flow.runs import Platform, Run, failed_attempt, heartbeat, made, staged, waived
from levada.ports import Stage, Want
from levada.readiness import bare, fingerprint, forced
from levada.terms import (
    Attempt,
    Canary,
    CanaryState,
    CheckResult,
    Claim,
    Contract,
    Partition,
    Product,
    Publication,
    Trial,
    Verdict,
)

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "audit",
    "build",
    "old_run",
    "publish",
    "publish_major",
    "serving",
    "settle",
    "tell_owner",
    "version",
]

_SAMPLES = 100

_log = logging.getLogger(__name__)
Step = Callable[[Platform, Run], Run]


def version(product: Product) -> str:
    """A product's code and contracts, as one name."""
    said = [product.code, *(c.label for c in product.contracts)]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]


def serving(platform: Platform, product: Product) -> Canary | None:
    """
    The canary by which a product is built; none, if it is built as it is written.

    Raises NotPublishable where neither of the versions of a running one is what is written, or
    what is written is a new major whose canary was aborted.
    """
    found = platform.runner.canary(product.id)
    if found is None or found.state is CanaryState.PROMOTED:
        return None
    here = version(product)
    if here == found.new:
        if found.rule and found.state is CanaryState.ABORTED:
            raise NotPublishable(
                f"canary {found.id} of {product} was aborted: mend it, or take it away"
            )
        return found
    if here == found.old or found.state is CanaryState.ABORTED:
        return None
    raise NotPublishable(
        f"canary {found.id} of {product} runs version {found.new} beside {found.old}, and "
        f"{here} is neither: abort it, and start another one"
    )


def build(platform: Platform, run: Run, found: Canary) -> Run:
    """Build the old version, and beside it, while the canary runs, the new one."""
    old = old_run(platform, run, found)
    before = _before(platform, old.product, found)
    stage = staged(before, old.id, old.product, run.claims)
    with _kept(platform, old.product, found).manifest(platform.settings, old.id) as manifest:
        made(before, old.product, stage, run.claims, manifest)
    # Out of the domain's reach before its other version runs, which else could read and change it.
    stage = platform.warehouse.seal(stage)
    run = replace(run, canary=found, old=replace(old, stage=stage))
    if found.state is CanaryState.ABORTED:
        return replace(run, failed=f"canary {found.id} was aborted")
    try:
        stage = staged(platform, run.id, run.product, run.claims)
        manifest = manifest_path(platform.settings, run.product.domain)
        made(platform, run.product, stage, run.claims, manifest)
    except ToolError as error:
        return replace(run, failed=f"the new version was not built: {error}")
    return replace(run, stage=stage)


def old_run(platform: Platform, run: Run, found: Canary) -> Run:
    """The run of the old version, by whose name it is published, if it is."""
    kept = _kept(platform, run.product, found)
    claims = tuple(replace(claim, run=f"{run.id}.old") for claim in run.claims)
    return Run(f"{run.id}.old", kept.product, run.partitions, claims, before=run.before)


def audit(platform: Platform, run: Run, audited: Step) -> Run:
    """Audit both, and compare them as the platform: what the domain says of itself is no proof."""
    found, old = _of(run)
    old = audited(_before(platform, old.product, found), old)
    if run.stage is not None:
        try:
            run = audited(platform, run)
        except (ToolError, NotPublishable) as error:
            run = replace(run, failed=f"the new version was not audited: {error}")
    run = replace(run, old=old)
    parts = [claim.partition for claim in run.claims]
    if run.failed or run.stage is None or old.stage is None:
        trials = {p: Trial(p, equal=False, because=run.failed) for p in parts}
    else:
        trials = {p: _trial(platform, found, run, old, p) for p in parts}
    return replace(run, trials=trials)


def publish(platform: Platform, run: Run, published: Step) -> Run:
    """Publish the new version of the intervals that came out equal, the old one of all others."""
    found, old = _of(run)
    now = platform.publisher.canary(run.product.id) or found
    alone = now.id == found.id and now.state is CanaryState.ABORTED
    equal = [c for c in run.claims if run.trials[c.partition].equal and not alone]
    others = [c for c in run.claims if c not in equal]
    if found.state is CanaryState.RUNNING and not alone:
        told = [replace(run.trials[c.partition], run=run.id) for c in equal]
        told += [replace(run.trials[c.partition], run=old.id) for c in others]
        platform.publisher.tell_canary(found.id, told)
        tell_owner(platform, run.product, found, [t for t in told if not t.equal])
    done = run
    if equal:
        done = published(platform, replace(run, claims=tuple(equal), old=None))
    if others:
        before = _before(platform, old.product, found)
        done = _serve_old(before, replace(done, claims=tuple(others)), old, published)
    settle(platform, found)
    return replace(done, claims=run.claims, old=old, over=True)


def publish_major(platform: Platform, run: Run, published: Step) -> Run:
    """
    Tell what the gate found of each interval, while the canary runs; publish what passes, withhold
    what does not.
    """
    found = run.canary
    if found is None:
        raise ValueError(f"run {run.id} is no canary's")
    now = platform.publisher.canary(run.product.id) or found
    if now.id == found.id and now.state is CanaryState.ABORTED:
        raise NotPublishable(f"canary {found.id} was aborted: {run.product} is not published")
    if now.id == found.id and now.state is CanaryState.RUNNING:
        told = [
            trial
            for claim in run.claims
            for result in run.reports[claim.partition].results
            if (trial := _gated(found, result, claim.partition, run.id))
        ]
        platform.publisher.tell_canary(found.id, told)
        tell_owner(platform, run.product, found, [trial for trial in told if not trial.equal])
    done = published(platform, run)
    settle(platform, found)
    return done


def _gated(found: Canary, result: CheckResult, partition: Partition, run: str) -> Trial | None:
    """What its gate said of an interval of a new major; nothing, where it could not be told."""
    if result.check.id != found.rule or result.verdict is Verdict.UNKNOWN:
        return None
    if result.verdict is Verdict.PASS:
        return Trial(partition, equal=True, because=f"as {found.old}", run=run)
    differing = {"rule": found.rule, "cases": result.count, "samples": list(result.rows)}
    because = f"{result.count} keys differ from {found.old}"
    return Trial(partition, False, because, {str(result.table): differing}, run)


def settle(platform: Platform, found: Canary) -> None:
    """Promote a canary by policy, where its row is long enough by now."""
    grown = platform.publisher.canary(found.product)
    if grown is not None and grown.by_policy and grown.ripe:
        try:
            platform.runner.settle_canary(grown.id)
        except LevadaError as error:  # what is published is published; the next interval asks again
            _log.warning("canary %s is not promoted yet: %s", grown.id, error)


def tell_owner(
    platform: Platform, product: Product, found: Canary, differing: Sequence[Trial]
) -> None:
    """Tell the owner which intervals differ, by the command of `tell`."""
    owner = product.marts[0].contract.owner
    for trial in differing:
        said = f"canary {found.id}: {product} {trial.partition.key} differs: {trial.because}"
        if not platform.settings.tell:
            _log.error("%s; %s was not told: levada.yaml names no `tell`", said, owner)
            continue
        message = {
            "event": "canary",
            "mesh": platform.settings.name,
            "product": product.id,
            "partition": trial.partition.key,
            "owner": owner.team if owner else product.domain,
            "contact": owner.contact if owner else "",
            "because": trial.because,
            "todo": f"`levada canary status {product}` shows keys and columns",
        }
        failed = send(platform.settings, message)
        _log.error("%s; %s", said, failed or f"{owner} was told")


def _serve_old(platform: Platform, run: Run, old: Run, published: Step) -> Run:
    """Publish what the old version made, where its audit lets it; else withhold the interval."""
    judged, _ = waived(platform, old, platform.clock())
    failing = [c for c in run.claims if not judged[c.partition].verdict.publishes]
    # By the claim of the new version: it is what is written, and what is parked until it changes.
    attempts = tuple(failed_attempt(platform, run, c, judged[c.partition]) for c in failing)
    if attempts:
        platform.publisher.withhold(attempts)
    claims = [c for c in run.claims if c not in failing]
    lines: tuple[Publication, ...] = ()
    more: tuple[Attempt, ...] = ()
    if claims:
        with _taken_over(platform, run, old, claims) as taken:
            done = published(platform, taken)
        lines, more = done.lines, done.attempts
    return replace(run, lines=(*run.lines, *lines), attempts=(*run.attempts, *attempts, *more))


@contextmanager
def _taken_over(platform: Platform, run: Run, old: Run, claims: Sequence[Claim]) -> Iterator[Run]:
    """
    The old version's run with these claims of a run, under its own fingerprints, kept alive. What
    fails under it fails as the run's own, which then has back what was not published.

    Where that version is what is published, it is published once more, marked by this run: what an
    interval told counts by its newest line.
    """
    wants = [
        Want(
            *(claim.product, claim.partition),
            forced(fingerprint(old.product, claim.partition, claim.inputs), _by(claim)),
            *(claim.inputs, claim.taint),
        )
        for claim in claims
    ]
    old = replace(old, claims=_handed(platform, run, old, wants))
    try:
        with heartbeat(platform, old):
            yield old
    except (LevadaError, OSError):
        kept = {claim.partition for claim in platform.runner.claims(old.id)}
        back = [
            Want(c.product, c.partition, c.fingerprint, c.inputs, c.taint)
            for c in claims
            if c.partition in kept
        ]
        with suppress(LawBroken):  # its intent stands: recovery sees whether it was swapped in
            _handed(platform, old, run, back)
        raise


def _handed(platform: Platform, giver: Run, taker: Run, wants: Sequence[Want]) -> tuple[Claim, ...]:
    """Hand claims of a product from one run to another one, so that nobody can come between."""
    tables = sensing.tables_to_read(platform.mesh, [taker.product])
    products = sensing.products_to_read(platform.mesh, [taker.product])
    lifetime = platform.claim_lifetime
    with platform.runner.sensing(tables, products) as transaction:
        parts = [want.partition for want in wants]
        held = {claim.partition for claim in platform.runner.claims(giver.id)}
        if lost := [str(part) for part in parts if part not in held]:
            raise ClaimLost(f"run {giver.id} has lost its claim of {giver.product} {lost[0]}")
        transaction.release(giver.id, parts, f"{taker.id} has it")
        taken = transaction.claim(wants, run=taker.id, lifetime=lifetime)
        known = {claim.partition for claim in taken}
        again = [
            replace(want, fingerprint=forced(bare(want.fingerprint), taker.id))
            for want in wants
            if want.partition not in known
        ]
        return (*taken, *transaction.claim(again, run=taker.id, lifetime=lifetime))


def _by(claim: Claim) -> str:
    """Who forced a build though its like is published."""
    return claim.fingerprint.partition("+")[2]


def _trial(platform: Platform, found: Canary, run: Run, old: Run, partition: Partition) -> Trial:
    """Whether both versions made the same of an interval, table by table."""
    new, was = (dict(each.reports[partition].contents) for each in (run, old))
    differences: dict[str, Any] = {}
    said: list[str] = []
    for mart in run.product.marts:
        if new[mart.table] == was[mart.table]:
            continue
        try:
            difference = _difference(platform, found, run, old, mart.contract, partition)
        except (ToolError, DeclarationError) as error:
            because = f"{mart.table} could not be compared: {error}"
            return Trial(partition, equal=False, because=because)
        differences[str(mart.table)] = _told(difference)
        if not difference.identical:
            said.append(f"{mart.table}: {difference}")
    rows = "the same rows" if not differences else "the same within tolerance"
    return Trial(partition, not said, "; ".join(said) or rows, differences)


def _difference(
    platform: Platform, found: Canary, run: Run, old: Run, contract: Contract, partition: Partition
) -> Difference:
    """Old against new, over one interval of one table; the two stages may have one name."""
    import duckdb

    where = within_partitions(contract, [partition])
    with tempfile.TemporaryDirectory(prefix="levada-canary-") as folder:
        file = Path(folder) / "old.duckdb"
        try:
            with _reading(platform, old, file, "") as (connection, stage):
                connection.execute(
                    f"CREATE TABLE beside.was AS SELECT * FROM {stage.outputs[contract.table]}"
                    f" WHERE {where}"
                )
            with _reading(platform, run, file, " (READ_ONLY)") as (connection, stage):
                new = f"(SELECT * FROM {stage.outputs[contract.table]} WHERE {where})"
                sides = DuckSide(connection, name("beside", "was")), DuckSide(connection, new)
                near = {
                    column.name: found.tolerance[column.name]
                    for column in contract.columns
                    if column.name in found.tolerance
                }
                return compare(connection, *sides, Question(contract.key, near, _SAMPLES))
        except duckdb.Error as error:
            raise ToolError("canary", str(error).splitlines()[0]) from error


@contextmanager
def _reading(
    platform: Platform, run: Run, file: Path, how: str
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Stage]]:
    if run.stage is None:
        raise ToolError("canary", f"run {run.id} has no stage")
    with closing(scratch(platform.warehouse.reading(run.stage))) as connection:
        connection.execute(f"ATTACH {literal(file)} AS beside{how}")
        yield connection, run.stage


def _told(found: Difference) -> Mapping[str, Any]:
    return {
        "rows": [found.rows_a, found.rows_b],
        "only_old": found.only_a,
        "only_new": found.only_b,
        "changed": found.changed,
        "tolerated": found.tolerated,
        "drift": [str(each) for each in found.drift],
        "columns": {each.column: each.rows for each in found.columns},
        "key": list(found.key),
        "samples": [
            {"kind": s.kind, "key": list(s.key), "values": [list(v) for v in s.values]}
            for s in found.samples
        ],
    }


def _of(run: Run) -> tuple[Canary, Run]:
    if run.canary is None or run.old is None:
        raise ValueError(f"run {run.id} is no canary's")
    return run.canary, run.old


def _kept(platform: Platform, product: Product, found: Canary) -> Kept:
    kept = kept_as(platform.settings, product, lambda each: version(each) == found.old)
    if kept is None:
        because = f"the old version {found.old} of {product} is not kept here"
        raise ToolError("canary", f"{because}: compile it here, or abort canary {found.id}")
    return kept


def _before(platform: Platform, product: Product, found: Canary) -> Platform:
    """The platform with the product as it was."""
    return replace(platform, mesh=as_it_was(platform.mesh, _kept(platform, product, found)))
