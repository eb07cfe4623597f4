"""The smallest mesh for a real Airflow: `up` lands a few numbers a day, `down` reads them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

__all__ = ["live_mesh"]

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))


def live_mesh(root: Path, live_from: str, last: str, horizon: str) -> Any:
    """Two products of two domains, with the DAG files that `levada up` runs."""
    import tiny

    root.mkdir()
    workspace = tiny.mesh(root, ("up", "down"), last=last)
    path = root / "levada.yaml"
    text = path.read_text().replace("lease: 2s", "lease: 30s")
    path.write_text(f"{text}live_from: {live_from}\nprobe: {{every: 1s, horizon: {horizon}}}\n")
    for domain in ("up", "down"):
        tiny.project(workspace, domain, lands=domain == "up")
    tiny.contract(workspace, "up", "numbers")
    tiny.contract(workspace, "down", "result")
    source, reads = "{{ source('landing', 'numbers') }}", "{{ ref('up', 'numbers') }}"
    tiny.model(workspace, "up", "numbers", f"select {tiny.NUMBERS} from {source}")
    tiny.model(workspace, "down", "result", f"select id, day, amount + 1 as amount from {reads}")
    (root / "dags").mkdir()
    shutil.copy(REPOSITORY / "dags" / "reconcile.py", root / "dags")
    for domain in ("up", "down"):
        (root / "dags" / f"{domain}.py").write_text(
            '"""The Airflow DAGs of a domain."""\n\n'
            "from __future__ import annotations\n\nfrom levada_sensors import product_dags\n\n"
            f'globals().update(product_dags("{domain}"))\n'
        )
    return workspace
