"""A promised latency over the real thing: what is late, what is history, what is a repair."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
import tiny
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

HISTORY, LATE = "2013-03-08", "2013-03-09"


def promised_at(mesh: Workspace, instant: str) -> None:
    """Let the contracts have been recorded at another time, as the superuser alone can."""
    url = mesh.credentials.url(mesh.credentials.admin, "levada")
    with psycopg.connect(url) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update ledger.entry set at = %s where kind = 'contract'", [instant])


def lines(mesh: Workspace) -> list[tuple[str, int, str, list[str]]]:
    return [
        (part.split("|")[1][:10], generation, verdict, [w.partition(" ")[0] for w in warnings])
        for part, generation, verdict, warnings in mesh.rows(
            "select part, generation, verdict, warnings from ledger.publications order by 1, 2"
        )
    ]


def test_only_the_first_publication_of_what_ended_after_the_promise_is_late(
    tmp_path: Path,
) -> None:
    mesh = tiny.mesh(tmp_path, ["harbour"], last=LATE)
    tiny.project(mesh, "harbour", lands=True)
    contract = tiny.contract(mesh, "harbour", "ships")
    level = "slaProperties:\n  - {property: latency, value: 6, unit: h}\n"
    contract.write_text(contract.read_text() + level)
    tiny.model(
        mesh,
        "harbour",
        "ships",
        f"select {tiny.NUMBERS} from {{{{ source('landing', 'numbers') }}}}",
    )
    tiny.landed(mesh, "harbour", HISTORY, [1])
    mesh.start()
    try:
        mesh.levada("run")
        assert lines(mesh) == [(HISTORY, 1, "PASS", [])], "it had ended before it was promised"

        promised_at(mesh, f"{LATE}T12:00:00+00:00")
        tiny.landed(mesh, "harbour", LATE, [1])
        mesh.levada("run")
        assert lines(mesh)[1:] == [(LATE, 1, "WARN", ["sla.latency"])]

        tiny.landed(mesh, "harbour", LATE, [2])
        tiny.landed(mesh, "harbour", HISTORY, [2])
        mesh.levada("run")
        assert [line for line in lines(mesh) if line[1] == 2] == [
            (HISTORY, 2, "PASS", []),
            (LATE, 2, "PASS", []),
        ], "a repair does not make late what was published before"
    finally:
        mesh.stop()
