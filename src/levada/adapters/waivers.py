"""Waiver files: what somebody asks governance to grant. A file grants nothing by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from levada.audit import BUILT_IN
from levada.calendars import opening
from levada.errors import DeclarationError, Fault
from levada.settings import nearest
from levada.terms import Contract, Mesh, Span, TableRef, Waiver

__all__ = ["read_waiver", "waiver_faults"]

_KEYS = ("table", "check", "window", "expires", "reason")


def read_waiver(path: Path, root: Path, mesh: Mesh) -> Waiver:
    """
    What a waiver file asks for, not approved by anybody. `window` is data time, whole local days of
    the table's zone, both included; `expires` is the local day on whose start it ends.

    Raises DeclarationError with every fault of the file.
    """
    reading = _Reading(
        path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    )
    waiver = reading.waiver(path, mesh)
    if reading.faults or waiver is None:
        raise DeclarationError(reading.faults)
    return waiver


def waiver_faults(root: Path, mesh: Mesh) -> tuple[Fault, ...]:
    """What is wrong in the waiver files below `contracts/governance/waivers`."""
    found: list[Fault] = []
    for path in sorted((root / "contracts" / "governance" / "waivers").glob("*.y*ml")):
        try:
            read_waiver(path, root, mesh)
        except DeclarationError as error:
            found += error.faults
    return tuple(found)


class _Reading:
    """One pass over a file that collects its faults."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.lines: dict[str, int] = {}
        self.faults: list[Fault] = []

    def fault(self, key: str, wrong: str, right: str = "") -> None:
        self.faults.append(Fault(self.shown, self.lines.get(key, 1), wrong, right))

    def waiver(self, path: Path, mesh: Mesh) -> Waiver | None:
        said = self._said(path)
        if said is None:
            return None
        for key in said:
            if key not in _KEYS:
                self.fault(key, f"unknown key {key!r}", nearest(key, _KEYS))
        for key in _KEYS:
            if key not in said:
                self.fault(key, f"{key!r} is missing")
        contract = self._contract(str(said.get("table", "")), mesh) if "table" in said else None
        if contract and "check" in said:
            self._check(str(said["check"]), contract)
        zone = contract.zone if contract else "UTC"
        window = self._window(said["window"], zone) if "window" in said else None
        expires = self._day("expires", said["expires"]) if "expires" in said else None
        reason = str(said.get("reason") or "").strip()
        if "reason" in said and not reason:
            self.fault("reason", "the reason says nothing", "say why the data may be published")
        if not (contract and window and expires and reason) or self.faults:
            return None
        plain = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(plain.encode()).hexdigest()
        return Waiver(
            contract.table, str(said["check"]), window, opening(expires, zone), reason, "", digest
        )

    def _said(self, path: Path) -> Mapping[str, Any] | None:
        import yaml

        try:
            text = path.read_text(encoding="utf-8")
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            said = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - keeps dates as strings
        except (OSError, UnicodeDecodeError) as error:
            self.fault("", f"cannot be read: {error}")
            return None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            self.lines[""] = mark.line + 1 if mark else 1
            self.fault("", f"is no YAML: {getattr(error, 'problem', error)}")
            return None
        if not isinstance(said, dict) or node is None:
            self.fault("", "is no waiver", f"write {', '.join(_KEYS)}")
            return None
        self.lines = {str(k.value): k.start_mark.line + 1 for k, _ in node.value}
        return said

    def _contract(self, name: str, mesh: Mesh) -> Contract | None:
        try:
            return mesh.mart(TableRef.parse(name)).contract
        except (KeyError, ValueError):
            known = [str(t).removesuffix("@1") for t in mesh.tables()]
            self.fault("table", f"no published table is called {name!r}", nearest(name, known))
            return None

    def _check(self, name: str, contract: Contract) -> None:
        checks = {check.id: check for check in contract.checks}
        if name not in checks:
            self.fault("check", f"{contract.table} has no check {name!r}", nearest(name, checks))
        elif checks[name].origin == BUILT_IN:
            wrong = f"the check {name!r} is the platform's own: it cannot be waived"
            self.fault("check", wrong, "mend the data")
        elif name == "primary_key" or name.endswith(".required"):
            wrong = f"{contract.table} is published with NOT NULL: {name!r} cannot be waived"
            self.fault("check", wrong, "promise a nullable column, as a new major version")

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
        return Span(opening(first, zone), opening(last + timedelta(days=1), zone))

    def _day(self, key: str, said: object) -> date | None:
        try:
            return date.fromisoformat(str(said))
        except ValueError:
            self.fault(key, f"{said!r} is no date", "write it like 2013-03-10")
            return None
