"""
A table to be compared, where it is: in a DuckDB (lakes, Parquet, CSV) or in a PostgreSQL.

Each side counts and sums row hashes by buckets (see `cut`), and hands over the rows of some
buckets. Within one DuckDB the hash is DuckDB's own. Between engines it is one that both compute: of
a text in which every value is written in one way and preceded by its length.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from levada.adapters.diffing.cut import BUCKETS, Cut
from levada.adapters.probes.session import Database
from levada.adapters.warehouses._sql import literal, name
from levada.diff import Aligned
from levada.errors import ToolError

if TYPE_CHECKING:
    import duckdb

__all__ = ["Digests", "DuckSide", "PostgresSide", "Side", "portable"]

Digests = Mapping[int, tuple[int, int]]
"""By bucket: how many rows, and the sum of their hashes."""


class Side(Protocol):
    """One of the two tables."""

    @property
    def engine(self) -> str:
        """Sides of one engine share its own hash."""

    def columns(self) -> tuple[tuple[str, str], ...]:
        """Names and types, in DuckDB's words; a type that is none of them is in lower case."""

    def digests(self, cut: Cut) -> Digests:
        """Count and hash of every bucket that has rows."""

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        cut: Cut,
        buckets: Collection[int],
    ) -> None:
        """Make the rows of these buckets a temporary table of the connection."""


@dataclass(frozen=True)
class DuckSide:
    """A relation of the DuckDB in which both sides meet: a name, a function, a subquery."""

    connection: duckdb.DuckDBPyConnection
    relation: str
    engine = "duckdb"

    def columns(self) -> tuple[tuple[str, str], ...]:
        """As DESCRIBE tells them."""
        rows = self.connection.execute(f"DESCRIBE SELECT * FROM {self.relation}").fetchall()
        return tuple((row[0], row[1]) for row in rows)

    def ends(self, column: str) -> tuple[int, int] | None:
        """Least and greatest of an integer column: of a Parquet file, from its footer."""
        query = f"SELECT min({name(column)}), max({name(column)}) FROM {self.relation}"
        least, greatest = self.connection.execute(query).fetchone() or (None, None)
        return None if least is None else (least, greatest)

    def digests(self, cut: Cut) -> Digests:
        """One scan."""
        columns = cut.aligned.columns
        cast = ", ".join(_cast(c, kind) for c, kind in columns)
        row = f"hash({cast})" if cut.native else _portable_hash(columns, _DUCKDB)
        rows = self.connection.execute(
            f"SELECT {_bucket(cut)}, count(*), sum(CAST({row} AS HUGEINT))"
            f" FROM {self.relation} GROUP BY 1"
        ).fetchall()
        return {bucket: (count, int(total)) for bucket, count, total in rows}

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        cut: Cut,
        buckets: Collection[int],
    ) -> None:
        """A scan for each run of stretches, with a filter on the same bucket."""
        cast = ", ".join(f"{_cast(c, t)} AS {name(c)}" for c, t in cut.aligned.columns)
        rows = " UNION ALL ".join(
            f"SELECT {cast} FROM {self.relation} WHERE {chosen}"
            for chosen in cut.chosen(_bucket(cut), buckets)
        )
        connection.execute(f"CREATE TEMP TABLE {table} AS {rows}")


@dataclass(frozen=True)
class PostgresSide:
    """A table, or a subquery, of a PostgreSQL; only digests and differing rows leave it."""

    database: Database
    relation: str
    where: str = "true"
    engine = "postgres"

    def columns(self) -> tuple[tuple[str, str], ...]:
        """In DuckDB's words."""
        query = f"SELECT * FROM {self.relation} LIMIT 0"
        with self.database.reading("UTC") as cursor:
            cursor.execute(query.encode())
            described = cursor.description or ()
            return tuple((c.name, _duckdb_type(c.type_display)) for c in described)

    def digests(self, cut: Cut) -> Digests:
        """One scan, in PostgreSQL."""
        if cut.native:
            raise ValueError("a PostgreSQL does not know the hash of DuckDB")
        query = (
            f"SELECT {_portable_bucket(cut.aligned, _POSTGRES)}, count(*),"
            f" sum({_portable_hash(cut.aligned.columns, _POSTGRES)})"
            f" FROM {self.relation} WHERE {self.where} GROUP BY 1"
        )
        with self.database.reading("UTC", patience="0") as cursor:
            cursor.execute(query.encode())
            return {bucket: (count, int(total)) for bucket, count, total in cursor}

    def load(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        cut: Cut,
        buckets: Collection[int],
    ) -> None:
        """Through a file, so that rows of any number pass in little memory."""
        columns = ", ".join(f'"{c}"' for c in cut.aligned.names)
        (chosen,) = cut.chosen(_portable_bucket(cut.aligned, _POSTGRES), buckets)
        query = (
            f"COPY (SELECT {columns} FROM {self.relation} WHERE ({self.where}) AND {chosen})"
            " TO STDOUT (FORMAT csv, FORCE_QUOTE *, NULL '')"
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.csv"
            with (
                self.database.reading("UTC", patience="0") as cursor,
                path.open("wb") as file,
                cursor.copy(query.encode()) as rows,
            ):
                for block in rows:
                    file.write(block)
            kinds = ", ".join(f"{literal(c)}: {literal(t)}" for c, t in cut.aligned.columns)
            connection.execute(
                f"CREATE TEMP TABLE {table} AS SELECT * FROM read_csv({literal(path)},"
                f" header = false, columns = {{{kinds}}}, delim = ',', quote = '\"',"
                " escape = '\"', nullstr = '', allow_quoted_nulls = false,"
                " auto_detect = false, max_line_size = 33554432)"
            )


def portable(aligned: Aligned) -> tuple[str, ...]:
    """
    The columns whose values two engines do not write alike: they cannot be compared across them.

    >>> portable(Aligned((("a", "INTEGER"), ("b", "STRUCT(x INTEGER)")), (), ("a",)))
    ('b',)
    """
    return tuple(c for c, t in aligned.columns if _writing(t, _DUCKDB) is None)


def _cast(column: str, kind: str) -> str:
    return f"CAST({name(column)} AS {kind})"


def _bucket(cut: Cut) -> str:
    return cut.bucket() if cut.native else _portable_bucket(cut.aligned, _DUCKDB)


# One hash for two engines: every value as a text of its own, its length before it.

_Writing = Mapping[str, str]

_DUCKDB: _Writing = {
    "exact": "CAST({} AS VARCHAR)",
    "float": (
        "CASE WHEN isnan({0}) THEN 'NaN' WHEN isinf({0}) THEN CASE WHEN {0} > 0 THEN 'Inf'"
        " ELSE '-Inf' END WHEN {0} = 0 THEN '0' ELSE printf('%.14e', CAST({0} AS DOUBLE)) END"
    ),
    "text": "{}",
    "bool": "CASE WHEN {} THEN '1' ELSE '0' END",
    "date": "CAST({} - DATE '2000-01-01' AS VARCHAR)",
    "instant": "CAST(epoch_us({}) AS VARCHAR)",
    "hash": "CAST('0x' || substr(md5({}), 1, 15) AS BIGINT)",
    "bucket": "CAST('0x' || substr(md5({}), 1, 8) AS BIGINT)",
}
_POSTGRES: _Writing = {
    "exact": "CAST({} AS text)",
    "float": (
        "CASE WHEN {0} = 'NaN' THEN 'NaN' WHEN {0} = 'Infinity' THEN 'Inf'"
        " WHEN {0} = '-Infinity' THEN '-Inf' WHEN {0} = 0 THEN '0' ELSE"
        " lower(trim(to_char(CAST({0} AS double precision), '9.99999999999999EEEE'))) END"
    ),
    "text": "CAST({} AS text)",
    "bool": "CASE WHEN {} THEN '1' ELSE '0' END",
    "date": "CAST({} - DATE '2000-01-01' AS text)",
    "instant": "CAST(CAST(extract(epoch FROM {}) * 1000000 AS bigint) AS text)",
    "hash": "CAST(CAST('x' || substr(md5({}), 1, 15) AS bit(60)) AS bigint)",
    "bucket": "CAST(CAST('x' || substr(md5({}), 1, 8) AS bit(32)) AS bigint)",
}
_FAMILIES = {
    "FLOAT": "float",
    "DOUBLE": "float",
    "VARCHAR": "text",
    "BOOLEAN": "bool",
    "DATE": "date",
    "TIMESTAMP": "instant",
    "TIMESTAMP WITH TIME ZONE": "instant",
    "UUID": "exact",
    "SMALLINT": "exact",
    "INTEGER": "exact",
    "BIGINT": "exact",
}


def _writing(kind: str, engine: _Writing) -> str | None:
    family = "exact" if kind.startswith("DECIMAL(") else _FAMILIES.get(kind)
    return engine[family] if family else None


def _text(columns: Sequence[tuple[str, str]], engine: _Writing) -> str:
    parts = []
    for column, kind in columns:
        writing = _writing(kind, engine)
        if writing is None:
            raise ToolError("diff", f"{column} ({kind}) cannot be compared between engines")
        value = name(column)
        if kind.startswith("DECIMAL("):
            value = f"CAST({value} AS {kind})"
        said = writing.format(value)
        parts.append(f"coalesce(CAST(length({said}) AS VARCHAR) || ':' || {said}, 'N')")
    return " || ".join(parts)


def _portable_hash(columns: Sequence[tuple[str, str]], engine: _Writing) -> str:
    return engine["hash"].format(_text(columns, engine))


def _portable_bucket(aligned: Aligned, engine: _Writing) -> str:
    columns = dict(aligned.columns)
    key = [(c, columns[c]) for c in aligned.key]
    return f"{engine['bucket'].format(_text(key, engine))} % {BUCKETS}"


_NAMES = {
    "int2": "SMALLINT",
    "int4": "INTEGER",
    "int8": "BIGINT",
    "float4": "FLOAT",
    "float8": "DOUBLE",
    "text": "VARCHAR",
    "bool": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "uuid": "UUID",
}


def _duckdb_type(displayed: str) -> str:
    """
    A type as PostgreSQL displays it, in DuckDB's words.

    >>> _duckdb_type("numeric(12, 2)"), _duckdb_type("varchar(20)"), _duckdb_type("int4[]")
    ('DECIMAL(12,2)', 'VARCHAR', 'int4[]')
    """
    base, _, size = displayed.partition("(")
    if base == "numeric" and size:
        return f"DECIMAL({size.replace(' ', '')}"
    return (
        "VARCHAR"
        if base in ("varchar", "bpchar") and "[" not in size
        else _NAMES.get(displayed, displayed)
    )
