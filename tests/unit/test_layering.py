"""The order of the layers, by what dbt resolved."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.strategies import edge, make_mart, make_product

from levada.errors import Fault
from levada.flow.layering import upward
from levada.terms import Grain, Identity, Layer, Product


def product(name: str, layer: Layer, *reads: str, gate: bool = False) -> Product:
    edges = [replace(edge(each, name, Identity()), gate=gate) for each in reads]
    mart = replace(make_mart(name, Grain.DAY, edges), layer=layer)
    path = f"models/x/{layer.value}/{name.partition('.')[2]}.sql"
    return make_product(name, Grain.DAY, replace(mart, model_path=path))


def test_a_read_upward_is_told_however_jinja_made_its_name() -> None:
    mesh = (product("x.a", Layer.BASE, "y.b", "x.c"), product("y.b", Layer.SERVE),
            product("x.c", Layer.BASE))  # fmt: skip
    (fault,) = upward(mesh)
    assert fault.path == "models/x/base/a.sql"
    assert fault.wrong == (
        "LV03: model a of layer base reads y.b of layer serve, as dbt resolves it"
    )
    assert fault.right == "move what both need to base, or a to serve"


def test_what_sqlfluff_told_at_the_call_is_told_once() -> None:
    mesh = (product("x.a", Layer.BASE, "y.b"), product("y.b", Layer.SERVE))
    linted = Fault("models/x/base/a.sql", 3, "LV03: model a of layer base reads y.b of layer serve")
    assert not list(upward(mesh, [linted]))


def test_a_rule_that_compares_is_no_read() -> None:
    mesh = (product("x.a", Layer.BASE, "y.b", gate=True), product("y.b", Layer.SERVE))
    assert not list(upward(mesh))
