"""The order of the layers, by what dbt resolved."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from levada.declare import ModelFacts, ParsedProject, SourceFacts
from levada.errors import Fault
from levada.flow.layering import upward
from levada.terms import TableRef


def model(
    name: str,
    layer: str,
    *,
    models: Sequence[str] = (),
    externals: Sequence[str] = (),
    sources: Sequence[str] = (),
    kind: str = "table",
) -> ModelFacts:
    return ModelFacts(
        node=f"model.x.{name}",
        name=name,
        major=None,
        package="x",
        path=f"models/x/{layer}/{name}.sql",
        layer=layer,
        materialized=kind,
        models=tuple(f"model.x.{each}" for each in models),
        externals=tuple(TableRef.parse(f"{each}@1") for each in externals),
        sources=tuple(f"source.x.landing.{each}" for each in sources),
        meta={},
        yaml="",
        yaml_line=0,
        columns=(),
        code="",
    )


def project(*models: ModelFacts, name: str = "x") -> ParsedProject:
    landed = SourceFacts("source.x.landing.files", "landing", "files", (), {}, "", 0)
    return ParsedProject(name, f"models/{name}", models, (landed,))


OTHER = project(model("b", "serve"), model("low", "base"), name="y")


@pytest.mark.parametrize(
    ("reader", "said", "right"),
    [
        (
            model("a", "base", externals=["y.b"]),
            "a of layer base reads y.b of layer serve",
            "move what both need to base, or a to serve",
        ),
        (
            model("a", "base", models=["top"]),
            "a of layer base reads top of layer aggregate",
            "move what both need to base, or a to aggregate",
        ),
        (
            model("a", "ingest", externals=["y.low"]),
            "a of layer ingest reads y.low, a table of another domain",
            "read it from base on",
        ),
        (
            model("a", "serve", sources=["files"]),
            "a of layer serve reads the source landing.files",
            "take it in by a model of ingest or base",
        ),
    ],
    ids=["another domain's table", "a private model", "a table at the landing", "a source"],
)
def test_a_read_against_the_way_is_told_however_jinja_made_its_name(
    reader: ModelFacts, said: str, right: str
) -> None:
    mesh = (project(reader, model("top", "aggregate")), OTHER)
    (fault,) = upward(mesh)
    assert fault.path == reader.path
    assert fault.wrong == f"LV03: model {said}, as dbt resolves it"
    assert fault.right == right

    at_the_call = Fault(reader.path, 3, f"LV03: model {said}, by macro m")
    assert not list(upward(mesh, [at_the_call])), "SQLFluff told it at the call"
    elsewhere = Fault("models/x/other.sql", 3, f"LV03: model {said}")
    assert list(upward(mesh, [elsewhere])) == [fault]


def test_reads_downward_are_sound_and_so_is_what_stands_in_no_layer() -> None:
    mesh = (
        project(
            model("a", "serve", models=["b"], externals=["y.b", "y.low", "z.unknown"]),
            model("b", "base", models=["loose"], sources=["files", "unknown"]),
            model("loose", "", models=["a"], sources=["files"]),
            model("seeded", "ingest", models=["a"], kind="seed"),
        ),
        OTHER,
    )
    assert not list(upward(mesh))


def test_a_project_says_which_layers_may_read_sources() -> None:
    mesh = [project(model("a", "base", sources=["files"]))]
    (fault,) = upward(mesh, landing=lambda _: ("ingest",))
    assert fault.right == "take it in by a model of ingest"
    mesh = [project(model("a", "serve", sources=["files"]))]
    assert not list(upward(mesh, landing=lambda _: ("ingest", "serve")))
