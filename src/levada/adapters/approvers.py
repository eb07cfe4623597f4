"""`contracts/governance/approvers.yaml`: whom governance entitled to approve what."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from levada.adapters.yamlfile import YamlFile
from levada.approve import ALL, KINDS, Approver, Policy
from levada.errors import DeclarationError, Fault
from levada.settings import nearest

__all__ = ["APPROVERS", "look", "read_policy"]

APPROVERS = "contracts/governance/approvers.yaml"
_KEYS = ("approvers", "waivers")
_RIGHT = "approvers: [{username: ines, domains: [weather]}]"
_WORDS = ("username", "domains", "kinds", "known_as")


def read_policy(root: Path, domains: Collection[str]) -> Policy:
    """Whom governance entitled; nobody, where there is no file. Raises DeclarationError."""
    policy, faults = look(root, domains)
    if faults:
        raise DeclarationError(faults)
    return policy


def look(root: Path, domains: Collection[str]) -> tuple[Policy, tuple[Fault, ...]]:
    """The policy as far as it can be read, and every fault of the file."""
    path = root / APPROVERS
    if not path.is_file():
        return Policy(), ()
    file = YamlFile(path, root)
    said = file.mapping(_KEYS)
    if said is None:
        return Policy(), tuple(file.faults)
    usual = Policy()
    limits: Any = said.get("waivers") or {}
    if not isinstance(limits, dict):
        file.fault("waivers", "'waivers' holds limits", "waivers: {widest: 31d, longest: 90d}")
        limits = {}
    for key in limits:
        if key not in ("widest", "longest"):
            file.fault("waivers", f"unknown key {key!r}", nearest(key, ("widest", "longest")))
    policy = Policy(
        tuple(_approvers(file, said.get("approvers"), domains)),
        file.duration("waivers", limits.get("widest", "31d"), usual.widest),
        file.duration("waivers", limits.get("longest", "90d"), usual.longest),
    )
    return policy, tuple(file.faults)


def _approvers(file: YamlFile, said: Any, domains: Collection[str]) -> list[Approver]:
    if not isinstance(said, list):
        file.fault("approvers", "'approvers' is a list of people", _RIGHT)
        return []
    found = [a for each in said if (a := _approver(file, each, domains))]
    taken: set[str] = set()
    for name in (n.casefold() for a in found for n in (a.username, *a.known_as)):
        if name in taken:
            file.fault("approvers", f"{name!r} names two approvers", "name each once")
        taken.add(name)
    return found


def _approver(file: YamlFile, said: Any, domains: Collection[str]) -> Approver | None:
    if not isinstance(said, dict) or not str(said.get("username") or "").strip():
        file.fault("approvers", "an approver has no username", _RIGHT)
        return None
    who = str(said["username"])
    for key in said:
        if key not in _WORDS:
            file.fault("approvers", f"{who}: unknown key {key!r}", nearest(key, _WORDS))
    ours = file.names("approvers", said.get("domains", []))
    kinds = file.names("approvers", said.get("kinds", list(KINDS)))
    for what, names, known in (("domain", ours, (*domains, ALL)), ("kind", kinds, KINDS)):
        for name in names:
            if name not in known:
                file.fault("approvers", f"{who}: no {what} {name!r}", nearest(name, known))
    if not ours:
        right = f"name them, or write `domains: [{ALL}]`"
        file.fault("approvers", f"{who} is entitled to no domain", right)
    return Approver(who, ours, kinds, file.names("approvers", said.get("known_as", [])))
