"""
Rules between tables, judged by Great Expectations.

What a rule's SQL returns is kept in a table of the session's own memory; Great Expectations expects
no row in it, and its answer is the verdict. An error, a timeout or a count that does not agree with
the rows is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from levada.adapters.gx.judging import preload, validate
from levada.adapters.gx.opening import opened, shut
from levada.adapters.gx.watch import Watch, raised, told_of
from levada.terms import ConsistencyRule, Offence, RuleResult, Statement, Verdict

if TYPE_CHECKING:
    import duckdb

__all__ = ["RuleSession", "rule_session"]

_OFFENCES_KEPT = 1000
"""How many offending keys of one rule and interval are named; more are counted."""
_MEMORY = "2GB"


@contextmanager
def rule_session(setup: Sequence[str], timeout: float = 300.0) -> Iterator[RuleSession]:
    """A DuckDB that reads the published tables (`setup` attaches them), and its expectations."""
    connection = opened()
    try:
        for statement in (f"SET memory_limit = '{_MEMORY}'", *setup, "SET TimeZone = 'UTC'"):
            connection.execute(statement)
        shut(connection)
        yield RuleSession(connection, timeout)
    finally:
        connection.close()


class RuleSession:
    """One interval after another over one connection; `timeout` is in seconds, for one rule."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, timeout: float) -> None:
        self._connection, self._timeout = connection, timeout
        connection.execute("CREATE TABLE memory.main.levada_interval AS SELECT 1 AS one")

    def judge(
        self, views: Mapping[str, str], asked: Sequence[tuple[ConsistencyRule, Statement]]
    ) -> tuple[RuleResult, ...]:
        """The rules' results over these views (name and query), in their order."""
        broken: dict[str, str] = {}
        for name, sql in views.items():
            try:
                self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {sql}")
            except Exception as error:  # every rule that reads it meets an error of its own
                broken[name] = told_of(error)
                self._connection.execute(f"DROP VIEW IF EXISTS {name}")
        found = [self._measured(n, rule, sql) for n, (rule, sql) in enumerate(asked)]
        sound = [n for n, each in enumerate(found) if not each.broke]
        told = self._validate(sound) if sound else {}
        return tuple(
            self._settled(each, told.get(n)) if n in sound else _named(each, broken)
            for n, each in enumerate(found)
        )

    def _measured(self, number: int, rule: ConsistencyRule, asked: Statement) -> RuleResult:
        """What the rule returns, kept; not a verdict yet."""
        kept = _table(number)
        with Watch(self._connection, self._timeout) as watch:
            try:
                self._connection.execute(f"CREATE OR REPLACE TABLE {kept} AS {asked.offending}")
                (compared,) = self._connection.execute(asked.compared).fetchone() or (0,)
                (cases,) = self._connection.execute(f"SELECT count(*) FROM {kept}").fetchone() or ()
                rows = self._connection.execute(
                    f"SELECT key, figures FROM {kept} ORDER BY key LIMIT {_OFFENCES_KEPT}"
                ).fetchall()
            except Exception as error:  # whatever it is, nothing was told
                because = watch.sentence if watch.expired else told_of(error)
                return RuleResult(rule, Verdict.UNKNOWN, because, broke=True)
        offences = tuple(Offence(str(key), str(figures)) for key, figures in rows)
        return RuleResult(
            rule, Verdict.UNKNOWN, cases=int(cases), compared=int(compared), offences=offences
        )

    def _validate(self, numbers: Sequence[int]) -> dict[int, Any]:
        """Expect no row in the tables of these rules; the answers by their numbers."""
        expects = preload().expectations.UnexpectedRowsExpectation
        suite = {
            str(n): expects(
                unexpected_rows_query=f"SELECT r.key FROM {{batch}} i JOIN {_table(n)} r ON true"
            )
            for n in numbers
        }
        try:
            told = validate(self._connection, "levada_interval", suite, "COMPLETE")
        except Exception:  # no answer is UNKNOWN
            return {}
        return {int(n): result for n, result in told.items()}

    @staticmethod
    def _settled(found: RuleResult, told: Any) -> RuleResult:
        """The verdict that Great Expectations returned, if it counted what is there."""
        error = "no result came back" if told is None else raised(told)
        seen = None if told is None else told.result.get("observed_value")
        if not error and (seen != found.cases or told.success != (seen == 0)):
            error = f"Great Expectations counted {seen} rows of {found.cases}"
        if error:
            return RuleResult(found.rule, Verdict.UNKNOWN, error, broke=True)
        answer = {
            "expectation": told.expectation_config.type,
            "success": bool(told.success),
            "observed_value": seen,
        }
        verdict = Verdict.PASS if told.success else Verdict.FAIL
        because = "" if told.success else f"{seen} offend: {found.rule.description}"
        return replace(found, verdict=verdict, because=because, told=answer)


def _table(number: int) -> str:
    return f"memory.main.levada_rule_{number}"


def _named(found: RuleResult, broken: Mapping[str, str]) -> RuleResult:
    """An error that says why a table could not be read, where that was its cause."""
    for name, why in broken.items():
        if name.strip('"') in found.because:
            return replace(found, because=why)
    return found
