"""What the reference mesh declares is whole: contracts by the standard, models, and their SQL."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LAYERS = ("ingest", "base", "aggregate", "serve")


@dataclass(frozen=True)
class Contract:
    """A contract as its file has it."""

    path: Path
    document: Mapping[str, Any]

    @property
    def table(self) -> Mapping[str, Any]:
        return dict(self.document["schema"][0])

    def checks(self) -> list[dict[str, Any]]:
        columns = (c.get("quality", ()) for c in self.table["properties"])
        return [*self.table["quality"], *(check for checks in columns for check in checks)]


CONTRACTS = [
    Contract(path, yaml.safe_load(path.read_text()))
    for path in sorted(ROOT.glob("contracts/*/*.odcs.yaml"))
]
each_contract = pytest.mark.parametrize(
    "contract", CONTRACTS, ids=lambda contract: contract.document["id"]
)


@each_contract
def test_every_contract_obeys_the_standard(contract: Contract) -> None:
    from jsonschema import Draft201909Validator

    schema = files("open_data_contract_standard").joinpath("schema.json").read_text()
    validator = Draft201909Validator(json.loads(schema))

    assert [error.message for error in validator.iter_errors(contract.document)] == []


@each_contract
def test_every_contract_names_owner_contact_and_what_each_column_means(contract: Contract) -> None:
    document, table = contract.document, contract.table

    assert contract.path.name == f"{table['name']}.v{document['version'][0]}.odcs.yaml"
    assert contract.path.parent.name == document["domain"]
    assert document["team"]["name"]
    assert document["support"][0]["channel"]
    assert document["description"]["purpose"]
    assert all(c["description"] and c["physicalType"] for c in table["properties"])
    assert any(c.get("primaryKey") for c in table["properties"])
    assert document["slaProperties"]


@each_contract
def test_every_check_has_an_id_a_dimension_and_a_severity_and_one_of_them_blocks(
    contract: Contract,
) -> None:
    checks = contract.checks()

    assert all(c["id"] and c["dimension"] and c["description"] for c in checks)
    assert {c["severity"] for c in checks} <= {"error", "warning"}
    assert any(c["severity"] == "error" for c in checks)
    assert len({c["id"] for c in checks}) == len(checks)


def test_every_model_keeps_a_contract_or_is_private() -> None:
    marts = {f"{c.document['domain']}.{c.table['name']}" for c in CONTRACTS}
    found = [path for layer in LAYERS for path in ROOT.glob(f"models/*/{layer}/*.sql")]
    models = {f"{path.parts[-3]}.{path.stem}" for path in found}

    assert models - marts == {
        "operations.stg_flights",
        "weather.stg_observations",
        "company.int_weather_days",
    }
    assert marts <= models


@pytest.mark.thorough
def test_the_models_pass_the_linter() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("sqlfluff"), "lint", "models/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
