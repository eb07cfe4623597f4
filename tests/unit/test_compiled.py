"""Compiled declarations: read back as they were, refused with the reason when they are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.strategies import little_mesh

from levada import compiled
from levada.build import manifest_path
from levada.errors import DeclarationError, Fault
from levada.flow.keeping import keep
from levada.settings import Settings, read_settings
from levada.terms import Batch, Grain

YAML = """\
mesh: test
zone: America/New_York
span: {from: 2013-03-04, to: 2013-03-17}
domains: [operations, weather, fleet, company]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "levada.yaml").write_text(YAML)
    for domain in ("operations", "weather", "fleet", "company"):
        (tmp_path / "contracts" / domain).mkdir(parents=True)
        (tmp_path / "contracts" / domain / "a.yaml").write_text("a: 1\n")
    settings = read_settings(tmp_path)
    compiled.save(settings, little_mesh(), settings.domains)
    return settings


def test_the_mesh_comes_back_as_it_was(settings: Settings) -> None:
    found, mesh = compiled.load(settings, fresh=True), little_mesh()
    assert {p.id: p.dependencies for p in found.products} == {
        p.id: p.dependencies for p in mesh.products
    }
    assert set(found.sources) == set(mesh.sources)


def test_a_change_makes_its_domain_stale_and_no_other(settings: Settings) -> None:
    (settings.root / "contracts/weather/a.yaml").write_text("a: 2\n")
    with pytest.raises(DeclarationError, match=r"weather changed since.*levada compile"):
        compiled.load_domain(settings, "weather")
    assert compiled.load_domain(settings, "operations").products
    assert compiled.load(settings).product("weather.observations")


def test_what_is_compiled_is_kept_once_and_again_where_it_was_lost(settings: Settings) -> None:
    manifest = manifest_path(settings, "weather")
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(b"parsed")
    (settings.root / "models" / "weather").mkdir(parents=True)
    (settings.root / "models" / "weather" / "dbt_project.yml").write_text("name: weather\n")
    assert [keep(settings, "weather") for _ in range(2)] == [True, False]
    (share,) = (settings.home / "kept" / "weather").glob("*.json.gz")

    (settings.root / "contracts/weather/a.yaml").write_text("# words\na: 1\n")
    compiled.save(settings, little_mesh(), ["weather"])
    assert not keep(settings, "weather"), "the file is another, what it declares is the same"
    without = [p for p in little_mesh().products if p.id != "weather.observations"]
    compiled.save(settings, replace(little_mesh(), products=tuple(without)), ["weather"])
    assert keep(settings, "weather")
    compiled.save(settings, little_mesh(), ["weather"])
    share.unlink()
    assert [keep(settings, "weather") for _ in range(2)] == [True, False]
    share.unlink()
    assert keep(settings, "weather"), "what it says was kept is looked for"


def test_a_refused_domain_says_its_own_faults_until_it_is_mended(settings: Settings) -> None:
    fault = Fault("contracts/weather/a.yaml", 1, "the team is missing", "say team.name")
    path = settings.root / "contracts/weather/a.yaml"
    path.write_text("a: 2\n")
    compiled.refuse(settings, "weather", [fault])
    with pytest.raises(DeclarationError, match=r"a\.yaml:1: the team is missing"):
        compiled.load_domain(settings, "weather")
    path.write_text("a: 1\n")
    assert compiled.load_domain(settings, "weather").products


def test_what_reads_a_domain_that_was_never_compiled_stays_and_says_so(settings: Settings) -> None:
    (settings.home / "weather.json").unlink()
    mesh = compiled.load(settings)
    assert {p.id for p in mesh.products} == {p.id for p in little_mesh().products} - {
        "weather.observations"
    }
    assert mesh.lost == {
        "company.daily": "reads weather.observations@1: weather cannot be read",
    }


def test_what_reads_a_table_that_is_gone_stays_and_cannot_be_judged(settings: Settings) -> None:
    without = [p for p in little_mesh().products if p.id != "operations.flights"]
    compiled.save(settings, replace(little_mesh(), products=tuple(without)), ["operations"])
    mesh = compiled.load(settings)
    why = "reads operations.flights@1: nothing declares it any more"
    assert mesh.lost["company.daily"] == why
    with pytest.raises(DeclarationError, match=rf"company.daily {why}.*levada compile"):
        compiled.load(settings, fresh=True)


def test_compiled_by_another_version_is_refused(settings: Settings) -> None:
    path = settings.home / "fleet.json"
    path.write_text(path.read_text().replace('"format": 5', '"format": 0'))
    with pytest.raises(DeclarationError, match="another version"):
        compiled.load_domain(settings, "fleet")


def test_where_all_is_compiled_by_another_version_that_is_said(settings: Settings) -> None:
    for domain in settings.domains:
        path = settings.home / f"{domain}.json"
        path.write_text(path.read_text().replace(f'"format": {compiled._FORMAT}', '"format": 0'))
    with pytest.raises(DeclarationError, match=r"(?s)(is of another version of Levada.*){4}"):
        compiled.load(settings)
    for domain in settings.domains:
        (settings.home / f"{domain}.json").unlink()
    with pytest.raises(DeclarationError, match="nothing is compiled yet"):
        compiled.load(settings)


def test_saving_the_same_again_leaves_the_file_alone(settings: Settings) -> None:
    path = settings.home / "fleet.json"
    before = path.stat().st_mtime_ns
    compiled.save(settings, replace(little_mesh(), name="other"), settings.domains)
    assert path.stat().st_mtime_ns == before


def test_only_files_of_batches_count_beside_the_batches(settings: Settings) -> None:
    folder = settings.root / "contracts/governance/consistency"
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text("batch: a\n")
    compiled.save(settings, little_mesh(), settings.domains)
    compiled.save_batches(settings, ())
    (folder / "drafts.yaml").mkdir()
    (folder / "queries").mkdir()
    (folder / ".a.yaml.swp").write_bytes(b"\xff")
    (folder / ".#a.yaml").symlink_to("me@host.1:2")
    assert compiled.load_domain(settings, "weather").products
    assert compiled.load_batches(settings) == ()
    compiled.save_batches(settings, ())
    (folder / "a.yaml").write_text("batch: b\n")
    for stale in (compiled.load_batches, lambda of: compiled.load_domain(of, "weather")):
        with pytest.raises(DeclarationError, match="changed since"):
            stale(settings)


def test_a_batch_that_cannot_be_read_stays_while_its_own_file_does(settings: Settings) -> None:
    folder = settings.root / "contracts/governance/consistency"
    folder.mkdir(parents=True)
    for name in ("one", "other"):
        (folder / f"{name}.yaml").write_text(name)
    one, other = (
        Batch(
            name, Grain.DAY, "UTC", "data", "", f"contracts/governance/consistency/{name}.yaml", ()
        )
        for name in ("one", "other")
    )
    compiled.save_batches(settings, (one, other))
    (folder / "one.yaml").write_text("otherwise")

    compiled.save_batches(settings, (), unread=("one", "other"))

    assert compiled.load_batches(settings) == (other,)
