"""Meshes that go round in circles: every product on the way is told, and telling ends."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.unit.strategies import make_mart

from levada.declare import Declared, ModelFacts, ParsedProject, declare
from levada.settings import read_settings
from levada.terms import Grain, TableRef


def declared(root: Path, reads: Mapping[str, str]) -> Declared:
    """A mesh of domains, each with one table `x` that reads those of other domains."""
    (root / "levada.yaml").write_text(
        "mesh: test\nzone: UTC\nspan: {from: 2013-03-01, to: 2013-03-31}\n"
        f"domains: [{', '.join(reads)}]\n"
    )
    contracts = [make_mart(f"{domain}.x", Grain.DAY).contract for domain in reads]
    projects = [ParsedProject(d, f"models/{d}", (model(d, others),)) for d, others in reads.items()]
    return declare(read_settings(root), contracts, projects)


def model(domain: str, others: str) -> ModelFacts:
    return ModelFacts(
        node=f"model.{domain}.x",
        name="x",
        major=None,
        package=domain,
        path=f"models/{domain}/base/x.sql",
        layer="base",
        materialized="table",
        models=(),
        externals=tuple(TableRef(other, "x") for other in others),
        sources=(),
        meta={},
        yaml="",
        yaml_line=0,
        columns=(),
        code="code",
    )


@pytest.mark.parametrize(
    ("reads", "round_it"),
    [
        ({"a": "b", "b": "a"}, "ab"),
        ({"a": "b", "b": "c", "c": "a"}, "abc"),
        ({"a": "b", "b": "c", "c": "d", "d": "a"}, "abcd"),
        ({"a": "b", "b": "ac", "c": "d", "d": "b"}, "abcd"),
        ({"a": "b", "b": "c", "c": "b", "d": ""}, "bc"),
    ],
)
def test_every_product_of_a_cycle_is_told_and_no_other(
    tmp_path: Path, reads: Mapping[str, str], round_it: str
) -> None:
    found = declared(tmp_path, reads)

    assert found.broken == tuple(round_it)
    for fault in found.faults:
        assert fault.wrong.startswith("the mesh has a cycle: ")
        way = [product[0] for product in fault.wrong.partition(": ")[2].split(" -> ")]
        assert way[0] == way[-1]
        assert all(other in reads[one] for one, other in itertools.pairwise(way)), way
