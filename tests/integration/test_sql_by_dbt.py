"""The rules of SQL behind SQLFluff's dbt templater, which compiles the project in a real dbt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

pytestmark = [pytest.mark.integration, pytest.mark.prove]


def test_the_dbt_templater_gives_the_same_findings_at_the_same_lines(tmp_path: Path) -> None:
    mesh = tiny.mesh(tmp_path / "mesh", ("harbour", "office"))
    for domain in ("harbour", "office"):
        tiny.project(mesh, domain)
    tiny.contract(mesh, "harbour", "ships")
    tiny.model(mesh, "harbour", "ships", "select 1 as id")
    path = tiny.model(
        mesh,
        "office",
        "tested",
        "select a.id\nfrom {{ ref('ships') }} as a\n"
        "inner join {{ ref('harbour', 'ships') }} as b on a.id = b.id\n"
        "{% if false %}\ninner join {{ ref('ships') }} as c on a.id = c.id\n{% endif %}\n"
        "inner join harbour.ships as d on a.id = d.id",
    )
    (tmp_path / "profiles.yml").write_text(
        "levada: {target: dev, outputs: {dev: {type: duckdb, path: ':memory:'}}}\n"
    )
    (mesh.root / ".sqlfluff").write_text(
        "[sqlfluff]\ndialect = duckdb\ntemplater = dbt\nrules = LV01,LV02,LV03\n"
        f"[sqlfluff:templater:dbt]\nproject_dir = {mesh.root / 'models' / 'office'}\n"
        f"profiles_dir = {tmp_path}\n"
    )

    done = subprocess.run(
        [
            Path(sys.executable).with_name("sqlfluff"),
            "lint",
            "-f",
            "github-annotation-native",
            path,
        ],
        cwd=mesh.root,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
    )

    said = [line for line in done.stdout.splitlines() if line.startswith("::warning")]
    for line, code in ((2, "LV02"), (5, "LV02"), (7, "LV01")):
        assert any(f"line={line}," in each and code in each for each in said), done.stdout
    assert len(said) == 3, said
