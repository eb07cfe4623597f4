"""
What comparing two tables costs: twice 10,000,000 rows of Parquet, of which a few differ.

Ours is `levada diff`'s engine, in a fresh process. Its floor, in another one, is what it takes to
read both sides and fingerprint them, and nothing more. SQL by hand joins them and counts what
differs, and names nothing. The peers run beside it over the same files,
where a Python that has them is named by --peers: the two that take tables in memory read the files
first, and all of theirs that reads, joins and reports is counted, as all of ours is.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _figure import arguments, in_a_process, median, report, say, spent

ROWS, GOAL, FLOOR, MEMORY, ROUNDS = 10_000_000, 15, 2.0, 2048, 3
PEERS = ("datacompy", "reladiff", "sqlmesh")
CHANGED, LOST, NEW = 7, 3, 2
"""Rows of which one cent differs, rows that only the old side has, rows that only the new has."""
_ROW = """
    i AS id, 'customer ' || hash(i) % 1000000 AS customer, (hash(i, 1) % 200)::UTINYINT::INTEGER
    AS store, CAST(hash(i, 2) % 100000000 AS DECIMAL(12, 2)) / 100 AS amount,
    TIMESTAMPTZ '2013-01-01 00:00:00+00' + to_seconds(i) AS at, DATE '2013-01-01'
    + (i // 100000)::INTEGER AS day, hash(i, 3) % 3 = 0 AS paid"""


def written(folder: Path, rows: int) -> None:
    """Both sides: the new one lacks the first rows, has others, and one cent more in some."""
    import duckdb

    step = rows // (CHANGED + 1)
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        row = f"SELECT * REPLACE (CAST(amount AS DECIMAL(12, 2)) AS amount) FROM (SELECT {_ROW}"
        old = f"{row} FROM range({rows}) r(i))"
        new = (
            f"SELECT * REPLACE (CAST(amount + CASE WHEN id % {step} = 0 AND id > 0 AND id <= "
            f"{CHANGED * step} THEN 0.01 ELSE 0 END AS DECIMAL(12, 2)) AS amount)"
            f" FROM ({row} FROM range({LOST}, {rows + NEW}) r(i)))"
        )
        for name, sql in (("old", old), ("new", new)):
            db.execute(f"COPY ({sql}) TO '{folder / name}.parquet' (FORMAT parquet)")


def compared(folder: Path, how: str) -> dict[str, Any]:
    """What comparing, only fingerprinting or SQL by hand takes; in MB and CPU seconds."""
    import duckdb

    from levada.adapters.diffing import DuckSide, compare, cut_of
    from levada.diff import Question

    with duckdb.connect(config={"memory_limit": "2GB", "threads": 2}) as db:
        db.execute("SET TimeZone = 'UTC'")
        a, b = (DuckSide(db, f"read_parquet('{folder / s}.parquet')") for s in ("old", "new"))
        with spent() as took:
            found: dict[str, int] = {}
            if how == "hand":
                differ = " OR ".join(
                    f'a."{c}" IS DISTINCT FROM b."{c}"' for c, _ in a.columns() if c != "id"
                )
                sides = f"{a.relation} a FULL JOIN {b.relation} b ON a.id = b.id"
                db.execute(f"SELECT count(*) FROM {sides} WHERE {differ}").fetchall()
            elif how == "floor":
                cut = cut_of(a, b, Question(("id",)))
                a.digests(cut)
                b.digests(cut)
            else:
                told = compare(db, a, b, Question(("id",)))
                found = {"changed": told.changed, "old": told.only_a, "new": told.only_b}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu": took.cpu, "memory": memory, "found": found}


def beside(python: str, peer: str, folder: Path) -> dict[str, Any]:
    """What a peer takes in a process of its own, or why it took nothing."""
    script = str(Path(__file__).with_name("_diff_peers.py"))
    done = subprocess.run(
        [python, script, peer, str(folder)], check=False, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        return {"broke": done.returncode}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    options = arguments(
        __doc__,
        one={"default": "", "help": "measure once over this folder; prints JSON"},
        how={"default": "diff", "help": "with --one: diff, floor or hand"},
        peers={"default": "", "help": "a Python that has datacompy, reladiff and sqlmesh"},
    )
    if options.one:
        print(json.dumps(compared(Path(options.one), options.how)))
        return
    rows = 100_000 if options.small else ROWS
    with tempfile.TemporaryDirectory(prefix="levada-p6-") as name:
        folder = Path(name)
        written(folder, rows)
        say(f"wrote 2 x {rows:,} rows")
        here = Path(__file__)
        ours, floors = [], []
        for _ in range(ROUNDS):
            ours.append(in_a_process(here, "--one", name))
            floors.append(in_a_process(here, "--one", name, "--how", "floor"))
        took, floor = (median([each["cpu"] for each in side]) for side in (ours, floors))
        memory = max(each["memory"] for each in ours)
        say(f"{took:.2f} CPU s, fingerprints alone {floor:.2f}, {memory:.0f} MB")
        hand = in_a_process(here, "--one", name, "--how", "hand")["cpu"]
        theirs = {}
        for peer in PEERS if options.peers else ():
            theirs[peer] = beside(options.peers, peer, folder)
            say(f"{peer}: {theirs[peer]}")
    planted = {"changed": CHANGED, "old": LOST, "new": NEW}
    exact = all(each["found"] == planted for each in ours)
    best = min((t["cpu"] for t in theirs.values() if "cpu" in t), default=hand)
    report(
        "p6_diff",
        ours=took,
        peer=best,
        ratio=best / took,
        goal=f"{GOAL}x less CPU than the best peer, {FLOOR:g}x the fingerprints, 2 GB, exact",
        met=bool(theirs)
        and best >= GOAL * took
        and took <= FLOOR * floor
        and memory <= MEMORY
        and exact,
        unit="CPU s of comparing 2 tables",
        fingerprints=floor,
        over_fingerprints=took / floor,
        memory_mb=memory,
        exact=exact,
        by_hand=hand,
        peers=theirs,
        rows=rows,
    )


if __name__ == "__main__":
    sys.exit(main())
