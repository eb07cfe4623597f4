"""What the worker task of a consistency batch does: compare one interval, and catch up."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from levada import compiled
from levada.errors import LevadaError
from levada.flow import consistency
from levada_sensors import connections
from levada_sensors.judging import partition_of

__all__ = ["compare"]

_log = logging.getLogger(__name__)


def compare(root: Path, batch_id: str, named: str) -> list[dict[str, Any]]:
    """
    Report this interval, and those that were restated since they were reported.

    Raises AirflowException, so that Airflow tries again, where a tool broke.
    """
    settings, mesh = connections.settings_of(root), connections.mesh_of(root)
    batches = compiled.load_batches(settings)
    (batch,) = consistency.chosen(batches, [batch_id])
    partition = partition_of(named, batch.grain, batch.zone)
    try:
        credentials = connections.AirflowCredentials()
        with consistency.bench(settings, mesh, credentials, batches) as bench:
            made = consistency.run(bench, [batch], mesh.span, surely=partition)
    except LevadaError as error:
        raise AirflowException(f"batch {batch_id} {partition}: {error}") from error
    for report in made:
        _log.info("%s %s %s: %s", batch_id, report.partition, report.verdict.value, report.summary)
    broken = [r for report in made for r in report.results if r.broke]
    if broken:
        raise AirflowException(f"batch {batch_id}: {broken[0].rule.id}: {broken[0].because}")
    if not made:
        raise AirflowSkipException(f"{batch_id} {partition} is reported as it stands")
    return [
        {
            "partition": report.partition.key,
            "verdict": report.verdict.value,
            "cases": report.cases,
            "summary": report.summary,
        }
        for report in made
    ]
