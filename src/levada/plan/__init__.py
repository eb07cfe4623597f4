"""Plan: what must be built, in order, each step with its reason; and why the rest rests."""

from __future__ import annotations

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

__all__ = [
    "Follower",
    "Lookout",
    "Reach",
    "Rest",
    "Standing",
    "Target",
    "affected",
    "backoff",
    "decide",
    "explain",
    "order",
    "plan",
    "stale_code",
]
