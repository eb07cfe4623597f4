"""Every word of the standard has an answer, and the code answers so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from contract_files import write

from levada.adapters import odcs
from levada.adapters.odcs.answers import ANSWERS, Answer, markdown
from levada.adapters.odcs.service import LEVELS
from levada.audit import METRICS
from levada.errors import Fault
from levada.terms import Check, Severity

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "what-of-odcs-is-enforced.md"

CONTRACT: dict[str, Any] = yaml.safe_load("""
apiVersion: v3.2.0
kind: DataContract
id: harbour.ships
version: 1.0.0
status: active
domain: harbour
description: {purpose: Ships that called.}
team: {name: harbour-data}
slaProperties: []
schema:
  - name: ships
    customProperties:
      - {property: grain, value: day}
      - {property: zone, value: UTC}
      - {property: intervalColumn, value: at}
    quality: []
    properties:
      - {name: id, physicalType: BIGINT, primaryKey: true}
      - {name: at, physicalType: TIMESTAMPTZ, required: true}
      - {name: flag, physicalType: VARCHAR}
      - {name: flag_sealed, physicalType: BLOB}
      - {name: tons, physicalType: INTEGER}
      - {name: called, physicalType: TIMESTAMPTZ}
      - {name: stops, physicalType: "VARCHAR[]"}
      - {name: master, physicalType: "STRUCT(name VARCHAR, age INTEGER)"}
      - {name: rates, physicalType: "MAP(VARCHAR, INTEGER)"}
      - {name: vector, physicalType: "FLOAT[3]"}
""")

COLUMNS = {c["name"]: i for i, c in enumerate(CONTRACT["schema"][0]["properties"])}


# The words that the schema of the standard lists


def schema() -> dict[str, Any]:
    found = resources.files("open_data_contract_standard") / "schema.json"
    return dict(json.loads(found.read_text("utf-8")))


def keys(part: Any, defs: dict[str, Any]) -> Iterator[str]:
    """The keys of an object and of all that it brings in."""
    if not isinstance(part, dict):
        return
    yield from part.get("properties", {}) if "then" not in part else ()
    if "$ref" in part:
        yield from keys(defs[part["$ref"].rpartition("/")[2]], defs)
    for word in ("allOf", "anyOf", "oneOf"):
        for inner in part.get(word, ()):
            yield from keys(inner, defs)
    yield from keys(part.get("then"), defs)


def options(part: Any) -> Iterator[str]:
    """The options of every logical type."""
    if isinstance(part, dict):
        said = part.get("logicalTypeOptions")
        yield from said.get("properties", {}) if isinstance(said, dict) else ()
        for inner in part.values():
            yield from options(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from options(inner)


def listed() -> dict[str, set[str]]:
    whole = schema()
    defs = whole["$defs"]
    found = {
        "the contract": set(whole["properties"]),
        "options of a logical type": set(options(defs["SchemaBaseProperty"])),
        "metrics and their arguments": set(
            defs["DataQualityLibrary"]["properties"]["metric"]["enum"]
        ),
        "the levels": set(LEVELS),
    }
    parts = {
        "the table": "SchemaObject",
        "a column": "SchemaBaseProperty",
        "a rule": "DataQuality",
        "a relationship": "RelationshipBase",
        "an allowed value (enum)": "EnumValue",
        "a service level": "ServiceLevelAgreementProperty",
    }
    return found | {part: set(keys(defs[name], defs)) for part, name in parts.items()}


def test_every_word_of_the_standard_has_an_answer_and_no_other_word_has_one() -> None:
    assert {part: set(words) for part, words in ANSWERS.items()} == listed()


def test_the_reference_page_is_the_table() -> None:
    assert PAGE.read_text().endswith(markdown())


# What the code does with each word


def contract(**top: Any) -> dict[str, Any]:
    return dict(json.loads(json.dumps(CONTRACT)) | top)


def table(**words: Any) -> dict[str, Any]:
    found = contract()
    found["schema"][0] |= words
    return found


def column(named: str, /, **words: Any) -> dict[str, Any]:
    found = contract()
    found["schema"][0]["properties"][COLUMNS[named]] |= words
    return found


def option(named: str, logical: str, **words: Any) -> dict[str, Any]:
    return column(named, logicalType=logical, logicalTypeOptions=words)


def rule(**words: Any) -> dict[str, Any]:
    said = {"id": "x", "metric": "rowCount"} | words
    if not any(key.startswith("must") for key in said):
        said["mustBe"] = 1
    return table(quality=[{k: v for k, v in said.items() if v is not None}])


def of_flag(**words: Any) -> dict[str, Any]:
    return column("flag", quality=[{"id": "x", "mustBe": 0} | words])


def level(named: str, **words: Any) -> dict[str, Any]:
    return contract(slaProperties=[{"property": named, "value": 2} | words])


def severity(word: str) -> list[dict[str, str]]:
    return [{"property": "severity", "value": word}]


SQL = {"metric": None, "type": "sql", "query": "select count(*) from {object}"}
LINK = {"authoritativeDefinitions": [{"url": "https://x.example", "type": "a"}]}
EXTRA = {"customProperties": [{"property": "house", "value": "x"}]}

METRICS_OF_A_COLUMN: dict[str, dict[str, Any]] = {
    "duplicateValues": {},
    "invalidValues": {"arguments": {"pattern": "^P"}},
    "missingValues": {"arguments": {"missingValues": [None, "n/a"]}},
    "nullValues": {},
}

# A contract that says a word of the standard, and the check that it must give ("" for a fault).
ENFORCED: dict[str, tuple[dict[str, Any], str]] = {
    "the contract.slaProperties": (level("freshness", unit="h"), "sla.freshness"),
    "the table.physicalName": (table(physicalName="boats"), ""),
    "the table.physicalType": (table(physicalType="topic"), ""),
    "the table.properties": (contract(), "columns"),
    "the table.quality": (rule(), "x"),
    "the table.relationships": (
        table(relationships=[{"from": ["ships.id", "ships.flag"], "to": ["a.b.id", "a.b.flag"]}]),
        "id+flag.references",
    ),
    "a column.encryptedName": (column("flag", encryptedName="flag_hidden"), ""),
    "a column.enum": (column("flag", enum=[{"value": "PT"}]), "flag.enum"),
    "a column.items": (
        column(
            "stops", logicalType="array", items={"logicalType": "string", "enum": [{"value": "x"}]}
        ),
        "stops.items.enum",
    ),
    "a column.logicalType": (column("flag", logicalType="integer"), ""),
    "a column.logicalTypeOptions": (option("flag", "string", minLength=2), "flag.minLength"),
    "a column.map": (
        column(
            "rates",
            logicalType="map",
            map={"key": {"logicalType": "integer"}, "value": {"logicalType": "integer"}},
        ),
        "",
    ),
    "a column.name": (contract(), "flag.type"),
    "a column.physicalName": (column("flag", physicalName="flg"), ""),
    "a column.physicalType": (contract(), "tons.type"),
    "a column.primaryKey": (contract(), "primary_key"),
    "a column.primaryKeyPosition": (column("flag", primaryKeyPosition=2), ""),
    "a column.properties": (
        column("master", logicalType="object", properties=[{"name": "age", "required": True}]),
        "master.age.required",
    ),
    "a column.quality": (of_flag(metric="nullValues"), "x"),
    "a column.relationships": (column("flag", relationships=[{"to": "a.b.c"}]), "flag.references"),
    "a column.required": (contract(), "at.required"),
    "a column.semanticType": (column("flag", semanticType="measure"), ""),
    "a column.unique": (column("flag", unique=True), "flag.unique"),
    **{
        f"options of a logical type.{name}": (
            option(col, logical, **{name: value}),
            f"{col}.{name}",
        )
        for name, col, logical, value in (
            ("exclusiveMaximum", "tons", "integer", 9),
            ("exclusiveMinimum", "tons", "integer", 9),
            ("format", "flag", "string", "email"),
            ("maxItems", "stops", "array", 9),
            ("maxLength", "flag", "string", 9),
            ("maximum", "tons", "number", 9),
            ("minItems", "stops", "array", 1),
            ("minLength", "flag", "string", 1),
            ("minimum", "called", "timestamp", "2013-01-01"),
            ("multipleOf", "tons", "integer", 5),
            ("pattern", "flag", "string", "^[A-Z]+$"),
            ("uniqueItems", "stops", "array", True),
        )
    },
    "options of a logical type.normalized": (
        option("vector", "vector", dimensions=3, normalized=True),
        "vector.normalized",
    ),
    "options of a logical type.dimensions": (option("vector", "vector", dimensions=4), ""),
    "options of a logical type.elementType": (
        option("vector", "vector", dimensions=3, elementType="float64"),
        "",
    ),
    "options of a logical type.required": (
        option("master", "object", required=["name"]),
        "master.name.inside",
    ),
    "options of a logical type.timezone": (option("called", "timestamp", timezone=False), ""),
    "a rule.arguments": (
        of_flag(metric="invalidValues", arguments={"validValues": ["PT"]}),
        "x",
    ),
    "a rule.metric": (rule(), "x"),
    "a rule.query": (rule(**SQL), "x"),
    "a rule.severity": (rule(severity="warning"), "x"),
    "a rule.type": (rule(**SQL), "x"),
    "a rule.unit": (of_flag(metric="nullValues", unit="percent"), "x"),
    **{f"a rule.{word}": (rule(**{word: 3}), "x") for word in ANSWERS["a rule"] if "must" in word},
    "a rule.mustBeBetween": (rule(mustBeBetween=[1, 2]), "x"),
    "a rule.mustNotBeBetween": (rule(mustNotBeBetween=[1, 2]), "x"),
    **{
        f"metrics and their arguments.{word}": (of_flag(metric=word, **said), "x")
        for word, said in METRICS_OF_A_COLUMN.items()
    },
    "metrics and their arguments.rowCount": (rule(), "x"),
    "a relationship.from": (
        table(relationships=[{"from": "ships.flag", "to": "a.b.c"}]),
        "flag.references",
    ),
    "a relationship.to": (column("flag", relationships=[{"to": "a.b.c"}]), "flag.references"),
    "an allowed value (enum).value": (column("flag", enum=[{"value": "PT"}]), "flag.enum"),
    "a service level.element": (
        level("freshness", unit="h", element="ships.called"),
        "sla.freshness",
    ),
    "a service level.property": (level("freshnes", unit="h"), ""),
    "a service level.unit": (level("freshness", unit="fortnight"), ""),
    "a service level.value": (level("freshness", unit="h") | {"x": 0}, "sla.freshness"),
    "the levels.endOfLife": (level("endOfLife", value="soon"), ""),
    "the levels.endOfSupport": (level("ES", value="soon"), ""),
    "the levels.freshness": (level("Freshness", unit="h"), "sla.freshness"),
    "the levels.frequency": (level("frequency", unit="h"), ""),
    "the levels.latency": (
        level("latency", unit="h", customProperties=severity("warning")),
        "sla.latency",
    ),
    "the levels.retirement": (level("retirement", value="soon"), ""),
}
ENFORCED["a service level.value"][0].pop("x")

# A contract that says a word which must be a fault.
REFUSED: dict[str, dict[str, Any]] = {
    "options of a logical type.maxProperties": option("master", "object", maxProperties=2),
    "options of a logical type.minProperties": option("master", "object", minProperties=2),
    "a rule.engine": rule(
        metric=None, type="custom", engine="soda", implementation="x", mustBe=None
    ),
    "a rule.implementation": rule(
        metric=None, type="custom", engine="soda", implementation="x", mustBe=None
    ),
    "a rule.rule": rule(rule="rowCount"),
    "a rule.schedule": rule(schedule="0 20 * * *"),
    "a rule.scheduler": rule(scheduler="cron"),
    "a service level.schedule": level("freshness", unit="h", schedule="0 20 * * *"),
    "a service level.scheduler": level("latency", unit="h", scheduler="cron"),
}

# A contract that says a word which changes no check and is no fault.
VALUES: dict[str, Any] = {
    **LINK,
    **EXTRA,
    "context": "Ships.",
    "tags": ["a"],
    "synonyms": [{"synonym": "boats"}],
    "examples": ["a"],
    "transformSourceObjects": ["a"],
    "deprecated": True,
    "criticalDataElement": True,
    "partitioned": True,
    "partitionKeyPosition": 1,
    "contractCreatedTs": "2026-01-01T00:00:00Z",
    "price": {"priceAmount": 1},
    "roles": [{"role": "reader"}],
    "servers": [{"server": "x", "type": "local", "path": "x", "format": "csv"}],
    "description": {"purpose": "Ships that called.", "usage": "x"},
    "logicalType": "object",
    "dimension": "accuracy",
}
LEVEL_VALUES = {"generalAvailability": "2026-01-01", "timeOfAvailability": "09:00-08:00"}


def told(part: str, word: str) -> dict[str, Any]:  # noqa: PLR0911
    value = VALUES.get(word, "x")
    if part == "a column" and word == "description":
        value = "x"
    match part:
        case "the contract":
            return contract(**{word: value})
        case "the table":
            return table(**{word: "x" if word == "description" else value})
        case "a column":
            return column("flag", **{word: value})
        case "options of a logical type" if word == "defaultTimezone":
            return option("called", "timestamp", defaultTimezone="Etc/UTC")
        case "options of a logical type":
            said = "cosine" if word == "distanceMetric" else "x"
            return option("vector", "vector", dimensions=3, **{word: said})
        case "a rule":
            return rule(**{word: "x" if word == "description" else value})
        case "an allowed value (enum)":
            said = "x" if word == "description" else value
            return column("flag", enum=[{"value": "PT", word: said}])
        case "a service level":
            return level("availability", **{word: "x" if word == "description" else value})
    return level(word, value=LEVEL_VALUES.get(word, 2), unit="h")


def read(said: dict[str, Any], root: Path) -> tuple[tuple[Check, ...], tuple[Fault, ...]]:
    path = write(root, yaml.safe_dump(said), "harbour/ships.v1.odcs.yaml")
    found, faults = odcs.read_contract(path, root)
    return (found.checks if found else ()), faults


def words(answer: Answer) -> list[str]:
    return [
        f"{part}.{word}"
        for part, said in ANSWERS.items()
        for word, each in said.items()
        if each.answer is answer
    ]


@pytest.mark.parametrize("word", words(Answer.ENFORCED))
def test_what_is_enforced_is_a_check_or_a_comparison(word: str, tmp_path: Path) -> None:
    said, check = ENFORCED[word]
    checks, faults = read(said, tmp_path)
    if check:
        assert faults == ()
        assert check in {each.id for each in checks}
    else:
        assert len(faults) == 1, faults
        assert faults[0].line > 0


@pytest.mark.parametrize("word", words(Answer.REFUSED))
def test_what_is_refused_is_a_fault_with_its_line(word: str, tmp_path: Path) -> None:
    _, faults = read(REFUSED[word], tmp_path)
    assert len(faults) == 1, faults
    assert faults[0].line > 0


@pytest.mark.parametrize("word", words(Answer.TOLD))
def test_what_is_told_is_no_fault_and_decides_nothing(word: str, tmp_path: Path) -> None:
    part, _, key = word.partition(".")
    plain = {"a rule": rule(), "an allowed value (enum)": column("flag", enum=[{"value": "PT"}])}
    said = told(part, key)
    known, none = read(plain.get(part, contract()), tmp_path)
    checks, faults = read(said, tmp_path)
    assert (none, faults) == ((), ())
    assert {each.id for each in checks} == {each.id for each in known}


# Words that have more than one answer


@pytest.mark.parametrize(
    ("said", "line_of", "words"),
    [
        (rule(metric="rowCount", type="text"), "metric", "claims nothing"),
        (rule(mustBe=True), "mustBe", "compares with True"),
        (level("latency", unit="h", customProperties=severity("error")), "latency", "withholding"),
        (level("freshness", unit="h", element="ships.calld"), "element", "'called'?"),
        (level("freshness", unit="h", element="ships.tons"), "element", "cannot be measured"),
        (level("freshness", value="soon", unit="h"), "value: soon", "write a number"),
        (level("freshness"), "freshness", "the unit of freshness"),
        (option("flag", "string", format="iban"), "format", "write a pattern"),
        (option("tons", "number", format="f32"), "format", "write FLOAT"),
        (
            table(relationships=[{"from": "boats.flag", "to": "a.b.c"}]),
            "from",
            "begin at a column of ships",
        ),
        (
            column(
                "master",
                logicalType="object",
                properties=[{"name": "aeg", "physicalType": "INTEGER"}],
            ),
            "aeg",
            "did you mean 'age'?",
        ),
        (
            column(
                "master",
                logicalType="object",
                properties=[{"name": "age", "physicalType": "VARCHAR"}],
            ),
            "physicalType: VARCHAR",
            "write INTEGER",
        ),
        (
            column("master", logicalType="object", properties=[{"name": "age", "unique": True}]),
            "unique",
            "nested value",
        ),
        (column("tons", logicalType="array", items={}), "tons", "logicalType array is not"),
    ],
)
def test_a_promise_that_cannot_be_kept_is_refused(
    said: dict[str, Any], line_of: str, words: str, tmp_path: Path
) -> None:
    _, faults = read(said, tmp_path)
    assert any(words in f"{fault.wrong}; {fault.right}" for fault in faults), faults
    assert line_of


def test_levels_warn_unless_freshness_is_to_withhold(tmp_path: Path) -> None:
    def found(said: dict[str, Any]) -> Check:
        checks, faults = read(said, tmp_path)
        assert faults == ()
        return next(check for check in checks if check.origin == "sla")

    usual = found(level("freshness", unit="d"))
    assert (usual.column, usual.threshold, usual.unit) == ("at", (48.0,), "hours")
    assert usual.severity is Severity.ADVISORY
    strict = level("freshness", unit="h", customProperties=severity("error"))
    assert found(strict).severity is Severity.BLOCKING


def test_a_latency_without_a_severity_is_a_check_that_warns(tmp_path: Path) -> None:
    checks, faults = read(level("latency", unit="h"), tmp_path)
    assert faults == ()
    (check,) = (check for check in checks if check.origin == "sla")
    assert (check.id, check.metric, check.severity) == (
        "sla.latency",
        "latency",
        Severity.ADVISORY,
    )


def test_every_metric_that_a_check_can_have_is_known(tmp_path: Path) -> None:
    for said, _ in ENFORCED.values():
        checks, _ = read(said, tmp_path)
        assert {check.metric for check in checks} <= set(METRICS)
