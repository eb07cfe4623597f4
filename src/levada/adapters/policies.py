"""`contracts/governance/policies.yaml` becomes `Policies`; findings get the lines they stand on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from levada.adapters.dbt.places import line_at, named
from levada.adapters.documents import Document, Place, read_file
from levada.errors import Fault
from levada.govern.backfills import Limits
from levada.govern.policies import (
    FIELDS,
    SELECTORS,
    TESTS,
    Approval,
    Finding,
    Level,
    OfCanaries,
    Policies,
    Policy,
    Rule,
    Selector,
    required,
)
from levada.govern.policy_library import LIBRARY, message, settings
from levada.settings import nearest
from levada.terms import CanaryTerms, Grain, Layer, TableRef

__all__ = ["FILE", "located", "read_policies"]

FILE = "contracts/governance/policies.yaml"

_KEYS = ("approved_ignores", "backfills", "canaries", "default_tier", "policies", "tiers")
_OF_BACKFILLS = ("beyond_retention", "intervals", "other_domains_tier")
_OF_A_POLICY = ("except", "message", "policy", "require", "severity", "where", "with")
_OF_CANARIES = ("except", "intervals", "promote", "where")
_OF_AN_APPROVAL = ("table", "input", "reason")
_EXAMPLE = "write policies: {every_column_described: {}}"
_WORDS: Mapping[str, tuple[str, ...]] = {
    "grain": tuple(grain.value for grain in Grain),
    "layer": tuple(layer.value for layer in Layer),
    "status": ("active", "deprecated", "draft", "retired"),
}


def read_policies(root: Path, domains: Collection[str]) -> tuple[Policies, tuple[Fault, ...]]:
    """
    The mesh's policies and every fault of their file; no file, no policies. Of a file with a fault
    nothing is believed: whoever relies on it must refuse what it would have judged.
    """
    path = root / FILE
    if not path.exists():
        return Policies(), ()
    document, faults = read_file(path, root, _EXAMPLE, numbered=[("tiers",)])
    if document is None:
        return Policies(FILE), faults
    reading = _Reading(document, domains)
    policies = reading.policies()
    return policies, tuple(sorted({*faults, *reading.faults}))


class _Reading:
    """One pass over the file that collects its faults."""

    def __init__(self, document: Document, domains: Collection[str]) -> None:
        self.document = document
        self.domains = domains
        self.faults: list[Fault] = []

    def fault(self, place: Place, wrong: str, right: str = "") -> None:
        self.faults.append(self.document.fault(place, wrong, right))

    def policies(self) -> Policies:
        said = self.document.value
        self.known(said, (), _KEYS)
        tiers = self.tiers(self.mapping(said.get("tiers"), ("tiers",), "tiers: {1: [sla_stated]}"))
        default = said.get("default_tier")
        if "default_tier" in said and (default not in tiers if tiers else not _whole(default)):
            right = f"write one of {', '.join(map(str, tiers))}" if tiers else "write 3"
            self.fault(("default_tier",), f"no tier {default!r}", right)
            default = None
        own = self.mapping(said.get("policies"), ("policies",), _EXAMPLE)
        asked: dict[str, list[int]] = {}
        for tier, names in tiers.items():
            for name in names:
                asked.setdefault(name, []).append(tier)
        found = [
            policy
            for name, body in own.items()
            if (policy := self.policy(name, body, ("policies", name), asked.get(name, ()), tiers))
        ]
        for name, of in asked.items():
            if name not in own:
                place = ("tiers", str(of[0]))
                if name in LIBRARY:
                    found.append(self.of_library(name, place, of))
                else:
                    right = nearest(name, {*LIBRARY, *own})
                    self.fault((*place, tiers[of[0]].index(name)), f"no policy {name!r}", right)
        approvals = self.approvals(said.get("approved_ignores"))
        limits = self.limits(said.get("backfills"))
        canaries = self.canaries(said.get("canaries"), tiers)
        return Policies(FILE, tuple(found), tuple(tiers), default, approvals, limits, canaries)

    # Shapes

    def known(self, said: Mapping[str, Any], place: Place, keys: Sequence[str]) -> None:
        for key in said:
            if key not in keys:
                self.fault((*place, str(key)), f"unknown key {key!r}", nearest(str(key), keys))

    def mapping(self, said: Any, place: Place, right: str) -> Mapping[Any, Any]:
        if said is None or isinstance(said, dict):
            return said or {}
        self.fault(place, f"{place[-1]} holds no keys", right)
        return {}

    def tiers(self, said: Mapping[Any, Any]) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for tier, names in said.items():
            place = ("tiers", str(tier))
            if not _whole(tier):
                self.fault(place, f"no tier {tier!r}", "write 1 (the highest), 2, 3")
            elif not isinstance(names, list) or not all(isinstance(n, str) for n in names):
                self.fault(place, f"tier {tier} is no list of policies", "write [] for none")
            else:
                found[tier] = names
        return found

    # Policies

    def of_library(self, name: str, place: Place, tiers: Sequence[int]) -> Policy:
        where = Selector((("tier", tuple(map(str, tiers))),))
        line = self.document.line(place)
        return Policy(name, LIBRARY[name], message(name), where=where, line=line, asks=name)

    def policy(
        self, name: str, said: Any, place: Place, listed: Sequence[int], tiers: Mapping[int, Any]
    ) -> Policy | None:
        before = len(self.faults)
        body = self.mapping(said, place, "write {} for a policy of the library")
        self.known(body, place, _OF_A_POLICY)
        rule, asks, why = self.rule(name, body, place)
        severity = body.get("severity", Level.ERROR.value)
        levels = {level.value: level for level in Level}
        if severity not in levels:
            right = nearest(str(severity), levels)
            self.fault((*place, "severity"), f"no severity {severity!r}", right)
        told = body.get("message", why)
        if not isinstance(told, str) or not told.strip():
            self.fault((*place, "message"), "the message says nothing", "say why, in a sentence")
        where = self.selector(body.get("where"), (*place, "where"), tiers)
        unless = self.selector(body.get("except"), (*place, "except"), tiers)
        if listed:
            if any(word == "tier" for word, _ in where.said):
                wrong = f"the tiers of {name} are said under tiers too"
                self.fault((*place, "where", "tier"), wrong, "say them once")
            where = Selector((*where.said, ("tier", tuple(map(str, listed)))))
        if len(self.faults) > before or rule is None:
            return None
        line = self.document.line(place)
        return Policy(
            *(str(name), rule, str(told).strip(), levels[severity], where),
            *(unless if unless.said else None, line, asks),
        )

    def rule(
        self, name: str, body: Mapping[str, Any], place: Place
    ) -> tuple[Rule | None, str, str]:
        """The rule, what it asks, and why."""
        if "require" in body:
            for key in ("policy", "with"):
                if key in body:
                    self.fault((*place, key), f"{name} says require and {key}", "say one of them")
            if name in LIBRARY:
                self.fault(place, f"{name!r} is a policy of the library", "choose another name")
            conditions = self.conditions(body["require"], (*place, "require"))
            if not conditions:
                return None, "", "?"
            rule, asks = required(conditions)
            return rule, asks, asks
        called = body.get("policy", name)
        if not isinstance(called, str) or called not in LIBRARY:
            at = (*place, "policy") if "policy" in body else place
            right = nearest(str(called), LIBRARY)
            self.fault(at, f"no policy {called!r}", f"{right}; or say what it requires: require:")
            return None, "", "?"
        given = self.given(called, body.get("with"), (*place, "with"))
        rule = LIBRARY[called]
        asks = f"{called} ({', '.join(f'{k}: {v}' for k, v in given.items())})" if given else called
        return (lambda subject: rule(subject, **given)), asks, message(called)

    def given(self, called: str, said: Any, place: Place) -> dict[str, int]:
        known = settings(called)
        found: dict[str, int] = {}
        for key, value in self.mapping(said, place, "write {percent: 95}").items():
            at = (*place, str(key))
            if key not in known:
                right = nearest(str(key), known) if known else f"{called} has none"
                self.fault(at, f"{called} has no setting {key!r}", right)
            elif not _whole(value):
                self.fault(at, f"{key} is {value!r}", f"write a whole number, like {known[key]}")
            else:
                found[key] = value
        return found

    def selector(self, said: Any, place: Place, tiers: Mapping[int, Any]) -> Selector:
        found: list[tuple[str, tuple[str, ...]]] = []
        for word, values in self.mapping(said, place, "write {tier: 1}").items():
            at = (*place, str(word))
            if word not in SELECTORS:
                self.fault(at, f"unknown selector {word!r}", nearest(str(word), SELECTORS))
                continue
            listed = values if isinstance(values, list) else [values]
            if not listed or not all(isinstance(v, str | int) for v in listed):
                self.fault(at, f"{word} selects {values!r}", "write a word, or a list of words")
                continue
            words = tuple(str(value) for value in listed)
            known: Collection[str] = _WORDS.get(str(word), ())
            known = self.domains if word == "domain" else known
            known = [str(tier) for tier in tiers] if word == "tier" else known
            for value in words:
                if known and value not in known and not set(value) & set("*?["):
                    self.fault(at, f"no {word} {value!r}", nearest(value, known))
            found.append((str(word), words))
        return Selector(tuple(found))

    def conditions(self, said: Any, place: Place) -> list[tuple[str, str, Any]]:
        found: list[tuple[str, str, Any]] = []
        example = "write {columns.classification: present}"
        if not said:
            self.fault(place, "require asks nothing", example)
        for field, asked in self.mapping(said, place, example).items():
            at = (*place, str(field))
            if field not in FIELDS:
                self.fault(at, f"unknown field {field!r}", nearest(str(field), FIELDS))
                continue
            tests = {asked: None} if isinstance(asked, str) else asked
            if not isinstance(tests, dict) or not tests:
                self.fault(at, f"{field} asks {asked!r}", "write present, or {in: [...]}")
                continue
            for test, argument in tests.items():
                if self.fits(str(field), str(test), argument, (*at, str(test))):
                    found.append((str(field), str(test), argument))
        return found

    def fits(self, field: str, test: str, argument: Any, place: Place) -> bool:
        if test not in TESTS:
            self.fault(place, f"unknown test {test!r}", nearest(test, TESTS))
            return False
        known = TESTS[test]
        if FIELDS[field].kind not in known.kinds:
            fitting = [name for name, each in TESTS.items() if FIELDS[field].kind in each.kinds]
            wrong = f"{field} is a {FIELDS[field].kind}: {test} cannot be asked of it"
            self.fault(place, wrong, f"ask one of {', '.join(fitting)}")
            return False
        right, fitting_argument = {
            "": ("write it alone", argument is None),
            "list": ("write a list", isinstance(argument, list) and bool(argument)),
            "number": ("write a number", _number(argument)),
            "value": ("write a plain value", isinstance(argument, str | int | float)),
        }[known.argument]
        if not fitting_argument:
            self.fault(place, f"{test} of {field} is {argument!r}", right)
        return fitting_argument

    def limits(self, said: Any) -> Limits:
        """Beyond what a backfill needs somebody's approval."""
        place: Place = ("backfills",)
        said = self.mapping(said, place, "write {intervals: 1000}")
        self.known(said, place, _OF_BACKFILLS)
        found: dict[str, int | None] = {}
        for key in ("intervals", "other_domains_tier"):
            found[key] = said.get(key)
            if key in said and not _whole(said[key]):
                self.fault((*place, key), f"{key} is {said[key]!r}", "write a number of at least 1")
                found[key] = None
        beyond = said.get("beyond_retention", False)
        if not isinstance(beyond, bool):
            wrong = f"beyond_retention is {beyond!r}"
            self.fault((*place, "beyond_retention"), wrong, "write true or false")
        return Limits(found["intervals"], found["other_domains_tier"], beyond is True)

    def canaries(self, said: Any, tiers: Mapping[int, Any]) -> tuple[OfCanaries, ...]:
        """What a canary needs before its new version is built alone."""
        example = "write a list of {where: {tier: 3}, promote: policy, intervals: 7}"
        if said is not None and not isinstance(said, list):
            self.fault(("canaries",), "canaries is no list", example)
            return ()
        found: list[OfCanaries] = []
        for number, entry in enumerate(said or ()):
            place: Place = ("canaries", number)
            if not isinstance(entry, dict):
                self.fault(place, f"{entry!r} says nothing of canaries", example)
                continue
            self.known(entry, place, _OF_CANARIES)
            by, intervals = entry.get("promote", "approval"), entry.get("intervals", 1)
            if by not in ("approval", "policy"):
                self.fault((*place, "promote"), f"promote is {by!r}", "write approval or policy")
            if not _whole(intervals):
                wrong = f"intervals is {intervals!r}"
                self.fault((*place, "intervals"), wrong, "write a number of at least 1")
                continue
            where = self.selector(entry.get("where"), (*place, "where"), tiers)
            unless = self.selector(entry.get("except"), (*place, "except"), tiers)
            terms = CanaryTerms(by == "policy", intervals)
            found.append(OfCanaries(terms, where, unless if unless.said else None))
        return tuple(found)

    def approvals(self, said: Any) -> tuple[Approval, ...]:
        example = "write {table: domain.table, input: domain.table, reason: ...}"
        if said is not None and not isinstance(said, list):
            self.fault(("approved_ignores",), "approved_ignores is no list", example)
            return ()
        found: list[Approval] = []
        for number, entry in enumerate(said or ()):
            place: Place = ("approved_ignores", number)
            if not isinstance(entry, dict):
                self.fault(place, f"{entry!r} approves nothing", example)
                continue
            self.known(entry, place, _OF_AN_APPROVAL)
            lacks = [key for key in _OF_AN_APPROVAL if not str(entry.get(key) or "").strip()]
            if lacks:
                self.fault(place, f"the approval lacks {', '.join(lacks)}", example)
                continue
            try:
                edge = TableRef.parse(str(entry["table"])), TableRef.parse(str(entry["input"]))
            except ValueError as error:
                self.fault(place, str(error), "write domain.table")
                continue
            line = self.document.line(place)
            found.append(Approval(*edge, str(entry["reason"]).strip(), line))
        return tuple(found)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# Where a finding stands


def located(findings: Iterable[Finding], root: Path, paths: Mapping[TableRef, str]) -> list[Fault]:
    """
    Findings as faults, each with the line that it is about; `paths` are those of the contracts.

    A line is looked up only for what was found: declarations that are compiled carry none.
    """
    places = _Places(root)
    found: list[Fault] = []
    for each in findings:
        path, line = places.of(each.table, paths[each.table], each.broken.at)
        wrong = f"{each.table} {each.broken.wrong} (policy {each.policy.name})"
        found.append(Fault(path, line, wrong, each.broken.right or each.policy.message))
    return found


class _Places:
    """The files that findings stand in, each read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.documents: dict[str, Document | None] = {}
        self.models: dict[str, dict[str, tuple[Path, int]]] = {}

    def of(self, table: TableRef, contract: str, at: tuple[str, ...]) -> tuple[str, int]:
        if at[:1] == ("input",) and (found := self.input(table, at[1], at[2:])):
            return found
        if contract not in self.documents:
            self.documents[contract] = read_file(self.root / contract, self.root)[0]
        document = self.documents[contract]
        return contract, document.line(_in_contract(document, at)) if document else 0

    def input(self, table: TableRef, upstream: str, key: tuple[str, ...]) -> tuple[str, int] | None:
        """Where the YAML of the model speaks of an input, or at least of the model."""
        described = self.described(table.domain).get(table.name)
        if described is None:
            return None
        path, line = described
        for way in (("config", "meta"), ("meta",)):
            for name in (upstream.removesuffix("@1"), upstream):
                steps = ["models", table.name, *way, "levada", "inputs", name]
                for each in ([*steps, *key], steps):
                    if exact := line_at(path, each, exact=True):
                        return path.relative_to(self.root).as_posix(), exact
        return path.relative_to(self.root).as_posix(), line

    def described(self, domain: str) -> Mapping[str, tuple[Path, int]]:
        """The YAML that describes each model of a project."""
        if domain not in self.models:
            found = self.models[domain] = {}
            for path in sorted((self.root / "models" / domain).rglob("*.y*ml")):
                for steps, line in named(path):
                    if len(steps) == 2 and steps[0] == "models":
                        found.setdefault(steps[1], (path, line))
        return self.models[domain]


def _in_contract(document: Document, at: tuple[str, ...]) -> Place:
    table: Place = ("schema", 0)
    entries = document.value["schema"][0]
    match at:
        case ("column", name):
            return _entry(entries, table, "properties", "name", name)
        case ("custom", name):
            return _entry(entries, table, "customProperties", "property", name)
        case ("properties" | "quality" as key,):
            return (*table, key) if key in entries else table
        case (key,) if key in document.value:
            return (key,)
    return ("name",)


def _entry(said: Mapping[str, Any], above: Place, key: str, word: str, name: str) -> Place:
    """The entry of a list that has this name, or the list, or what is above it."""
    entries = said.get(key, ())
    numbers = [number for number, entry in enumerate(entries) if entry.get(word) == name]
    return (*above, key, *numbers[:1])
