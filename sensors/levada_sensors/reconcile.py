"""
The system DAG that starts whatever is not a timetable's first run; every run, where the mesh
dispatches what is ready.

It opens the steps of the plan in the ledger, then makes sure that each that could be built now has
a living run: an ended one is cleared, an absent one created, a living one left alone. Killed
anywhere it repeats harmlessly; stopped, nothing is lost, because the plan follows from the ledger.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import DAG, BaseOperator, BaseSensorOperator
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import StartTriggerArgs

from levada.errors import LevadaError
from levada.intervals import end, is_live
from levada.terms import Batch, Claim, Grain, Partition
from levada_sensors import connections
from levada_sensors.connections import RUNNER
from levada_sensors.dag_runs import ALIVE, count_alive, run_at, trigger
from levada_sensors.judging import claim_prefix
from levada_sensors.limits import LIVE
from levada_sensors.watching import ReconcileTrigger, Task, all_facts, work_of, yielding

if TYPE_CHECKING:
    from airflow.sdk import Context

    from levada.flow.stages import Platform

__all__ = ["ReconcileOperator", "WorkSensor", "compare_again", "reconcile_dag", "restated"]


def reconcile_dag(root: Path | None = None) -> DAG:
    """
    The DAG `levada.reconcile`: one run after the other, each waiting without a worker for work.

    :param root: the folder of `levada.yaml` (default: LEVADA_PROJECT, or above the DAG folder)
    """
    place = str(root or connections.project_root())
    with DAG(
        dag_id="levada.reconcile",
        schedule="@continuous",
        start_date=datetime(2013, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        description="Starts what no timetable does: restatements, repairs, retries, whole tables.",
        doc_md=__doc__,
        tags=["levada"],
        default_args={
            "owner": "levada",
            "retries": 0,
            "priority_weight": LIVE,
            "weight_rule": "absolute",
        },
    ) as dag:
        WorkSensor(task_id="watch", root=place) >> ReconcileOperator(task_id="act", root=place)
    return dag


class WorkSensor(BaseSensorOperator):
    """
    Waits until there is work for the reconciler, or for a long pause.

    :param root: the folder of `levada.yaml`
    :param conn_id: the Airflow connection to the ledger
    :param pause: the pause, in seconds
    """

    def __init__(
        self, *, root: str, conn_id: str = RUNNER, pause: float = 600.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.root = root
        self.conn_id = conn_id
        self.pause = pause
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="levada_sensors.watching.ReconcileTrigger",
            trigger_kwargs={"root": root, "conn_id": conn_id, "pause": pause},
            next_method="execute_complete",
        )

    def execute(self, context: Context) -> NoReturn:  # noqa: ARG002
        """Defer at once: for `dag.test()`."""
        trigger = ReconcileTrigger(root=self.root, conn_id=self.conn_id, pause=self.pause)
        self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Context, event: object = None) -> None:
        """There is work, or the pause is over."""


class ReconcileOperator(BaseOperator):
    """
    Opens steps and starts their runs; finishes what killed publishers left half done.

    :param root: the folder of `levada.yaml`
    """

    def __init__(self, *, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root

    def execute(self, context: Context) -> None:  # noqa: ARG002
        """One look at everything."""
        from levada import publish
        from levada.flow.inspecting import inspect
        from levada_sensors import restating
        from levada_sensors.working import opened

        with opened(Path(self.root), publishing=True) as platform:
            for run in publish.recover(platform.publisher, platform.warehouse):
                self.log.info("finished the publication of run %s, which had died", run)
            for found in inspect(platform.settings, platform.runner, platform.warehouse):
                self.log.error("%s is held: changed by hand, %s", found.table, found.because)
            dispatch = platform.settings.dispatch
            facts = self._swept(platform)
            work = work_of(platform.mesh, facts, platform.clock(), dispatch)
            opened_now = platform.runner.open_steps([s for s in work.steps if not s.first])
            # What a backfill has yet to make is its own, current or not: a forced one makes both.
            self._close(
                platform, {(s.product, s.partition) for s in work.steps} | {*facts.restating}
            )
            self.log.info("%d steps are new, %d to look after", opened_now, len(work.tasks))
            record = restating.record_of(platform)
            for said in restating.advance(platform, record):
                self.log.info("%s", said)
            for task in yielding(work.tasks, facts, {b.id for b in record.at_work()}):
                try:
                    said = look_after(task, platform)
                except (AirflowRuntimeError, LevadaError) as error:
                    said = f"cannot be started: {error}"  # its DAG is away; the others' are not
                self.log.info("%s %s: %s", *task.key, said)
            for batch, partition in restated(platform):
                try:
                    said = compare_again(batch, partition)
                except AirflowRuntimeError as error:
                    said = f"cannot be started: {error}"
                self.log.info("consistency.%s %s: %s", batch.id, partition, said)
            platform.runner.beat("reconcile")

    @staticmethod
    def _swept(platform: Platform) -> Any:
        """The facts, after the stages of dead runs were removed."""
        facts = all_facts(platform.runner, platform.mesh)
        live = {claim.run for claim in facts.claims.values()}
        live |= {intent.run for intent in platform.runner.intents()}
        platform.warehouse.sweep(live | {f"{run}.old" for run in live})
        return facts

    def _close(self, platform: Platform, open_still: set[tuple[str, Any]]) -> None:
        """Close steps that nothing is left to do for: their outputs are current again."""
        from levada.plan import explain
        from levada.terms import State

        known = {product.id for product in platform.mesh.products}
        asked = [
            step
            for step in platform.runner.steps()
            if step.product in known and (step.product, step.partition) not in open_still
        ]
        if not asked:
            return
        facts = all_facts(platform.runner, platform.mesh)
        rests = explain(
            *(platform.mesh, facts, platform.clock()),
            only=[(step.product, step.partition) for step in asked],
        )
        current = {(r.product, r.partition) for r in rests if r.readiness.state is State.READY}
        done = [step for step in asked if (step.product, step.partition) in current]
        if done:
            platform.runner.close_steps(done, "current again")


def restated(platform: Platform) -> tuple[tuple[Batch, Partition], ...]:
    """The intervals of consistency batches that were restated since they were reported."""
    from contextlib import closing

    from levada import compiled
    from levada.errors import DeclarationError
    from levada.flow import consistency
    from levada.ledger.findings import Findings

    try:
        batches = compiled.load_batches(platform.settings)
    except DeclarationError:
        return ()  # their own DAG file says what is wrong
    if not batches:
        return ()
    with closing(Findings(connections.AirflowCredentials().url(RUNNER))) as found:
        bench = consistency.Bench(
            *(platform.mesh, platform.runner, found, platform.warehouse, platform.clock),
            batches=batches,
        )
        return consistency.restated(bench, batches)


def compare_again(batch: Batch, partition: Partition) -> str:
    """
    See to it that a batch compares a restated interval again; what was done, in words. A run that
    is alive, or not there yet, compares it as it is then.
    """
    dag_id = f"consistency.{batch.id}"
    run = run_at(dag_id, partition.begin)
    if run is None:
        return "its timetable has yet to create the run"
    if run.state in ALIVE:
        return f"run {run.run_id} is alive"
    trigger(dag_id, run.run_id, partition.begin, end(partition), reset=True)
    return f"run {run.run_id} was cleared"


def look_after(task: Task, platform: Platform) -> str:
    """
    See to it that a step is built by somebody who lives; what was done, in words.

    A claim whose DAG run has ended is a dead build's: its attempt is recorded, with its back-off.
    Should that build live after all, its token is void, and it publishes nothing.
    """
    if task.claim is None:
        return ensure_run(task, platform.mesh.live_from, platform.settings.dispatch)
    if not _is_dead(task, task.claim):
        return f"run {task.claim.run} is about it"
    from levada.flow.stages import Run, failed_attempt

    before = platform.runner.facts((), [task.product.id]).attempts
    run = Run(task.claim.run, task.product, (task.step.partition,), (task.claim,), before=before)
    died = failed_attempt(platform, run, task.claim, None, "its process ended and said nothing")
    platform.runner.withhold([died])
    return f"run {task.claim.run} has died; it is tried again at {died.not_before:%H:%M:%S}Z"


def _is_dead(task: Task, claim: Claim) -> bool:
    """Whether the claim is that of a DAG run which has ended. Others' claims are their own."""
    dag_id, partition = task.product.id, task.step.partition
    if not claim.run.startswith(f"{dag_id}@"):
        return False
    if partition.grain is Grain.WHOLE:
        return not count_alive(dag_id)
    run = run_at(dag_id, partition.begin)
    if run is None or run.state in ALIVE:
        return False
    return claim.run.startswith(claim_prefix(dag_id, str(run.run_id)))


def ensure_run(task: Task, live_from: datetime, dispatch: str = "sensor") -> str:
    """
    See to it that a step has a living run; what was done, in words.

    Airflow keeps one run for each DAG and logical date, so that an ended one is cleared by its own
    id. A new one says when it was due: else its data interval would be reckoned from now. Only an
    ended run is reset: one that somebody made in between is left to live.
    """
    dag_id, partition = task.product.id, task.step.partition
    if partition.grain is Grain.WHOLE:
        if count_alive(dag_id):
            return "a run is alive"
        trigger(dag_id, f"step__{task.mark[:16]}", None, datetime.now(UTC), reset=True)
        return "started"
    run = run_at(dag_id, partition.begin)
    if run is not None:
        if run.state in ALIVE:
            return f"run {run.run_id} is alive"
        trigger(dag_id, run.run_id, partition.begin, end(partition), reset=True)
        return f"run {run.run_id} was cleared"
    if dispatch == "sensor" and is_live(partition, live_from):
        return "its timetable has yet to create the run"
    trigger(dag_id, f"step__{partition.key}", partition.begin, end(partition))
    return "a run was created"
