"""A backfill's plan as a document, and back: what is approved, run and shown is one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from levada.intervals import parse
from levada.terms import Asked, Backfill, Grain, Group, Mesh, Span, Stretch

__all__ = ["decode", "encode", "name_of"]

_FORMAT = 1
_BINDS = ("format", "mesh", "asked", "at", "steps", "left_out")


def encode(mesh: Mesh, planned: Backfill) -> dict[str, Any]:
    """The plan as JSON; `id` names it, `mesh` what it was planned from."""
    asked = planned.asked
    core = {
        "format": _FORMAT,
        "mesh": {"name": planned.mesh, "declared": _plain(planned.declared)},
        "asked": {
            "names": list(asked.names),
            "from": asked.span.start.isoformat(),
            "to": asked.span.end.isoformat(),
            "reason": asked.reason,
            "exclude": list(asked.exclude),
            "only_domains": list(asked.only_domains),
            "by": asked.by,
        },
        "at": planned.at.isoformat(),
        "steps": [_group(mesh, group) for group in planned.groups],
        "left_out": [_group(mesh, group) for group in planned.left_out],
    }
    return {"id": name_of(core), **core, "hash": _hash(core["mesh"])}


def decode(document: Mapping[str, Any]) -> Backfill:
    """The plan of a document. Raises ValueError where it is none, or is not as it was written."""
    try:
        core = {key: document[key] for key in _BINDS}
        if core["format"] != _FORMAT:
            raise ValueError(f"its format is {core['format']}, not {_FORMAT}: plan again")
        if name_of(core) != document["id"]:
            raise ValueError("it was changed after it was planned: plan again")
        asked = core["asked"]
        span = Span(*(datetime.fromisoformat(asked[end]) for end in ("from", "to")))
        return Backfill(
            mesh=core["mesh"]["name"],
            asked=Asked(
                *(tuple(asked["names"]), span, asked["reason"]),
                *(tuple(asked["exclude"]), tuple(asked["only_domains"]), asked["by"]),
            ),
            at=datetime.fromisoformat(core["at"]),
            groups=tuple(_group_of(each) for each in core["steps"]),
            left_out=tuple(_group_of(each) for each in core["left_out"]),
            declared=core["mesh"]["declared"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no plan of a backfill: {error!r}") from error


def name_of(core: Mapping[str, Any]) -> str:
    """The name of what a document says: equal plans are one plan."""
    return f"bf-{_hash(core)[:12]}"


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(declared: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    return {name: dict(parts) for name, parts in declared.items()}


def _group(mesh: Mesh, group: Group) -> dict[str, Any]:
    product = mesh.product(group.product)
    return {
        "product": group.product,
        "grain": product.grain.value,
        "zone": product.zone,
        "wave": group.wave,
        "stretches": [
            {
                "first": stretch.first.key,
                "last": stretch.last.key,
                "count": stretch.count,
                "because": list(stretch.because),
            }
            for stretch in group.stretches
        ],
    }


def _group_of(said: Mapping[str, Any]) -> Group:
    grain, zone = Grain(said["grain"]), said["zone"]
    stretches = tuple(
        Stretch(
            *(parse(grain, each["first"], zone), parse(grain, each["last"], zone)),
            *(each["count"], tuple(each["because"])),
        )
        for each in said["stretches"]
    )
    return Group(said["product"], said["wave"], stretches)
