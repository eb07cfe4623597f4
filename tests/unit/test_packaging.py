"""What the wheel owns, what importing costs, and how modules present themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path
    for source in ("src", "sensors")
    for path in (ROOT / source).rglob("*.py")
    if "migrations" not in path.parts
)
PACKAGES = (("src", "levada"), ("src", "dbt_levada"), ("sensors", "levada_sensors"))
HEAVY = ("dbt", "great_expectations", "datahub", "duckdb", "airflow", "pandas", "sqlalchemy")


def test_the_wheel_holds_every_kept_file_of_three_packages_and_nothing_else(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no clone: git is asked which files are kept")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    kept = subprocess.run(
        ["git", "ls-files", *(f"{source}/{name}" for source, name in PACKAGES)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert names == {path.partition("/")[2] for path in kept}, "a stray file, or one is missing"
    assert {name.split("/")[0] for name in names} == {name for _, name in PACKAGES}
    assert {"levada/py.typed", "levada_sensors/py.typed", "dbt_levada/py.typed"} <= names


def test_airflow_finds_a_provider_named_as_its_distribution() -> None:
    from levada_sensors.provider import get_provider_info

    found = distribution("levada")
    entry = [e for e in found.entry_points if e.group == "apache_airflow_provider"]
    assert [e.value for e in entry] == ["levada_sensors.provider:get_provider_info"]
    assert get_provider_info()["package-name"] == found.metadata["Name"] == "levada"


@pytest.mark.parametrize(
    "module", ["levada", "levada.plan", "levada.sense", "levada.compiled", "levada.cli.app"]
)
def test_importing_a_core_module_loads_no_heavy_tool(module: str) -> None:
    code = f"import {module}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert said.strip() == "[]"


def test_importing_levada_loads_nothing_but_itself() -> None:
    code = (
        "import sys; before = set(sys.modules); import levada;"
        " print({m.split('.')[0] for m in {*sys.modules} - before} - {*sys.stdlib_module_names})"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert said.strip() == "{'levada'}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_says_what_it_is_for_and_sorts_what_it_exports(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the first line says what the module is for"
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = ast.literal_eval(node.value)
            constants = [n for n in names if n.isupper()]
            assert names == sorted(constants) + sorted(n for n in names if not n.isupper())


def test_content_directories_are_no_packages() -> None:
    for folder in ("contracts", "models", "dags"):
        assert not list((ROOT / folder).rglob("__init__.py"))


def test_no_file_names_a_registry_or_a_place_of_one_machine() -> None:
    said = (ROOT / "constraints.txt").read_text()
    assert "://" not in said
    assert "@" not in said
