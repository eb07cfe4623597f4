"""Plan: what must be built, in order, each step with its reason; and why the rest rests."""

from __future__ import annotations

from levada.plan.closing import (
    asked_for,
    backfill,
    cells_of,
    declared,
    differences,
    partitions_of,
)
from levada.plan.deciding import (
    Rest,
    Target,
    affected,
    backoff,
    decide,
    explain,
    order,
    plan,
    stale_code,
)
from levada.plan.following import Follower
from levada.plan.looking import Lookout, Standing
from levada.plan.reaching import Reach
from levada.plan.recurring import due, next_due, range_of
from levada.plan.written import decode, encode

__all__ = [
    "Follower",
    "Lookout",
    "Reach",
    "Rest",
    "Standing",
    "Target",
    "affected",
    "asked_for",
    "backfill",
    "backoff",
    "cells_of",
    "decide",
    "declared",
    "decode",
    "differences",
    "due",
    "encode",
    "explain",
    "next_due",
    "order",
    "partitions_of",
    "plan",
    "range_of",
    "stale_code",
]
