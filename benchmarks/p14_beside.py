"""
P14: what a backfill beside it costs the live day: upstream ready to downstream ready, p95.

A real Airflow as `levada up` starts it. `down.result` reads `up.numbers`; measured is from the
publication of the one to the publication of the other, live day after live day, each landed when
the last one is done. In turns of `--turn` days a backfill of their history runs beside them or is
paused, so that the noise of the machine falls on both sides. It is forced and begun anew when it
has ended: while its turn lasts, there is always something of it to build.

Takes about ten minutes on a quiet machine; `--small` tries it out.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from _figure import quantiles, report, say
from _live_mesh import live_mesh

GOAL = 1.2
FIRST = date(2013, 3, 8)
PATIENCE = 900.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=40, help="live days, half of them beside it")
    parser.add_argument("--turn", type=int, default=5, help="days of a turn")
    parser.add_argument("--history", type=int, default=40, help="days that are made again")
    parser.add_argument("--small", action="store_true", help="a few days, to try it out")
    words = parser.parse_args()
    if words.small:
        words.days, words.turn, words.history = 8, 2, 6
    history = [str(FIRST + timedelta(days=n)) for n in range(words.history)]
    folder = Path(tempfile.mkdtemp())
    live = [str(FIRST + timedelta(days=len(history) + n)) for n in range(words.days + 1)]
    import tiny

    from levada.settings import read_settings
    from levada_sensors import service

    workspace = live_mesh(folder / "mesh", live[0], live[-1], "400d")
    for day in history:
        tiny.landed(workspace, "up", day, [1, 2, 3])
    try:
        say(f"p14: {len(history)} days of history are published")
        workspace.start()
        assert workspace.begin("run").wait(3600).returncode == 0
        say("p14: Airflow starts")
        workspace.levada("up")
        sides = _measured(workspace, history, live, words.turn)
    finally:
        service.stop(read_settings(workspace.root))
        workspace.stop()
        shutil.rmtree(folder, ignore_errors=True)
    (p50_beside, p95_beside), (p50, p95) = (quantiles(sides[beside], 50, 95) for beside in (1, 0))
    report(
        "p14_beside",
        ours=p95_beside,
        peer=p95,
        ratio=p95_beside / p95,
        goal=f"p95 at most {GOAL}x",
        met=p95_beside / p95 <= GOAL,
        unit="s from upstream ready to downstream ready",
        days=[len(sides[1]), len(sides[0])],
        p50=[p50_beside, p50],
        made_beside=made_beside[0],
    )


made_beside = [0]
"""Intervals that the backfills made meanwhile."""


def _measured(
    workspace: Any, history: list[str], live: list[str], turn: int
) -> tuple[list[float], list[float]]:
    """Seconds of each live day: without a backfill, and beside one."""
    sides: tuple[list[float], list[float]] = ([], [])
    _land(workspace, live[0])  # the first one warms what is to be warm
    name = ""
    for n, day in enumerate(live[1:]):
        beside = (n // turn) % 2
        if beside:
            name = _at_work(workspace, history, name)
        elif name and _state(workspace, name) == "running":
            workspace.levada("backfill", "pause", name)
            _until(lambda: not _alive(workspace))
        sides[beside].append(_land(workspace, day))
        say(f"p14: {day} {'beside a backfill' if beside else 'alone':<18} {sides[beside][-1]:.2f}")
    rows = workspace.rows("select count(*) from ledger.backfill_steps where state = 'made'")
    made_beside[0] = int(rows[0][0])
    return sides


def _at_work(workspace: Any, history: list[str], name: str) -> str:
    """A backfill that runs: this one, or a new one where it has ended."""
    state = _state(workspace, name) if name else ""
    if state == "paused":
        workspace.levada("backfill", "resume", name)
    elif state != "running":
        path = workspace.root / "plan.json"
        workspace.levada(
            *("backfill", "plan", "up.numbers", "--from", history[0], "--to", history[-1]),
            *("--reason", f"turn {time.time():.0f}", "--out", str(path)),
        )
        name = str(workspace.json("backfill", "run", str(path), "--force")["id"])
    _until(lambda: bool(_alive(workspace)))
    return name


def _state(workspace: Any, name: str) -> str:
    return str(workspace.json("backfill", "status", name)[0]["state"])


def _alive(workspace: Any) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(workspace.credentials.url("airflow", "airflow")) as connection:
        return connection.execute(
            "select run_id from dag_run where dag_id = 'levada.backfill' and state = 'running'"
        ).fetchall()


def _land(workspace: Any, day: str) -> float:
    """Land a day; seconds from the upstream's publication to the downstream's."""
    import tiny

    tiny.landed(workspace, "up", day, [1, 2, 3])
    _until(lambda: len(_published(workspace, day)) == 2)
    lines = _published(workspace, day)
    return float((lines["down.result@1"] - lines["up.numbers@1"]).total_seconds())


def _published(workspace: Any, day: str) -> dict[str, Any]:
    rows = workspace.rows(
        "select table_name, at from ledger.publications"
        " where left(split_part(part, '|', 2), 10) = %s",
        day,
    )
    return dict(rows)


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"p14: not within {timedelta(seconds=PATIENCE)}")
        time.sleep(0.25)


if __name__ == "__main__":
    main()
