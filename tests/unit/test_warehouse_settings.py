"""Which warehouse `levada.yaml` names, and which types it can hold."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from levada.adapters.warehouses import named
from levada.adapters.warehouses._session import scratch
from levada.adapters.warehouses.ducklake import DuckLake
from levada.adapters.warehouses.postgres import PostgresWarehouse
from levada.errors import DeclarationError, Fault, NotPublishable
from levada.settings import look, read_settings

HEAD = "mesh: m\nzone: UTC\nspan: {from: 2013-03-08, to: 2013-03-09}\ndomains: [shop]\n"


def said(root: Path, warehouse: str) -> tuple[Fault, ...]:
    (root / "levada.yaml").write_text(f"{HEAD}warehouse: {warehouse}\n")
    return look(root)[1]


def test_a_warehouse_is_a_lake_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    (tmp_path / "levada.yaml").write_text(HEAD)
    assert read_settings(tmp_path).warehouse == "ducklake"
    assert said(tmp_path, "{type: postgres}") == ()
    settings = read_settings(tmp_path)
    assert (settings.warehouse, settings.database) == ("postgres", "warehouse")


@pytest.mark.parametrize(
    ("warehouse", "wrong"),
    [
        ("{type: postgre}", "no warehouse 'postgre'"),
        ("{type: postgres, path: lake}", "a warehouse of type postgres has no 'path'"),
        ("{database: w}", "a warehouse of type ducklake has no 'database'"),
        ("{type: postgres, database: levada}", "database levada is Levada's own"),
        ("{type: postgres, database: a-b}", "'a-b' cannot name a database"),
        ("{type: postgres, host: db}", "unknown key 'host'"),
    ],
)
def test_what_does_not_fit_a_warehouse_is_a_fault(
    tmp_path: Path, warehouse: str, wrong: str
) -> None:
    (fault,) = said(tmp_path, warehouse)
    assert (fault.path, fault.line) == ("levada.yaml", 5)
    assert fault.wrong == wrong
    assert fault.right


def test_warehouses_are_found_by_entry_point() -> None:
    kinds: list[object] = [named("ducklake"), named("postgres")]
    assert kinds == [DuckLake, PostgresWarehouse]
    with pytest.raises(DeclarationError, match="no warehouse 'oracle'"):
        named("oracle")


@pytest.mark.parametrize(
    ("promised", "right"),
    [("TINYINT", "SMALLINT"), ("UINTEGER", "BIGINT"), ("STRUCT(a INTEGER)", "VARCHAR")],
)
def test_a_type_that_postgresql_lacks_is_told_with_one_that_it_has(
    promised: str, right: str
) -> None:
    with pytest.raises(NotPublishable, match=f"promise .*{right}"):
        PostgresWarehouse.spelled(promised)
    assert DuckLake.spelled(promised) == promised


def test_no_progress_bar_stands_in_the_midst_of_what_is_printed() -> None:
    with closing(scratch()) as connection:
        asked = connection.execute("select current_setting('enable_progress_bar')")
        assert asked.fetchone() == (False,)
