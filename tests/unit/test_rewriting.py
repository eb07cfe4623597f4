"""What a statement would leave behind, against what DuckDB leaves behind when it runs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from levada.adapters.rewriting import Rewritten, rewrite
from levada.errors import DeclarationError

COLUMNS = {
    "ops.t": (("id", "INTEGER"), ("n", "BIGINT"), ("s", "VARCHAR")),
    "ops.u": (("id", "INTEGER"), ("n", "BIGINT"), ("t", "VARCHAR")),
}
Rows = Sequence[tuple[Any, ...]]


class Mesh:
    """Two tables of a DuckDB."""

    def relation(self, name: str) -> str:
        self.columns(name)
        return name.replace("ops.", "real.ops.")

    def columns(self, name: str) -> tuple[tuple[str, str], ...]:
        if name not in COLUMNS:
            raise KeyError(f"no published table {name}")
        return COLUMNS[name]


def filled(t: Rows, u: Rows) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("attach ':memory:' as real; create schema real.ops; use real")
    for (name, columns), rows in zip(COLUMNS.items(), (t, u), strict=True):
        connection.execute(f"create table {name} ({', '.join(' '.join(c) for c in columns)})")
        if rows:
            connection.executemany(f"insert into {name} values (?, ?, ?)", rows)
    return connection


def rows_of(connection: duckdb.DuckDBPyConnection, sql: str) -> Counter[tuple[Any, ...]]:
    return Counter(connection.execute(sql).fetchall())


def foretold(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Rewritten, Counter[Any]]:
    made = rewrite(sql, Mesh())
    before = {name: rows_of(connection, f"from {name}") for name in COLUMNS}
    found = rows_of(connection, made.after)
    assert {name: rows_of(connection, f"from {name}") for name in COLUMNS} == before
    return made, found


numbers = st.one_of(st.none(), st.integers(-2, 3))
words = st.sampled_from([None, "", "a", "b", "it's"])
rows = st.lists(st.tuples(numbers, numbers, words), max_size=6)
unique = st.lists(
    st.tuples(st.integers(0, 5), numbers, words), max_size=5, unique_by=lambda row: row[0]
)

NUMBER = st.sampled_from(["id", "n", "1", "n + 1", "null", "-id"])
TEXT = st.sampled_from(["s", "'x'", "s || 'y'", "null", "upper(s)"])
CONDITION = st.sampled_from(
    ["id = 1", "n > 0", "n is null", "s = 'a'", "not (n > 0)", "null", "true", "id in (1, 2, null)"]
)
PAIRED = st.sampled_from(
    ["t.id = u.id", "t.id = u.id and u.n > 0", "t.id = u.n and u.t is not null"]
)
PARTS = st.fixed_dictionaries(
    {"number": NUMBER, "text": TEXT, "condition": CONDITION, "other": CONDITION, "on": PAIRED}
)
ALONE = (
    "delete from ops.t where {condition}",
    "delete from ops.t",
    "truncate ops.t",
    "delete from ops.t using ops.u where {on}",
    "delete from ops.t as t where exists (select 1 from ops.u u where {on})",
    "update ops.t set n = {number}, s = {text} where {condition}",
    "update ops.t set n = id, id = n",
    "update ops.t set n = (select max(n) from ops.u) where {condition} and {other}",
    "insert into ops.t (n, id) select {number}, id from ops.t where {condition}",
    "insert into ops.t select id, n, t from ops.u",
    "insert into ops.t by name select n, id from ops.u",
    "insert into ops.t values (1, 2, 'z'), (3, default, null)",
    "with w as (select id from ops.u) insert into ops.t (id) select id from w where id > 0",
    "create or replace table ops.t as select id, n, s from ops.t where {condition}",
)


@pytest.mark.parametrize("template", ALONE)
@settings(max_examples=10, deadline=None)
@given(t=rows, u=rows, parts=PARTS)
def test_what_is_foretold_is_what_duckdb_does(
    template: str, t: Rows, u: Rows, parts: dict[str, str]
) -> None:
    sql = template.format(**parts)
    with filled(t, u) as connection:
        _, found = foretold(connection, sql)
        connection.execute(sql)
        assert found == rows_of(connection, "from ops.t"), sql


JOINED = (
    "update ops.t set n = u.n, s = u.t from ops.u where {on}",
    "update ops.t as t set s = w.t from (select * from ops.u where n > 0) w where t.id = w.id",
    "merge into ops.t using ops.u on t.id = u.id when matched then delete",
    """
    merge into ops.t using ops.u on t.id = u.id when matched and u.n > 0 then update set n = u.n
    when matched and u.n < 0 then delete when not matched and u.t = 'a' then insert (id, s)
    values (u.id, u.t) when not matched then insert (id) values (u.id)
    """,
    """
    merge into ops.t using (select id, n from ops.u) as w on (t.id = w.id)
    when matched then do nothing when not matched by source and n is null then delete
    when not matched by source then update set s = 'gone'
    """,
)


@pytest.mark.parametrize("template", JOINED)
@settings(max_examples=10, deadline=None)
@given(t=unique, u=unique, parts=PARTS)
@example(
    t=[(1, 1, "a"), (2, 2, "b")],
    u=[(1, 5, "x"), (3, 1, "a"), (4, 0, None)],
    parts={"on": "t.id = u.id"},
)
def test_a_join_of_unique_rows_is_foretold_too(
    template: str, t: Rows, u: Rows, parts: dict[str, str]
) -> None:
    sql = template.format(**parts)
    with filled(t, u) as connection:
        made, found = foretold(connection, sql)
        ((matched,),) = connection.execute(made.matched).fetchall()
        connection.execute(sql)
        if matched == len(t):  # else a row is matched twice, and the engine takes either
            assert found == rows_of(connection, "from ops.t"), sql


def test_a_row_that_is_matched_twice_shows_in_the_count() -> None:
    with filled([(1, 1, "a")], [(1, 2, "x"), (1, 3, "y")]) as connection:
        made, _ = foretold(connection, "update ops.t set n = u.n from ops.u where t.id = u.id")
        assert connection.execute(made.matched).fetchall() == [(2,)]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select 1", "SELECT is no INSERT"),
        ("delete from ops.t; delete from ops.u", "2 statements: give one"),
        ("delete from ops.nothing", "no published table ops.nothing"),
        ("update ops.t set m = 1", "has no column 'm'"),
        ("insert into ops.t (id, m) values (1, 2)", "has no column 'm'"),
        ("insert into ops.t select 1, 2, 'a' on conflict do nothing", "write it as MERGE"),
        ("delete from ops.t returning *", "DELETE with returning"),
        ("delete form ops.t", "statement:1"),
        ("create table ops.t as select 1", "is there already"),
        ("insert into ops.t select * from read_csv('/etc/passwd')", "no table of the mesh"),
    ],
)
def test_what_has_no_query_is_refused(sql: str, said: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        rewrite(sql, Mesh())
    assert said in str(caught.value)
