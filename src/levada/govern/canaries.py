"""What a canary needs before its new version is built alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from levada.govern.policies import Policies, Subject
from levada.terms import CanaryTerms, Grain

__all__ = ["terms_of"]


def terms_of(policies: Policies, subjects: Collection[Subject], product: str) -> CanaryTerms:
    """
    The strictest of what is said of a product's tables; an approval, where one has nothing said.
    What is whole has one interval, which counts once.

    >>> terms_of(Policies(), (), "store.numbers")
    CanaryTerms(by_policy=False, intervals=1)
    """
    said: list[Sequence[CanaryTerms]] = [
        [rule.terms for rule in policies.canaries if rule.concerns(subject)]
        for subject in subjects
        if subject.product.id == product
    ]
    whole = any(s.product.id == product and s.product.grain is Grain.WHOLE for s in subjects)
    every = [terms for of_a_table in said for terms in of_a_table]
    return CanaryTerms(
        bool(said) and all(said) and all(terms.by_policy for terms in every),
        1 if whole else max((terms.intervals for terms in every), default=1),
    )
