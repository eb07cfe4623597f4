"""What a check need not lint again: by what it changed since, and never what had a fault."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import harbour
import pytest
from sqlfluff.core import FluffConfig

from levada.adapters.remembered import Remembered
from levada.adapters.sqlfluff import Linting, kept
from levada.adapters.sqlfluff.above import source_layers
from levada.adapters.sqlfluff.kept import Sound

DOMAINS = ("harbour", "office")
MODEL = "models/office/base/tonnage.sql"


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return harbour.write(tmp_path / "mesh")


def asked(mesh: Path) -> set[str]:
    """The models that would be linted now."""
    sound = Sound(Remembered(mesh / ".levada" / "checked"), mesh, DOMAINS)
    return {path.relative_to(mesh).as_posix() for path in sound.unknown()}


def kept_but(mesh: Path, *faulty: str) -> set[str]:
    """Keep what an imagined linting found sound; every model."""
    sound = Sound(Remembered(mesh / ".levada" / "checked"), mesh, DOMAINS)
    sound.keep(faulty)
    return {path.relative_to(mesh).as_posix() for path in sound.unknown()}


def test_what_was_sound_is_not_asked_again_and_what_was_not_is(mesh: Path) -> None:
    every = kept_but(mesh, MODEL)
    assert len(every) > 5
    assert asked(mesh) == {MODEL}


def write(path: str, text: str) -> Callable[[Path], None]:
    def change(mesh: Path) -> None:
        (mesh / path).parent.mkdir(parents=True, exist_ok=True)
        (mesh / path).write_text(text)

    return change


def moved(mesh: Path) -> None:
    (mesh / "models/office/serve").mkdir()
    (mesh / MODEL).rename(mesh / "models/office/serve/tonnage.sql")


def upgraded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kept, "_tools", lambda: ("5.0.0",))


OFFICE = "office"
BOTH = "harbour office"
CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a macro": (
        write("models/office/macros/reading.sql", "{% macro a() %}1{% endmacro %}"),
        OFFICE,
    ),
    "another macro": (
        write("models/office/macros/more.sql", "{% macro a() %}{% endmacro %}"),
        OFFICE,
    ),
    "settings of a project": (
        write("models/office/.sqlfluff", "[sqlfluff]\nrules = levada\n"),
        OFFICE,
    ),
    "settings of a folder": (
        write("models/office/base/setup.cfg", "[sqlfluff]\ndialect = postgres\n"),
        OFFICE,
    ),
    "settings of the mesh": (write(".sqlfluff", "[sqlfluff]\nrules = levada\n"), BOTH),
    "settings in a pyproject": (
        write("pyproject.toml", "[tool.sqlfluff.core]\ndialect = 'postgres'\n"),
        BOTH,
    ),
    "a contract's status": (
        write("contracts/harbour/ships.v1.odcs.yaml", "status: draft\n"),
        BOTH,
    ),
    "a contract that comes": (
        write("contracts/harbour/boats.v1.odcs.yaml", "status: active\n"),
        BOTH,
    ),
    "a contract's grain": (
        write(
            "contracts/office/tonnage.v1.odcs.yaml",
            harbour.FILES["contracts/office/tonnage.v1.odcs.yaml"].replace("day", "week"),
        ),
        BOTH,
    ),
    "the layer of a model": (moved, BOTH),
    "a package": (
        write("models/office/dbt_packages/utils/dbt_project.yml", "name: utils\n"),
        OFFICE,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_linting_depends_on_is_linted_anew(change: str, mesh: Path) -> None:
    every = kept_but(mesh)
    assert asked(mesh) == set()

    changing, domains = CHANGES[change]
    changing(mesh)

    concerned = {path for path in every if path.split("/")[1] in domains.split()}
    assert {*concerned} - {MODEL} <= asked(mesh), "everything that it concerns"
    assert all(path.split("/")[1] in domains.split() for path in asked(mesh))


@pytest.mark.parametrize(
    "change",
    [
        write(
            "contracts/harbour/ships.v1.odcs.yaml",
            "# words\n" + harbour.FILES["contracts/harbour/ships.v1.odcs.yaml"],
        ),
        write("models/office/base/tonnage.yml", "models: []\n"),
        write("pyproject.toml", "[tool.other]\npython_path = 'x'\n"),
    ],
    ids=["a contract's words", "a model's properties", "settings of other tools"],
)
def test_what_linting_does_not_read_lets_it_rest(
    change: Callable[[Path], None], mesh: Path
) -> None:
    kept_but(mesh)
    change(mesh)
    assert asked(mesh) == set()


def test_one_changed_model_is_linted_alone(mesh: Path) -> None:
    kept_but(mesh)
    (mesh / MODEL).write_text("select 2 as id")
    assert asked(mesh) == {MODEL}


def test_another_sqlfluff_lints_everything(mesh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = kept_but(mesh)
    upgraded(monkeypatch)
    assert asked(mesh) == every


def test_what_changed_while_it_was_linted_is_not_kept(mesh: Path) -> None:
    sound = Sound(Remembered(mesh / ".levada" / "checked"), mesh, DOMAINS)
    (mesh / MODEL).write_text("select 2 as id")
    sound.keep(())
    (mesh / MODEL).write_text(harbour.FILES[MODEL])
    assert asked(mesh) == {MODEL}


def test_what_was_linted_while_a_macro_changed_is_not_kept(mesh: Path) -> None:
    sound = Sound(Remembered(mesh / ".levada" / "checked"), mesh, DOMAINS)
    macro = mesh / "models/office/macros/more.sql"
    write(str(macro.relative_to(mesh)), "{% macro a() %}{% endmacro %}")(mesh)
    sound.keep(())
    macro.unlink()
    office = {p.relative_to(mesh).as_posix() for p in sound.unknown() if "office" in p.parts}
    assert asked(mesh) == office != set()


@pytest.mark.parametrize("tool", ["sqlfluff", "sqlfluffrs", "jinja2"])
def test_another_version_of_what_lints_is_another_key(
    tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept._tools.__wrapped__()
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: "99" if n == tool else version(n))
    assert kept._tools.__wrapped__() != before


LOADS = "load_macros_from_path = models/office/macros, shared\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (".sqlfluff", "library_path = ../library\n"),
        (".sqlfluff", LOADS + "loader_search_path = shared\n"),
        (".sqlfluff", LOADS + "# more_path\n"),
        (".sqlfluff", LOADS.replace("shared", "nowhere")),
        (".sqlfluff", "context_path = shared\n"),
        ("pyproject.toml", 'load_macros_from_path = "shared"\n'),
    ],
)
def test_settings_that_name_another_path_are_never_relied_on(
    mesh: Path, name: str, said: str
) -> None:
    (mesh / "shared").mkdir()
    head = "tool.sqlfluff.templater.jinja" if name.endswith("toml") else "sqlfluff:templater:jinja"
    (mesh / name).write_text(f"[{head}]\n{said}")
    every = kept_but(mesh)
    assert asked(mesh) == every


def test_macros_that_settings_load_are_looked_at(mesh: Path) -> None:
    write("shared/more.sql", "{% macro b() %}1{% endmacro %}")(mesh)
    write("models/.sqlfluff", f"[sqlfluff:templater:jinja]\n{LOADS}".replace("models/", ""))(mesh)
    (mesh / "models" / "shared").symlink_to(mesh / "shared")
    every = kept_but(mesh)
    assert asked(mesh) == set()

    write("shared/more.sql", "{% macro b() %}2{% endmacro %}")(mesh)

    assert asked(mesh) == every


@pytest.mark.thorough
def test_the_memory_hides_no_fault_of_a_later_check(mesh: Path) -> None:
    memory = Remembered(mesh / ".levada" / "checked")
    path = mesh / "models/office/aggregate/tested.sql"
    path.write_text("select id from {{ ref('harbour', 'ships') }}\n")
    with Linting(mesh, DOMAINS, memory) as linting:
        assert linting.faults() == ()
    with Linting(mesh, DOMAINS, memory) as linting:
        assert linting._process is None, "nothing was left to lint"
        assert linting.faults() == ()

    ships = mesh / "contracts/harbour/ships.v1.odcs.yaml"
    ships.write_text(ships.read_text().replace("active", "draft"))
    for _ in range(2):
        with Linting(mesh, DOMAINS, memory) as linting:
            (fault,) = linting.faults()
        assert fault.path == "models/office/aggregate/tested.sql"
        assert fault.wrong.startswith("LV02")


@pytest.mark.parametrize(
    ("path", "text", "layers"),
    [
        (".sqlfluff", "[sqlfluff:rules:levada.layer_order]\nsource_layers = ingest\n", "ingest"),
        (
            "models/office/serve/.sqlfluff",
            "[sqlfluff:rules:levada.layer_order]\nsource_layers = ingest, serve\n",
            "ingest serve",
        ),
        (
            "models/office/base/.sqlfluff",
            "[sqlfluff:rules:levada.layer_order]\nsource_layers = serve\n",
            "ingest base",
        ),
        (
            "pyproject.toml",
            "[tool.sqlfluff.rules.'levada.layer_order']\nsource_layers = 'serve'\n",
            "serve",
        ),
        (
            ".config/sqlfluff/.sqlfluff",
            "[sqlfluff:rules:levada.layer_order]\nsource_layers = base\n",
            "base",
        ),
        (".sqlfluff", "[sqlfluff\nsource_layers = serve\n", "ingest base"),
    ],
)
def test_which_layers_read_sources_is_what_sqlfluff_is_told(
    path: str, text: str, layers: str, mesh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mesh)  # as the child that lints has it
    monkeypatch.setenv("HOME", str(mesh))
    model = mesh / "models/office/serve/told.sql"
    write(path, text)(mesh)
    found = source_layers(mesh, model)
    assert found == tuple(layers.split())
    if "[sqlfluff\n" not in text:
        config = FluffConfig.from_path(str(model.parent), require_dialect=False)
        said = config.get_section(("rules", "levada.layer_order"))["source_layers"]
        assert found == tuple(each.strip() for each in said.split(","))
