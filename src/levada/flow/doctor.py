"""
What may be wrong with a mesh that nobody notices: a tail that does not wake, a reconciler that
stopped, what dead processes left, a warehouse and a ledger that do not agree.

Each check looks at the real thing and finds it well or not; what could not be looked at is said to
be that, and never to be well.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from levada import compiled
from levada import plan as planning
from levada import sense as sensing
from levada.adapters.airflow import Deferred, deferred
from levada.adapters.cursor import CursorFile
from levada.catalog import Mark
from levada.errors import LevadaError
from levada.flow.guarding import asleep
from levada.intervals import containing
from levada.ledger import PostgresLedger
from levada.ledger.findings import Findings
from levada.ledger.tail import Batch, follow
from levada.ports import Want, Warehouse
from levada.settings import Settings
from levada.terms import WHOLE, Facts, Grain, Mesh, Partition, Publication, State

if TYPE_CHECKING:
    import asyncpg

__all__ = ["CHECKS", "Finding", "Health", "Patient", "examine"]

_PATIENCE = 10.0
_ASLEEP = 0.2
"""Seconds after which a follower that has read all there is sleeps until it is notified."""
_PAUSE = timedelta(minutes=10)
"""The reconciler looks at everything once in this time, whether there is work or not."""
_FEW = 3


class Health(enum.Enum):
    """What a check came to."""

    OK = "ok"
    BAD = "bad"
    UNSEEN = "not looked at"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it."""

    name: str
    health: Health
    detail: str
    todo: str = ""


@dataclass
class Patient:
    """A mesh and everything of it that is looked at."""

    settings: Settings
    mesh: Mesh
    runner: PostgresLedger
    owner: PostgresLedger
    findings: Findings
    warehouse: Warehouse
    connect: Callable[[], Awaitable[asyncpg.Connection]]
    """A connection for the tail, as a triggerer opens it."""
    airflow: str
    """The address at which Airflow's metadata database may stand."""
    older: timedelta
    """What has waited for less is not yet late."""
    now: datetime
    verify: bool = True

    @cached_property
    def facts(self) -> Facts:
        """Everything that the ledger shows of this mesh."""
        tables = {*self.mesh.tables(), *(source.table for source in self.mesh.sources)}
        return self.runner.facts(tables, [product.id for product in self.mesh.products])

    def is_late(self, since: datetime) -> bool:
        """Whether something has waited too long."""
        return self.now - since > self.older


def examine(patient: Patient) -> Iterator[Finding]:
    """One finding of each check, as it comes. A check that cannot look is bad news itself."""
    for name, check in CHECKS.items():
        try:
            health, detail, todo = check(patient)
        except LevadaError as error:
            health, detail, todo = Health.BAD, f"cannot be looked at: {error}", "mend that first"
        except Exception as error:  # whatever it is, the other checks are told all the same
            detail = f"cannot be looked at: {type(error).__name__}: {error}"
            health, todo = Health.BAD, "report it: the check itself is broken"
        yield Finding(name, health, detail, todo if health is not Health.OK else "")


Answer = tuple[Health, str, str]


# --- what is declared ---------------------------------------------------------------------------


def declarations(patient: Patient) -> Answer:
    """Every product reads what is declared, so that it can be judged."""
    lost = patient.mesh.lost
    if lost:
        todo = "run `levada check`: put back what is read, or read it no more"
        return Health.BAD, _listed(f"{name} {why}" for name, why in lost.items()), todo
    return Health.OK, f"{len(patient.mesh.products)} products, all with their inputs", ""


# --- the ledger and who follows it ----------------------------------------------------------------


def tail(patient: Patient) -> Answer:
    """A line that is committed now reaches a follower, woken and not by its slow poll."""
    todo = "look for a session that holds a commit open (pg_stat_activity, wait_event 'advisory')"
    deaf = (
        "LISTEN needs a session of its own: let the runner's connections past a pooler in"
        " transaction mode; until then sensors are woken by their poll, every 15 s"
    )
    return asyncio.run(_tail(patient, todo, deaf))


async def _tail(patient: Patient, todo: str, deaf: str) -> Answer:
    start = await asyncio.to_thread(patient.runner.position)
    batches = follow(patient.connect, start, poll=3600)
    first, second = secrets.token_hex(6), secrets.token_hex(6)
    await asyncio.to_thread(patient.runner.ping, first)
    if not await _comes(asyncio.ensure_future(_until(batches, first))):
        return Health.BAD, f"a committed line did not come within {_PATIENCE:.0f} s", todo
    # What is there is read without a notification; what comes while the follower sleeps is not.
    coming = asyncio.ensure_future(_until(batches, second))
    await asyncio.sleep(_ASLEEP)
    began = time.monotonic()
    await asyncio.to_thread(patient.runner.ping, second)
    committed = time.monotonic()
    if not await _comes(coming):
        return Health.BAD, f"no notification came within {_PATIENCE:.0f} s", deaf
    ms, own = (time.monotonic() - committed) * 1000, (committed - began) * 1000
    return Health.OK, f"a line took {own:.0f} ms to commit and {ms:.0f} ms to a follower", ""


async def _comes(coming: asyncio.Future[None]) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE):
            await coming
    except TimeoutError:
        return False
    return True


async def _until(batches: AsyncIterator[Batch], key: str) -> None:
    async for batch in batches:
        if ("levada", key) in batch.keys:
            return


def cursor(patient: Patient) -> Answer:
    """Every catalogue was told what was published."""
    todo = "run `levada catalog`, or see why `levada catalog --follow` stopped"
    files = sorted((patient.settings.home / "catalog").glob("*.cursor"))
    if not files:
        return Health.UNSEEN, "no catalogue was ever told from here", "`levada catalog` tells one"
    said, late = [], False
    for path in files:
        mark = CursorFile(path).read()
        lines = patient.runner.published(mark.position - 1 if mark else 0, 1001)
        if mark and lines and Mark.of(lines[0]) == mark:
            lines = lines[1:]
        elif mark:
            lines = patient.runner.published(0, 1001)
        count = f"{len(lines)}" if len(lines) < 1000 else "1000 or more"
        since = f", the oldest of {lines[0].at:%Y-%m-%d %H:%M}Z" if lines else ""
        said.append(f"{path.stem} lacks {count} publications{since}")
        late = late or (bool(lines) and patient.is_late(lines[0].at))
    return Health.BAD if late else Health.OK, "; ".join(said), todo


def projections(patient: Patient) -> Answer:
    """The state is what the log says."""
    if not patient.verify:
        return Health.UNSEEN, "left out by --no-verify", "run `levada ledger verify`"
    differing = patient.owner.verify()
    if differing:
        todo = "run `levada ledger rebuild`, and find out who wrote past the ledger's functions"
        return Health.BAD, _listed(differing), todo
    return Health.OK, "the projections are what the log says", ""


# --- who builds -----------------------------------------------------------------------------------


def reconciler(patient: Patient) -> Answer:
    """Airflow's reconciler watches and acts."""
    heard = patient.runner.heartbeats()
    watched, acted = heard.get("watch"), heard.get("reconcile")
    if watched is None and acted is None:
        said = "no reconciler was ever heard of on this ledger; `levada run` needs none"
        return Health.UNSEEN, said, "start Airflow with `levada up`, or go on with `levada run`"
    ages = [
        f"{name} last at {at:%Y-%m-%d %H:%M:%S}Z" if at else f"{name} never"
        for name, at in (("watched", watched), ("acted", acted))
    ]
    late = (watched is None or patient.is_late(watched)) or (
        acted is None or patient.is_late(acted + _PAUSE)
    )
    todo = (
        "see that the DAG levada.reconcile is not paused, and that triggerer and scheduler run:"
        " steps stay open until then, nothing is lost"
    )
    return Health.BAD if late else Health.OK, ", ".join(ages), todo


def steps(patient: Patient) -> Answer:
    """What was asked for and could be built is taken up."""
    mesh, facts = patient.mesh, patient.facts
    planned = {(s.product, s.partition) for s in planning.plan(mesh, facts, patient.now).steps}
    asked = patient.runner.asked()
    left = [
        f"{product} {partition.key} since {at:%Y-%m-%d %H:%M}Z"
        for (product, partition), at in sorted(asked.items(), key=lambda item: item[1])
        if patient.is_late(at)
        and (product, partition) in planned
        and (product, partition) not in facts.claims
        and _may_build(patient, product, partition)
    ]
    if left:
        todo = "run `levada run` for these products, or mend the reconciler"
        return Health.BAD, f"nobody builds {_listed(left)}", todo
    return Health.OK, f"of {len(asked)} open steps none is left lying", ""


def _may_build(patient: Patient, product: str, partition: Partition) -> bool:
    found = sensing.want(
        *(patient.mesh, patient.mesh.product(product), partition, patient.facts, patient.now)
    )
    return isinstance(found, Want)


def claims(patient: Patient) -> Answer:
    """Who claimed lives: a lease that ran out is a dead process's."""
    dead = [
        f"{product} {partition.key} by run {run}, since {until:%Y-%m-%d %H:%M:%S}Z"
        for product, partition, run, until in patient.runner.dead_claims()
    ]
    if dead:
        todo = "the next `levada run` or the reconciler takes them over: see why neither does"
        return Health.BAD, _listed(dead), todo
    return Health.OK, f"{len(patient.facts.claims)} claims, all alive", ""


def rules(patient: Patient) -> Answer:
    """No rule between tables has been without a verdict for long, or without a review."""
    batches = compiled.load_batches(patient.settings)
    found = asleep(patient.mesh, batches, patient.runner, patient.findings, patient.now)
    bad = [each for each in found if each.overdue or each.state == "dead"]
    if bad and not any(patient.findings.reports(batch.id) for batch in batches):
        todo = "`levada consistency run` runs them; in Airflow each batch has a DAG of its own"
        return Health.UNSEEN, "no consistency batch was ever run on this ledger", todo
    if bad:
        todo = (
            "a suspended rule: mend it, or `levada consistency review` it; a dead one: see in"
            " `levada consistency report` what it lacks, and that its batch is run"
        )
        return Health.BAD, _listed(bad), todo
    count = sum(len(batch.rules) for batch in batches)
    waiting = f"; {_listed(found)}" if found else ""
    return Health.OK, f"of {count} rules between tables none is dead{waiting}", ""


def intents(patient: Patient) -> Answer:
    """Who was about to publish did, or lives."""
    found = patient.runner.intents()
    lost = [
        f"run {i.run} of {i.product} ({len(i.lines)} lines, the warehouse has "
        f"{'them' if patient.warehouse.find(i.lines[0].table.domain, i.run) else 'nothing'})"
        for i in found
        if i.expired
    ]
    if lost:
        todo = (
            "the next `levada run` or the reconciler finishes or drops them: see why neither does"
        )
        return Health.BAD, _listed(lost), todo
    return Health.OK, f"{len(found)} intents, all alive" if found else "no intent is open", ""


def sensors(patient: Patient) -> Answer:
    """No deferred `sense` sleeps on what the ledger calls ready."""
    found = deferred(patient.airflow)
    if found is None:
        todo = "look at the tasks that are deferred in Airflow's own page"
        return Health.UNSEEN, "Airflow's metadata database is not at hand", todo
    slept, others, judged = [], 0, 0
    known = {product.id for product in patient.mesh.products}
    for task in found:
        if task.dag_id not in known or task.task_id != "sense":
            others += 1  # what it waits for is sealed with Airflow's key
            continue
        judged += 1
        since = _ready_since(patient, task)
        if since is not None and patient.is_late(max(since, task.since)):
            slept.append(f"{task.dag_id} {task.run_id}, ready since {since:%Y-%m-%d %H:%M:%S}Z")
    unseen = f"; {others} sensors of other DAGs were not judged" if others else ""
    if slept:
        todo = (
            "see the triggerer's log and `tail` here; restart the triggerer, or clear these tasks"
        )
        return Health.BAD, _listed(slept) + unseen, todo
    return Health.OK, f"{judged} deferred, all with a reason to wait{unseen}", ""


def _ready_since(patient: Patient, task: Deferred) -> datetime | None:
    """Since when the ledger has called the inputs of a `sense` ready; None where it does not."""
    product = patient.mesh.product(task.dag_id)
    if product.grain is Grain.WHOLE:
        partition = WHOLE
    elif task.logical_date is not None:
        partition = containing(product.grain, task.logical_date, product.zone)
    else:
        return None
    if (product.id, partition) in patient.facts.claims:
        return None
    found = sensing.want(patient.mesh, product, partition, patient.facts, patient.now)
    if isinstance(found, Want):
        read = [(i.table, i.partition) for i in found.inputs if i.content is not None]
    elif found.state is State.READY:
        read = [(mart.table, partition) for mart in product.marts]
    else:
        return None
    lines = [patient.facts.line(*each) for each in read]
    return max((line.at for line in lines if line is not None), default=None)


# --- the warehouse --------------------------------------------------------------------------------


def published(patient: Patient) -> Answer:
    """Warehouse and ledger tell the same: no change without a line, no line without its data."""
    wrong: list[str] = [
        f"{table} was changed by hand: {tampering.because}"
        for table, tampering in patient.facts.tampered.items()
    ]
    wrong += [
        f"the owner of {each.table}, which is held, was not told"
        for each in patient.runner.untold()
    ]
    versions: dict[str, set[str]] = {}
    newest: dict[str, Publication] = {}
    for line in patient.facts.lines.values():
        if isinstance(line, Publication):
            domain = line.table.domain
            versions.setdefault(domain, set()).add(line.data_version)
            if domain not in newest or newest[domain].at < line.at:
                newest[domain] = line
    for domain in patient.settings.domains:
        if domain not in versions:
            continue
        changes = patient.warehouse.changes(domain, patient.runner.inspected(domain))
        unknown = patient.runner.unknown_runs({c.run for c in changes if c.run})
        wrong += [
            f"version {c.version} of {domain} changed {', '.join(map(str, c.tables)) or c.what}"
            f" without a publication ({f'run {c.run}' if c.run else 'no run'})"
            for c in changes
            if c.run is None or c.run in unknown
        ]
        wrong += [
            f"{domain}'s warehouse lacks version {version}, which newest lines name"
            for version in patient.warehouse.missing(domain, versions[domain])
        ]
    if wrong:
        todo = (
            "a changed table: find who did it, then `levada release` it; an owner who was not told:"
            " mend `tell` in levada.yaml; a"
            " missing version: restore the warehouse, or publish the intervals again"
        )
        return Health.BAD, _listed(wrong), todo
    heads = ", ".join(f"{d} at {line.data_version}" for d, line in sorted(newest.items()))
    return Health.OK, f"warehouse and ledger agree ({heads or 'nothing published'})", ""


CHECKS: dict[str, Callable[[Patient], Answer]] = {
    "declarations": declarations,
    "tail": tail,
    "catalogue": cursor,
    "reconciler": reconciler,
    "steps": steps,
    "claims": claims,
    "intents": intents,
    "rules": rules,
    "sensors": sensors,
    "warehouse": published,
    "ledger": projections,
}


def _listed(items: Iterable[Any]) -> str:
    """A few of them, and how many more."""
    words = [str(item) for item in items]
    more = f"; and {len(words) - _FEW} more" if len(words) > _FEW else ""
    return "; ".join(words[:_FEW]) + more
