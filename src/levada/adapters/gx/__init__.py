"""
The auditor that judges by Great Expectations.

Every verdict is one that Great Expectations returned over the sealed stage. Checks that need no
offending row at all run once over the union of the partitions; what fails there, and what does not
decompose, is judged by its measure, whose unexpected rows name the failing partitions. Measures are
judged as one expectation, and one by one where that raises. An error, a timeout or a missing table
is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from levada.adapters.gx import measures
from levada.adapters.gx.judging import preload, validate
from levada.adapters.gx.native import expectation
from levada.adapters.gx.opening import opened, shut
from levada.adapters.gx.watch import Watch, raised, told_of
from levada.audit import METRICS, Comparison, decomposes, unknown
from levada.ports import Relation, Stage
from levada.terms import (
    Check,
    CheckResult,
    Contract,
    Partition,
    RuleResult,
    TableRef,
    Verdict,
)

__all__ = ["GreatExpectations", "preload"]

_OF_THE_TABLE = ("columnSet", "columnType", "interval")

_ROWS_RETURNED = 200
"""How many unexpected rows Great Expectations returns at most."""

_QUIETLY = "set enable_progress_bar = false"
_FEW = 2
"""Fewer checks than this are not worth judging together."""

_SMALL = 200_000
"""Rows of a partition that are scanned faster than ten expectations are prepared."""

_ERRORS_TO_PLACE = 64
"""How often a failing query is narrowed, to say in which partitions it fails."""


class GreatExpectations:
    """
    Audits sealed stages through Great Expectations, in a DuckDB that reads them where they lie.

    `setup` are statements, or a function of the stage that gives them, which run first on the
    audit's connection: the views that a run reads stand on other databases, attached here.
    `timeout` is in seconds, for one table's audit.
    """

    def __init__(
        self,
        setup: Sequence[str] | Callable[[Stage], Sequence[str]] = (),
        timeout: float = 600.0,
    ) -> None:
        self._setup = setup
        self._timeout = timeout

    def audit(
        self, stage: Stage, contract: Contract, partitions: Sequence[Partition]
    ) -> Mapping[Partition, tuple[CheckResult, ...]]:
        """One result for every check and partition. What cannot be told is UNKNOWN."""
        partitions = tuple(dict.fromkeys(partitions))
        if not partitions:
            return {}
        try:
            relation = stage.outputs[contract.table]
            with self._connection(stage, relation) as (connection, watch):
                try:
                    audit = _Audit(connection, stage, relation, contract, partitions, watch)
                    return audit.results()
                except Exception as error:
                    if watch.expired:
                        raise TimeoutError(watch.sentence) from error
                    raise
        except Exception as error:  # whatever it is, nothing was told
            because = str(error) if isinstance(error, TimeoutError) else told_of(error)
            return {partition: unknown(contract, because) for partition in partitions}

    def compare(self, stage: Stage, asked: Sequence[Comparison]) -> tuple[RuleResult, ...]:
        """One result for every comparison, in order. What cannot be told is UNKNOWN."""
        from levada.adapters.gx.batches import RuleSession

        try:
            with self._connection(stage, next(iter(stage.outputs.values()))) as (connection, _):
                session = RuleSession(connection, self._timeout)
                judged = (
                    session.judge(each.views, [(each.rule, each.statement)]) for each in asked
                )
                return tuple(one for (one,) in judged)
        except Exception as error:  # whatever it is, nothing was told
            why = told_of(error)
            return tuple(RuleResult(each.rule, Verdict.UNKNOWN, why) for each in asked)

    @contextmanager
    def _connection(self, stage: Stage, relation: Relation) -> Iterator[tuple[Any, Watch]]:
        """
        A database in memory, with the stage attached to it for reading only.

        Rules are refused when they do more than read (`sqlrule`); that it is shut then stands
        behind it.
        """
        path = stage.path / "stage.duckdb" if stage.path.is_dir() else stage.path
        statements = self._setup(stage) if callable(self._setup) else self._setup
        connection = opened()
        try:
            with Watch(connection, self._timeout) as watch:
                for statement in (*statements, "set TimeZone = 'UTC'", _QUIETLY):
                    connection.execute(statement)
                if relation.database not in _databases(connection):
                    connection.execute(
                        f"attach {measures.literal(str(path))}"
                        f" as {measures.quoted(relation.database)} (read_only)"
                    )
                shut(connection)
                yield connection, watch
        finally:
            connection.close()


def _databases(connection: Any) -> dict[str, str]:
    """The type of each database that is attached, by name."""
    return dict(
        connection.execute(
            "select database_name, type from duckdb_databases() where not internal"
        ).fetchall()
    )


@dataclass
class _Audit:
    """One table's audit: its partitions are numbered, its checks become views and verdicts."""

    connection: Any
    stage: Stage
    relation: Relation
    contract: Contract
    partitions: tuple[Partition, ...]
    watch: Watch
    found: dict[tuple[str, int], CheckResult] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    rowless: str = ""
    """Why the partitions' rows cannot be read, if so."""

    def results(self) -> dict[Partition, tuple[CheckResult, ...]]:
        everything = list(range(len(self.partitions)))
        checks = list(self.contract.checks)
        failed = {} if self._is_small() else self._union(checks)
        settled = {check.id for check in checks if failed.get(check.id) is False}
        measured = [check for check in checks if check.id not in settled]
        for check in checks:
            if check.id in settled:
                self._all(check, everything, Verdict.PASS)
        shape = [check for check in measured if check.metric in _OF_THE_TABLE]
        if len(everything) == 1:  # what is found of the table is found of its one partition
            shape = []
        self._measure(shape, everything[:1])
        for check in shape:  # one finding, which all partitions share
            for number in everything[1:]:
                self.found[check.id, number] = self.found[check.id, 0]
        self._measure([check for check in measured if check not in shape], everything)
        for check in measured:
            self._reconcile(check, native_failed=failed.get(check.id, False))
        for check in measured:
            self._sample(check)
        missing = unknown(self.contract, "the check did not run")
        return {
            partition: tuple(self.found.get((m.check.id, number), m) for m in missing)
            for number, partition in enumerate(self.partitions)
        }

    def _is_small(self) -> bool:
        """
        Whether the rows of one partition are so few that expectations cost more than scans.

        Great Expectations bundles its own expectations into one scan, which pays for large data.
        """
        if len(self.partitions) != 1:
            return False
        wanted = measures.inside(self.contract, self.partitions, "r")
        try:
            found = self.connection.execute(
                f"select count(*) from (select 1 from {self.relation} r where {wanted}"
                f" limit {_SMALL + 1}) s"
            ).fetchone()
        except Exception:  # the measures meet the same error, and tell it
            return False
        return bool(found[0] <= _SMALL)

    def _union(self, checks: Sequence[Check]) -> dict[str, bool]:
        """
        Judge what decomposes once over all partitions: whether each check failed.

        A check that is not in the answer has no expectation of its own, or raised an error.
        """
        gxe = preload().expectations
        suite: dict[str, tuple[Any, list[str]]] = {}
        for check in checks:
            built = expectation(check, self.contract, gxe) if decomposes(check) else None
            if built is not None:
                key = repr((built.expectation_type, sorted(built.configuration.kwargs.items())))
                suite.setdefault(key, (built, []))[1].append(check.id)
        if not suite:
            return {}
        try:
            wanted = measures.inside(self.contract, self.partitions, "r")
            self.connection.execute(
                f"create or replace view levada_union as"
                f" select r.* from {self.relation} r where {wanted}"
            )
        except Exception:  # the measures meet the same error, and tell it
            return {}
        expected = {key: built for key, (built, _) in suite.items()}
        told = validate(self.connection, "levada_union", expected, "BOOLEAN_ONLY")
        return {
            check: not result.success
            for key, result in told.items()
            if not raised(result)
            for check in suite[key][1]
        }

    def _measure(self, checks: Sequence[Check], numbers: Sequence[int]) -> None:
        """Create the views of these checks, and judge them for these partitions."""
        if not checks:
            return
        self._narrow(numbers)
        if self._together(checks, numbers):
            return
        viewed = []
        for position, check in enumerate(checks):
            name = f"levada_measure_{position}"
            try:
                sql = measures.measure(
                    check, self.contract, self.relation, self.partitions, self._related
                )
                self.connection.execute(f"create or replace view {name} as {sql}")
            except Exception as error:  # it does not bind: a table or a column is not there
                self._all(
                    check, numbers, Verdict.UNKNOWN, self._why(self.rowless or told_of(error))
                )
            else:
                self.views[check.id] = name
                viewed.append(check)
        self._judge(viewed, numbers, [_ERRORS_TO_PLACE])

    def _together(self, checks: Sequence[Check], numbers: Sequence[int]) -> bool:
        """
        Judge measures as one expectation, that none of them finds anything; whether all was told.

        Each expectation is prepared, and its query run twice; that costs more than the rows of a
        day. So what all of them find is kept, and expected to be nothing; when rows are there, each
        says which check and which partition it is of. When one measure raises, none is told here.
        """
        if len(checks) < _FEW:
            return False
        try:
            found = measures.together(
                checks, self.contract, self.relation, self.partitions, self._related
            )
            self.connection.execute(f"create or replace table levada_found as {found}")
        except Exception:  # each is asked alone, and the one that raises says why
            return False
        expected = preload().expectations.UnexpectedRowsExpectation(
            unexpected_rows_query="select f.* from {batch} p join levada_found f on f.part = p.part"
        )
        result = validate(self.connection, "levada_parts", {"all": expected}, "COMPLETE").get("all")
        if result is None or raised(result) or not _named(result):
            return False
        for check in checks:
            self._all(check, numbers, Verdict.PASS)
        for row in _rows(result):
            self._fail(checks[int(row["nth"])], row)
        return True

    def _judge(self, checks: Sequence[Check], numbers: Sequence[int], budget: list[int]) -> None:
        """Judge measures; where one raises, or cannot name all that fail, ask for fewer at once."""
        if not checks:
            return
        suite = {
            check.id: preload().expectations.UnexpectedRowsExpectation(
                unexpected_rows_query=measures.offending(check, self.views[check.id], "{batch}")
            )
            for check in checks
        }
        told = validate(self.connection, "levada_parts", suite, "COMPLETE")
        raising, cut = [], []
        for check in checks:
            result = told.get(check.id)
            error = "no result came back" if result is None else raised(result)
            if result is not None and not error and self._said(check, result, numbers):
                continue
            if len(numbers) == 1 or self.watch.expired or (error and budget[0] <= 0):
                because = self._why(error or "it failed without saying where")
                self._all(check, numbers, Verdict.UNKNOWN, because)
            elif error:
                budget[0] -= 1
                raising.append(check)
            else:
                cut.append(check)
        half = (len(numbers) + 1) // 2
        for some, size in ((cut, min(half, _ROWS_RETURNED)), *(([one], half) for one in raising)):
            for start in range(0, len(numbers) if some else 0, size):
                self._narrow(numbers[start : start + size])
                self._judge(some, numbers[start : start + size], budget)

    def _said(self, check: Check, result: Any, numbers: Sequence[int]) -> bool:
        """Take over a result that names every failing partition; whether it does."""
        if not _named(result):
            return False
        self._all(check, numbers, Verdict.PASS)
        for row in _rows(result):
            self._fail(check, row)
        return True

    def _reconcile(self, check: Check, *, native_failed: bool) -> None:
        """A failure over the union that no partition shows is only right for uniqueness."""
        numbers = range(len(self.partitions))
        shown = any(self.found[check.id, n].verdict is not Verdict.PASS for n in numbers)
        if native_failed and not shown and check.metric != "duplicateValues":
            because = "it fails over all partitions and passes in each of them"
            self._all(check, numbers, Verdict.UNKNOWN, because)

    def _sample(self, check: Check) -> None:
        """
        Name rows that a failing SQL rule counted. The verdict stands, whatever becomes of this.

        It runs after every verdict was told. A rule that fails because too few rows were counted
        has none that offends.
        """
        failing = {
            number: result
            for number in range(len(self.partitions))
            if check.metric == "sql"
            and (result := self.found[check.id, number]).verdict is Verdict.FAIL
            and measures.too_many(check, result.count)
        }
        if not failing:
            return
        with suppress(Exception):
            sql = measures.samples(check, self.contract, self._related)
            self._narrow(list(failing))
            for number, shown in self.connection.execute(sql).fetchall():
                result = failing[number]
                self.found[check.id, number] = replace(result, rows=tuple(shown or ()))

    def _narrow(self, numbers: Sequence[int]) -> None:
        """Let the measures see only these partitions."""
        chosen = measures.parts(self.contract, self.partitions, numbers)
        self.connection.execute(f"create or replace table levada_parts as {chosen}")
        rows = measures.rows(self.contract, self.relation, self.partitions, numbers)
        try:
            self.connection.execute(f"create or replace view levada_rows as {rows}")
        except Exception as error:  # told by every measure that needs these rows
            self.rowless = told_of(error)
            self.connection.execute("drop view if exists levada_rows")

    def _related(self, table: TableRef) -> str:
        """Where a table that a check reads stands: an input, or a sibling built in this run."""
        relation = self.stage.inputs.get(table) or self.stage.outputs.get(table)
        if relation is None:
            raise LookupError(f"{table} is not in the stage: let the product depend on it")
        return str(relation)

    def _why(self, error: str) -> str:
        return self.watch.sentence if self.watch.expired else error

    def _all(
        self, check: Check, numbers: Sequence[int], verdict: Verdict, because: str = ""
    ) -> None:
        for number in numbers:
            self.found[check.id, number] = CheckResult(
                check, self.contract.table, verdict, because=because
            )

    def _fail(self, check: Check, row: Mapping[str, Any]) -> None:
        value = row["value"]
        if value is None:
            verdict, observed, because = Verdict.UNKNOWN, "", "there was no number to compare"
        else:
            verdict = Verdict.FAIL
            observed = f"{float(value):.6g}" + ("%" if check.unit == "percent" else "")
            about = f"{check.column}: " if check.column else ""
            meaning = check.description or METRICS[check.metric]
            because = f"{about}{observed}, {measures.sentence(check)} ({meaning})"
        self.found[check.id, int(row["part"])] = CheckResult(
            check,
            self.contract.table,
            verdict,
            observed,
            because,
            int(row["n"] or 0),
            tuple(str(sample) for sample in row["samples"] or ()),
        )


def _rows(result: Any) -> Sequence[Any]:
    return result.result.get("details", {}).get("unexpected_rows", ())  # type: ignore[no-any-return]


def _named(result: Any) -> bool:
    """Whether a result that failed names every row that it counted."""
    return bool(result.success or 0 < result.result.get("observed_value", 0) == len(_rows(result)))
