"""
The system DAG that asks for what waits for an approval, by Airflow's human-in-the-loop operator:
waivers, rules that the over-detection guard suspended or holds, canaries that are ripe.

Who answers is whoever Airflow says has answered. His answer counts by the same rules as in the
pipeline of the protected branch: he is entitled, asked, no owner and no author, and the file is
committed and still says what was shown to him. The line is written with the governance role.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from levada_sensors import connections

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["ApproveWaiver", "OpenRequests", "approvals_dag"]


def approvals_dag(
    root: Path | None = None,
    *,
    every: timedelta = timedelta(minutes=10),
    patience: timedelta = timedelta(hours=1),
) -> DAG:
    """
    The DAG `levada.approvals`: one round after the other, each asks for what is open.

    :param root: the folder of `levada.yaml` (default: LEVADA_PROJECT, or above the DAG folder)
    :param every: how long until the next round, when nothing is open
    :param patience: how long a round waits for answers; what is not answered is asked anew
    """
    place = str(root or connections.project_root())
    with DAG(
        dag_id="levada.approvals",
        schedule=every,
        start_date=datetime(2013, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        description="Asks for what waits for an approval, and records who approved it.",
        doc_md=__doc__,
        tags=["levada"],
        default_args={"owner": "levada", "retries": 0},
    ) as dag:
        asked = OpenRequests(task_id="ask", root=place)
        ApproveWaiver.partial(
            task_id="approve", root=place, response_timeout=patience
        ).expand_kwargs(asked.output)
    return dag


class OpenRequests(BaseOperator):
    """
    Reads what nobody has answered.

    :param root: the folder of `levada.yaml`
    """

    def __init__(self, *, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root

    def execute(self, context: Context) -> list[dict[str, str]]:  # noqa: ARG002
        """What to ask, request by request."""
        from levada.flow.asking import opened
        from levada.ledger.findings import Findings

        root = Path(self.root)
        settings, mesh = connections.settings_of(root), connections.mesh_of(root)
        url = connections.AirflowCredentials().url(connections.RUNNER)
        with closing(Findings(url)) as reports:
            ledger = connections.ledger_at(url)
            found = opened(settings, mesh, ledger, reports, datetime.now(UTC))
        return [
            {
                "kind": each.kind,
                "name": each.name,
                "path": each.path,
                "digest": each.digest,
                "subject": each.title,
                "body": _body(each.path, each.text),
            }
            for each in found
        ]


def _body(path: str, text: str) -> str:
    indented = "\n".join(f"    {line}" for line in text.splitlines())
    return f"`{path}` asks:\n\n{indented}\n"


class ApproveWaiver(ApprovalOperator):
    """
    Asks for one approval; given, it counts for what stood there when it was asked for.

    :param root: the folder of `levada.yaml`
    :param path: the file, inside it
    :param digest: the hash of what the file said
    :param kind: `waiver`, `rule` or `canary`
    :param name: the rule's or the product's
    """

    def __init__(
        self,
        *,
        root: str,
        path: str,
        digest: str,
        kind: str = "waiver",
        name: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = root
        self.path = path
        self.digest = digest
        self.kind = kind
        self.name = name

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Write the line of whoever approved; a refusal writes none, and is asked anew."""
        answered = super().execute_complete(context, event)
        if answered["chosen_options"] == [self.APPROVE]:
            asked = (self.kind, self.name or self.path, self.digest)
            self.log.info("%s", grant(Path(self.root), asked, _who(event)))
        return answered

    def process_trigger_event_error(self, event: dict[str, Any]) -> None:
        """Nobody answered: it is asked anew in the next round."""
        if event["error_type"] == "timeout":
            raise AirflowSkipException(f"nobody answered for {self.path}: it is asked anew")
        super().process_trigger_event_error(event)


def _who(event: Mapping[str, Any]) -> str:
    """Who answered; nobody, where Airflow took a default."""
    user = event.get("responded_by_user") or {}
    return str(user.get("name") or user.get("id") or "")


def grant(root: Path, asked: tuple[str, str, str], reviewer: str) -> str:
    """Grant what was asked for (kind, name, digest), if it still stands so; in words."""
    from levada.errors import LevadaError
    from levada.flow.asking import approve
    from levada.ledger.findings import Findings

    settings, mesh = connections.settings_of(root), connections.mesh_of(root)
    url = connections.AirflowCredentials().url(connections.GOVERNANCE)
    ledger = connections.ledger_at(url)
    try:
        with closing(Findings(url)) as reports:
            return approve(settings, mesh, ledger, reports, asked, reviewer)
    except LevadaError as error:
        raise AirflowFailException(f"{reviewer}'s approval does not count: {error}") from error
    finally:
        ledger.close()
