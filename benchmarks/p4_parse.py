"""
P4: compiled products into DAGs, against a plain loop of hand-written DAGs of the same shape.

The peer is what somebody would write by hand for as many tables: a loop in a DAG file, each DAG
with a deferrable sensor and two operators of Airflow's own, a daily schedule, tags and a
description. Both sides are measured in fresh interpreters, in turns, after the same imports: CPU
seconds until the dictionary of DAGs stands. Ours reads the compiled files, checks by hash that no
declaration changed since, and writes each DAG's documentation from its contract.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _figure import arguments, in_a_process, median, repeated, report, say, spent

GOAL = 1.3
DOMAINS = 10


def ours(root: Path) -> dict[str, float]:
    """The DAGs of every domain, as its DAG file makes them."""
    import airflow.sdk  # noqa: F401 - both sides have it before they begin

    from levada.settings import read_settings

    with spent() as imported:
        from levada_sensors import product_dags
    domains = read_settings(root).domains
    with spent() as parsed:
        dags = {name: dag for d in domains for name, dag in product_dags(d, root).items()}
    return {"dags": len(dags), "cpu": parsed.cpu, "import": imported.cpu}


def by_hand(count: int) -> dict[str, float]:
    """As many DAGs, written in a loop."""
    import pendulum
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.providers.standard.sensors.external_task import ExternalTaskSensor
    from airflow.sdk import DAG, Asset

    def publish() -> None:
        """Stands for the function that a DAG file has."""

    with spent() as parsed:
        dags = {}
        for number in range(count):
            with DAG(
                dag_id=f"d{number % DOMAINS:02}.t{number:05}",
                schedule="@daily",
                start_date=pendulum.datetime(2013, 1, 1, tz="America/New_York"),
                catchup=True,
                max_active_runs=45,
                is_paused_upon_creation=False,
                description="Everything that happened on a day.",
                doc_md=f"Product t{number:05}: everything that happened on a day.",
                tags=["base", f"d{number % DOMAINS:02}"],
                default_args={"owner": f"d{number % DOMAINS:02}-data", "retries": 0},
            ) as dag:
                wait = ExternalTaskSensor(
                    task_id="wait",
                    external_dag_id=f"d{number % DOMAINS:02}.t{number - 1:05}",
                    external_task_id="publish",
                    deferrable=True,
                )
                build = BashOperator(
                    task_id="build", bash_command=f"dbt build --select t{number:05}"
                )
                done = PythonOperator(
                    task_id="publish",
                    python_callable=publish,
                    op_kwargs={"partition": "{{ dag_run.logical_date }}"},
                    outlets=[Asset(name=f"t{number:05}", uri=f"lake://bench/t{number:05}")],
                )
                wait >> build >> done
            dags[dag.dag_id] = dag
    return {"dags": len(dags), "cpu": parsed.cpu}


def measure(products: int, rounds: int) -> dict[str, float]:
    """Medians of both sides at one size."""
    with tempfile.TemporaryDirectory(prefix="levada-p4-") as folder:
        from _meshes import project

        root = Path(folder) / "mesh"
        root.mkdir()
        say(f"p4: writing {products:,} products in {DOMAINS} domains")
        project(root, products, DOMAINS)
        home = {"AIRFLOW_HOME": str(Path(folder) / "airflow"), "LEVADA_PROJECT": str(root)}
        imports: list[float] = []

        def side(name: str, argument: str) -> float:
            found = in_a_process(Path(__file__), "--side", name, "--argument", argument, **home)
            assert found["dags"] == products, f"{name}: {found}"
            imports.extend([found["import"]] if "import" in found else [])
            say(f"p4: {name:>7} {products:>6,} DAGs {found['cpu']:.2f} CPU s")
            return float(found["cpu"])

        mine, theirs = repeated(
            rounds, lambda: side("ours", str(root)), lambda: side("by-hand", str(products))
        )
    return {
        "ours": median(mine),
        "peer": median(theirs),
        "ratio": median([a / b for a, b in zip(mine, theirs, strict=True)]),
        "import": median(imports),
    }


def importing() -> float:
    """Seconds that `import levada` takes in a new interpreter: it is to stay under 0.1."""
    code = "import time; t = time.perf_counter(); import levada; print(time.perf_counter() - t)"
    taken = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    return median(taken)


def main() -> None:
    words = arguments(
        __doc__,
        side={"choices": ("ours", "by-hand"), "help": "one side of one round, for itself"},
        argument={"default": ""},
        sizes={"type": int, "nargs": "*", "default": [1_000, 10_000]},
        rounds={"type": int, "default": 5},
    )
    os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    if words.side:
        found = ours(Path(words.argument)) if words.side == "ours" else by_hand(int(words.argument))
        print(json.dumps(found))
        return
    sizes = [40] if words.small else words.sizes
    rounds = 1 if words.small else words.rounds
    found = {size: measure(size, rounds) for size in sizes}
    worst = max(found.values(), key=lambda f: f["ratio"])
    report(
        "p4_parse",
        ours=worst["ours"],
        peer=worst["peer"],
        ratio=worst["ratio"],
        goal=f"CPU at most {GOAL}x the plain loop",
        met=worst["ratio"] <= GOAL,
        unit="CPU s",
        sizes={f"{size}": {k: round(v, 3) for k, v in f.items()} for size, f in found.items()},
        rounds=rounds,
        import_levada=round(importing(), 4),
    )


if __name__ == "__main__":
    sys.exit(main())
