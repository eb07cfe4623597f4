"""
A domain made from its name and a seed: sixty clean days of it, its rules, and faults to plant.

Four tables stand for the four layers: events as they came in, entries made of them, a daily sum by
place, and a register of places. Names, places, sizes and weekly rhythm follow from seed and domain,
so that nobody tunes a rule to a data set. A fault changes one table, or, where the source itself
is wrong, everything that is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import duckdb

from levada.adapters.consistency import FOLDER, read_batches
from levada.consistency import quoted, statement
from levada.terms import (
    Batch,
    Column,
    Contract,
    Grain,
    Layer,
    Mart,
    Mesh,
    Owner,
    Product,
    Span,
    TableRef,
)

__all__ = ["FAULTS", "Domain", "Fault"]

DAYS = 60
_WEEKS = 4
_SYLLABLES = ("ka", "ro", "mi", "ten", "sal", "vi", "du", "lo", "pe", "na", "ri", "zu")
_TABLES = ("events", "entries", "totals", "places")


class Domain:
    """One domain's clean history in a DuckDB, and its rules as a batch."""

    def __init__(self, name: str, seed: int, root: Path) -> None:
        self.random = Random(f"{name} {seed}")
        self.first = date(2024, 1, 1) + timedelta(days=self.random.randrange(300))
        self.name = "".join(c for c in name.lower() if c.isalpha()) or "domain"
        self.tables = {t: TableRef(self.name, f"{self._word()}_{t}") for t in _TABLES}
        self.key, self.place, self.amount = (f"{self._word()}_{x}" for x in ("id", "place", "sum"))
        self.places = sorted({self._word() for _ in range(self.random.randrange(4, 9))})
        self.rhythm = [self.random.uniform(0.6, 1.4) for _ in range(7)]
        self.size = self.random.randrange(60, 140)
        self.db = duckdb.connect(config={"enable_external_access": False, "threads": 1})
        self.db.execute("set TimeZone = 'UTC'")
        self._fill()
        self.batch = self._declared(root)

    def _word(self) -> str:
        return "".join(self.random.choices(_SYLLABLES, k=3))

    def sql(self, text: str) -> list[tuple[object, ...]]:
        """Run SQL in which tables and columns have the names of this text: `events`, `key`."""
        words = {t: quoted(str(ref)) for t, ref in self.tables.items()}
        words |= {"key": self.key, "place": self.place, "amount": self.amount}
        return self.db.execute(text.format(**words)).fetchall()

    def _fill(self) -> None:
        self.sql(
            "create table {events} ({key} integer, day date, seen timestamptz, {place} varchar,"
            " {amount} decimal(12, 2), reversed boolean)"
        )
        rows: list[tuple[object, ...]] = []
        weights = [self.random.uniform(0.5, 2) for _ in self.places]
        for n in range(DAYS):
            day = self.first + timedelta(days=n)
            noise = self.random.uniform(0.96, 1.04)
            count = int(self.size * len(self.places) * self.rhythm[day.weekday()] * noise)
            shares = [int(count * w / sum(weights)) for w in weights]
            places = [p for p, c in zip(self.places, shares, strict=True) for _ in range(c)]
            self.random.shuffle(places)
            for k, place in enumerate(places):
                # The last hour of each place is lively: so are those of real ones.
                minute = self.random.randrange(1440) if k % 5 else self.random.randrange(1320, 1440)
                at = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minute)
                amount = self.random.randrange(100, 100_000) / 100
                rows.append((len(rows), day, at, place, amount, self.random.random() < 0.03))
        values = ", ".join(
            f"({k}, date '{d}', timestamptz '{t}', '{p}', {a}, {r})" for k, d, t, p, a, r in rows
        )
        self.sql("insert into {events} values " + values)
        register = ", ".join(f"('{p}', 'The place {p}')" for p in self.places)
        self.sql(
            f"create table {{places}} as select * from (values {register}) t({self.place}, name)"
        )
        self.make()

    def make(self) -> None:
        """Make anew what is made of the events."""
        self.sql(
            "create or replace table {entries} as select {key}, day, {place},"
            " case when reversed then -{amount} else {amount} end as {amount} from {events}"
        )
        self.sql(
            "create or replace table {totals} as select day, {place}, count(*) as entries,"
            " sum({amount}) as {amount} from {entries} group by all"
        )

    def _declared(self, root: Path) -> Batch:
        """Ten rules, written as anybody writes them and read by the product's own reader."""
        events, entries, totals, places = (str(self.tables[t]).removesuffix("@1") for t in _TABLES)
        key, place, amount = self.key, self.place, self.amount
        signed = f"case when reversed then -{amount} else {amount} end"
        by_key = {"table": entries, "key": [key]}
        rules: list[dict[str, object]] = [
            {"id": "once_in", "kind": "duplicates", "of": {"table": events, "key": [key]}},
            {"id": "once_made", "kind": "duplicates", "of": by_key},
            {"id": "every_event", "kind": "keys", "left": {"table": events, "key": [key]},
             "right": by_key},
            {"id": "same_entry", "kind": "rows",
             "left": {"table": events, "key": [key], "values": {"p": place, "a": signed}},
             "right": {"table": entries, "key": [key], "values": {"p": place, "a": amount}}},
            {"id": "adds_up", "kind": "rollup",
             "parent": {"table": entries, "by": [place],
                        "values": {"n": "count(*)", "a": f"sum({amount})"}},
             "of": {"table": totals, "by": [place],
                    "values": {"n": "sum(entries)", "a": f"sum({amount})"}}},
            {"id": "known_place", "kind": "references", "left": {"table": events, "key": [place]},
             "right": {"table": places, "key": [place]}},
            {"id": "one_place", "kind": "duplicates", "of": {"table": places, "key": [place]}},
            {"id": "until_night", "kind": "freshness", "within": "2h",
             "of": {"table": events, "newest": "seen"}},
            {"id": "as_usual", "kind": "weekday", "weeks": _WEEKS,
             "of": {"table": events, "by": [place],
                    "values": {"n": "count(*)", "mean": f"avg({amount})"}},
             "tolerance": {"relative": "40%"}},
            {"id": "on_its_day", "kind": "sql", "key": [key],
             "query": f"select {key}, seen from {events} where cast(seen as date) <> day"
                      f" or {amount} is null or {amount} <= 0 or {place} is null"},
        ]  # fmt: skip
        said = {
            "batch": "daily",
            "grain": "day",
            "zone": "UTC",
            "owner": self.name,
            "description": "Every layer tells of the same events.",
            "rules": [{"description": "It holds.", **rule} for rule in rules],
        }
        file = root / FOLDER / "daily.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(said, indent=1))
        batches, faults = read_batches(root, self._mesh())
        assert faults == (), "\n".join(map(str, faults))
        return batches[0]

    def _mesh(self) -> Mesh:
        products = []
        for short, ref in self.tables.items():
            described = self.sql(f"select * from (describe {{{short}}})")
            columns = tuple(Column(str(row[0]), str(row[1])) for row in described)
            whole = short == "places"
            contract = Contract(
                id=str(ref),
                version="1.0.0",
                status="active",
                table=ref,
                product=ref.name,
                grain=Grain.WHOLE if whole else Grain.DAY,
                zone="UTC",
                interval_column=None if whole else "day",
                columns=columns,
                checks=(),
                owner=Owner(self.name),
                description="",
                hash="h",
                path="",
            )
            mart = Mart(ref, Layer.BASE, str(ref), contract, (), "", "1")
            products.append(Product(self.name, ref.name, (mart,), contract.grain, contract.zone))
        span = Span.days(self.first, self.first + timedelta(days=DAYS - 1), "UTC")
        return Mesh("planted", span, "UTC", span.start, tuple(products))

    def day(self, number: int) -> date:
        """A day of the history."""
        return self.first + timedelta(days=number)

    def found(self, number: int) -> dict[str, int]:
        """The rules that fail on a day, with how many keys offend."""
        day = self.day(number)
        weeks = [w for w in range(1, _WEEKS + 1) if number - 7 * w >= 0]
        end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)

        def rows(table: TableRef, week: int) -> str:
            if table == self.tables["places"]:
                return quoted(str(table))
            at = day - timedelta(days=7 * week)
            return f"(select * from {quoted(str(table))} where day = date '{at}')"

        failed = {}
        for rule in self.batch.rules:
            if rule.weeks and not weeks:
                continue  # UNKNOWN: there is no week to compare with
            asked = statement(rule, rows, end, weeks)
            ((cases,),) = self.db.execute(f"select count(*) from ({asked.offending})").fetchall()
            if cases:
                failed[rule.id] = cases
        return failed


@dataclass(frozen=True)
class Fault:
    """One kind of fault: what it does to a day."""

    kind: str
    plant: Callable[[Domain, date], None]

    def planted(self, domain: Domain, number: int) -> dict[str, int]:
        """What is found of it on a day; afterwards the domain is as it was."""
        domain.db.execute("begin")
        try:
            self.plant(domain, domain.day(number))
            return domain.found(number)
        finally:
            domain.db.execute("rollback")


FAULTS: list[Fault] = []


def _fault(kind: str, *statements: str, remade: bool = False) -> None:
    """`{some}` is a random event of the day, `{one}` a random place that it has."""

    def plant(domain: Domain, day: date) -> None:
        found = domain.sql(f"select {{key}}, {{place}} from {{events}} where day = date '{day}'")
        (some, one), (other, two) = domain.random.sample(sorted(found, key=str), 2)
        words: Mapping[str, object] = {
            "day": f"date '{day}'", "some": some, "other": other,
            "one": f"'{one}'", "two": f"'{two}'",
        }  # fmt: skip
        for text in statements:
            for word, value in words.items():
                text = text.replace(f"<{word}>", str(value))  # noqa: PLW2901 - filled in
            domain.sql(text)
        if remade:
            domain.make()

    FAULTS.append(Fault(kind, plant))


_EVENT = "where {key} = <some>"
_fault("a row is lost", "delete from {entries} " + _EVENT)
_fault("a row comes twice", "insert into {entries} select * from {entries} " + _EVENT)
_fault("a cent too much", "update {entries} set {amount} = {amount} + 0.01 " + _EVENT)
_fault("a flipped sign", "update {entries} set {amount} = -{amount} " + _EVENT)
_fault("an amount of nothing", "update {entries} set {amount} = 0 " + _EVENT)
_fault("a lost amount", "update {entries} set {amount} = null " + _EVENT)
_fault("cents for units", "update {entries} set {amount} = {amount} * 100 where day = <day>")
_fault("another place", "update {entries} set {place} = {place} || 'x' " + _EVENT)
_fault("a changed key", "update {entries} set {key} = -{key} - 1 " + _EVENT)
_fault(
    "two amounts that traded places",
    "update {entries} set {amount} = case {key}"
    " when <some> then (select {amount} from {entries} where {key} = <other>)"
    " else (select {amount} from {entries} where {key} = <some>) end"
    " where {key} in (<some>, <other>)",
)
_fault("a day that is lost", "delete from {entries} where day = <day>")
_fault("a day loaded twice", "insert into {entries} select * from {entries} where day = <day>")
_fault("a group that is lost", "delete from {totals} where day = <day> and {place} = <one>")
_fault("a group too many", "insert into {totals} values (<day>, 'nowhere', 1, 1)")
_fault("a total off by a cent", "update {totals} set {amount} = {amount} - 0.01"
       " where day = <day> and {place} = <one>")  # fmt: skip
_fault("a count off by one", "update {totals} set entries = entries + 1"
       " where day = <day> and {place} = <one>")  # fmt: skip
_fault("a total that comes twice", "insert into {totals} select * from {totals}"
       " where day = <day> and {place} = <one>")  # fmt: skip
_fault("rounded totals", "update {totals} set {amount} = round({amount} - 0.4, 0)"
       " where day = <day>")  # fmt: skip
_fault(
    "yesterday's totals",
    "delete from {totals} where day = <day>",
    "insert into {totals} select day + 1, {place}, entries, {amount} from {totals}"
    " where day = <day> - 1",
)
_fault("a place that nobody knows", "delete from {places} where {place} = <one>")
_fault("a place that is there twice", "insert into {places} select * from {places}"
       " where {place} = <one>")  # fmt: skip
_fault("a typing error at the source", "update {events} set {place} = {place} || '?' " + _EVENT,
       remade=True)  # fmt: skip
_fault("an event that came twice", "insert into {events} select * from {events} " + _EVENT,
       remade=True)  # fmt: skip
_fault("a file cut off at noon", "delete from {events} where day = <day>"
       " and hour(seen) >= 12", remade=True)  # fmt: skip
_fault("half of a place lost at the source", "delete from {events} where day = <day>"
       " and {place} = <one> and {key} % 2 = 0", remade=True)  # fmt: skip
_fault("an hour of another day", "update {events} set seen = seen + interval 1 day " + _EVENT,
       remade=True)  # fmt: skip
_fault("a negative amount at the source", "update {events} set {amount} = -{amount} " + _EVENT,
       remade=True)  # fmt: skip
_fault("a place of nothing at the source", "update {events} set {place} = null " + _EVENT,
       remade=True)  # fmt: skip
_fault("another currency at the source", "update {events} set {amount} = {amount} * 2.2"
       " where day = <day> and {place} = <one>", remade=True)  # fmt: skip
_fault("a reversal taken for an entry", "update {entries} set {amount} = -{amount}"
       " where day = <day> and {amount} < 0")  # fmt: skip
