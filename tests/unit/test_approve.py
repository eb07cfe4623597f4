"""Who may approve what: every combination of who he is, as data."""

from __future__ import annotations

import itertools

import pytest

from levada.approve import Approver, Policy, Subject, objections

POLICY = Policy(
    (
        Approver("ines", ("weather",), known_as=("ines@mesh.example",)),
        Approver("max", ("fleet",)),
        Approver("kim", ("all",), ("breaking",)),
        Approver("uma", ("all",)),
    )
)
ENTITLED = {
    ("ines", "waiver"): True,
    ("ines", "breaking"): True,
    ("max", "waiver"): False,
    ("max", "breaking"): False,
    ("kim", "waiver"): False,
    ("kim", "breaking"): True,
    ("uma", "waiver"): True,
    ("uma", "breaking"): True,
    ("eve", "waiver"): False,
    ("eve", "breaking"): False,
}
"""Of the domain weather."""

CASES = [
    (reviewer, kind, owns, wrote, asked)
    for (reviewer, kind), owns, wrote, asked in itertools.product(
        ENTITLED, (False, True), (False, True), ("", "him", "another")
    )
]


@pytest.mark.parametrize(("reviewer", "kind", "owns", "wrote", "asked"), CASES)
def test_an_approval_counts_only_of_whoever_is_entitled_asked_and_impartial(
    reviewer: str, kind: str, owns: bool, wrote: bool, asked: str
) -> None:
    named = {"": "", "him": reviewer, "another": "somebody"}[asked]
    subject = Subject(kind, "weather", "w.yaml", ("joe", *([reviewer] if owns else [])), named)
    against = objections(subject, reviewer, ["joe", *([reviewer] if wrote else [])], POLICY)
    counts = ENTITLED[reviewer, kind] and not owns and not wrote and asked != "another"
    assert (not against) == counts
    assert any("answers for it" in each for each in against) == owns
    assert any("wrote it" in each for each in against) == wrote


@pytest.mark.parametrize("name", ["ines@mesh.example", "INES", "Ines@Mesh.example"])
def test_whoever_commits_under_another_name_is_the_same_person(name: str) -> None:
    subject = Subject("waiver", "weather", "w.yaml", ("joe",), "ines")
    assert objections(subject, "ines", [name], POLICY)
    assert objections(subject, name, ["joe"], POLICY) == ()


def test_what_nobody_reviewed_or_nobody_is_known_to_have_written_does_not_count() -> None:
    subject = Subject("waiver", "weather", "w.yaml", ("joe",), "ines")
    assert objections(subject, "", ["joe"], POLICY) == ("nobody has reviewed it",)
    assert objections(subject, "ines", [], POLICY) == ("nobody knows who wrote it",)
