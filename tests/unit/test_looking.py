"""
A look that decides only what has moved opens exactly the steps of a look at everything: after every
event of random histories, restarts of the watcher at any point included.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from histories import one_history

from levada.plan import Follower, Lookout, Reach, Standing, Target, looking
from levada.simulate import Simulation
from levada.simulate.ledger import MemoryLedger
from levada.terms import Facts, Partition, Span, TableRef

SEED = 4511
NEVER = timedelta(days=100_000)


class Asked(MemoryLedger):
    """Shows only what it is asked for, as PostgreSQL does; keeps of how many tables that was."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock)
        self.readings: list[int] = []

    def facts(
        self,
        tables: Collection[TableRef] = (),
        products: Collection[str] = (),
        span: Span | None = None,
    ) -> Facts:
        self.readings.append(len(tables))
        every = super().facts(tables, products, span)
        return Facts(
            {k: v for k, v in every.lines.items() if k[0] in tables},
            {k: v for k, v in every.attempts.items() if k[0] in products},
            {k: v for k, v in every.claims.items() if k[0] in products},
            every.position,
            {k: v for k, v in every.tampered.items() if k in tables},
            {k: v for k, v in every.pardons.items() if k[0] in products},
            probes={k: v for k, v in every.probes.items() if k in tables},
            restating={k: v for k, v in every.restating.items() if k[0] in products},
        )


class Unequal(AssertionError):
    """Two looks at the same facts."""


class Watched(Simulation):
    """A simulation that somebody watches, now and then, who is sometimes killed."""

    looks = decided = restarts = 0

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)  # type: ignore[arg-type]
        self.rng = random.Random(len(self.targets))
        self._restart()

    def _restart(self) -> None:
        self.lookout = Lookout(self.mesh, NEVER)  # nothing is looked at merely to be safe
        asked = Asked(lambda: self.now)
        asked.__dict__ |= self.ledger.__dict__  # the same state, shown more narrowly
        self.asked = asked
        self.follower = Follower(self.mesh, asked, NEVER)

    def _decide(self, dirty: set[tuple[str, object]]) -> None:  # type: ignore[override]
        if self.rng.random() < 0.1:
            self.compare()
        super()._decide(dirty)  # type: ignore[arg-type]

    def compare(self) -> None:
        if self.rng.random() < 0.05:
            self._restart()
            type(self).restarts += 1
        facts, now = self.follower.facts(self.now), self.now
        ours = self.lookout.look(facts, now)
        full = Lookout(self.mesh).look(self.ledger.facts(), now)
        type(self).looks += 1
        type(self).decided += self.lookout.decided
        if words(ours) != words(full):
            odd = sorted(map(str, words(ours) ^ words(full)))
            raise Unequal(f"at {now}: {odd[:4]}")
        assert [(s.step.product, s.step.partition) for s in ours] == [
            (s.step.product, s.step.partition) for s in full
        ], "in the same order"


def words(found: tuple[Standing, ...]) -> frozenset[object]:
    """What is done about steps: which, from which inputs, with what before. Not the words."""
    return frozenset(
        (s.step.product, s.step.partition, s.step.first, s.step.required, s.mark, s.attempt)
        for s in found
    )


def play(seed: int) -> None:
    one_history(seed, Watched)


@pytest.mark.parametrize("number", range(16))
def test_a_look_at_what_moved_finds_what_a_full_look_finds(number: int) -> None:
    play(SEED + number)
    assert Watched.looks


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_a_thousand_histories_look_alike() -> None:
    before = Watched.looks
    for seed in range(SEED, SEED + 1_000):
        play(seed)  # raises Unequal where the looks differ
    assert Watched.looks - before > 1_000, "every history was looked at"
    assert Watched.restarts, "and the watcher was killed now and then"
    print(f"\nlooks {Watched.looks}, decided {Watched.decided}, restarts {Watched.restarts}")


def _no_readers(patch: pytest.MonkeyPatch) -> None:
    right = Reach.of

    def wrong(self: Reach, subject: TableRef | str, at: Partition | None) -> frozenset[Target]:
        found = right(self, subject, at)
        made = subject if isinstance(subject, str) else ""
        return frozenset(t for t in found if t[0] == made)

    patch.setattr(looking, "Reach", type("Wrong", (Reach,), {"of": wrong}))


def _no_attempts(patch: pytest.MonkeyPatch) -> None:
    right = looking._moved

    def wrong(old: Facts, new: Facts) -> Iterator[tuple[TableRef | str, Partition | None]]:
        return right(replace(old, attempts=new.attempts), new)

    patch.setattr(looking, "_moved", wrong)


def _no_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lookout, "_come", lambda *_: set())


@pytest.mark.parametrize("bug", [_no_readers, _no_attempts, _no_time])
def test_a_look_that_forgets_is_caught(
    bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    with pytest.raises(Unequal):
        for seed in range(SEED, SEED + 240):
            play(seed)
