"""Waiver files: what somebody asks governance to grant. A file grants nothing by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from levada.adapters.yamlfile import YamlFile
from levada.approve import Policy, Subject
from levada.audit import BUILT_IN
from levada.calendars import opening
from levada.errors import DeclarationError, Fault
from levada.settings import nearest
from levada.terms import ConsistencyRule, Contract, Mesh, Span, TableRef, Waiver

__all__ = ["WAIVERS", "Request", "read_request", "requests"]

WAIVERS = "contracts/governance/waivers"
_NEEDED = ("table", "check", "window", "expires", "reason", "owner", "approver")
_KEYS = (*_NEEDED, "consumers")


@dataclass(frozen=True, slots=True)
class Request:
    """What a file asks for, not approved by anybody."""

    path: str
    waiver: Waiver
    subject: Subject


def read_request(path: Path, root: Path, mesh: Mesh, policy: Policy) -> Request:
    """
    What a waiver file asks for. `window` is data time, whole local days of the table's zone, both
    included; `expires` is wall time, an instant or the local day on whose start the waiver ends.

    Raises DeclarationError with every fault of the file.
    """
    reading = _Reading(YamlFile(path, root), root, mesh, policy)
    request = reading.request()
    if reading.file.faults or request is None:
        raise DeclarationError(reading.file.faults)
    return request


def requests(
    root: Path, mesh: Mesh, policy: Policy
) -> tuple[tuple[Request, ...], tuple[Fault, ...]]:
    """The waiver files below `contracts/governance/waivers`, and every fault of the others."""
    found: list[Request] = []
    faults: list[Fault] = []
    for path in sorted((root / WAIVERS).glob("*.y*ml")):
        try:
            found.append(read_request(path, root, mesh, policy))
        except DeclarationError as error:
            faults += error.faults
    return tuple(found), tuple(faults)


class _Reading:
    """One pass over a waiver file."""

    def __init__(self, file: YamlFile, root: Path, mesh: Mesh, policy: Policy) -> None:
        self.file, self.root, self.mesh, self.policy = file, root, mesh, policy
        self.fault = file.fault

    def request(self) -> Request | None:
        said = self.file.mapping(_KEYS)
        if said is None:
            return None
        for key in _NEEDED:
            if key not in said:
                right = "a waiver without an end is a change of the contract"
                self.fault(key, f"{key!r} is missing", right if key == "expires" else "")
        contract = self._contract(str(said["table"])) if "table" in said else None
        if "check" in said and self.file.plain("check", name := str(said["check"])) and contract:
            self._check(name, contract)
        zone = contract.zone if contract else "UTC"
        window = self._window(said["window"], zone) if "window" in said else None
        expires = self._expires(said["expires"], zone) if "expires" in said else None
        words = {key: self._words(key, said) for key in ("reason", "owner", "approver")}
        consumers = self._consumers(said["consumers"]) if "consumers" in said else ()
        gate = self._gate(said.get("check"), contract) if contract else None
        answering = (*contract.owners, *((gate.owner,) if gate else ())) if contract else ()
        if words["approver"]:
            self._approver(words["approver"], (words["owner"], *answering), contract)
        if not (contract and window and expires) or self.file.faults:
            return None
        waiver = Waiver(
            table=contract.table,
            check=str(said["check"]),
            window=window,
            expires=expires,
            reason=words["reason"],
            approved_by="",
            hash=_digest(said),
            consumers=consumers,
            owner=words["owner"],
            approver=words["approver"],
        )
        domain, owners = contract.table.domain, (waiver.owner, *answering)
        subject = Subject("waiver", domain, self.file.shown, owners, waiver.approver)
        return Request(self.file.shown, waiver, subject)

    def _words(self, key: str, said: Mapping[str, Any]) -> str:
        words = str(said.get(key) or "").strip()
        if key in said and not words:
            right = "say why the data may be published" if key == "reason" else "name one person"
            self.fault(key, f"the {key} says nothing", right)
        return words

    def _contract(self, name: str) -> Contract | None:
        if not self.file.plain("table", name):
            return None
        try:
            table = TableRef.parse(name)
            return self.mesh.mart(table).contract
        except KeyError:
            file = f"contracts/{table.domain}/{table.name}.v{table.major}.odcs.yaml"
            if (self.root / file).is_file():
                self.fault("table", f"{file} cannot be read", Fault.ELSEWHERE)
                return None
        except ValueError:
            pass
        known = [str(t).removesuffix("@1") for t in self.mesh.tables()]
        self.fault("table", f"no published table is called {name!r}", nearest(name, known))
        return None

    def _check(self, name: str, contract: Contract) -> None:
        checks = {check.id: check for check in contract.checks}
        if self._gate(name, contract):
            return
        if name not in checks:
            known = [c.id for c in contract.checks if c.origin != BUILT_IN and not _kept(c.id)]
            known += (rule.name for rule in self.mesh.mart(contract.table).gates)
            self.fault("check", f"{contract.table} has no check {name!r}", nearest(name, known))
        elif checks[name].origin == BUILT_IN:
            wrong = f"the check {name!r} is the platform's own: it cannot be waived"
            self.fault("check", wrong, "mend the data")
        elif _kept(name):
            wrong = f"{contract.table} is published with NOT NULL: {name!r} cannot be waived"
            self.fault("check", wrong, "promise a nullable column, as a new major version")

    def _gate(self, name: object, contract: Contract) -> ConsistencyRule | None:
        """The gate `batch.rule` of the table."""
        gates = self.mesh.mart(contract.table).gates
        return next((rule for rule in gates if rule.name == name), None)

    def _consumers(self, said: object) -> tuple[str, ...]:
        named = self.file.names("consumers", said)
        known = [product.id for product in self.mesh.products]
        for each in named:
            if each not in known:
                self.fault("consumers", f"no product is called {each!r}", nearest(each, known))
        if not named:
            self.fault("consumers", "'consumers' names nobody", "leave it out to let all run")
        return tuple(sorted(set(named)))

    def _approver(self, asked: str, owners: tuple[str, ...], contract: Contract | None) -> None:
        known = self.policy.approver(asked)
        if known is None:
            names = [a.username for a in self.policy.approvers]
            wrong = f"{asked!r} is no approver in approvers.yaml"
            self.fault("approver", wrong, nearest(asked, names) if names else "name one there")
        elif contract and not known.may("waiver", contract.table.domain):
            wrong = f"{asked} may not approve a waiver of {contract.table.domain}"
            self.fault("approver", wrong, "ask another")
        mine = {name.casefold() for name in self.policy.names(asked)}
        if mine & {name.casefold() for name in owners}:
            self.fault("approver", f"{asked} answers for it himself", "ask another")

    def _window(self, said: object, zone: str) -> Span | None:
        if not isinstance(said, dict) or set(said) != {"from", "to"}:
            self.fault("window", "the window has no ends", "{from: 2013-03-01, to: 2013-03-31}")
            return None
        first, last = self._day("window", said["from"]), self._day("window", said["to"])
        if first is None or last is None:
            return None
        if last < first:
            self.fault("window", f"the window {first} .. {last} is empty", "'to' is its last day")
            return None
        days = (last - first).days + 1
        if timedelta(days=days) > self.policy.widest:
            most = self.policy.widest.days
            self.fault("window", f"the window is {days} days wide", f"{most} days at most")
            return None
        return Span(opening(first, zone), opening(last + timedelta(days=1), zone))

    def _expires(self, said: object, zone: str) -> datetime | None:
        right = "write a day like 2026-12-01, or an instant like 2026-12-01T12:00Z"
        try:
            return opening(date.fromisoformat(str(said)), zone)
        except ValueError:
            pass
        try:
            instant = datetime.fromisoformat(str(said))
        except ValueError:
            self.fault("expires", f"{said!r} is neither a day nor an instant", right)
            return None
        if instant.tzinfo is None:
            self.fault("expires", f"{said!r} names no zone", right)
            return None
        return instant.astimezone(UTC)

    def _day(self, key: str, said: object) -> date | None:
        try:
            return date.fromisoformat(str(said))
        except ValueError:
            self.fault(key, f"{said!r} is no date", "write it like 2013-03-10")
            return None


def _kept(check: str) -> bool:
    """Whether a check holds by itself: the published table refuses what breaks it."""
    return check == "primary_key" or check.endswith(".required")


def _digest(said: Mapping[str, Any]) -> str:
    """Of what the file says: layout and comments do not count."""
    plain = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(plain.encode()).hexdigest()
