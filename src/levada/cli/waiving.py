"""`levada waiver`: what was asked for, what lives, what ends soon; and ending one now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from levada import compiled
from levada.cli import output
from levada.cli.approving import told
from levada.errors import DeclarationError, Fault
from levada.flow import platform as opening
from levada.flow.granting import Listed, listed
from levada.settings import duration, find_root, read_settings

__all__ = ["expiring", "list_", "revoke"]

_STYLES = {"requested": "yellow", "live": "green", "expired": "red", "revoked": "magenta"}


def list_(project: Path | None, *, as_json: bool) -> int:
    """Every waiver, from its request to its end."""
    found, faults = _listed(project)
    _print(found, as_json=as_json)
    if faults:
        output.fail(DeclarationError(faults))
    return 2 if faults else 0


def expiring(project: Path | None, within: str, *, as_json: bool) -> int:
    """The live waivers that end soon; 1 if there is one."""
    try:
        soon = duration(within)
    except ValueError as error:
        raise DeclarationError((Fault("--within", 0, str(error)),)) from error
    found, _ = _listed(project)
    end = opening.now() + soon
    ending = [each for each in found if each.state == "live" and each.waiver.until <= end]
    _print(ending, as_json=as_json)
    return 1 if ending else 0


def revoke(project: Path | None, digest: str, reason: str, *, dry_run: bool) -> int:
    """End a live waiver now, as governance; 1 where none of this hash is live."""
    settings = read_settings(find_root(project))
    if not reason.strip():
        raise DeclarationError((Fault("--reason", 0, "says nothing", "say why it ends"),))
    if len(digest) < 8:
        right = "write eight letters of it at least, as `levada waiver list` shows it"
        raise DeclarationError((Fault("HASH", 0, f"{digest!r} is no hash", right),))
    now = opening.now()
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_governance") as ledger,
    ):
        found = [w for w in ledger.waivers() if w.hash.startswith(digest) and now < w.until]
        for waiver in found:
            if not dry_run:
                ledger.revoke_waiver(waiver, reason)
            how = "would be revoked" if dry_run else "revoked"
            output.console.print(Text(f"{how}: {told(waiver)}"))
    if not found:
        output.console.print(Text(f"no live waiver has the hash {digest}"))
    return 0 if found else 1


def _listed(project: Path | None) -> tuple[tuple[Listed, ...], tuple[Fault, ...]]:
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings)
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as ledger,
    ):
        return listed(settings, mesh, ledger, opening.now())


def _print(found: Sequence[Listed], *, as_json: bool) -> None:
    if as_json:
        output.print_json([_json(each) for each in found])
        return
    for each in found:
        waiver = each.waiver
        asked = f"asks {waiver.approver}"
        who = f"approved by {waiver.approved_by}" if waiver.approved_by else asked
        line = Text.assemble((f"{each.state:<9} ", _STYLES[each.state]), told(waiver))
        output.console.print(line)
        file = each.path or "its file is gone"
        output.console.print(Text(f"  {waiver.hash[:12]} {who}, owner {waiver.owner}; {file}"))
        for line_ in each.taints:
            output.console.print(Text(f"  taints {line_.table} {line_.partition}"))
    if not found:
        output.console.print("none", style="dim")


def _json(each: Listed) -> dict[str, object]:
    waiver = each.waiver
    return {
        "state": each.state,
        "table": str(waiver.table),
        "check": waiver.check,
        "window": [waiver.window.start.isoformat(), waiver.window.end.isoformat()],
        "consumers": list(waiver.consumers),
        "until": waiver.until.isoformat(),
        "reason": waiver.reason,
        "owner": waiver.owner,
        "approver": waiver.approver,
        "approved_by": waiver.approved_by or None,
        "hash": waiver.hash,
        "file": each.path or None,
        "taints": [
            {
                "table": str(line.table),
                "partition": line.partition.key,
                "generation": line.generation,
            }
            for line in each.taints
        ],
    }
