"""
A domain's DAGs, derived from its compiled declarations: one for each product.

Parsing reads `.levada/<domain>.json` and nothing else: no dbt, no Great Expectations, no database.
"""

from __future__ import annotations

import functools
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, get_parsing_context

from levada import compiled
from levada.intervals import containing
from levada.settings import Settings
from levada.terms import Grain, Product
from levada_sensors import connections
from levada_sensors.limits import ACTIVE, LIVE
from levada_sensors.sensors import TableSensor
from levada_sensors.tasks import BuildOperator, PublishOperator
from levada_sensors.timetable import IntervalTimetable

__all__ = ["product_dag", "product_dags"]


def product_dags(domain: str, root: Path | None = None) -> dict[str, DAG]:
    """
    The DAGs of a domain's products, by name, for `globals().update(...)` in a DAG file.

    Raises DeclarationError, naming the command that mends it, where the domain's declarations are
    not compiled or changed since. A worker, which runs one task, gets the DAG of that task alone.

    :param domain: the domain
    :param root: the folder of `levada.yaml` (default: LEVADA_PROJECT, or above the DAG folder)
    """
    settings = connections.settings_of(root or connections.project_root())
    share = compiled.load_domain(settings, domain, fresh=True)
    only = get_parsing_context().dag_id
    with compiled.uncollected():
        return {
            f"{domain}_{product.name}": product_dag(settings, product)
            for product in share.products
            if only in (None, product.id)
        }


def product_dag(settings: Settings, product: Product) -> DAG:
    """
    One product's DAG: sense, build, publish.

    Where the mesh dispatches what is ready, it has no timetable: the reconciler creates each run,
    and `sense` only claims.
    """
    whole = product.grain is Grain.WHOLE
    timetable = None
    if not whole and settings.dispatch == "sensor":
        begin = containing(product.grain, settings.live_from, product.zone).begin
        timetable = _timetable(
            product.grain, product.zone, max(begin, settings.span.start), settings.span.end
        )
    with DAG(
        dag_id=product.id,
        schedule=timetable,
        start_date=settings.span.start,
        catchup=timetable is not None,
        max_active_runs=ACTIVE[product.grain],
        is_paused_upon_creation=False,
        description=_first_sentence(product),
        doc_md=_documentation(product),
        tags=sorted({product.domain, product.layer.value}),
        default_args={
            "owner": product.owner.team,
            "retries": 0,
            "priority_weight": LIVE,
            "weight_rule": "absolute",
        },
    ) as dag:
        common: dict[str, Any] = {
            "product": product.id,
            "partition": "whole" if whole else "{{ dag_run.logical_date or '' }}",
            "root": str(settings.root),
        }
        sense = TableSensor(task_id="sense", **common)
        build = BuildOperator(task_id="build", **common)
        publish = PublishOperator(task_id="publish", outlets=_assets(product), **common)
        sense >> build >> publish
    return dag


@functools.lru_cache(maxsize=256)
def _timetable(grain: Grain, zone: str, start: datetime, stop: datetime) -> IntervalTimetable:
    """One for all products of a calendar: it says the same and never changes."""
    return IntervalTimetable(grain.value, zone, start, stop)


def _assets(product: Product) -> list[Asset]:
    """What Airflow's UI shows of the tables: a mirror of the ledger, never the truth."""
    tables = sorted(mart.table for mart in product.marts)
    return [Asset(name=str(t), uri=f"levada://{t.domain}/{t.relation}") for t in tables]


def _first_sentence(product: Product) -> str:
    text = " ".join(product.marts[0].contract.description.split())
    sentence, point, _ = text.partition(". ")
    return sentence + point.strip()


def _documentation(product: Product) -> str:
    """The contracts in short, and what each table waits for."""
    parts = [f"Product **{product.id}** of {product.owner}, {_every(product)}."]
    for mart in sorted(product.marts, key=lambda m: m.table):
        contract = mart.contract
        parts.append(f"### {mart.table}\n\n{contract.description.strip()}")
        parts.append(f"Contract `{contract.id}` {contract.version}, {contract.status}.")
        rows = [f"| {c.name} | {c.type} | {_cell(c.description)} |" for c in contract.columns]
        parts.append("\n".join(["| column | type | meaning |", "| --- | --- | --- |", *rows]))
        waits = sorted(f"- `{edge.upstream}` by {edge.mapping.kind}" for edge in mart.dependencies)
        if waits:
            parts.append("Waits for\n\n" + "\n".join(waits))
    return "\n\n".join(parts)


def _every(product: Product) -> str:
    if product.grain is Grain.WHOLE:
        return "built when something new landed"
    return f"built every {product.grain.value} of {product.zone}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
