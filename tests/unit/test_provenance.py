"""Who wrote a file, as git tells it: everybody, under whatever name it had."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from levada.adapters.provenance import committed
from levada.approve import Approver, Policy, Subject
from levada.errors import DeclarationError
from levada.flow.granting import approval
from levada.settings import read_settings

HERE = Path(__file__).parents[2]
TEXT = "".join(f"line {number}\n" for number in range(40))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository in which ann wrote a contract and bob put a comma into it."""
    git(tmp_path, "ann", "init", "-q")
    written(tmp_path, "ann", "ships.yaml", TEXT)
    written(tmp_path, "bob", "ships.yaml", TEXT + ",\n")
    return tmp_path


def git(root: Path, who: str, *words: str) -> None:
    own = ("-c", f"user.name={who}", "-c", f"user.email={who}@tiny.example")
    subprocess.run(["git", "-C", str(root), *own, *words], check=True, capture_output=True)


def written(root: Path, who: str, name: str, text: str) -> None:
    (root / name).write_text(text)
    saved(root, who)


def saved(root: Path, who: str) -> None:
    git(root, who, "add", "-A")
    git(root, who, "commit", "-qm", who)


def names(root: Path, path: str) -> set[str]:
    return {each for each in committed(root / path, root, "HEAD").authors if "@" not in each}


def test_who_changed_it_before_the_last_commit_wrote_it_too(root: Path) -> None:
    assert names(root, "ships.yaml") == {"ann", "bob"}


def test_a_file_that_was_moved_keeps_its_authors(root: Path) -> None:
    git(root, "eve", "mv", "ships.yaml", "ships.v1.yaml")
    saved(root, "eve")
    written(root, "joe", "ships.v1.yaml", TEXT)
    assert names(root, "ships.v1.yaml") == {"ann", "bob", "eve", "joe"}


def test_a_file_that_began_as_a_copy_is_of_who_copied_it(root: Path) -> None:
    written(root, "eve", "ships.v2.yaml", TEXT)
    assert names(root, "ships.v2.yaml") == {"eve"}


def test_who_merged_it_did_not_write_it(root: Path) -> None:
    git(root, "eve", "checkout", "-qb", "longer")
    written(root, "eve", "ships.yaml", TEXT + "line 40\n")
    git(root, "eve", "checkout", "-q", "-")
    written(root, "joe", "other.yaml", "else")
    git(root, "max", "merge", "-q", "--no-ff", "longer")
    assert names(root, "ships.yaml") == {"ann", "bob", "eve"}


def test_the_law_counts_as_it_was_committed_and_as_it_stands(root: Path) -> None:
    """What is edited here and what an old commit said entitle nobody; nor does its deletion."""
    law = root / "approvers.yaml"

    def judged(commit: str = "HEAD") -> None:
        committed(root / "ships.yaml", root, commit, law=(law,))

    judged()  # there is none, here or there
    law.write_text("eve")
    with pytest.raises(DeclarationError, match=r"approvers\.yaml: is not in \w+ as it is"):
        judged()
    saved(root, "max")
    judged()
    written(root, "max", "approvers.yaml", "ines")
    judged()
    for commit in ("HEAD", "HEAD~1"):
        law.write_text("eve")
        with pytest.raises(DeclarationError, match="as it is here"):
            judged(commit)
    law.unlink()
    with pytest.raises(DeclarationError, match="as it is here"):
        judged()


def test_a_breaking_contract_is_approved_by_none_who_wrote_it_nor_by_law_of_ones_own(
    root: Path,
) -> None:
    """What the command and Airflow go through."""
    (root / "levada.yaml").write_text((HERE / "levada.yaml").read_text())
    saved(root, "max")
    policy = Policy((Approver("ann", ("all",)), Approver("ines", ("all",))))
    subject = Subject("breaking", "harbour", "ships.yaml", ())

    def by(reviewer: str) -> str:
        settings = read_settings(root)
        given = approval(settings, policy, subject, reviewer=reviewer, commit="HEAD", via="test")
        return given.reviewer

    with pytest.raises(DeclarationError, match="ann wrote it"):
        by("ann")
    assert by("ines") == "ines"
    law = root / "contracts/governance/approvers.yaml"
    law.parent.mkdir(parents=True)
    law.write_text("approvers: [{username: ines, domains: [all]}]\n")
    with pytest.raises(DeclarationError, match=r"approvers\.yaml: is not in"):
        by("ines")
