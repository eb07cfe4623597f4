"""
How the words of Levada are written in the ledger, and read back.

A partition is one text, `grain|start|zone`; an input is an array, because a line may have dozens.
Decoding is the cost of reading ten thousand lines, so names and partitions are made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from levada.intervals import end
from levada.terms import (
    Attempt,
    Check,
    CheckResult,
    GateVerdict,
    Grain,
    Input,
    Landing,
    Partition,
    Publication,
    Severity,
    Step,
    TableRef,
    Verdict,
    Waived,
)

__all__ = [
    "decode_inputs",
    "decode_line",
    "decode_partition",
    "decode_results",
    "decode_table",
    "decode_waived",
    "encode_attempt",
    "encode_inputs",
    "encode_landing",
    "encode_line",
    "encode_partition",
    "encode_results",
    "encode_step",
]

Json = dict[str, Any]


def encode_partition(partition: Partition) -> str:
    """
    One text for a partition, equal exactly when the partitions are.

    >>> encode_partition(Partition(Grain.DAY, datetime(2013, 3, 10, 5, tzinfo=UTC), "America/Lima"))
    'day|2013-03-10T05:00:00+00:00|America/Lima'
    """
    start = partition.start.isoformat() if partition.start else ""
    return f"{partition.grain.value}|{start}|{partition.zone}"


@lru_cache(maxsize=100_000)
def decode_partition(text: str) -> Partition:
    """
    The partition of a text.

    >>> decode_partition("whole||UTC")
    Partition(grain=<Grain.WHOLE: 'whole'>, start=None, zone='UTC')
    """
    grain, start, zone = text.split("|")
    return Partition(Grain(grain), datetime.fromisoformat(start) if start else None, zone)


@lru_cache(maxsize=10_000)
def decode_table(text: str) -> TableRef:
    """
    The table of a text.

    >>> str(decode_table("weather.landing.observations"))
    'weather.landing.observations'
    """
    return TableRef.parse(text)


def encode_inputs(inputs: Iterable[Input]) -> list[list[Any]]:
    """
    Each input as `[table, partition, generation, content, data version]`, and the generation that
    was there and not ready, if one was.
    """
    return [
        [
            *(str(i.table), encode_partition(i.partition)),
            *(i.generation, i.content, i.data_version),
            *((i.unready,) if i.unready else ()),
        ]
        for i in inputs
    ]


def _ends(partition: Partition) -> str | None:
    """Where a slice ends, by the one calendar: the database knows zones, but not ours."""
    return end(partition).isoformat() if partition.start else None


def decode_inputs(rows: Iterable[list[Any]]) -> tuple[Input, ...]:
    """
    The inputs of their arrays.

    >>> decode_inputs([["fleet.planes@1", "whole||UTC", 2, "9:f", "7"]])[0].generation
    2
    """
    return tuple(
        Input(decode_table(table), decode_partition(part), *read) for table, part, *read in rows
    )


def decode_waived(rows: Iterable[list[Any]]) -> tuple[Waived, ...]:
    """
    The waived checks of their arrays.

    >>> str(decode_waived([["fleet.planes@1", "whole||UTC", "rows_present"]])[0])
    'rows_present of fleet.planes@1 whole'
    """
    marks = (Waived(decode_table(t), decode_partition(p), check) for t, p, check in rows)
    return tuple(sorted(marks))


def encode_landing(landing: Landing) -> Json:
    """A landing, without the generation and the position that the ledger gives."""
    return {
        "table_name": str(landing.table),
        "part": encode_partition(landing.partition),
        "key": landing.partition.key,
        "ends": _ends(landing.partition),
        "content": landing.content,
        "path": landing.path,
        "size": landing.size,
        "at": landing.at.isoformat(),
    }


def encode_line(line: Publication) -> Json:
    """A publication, without what the ledger gives: generation, position, data version, run."""
    return {
        "table_name": str(line.table),
        "part": encode_partition(line.partition),
        "key": line.partition.key,
        "ends": _ends(line.partition),
        "contract": line.contract,
        "verdict": line.verdict.value,
        "content": line.content,
        "made_by": line.made_by,
        "inputs": encode_inputs(line.inputs),
        "taint": list(line.taint),
        "warnings": list(line.warnings),
        "waived": [[str(m.table), encode_partition(m.partition), m.check] for m in line.waived],
        "at": line.at.isoformat(),
    } | ({"gates": [[g.rule, g.hash, g.verdict.value] for g in line.gates]} if line.gates else {})


def decode_line(line: Json) -> Publication:
    """A publication of an intent: nothing was swapped yet, so it may have no data version."""
    return Publication(
        table=decode_table(line["table_name"]),
        partition=decode_partition(line["part"]),
        generation=line["generation"],
        contract=line["contract"],
        verdict=Verdict(line["verdict"]),
        data_version=line.get("data_version", ""),
        content=line["content"],
        made_by=line["made_by"],
        inputs=decode_inputs(line["inputs"]),
        taint=tuple(line["taint"]),
        warnings=tuple(line.get("warnings", ())),
        waived=decode_waived(line.get("waived", ())),
        run=line["run"],
        at=datetime.fromisoformat(line["at"]).astimezone(UTC),
        gates=tuple(GateVerdict(r, h, Verdict(v)) for r, h, v in line.get("gates", ())),
    )


def encode_attempt(attempt: Attempt) -> Json:
    """An attempt; the ledger counts its tries."""
    return {
        "product": attempt.product,
        "part": encode_partition(attempt.partition),
        "key": attempt.partition.key,
        "run": attempt.run,
        "fingerprint": attempt.fingerprint,
        "verdict": attempt.verdict.value,
        "because": attempt.because,
        "results": encode_results(attempt.results),
        "at": attempt.at.isoformat(),
        "not_before": attempt.not_before.isoformat() if attempt.not_before else None,
    }


def encode_step(step: Step) -> Json:
    """A step that is to be opened or closed."""
    return {
        "product": step.product,
        "part": encode_partition(step.partition),
        "key": step.partition.key,
        "because": step.because,
        "required": [[str(t), encode_partition(p), g] for t, p, g in step.required],
        "first": step.first,
    }


def encode_results(results: Iterable[CheckResult]) -> list[Json]:
    """What an audit found, check by check."""
    return [
        {
            "check": {f.name: _plain(getattr(r.check, f.name)) for f in fields(Check)},
            "table": str(r.table),
            "verdict": r.verdict.value,
            "observed": r.observed,
            "because": r.because,
            "count": r.count,
            "rows": list(r.rows),
        }
        for r in results
    ]


def decode_results(rows: Iterable[Mapping[str, Any]]) -> tuple[CheckResult, ...]:
    """
    The results of an audit, equal to those that were written.

    >>> import json
    >>> one = CheckResult(Check("c", "rowCount"), TableRef("a", "b"), Verdict.FAIL, rows=("x=1",))
    >>> decode_results(json.loads(json.dumps(encode_results([one])))) == (one,)
    True
    """
    return tuple(
        CheckResult(
            check=_check(row["check"]),
            table=decode_table(row["table"]),
            verdict=Verdict(row["verdict"]),
            observed=row["observed"],
            because=row["because"],
            count=row["count"],
            rows=tuple(row["rows"]),
        )
        for row in rows
    )


def _check(written: Mapping[str, Any]) -> Check:
    known = {f.name for f in fields(Check)}
    values = {name: _frozen(value) for name, value in written.items() if name in known}
    return Check(**{**values, "severity": Severity(written["severity"])})


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Severity) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
