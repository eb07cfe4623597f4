"""
What becomes of each word of the standard: the one table, from which the reference page is made.

ENFORCED is a check of the audit, or a comparison when the contract is declared. USED decides
something else. TOLD is for people and the catalogue; it claims no verdict. REFUSED is a fault.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["ANSWERS", "Answer", "Word", "markdown"]


class Answer(enum.Enum):
    """What becomes of a word."""

    ENFORCED = "enforced"
    USED = "used"
    TOLD = "told"
    REFUSED = "refused"


class Word(NamedTuple):
    """The answer to a word, and how."""

    answer: Answer
    how: str


def _table(text: str) -> Mapping[str, Word]:
    lines = (line.split("|") for line in text.strip().splitlines())
    return {name.strip(): Word(Answer(answer.strip()), how.strip()) for name, answer, how in lines}


ANSWERS: Mapping[str, Mapping[str, Word]] = {
    "the contract": _table("""
apiVersion | used | v3.1.0 or v3.2.0; another is a fault
authoritativeDefinitions | told | a link
context | told | words for assistants, since v3.2.0
contractCreatedTs | told | when the contract was written
customProperties | told | what a team adds
dataProduct | used | the product that builds the table
description | told | `purpose` must be there
domain | used | the owner; the folder must be its
id | used | one for each table of the mesh
kind | used | DataContract
name | told | a title
price | told | what the table costs
roles | told | who may read is set in the warehouse
schema | used | one table
servers | told | the warehouse is said in levada.yaml
slaDefaultElement | used | the `element` of a freshness that has none
slaProperties | enforced | see the service levels below
status | used | active, deprecated, draft or retired
support | used | its first channel is the contact
tags | told | words to search by
team | used | `name` is the owner, members with the role `owner` approve
tenant | told | whose mesh it is
version | used | semantic; the major is part of the table's name
"""),
    "the table": _table("""
authoritativeDefinitions | told | a link
businessName | told | a name for people
context | told | words for assistants, since v3.2.0
customProperties | used | grain, zone, intervalColumn, dayStart, weekStart, tier; others are told
dataGranularityDescription | told | the grain is said in customProperties
deprecated | told | an end is promised by endOfSupport and endOfLife
description | told | words for people
id | told | a stable name
logicalType | told | always object
name | used | the table's name; the file is named by it
physicalName | enforced | the name that it is published under; another is a fault
physicalType | enforced | table; another is a fault
properties | enforced | exactly these columns: the check `columns`
quality | enforced | see the rules below
relationships | enforced | see the relationships below
synonyms | told | other names
tags | told | words to search by
"""),
    "a column": _table("""
authoritativeDefinitions | told | a link
businessName | told | a name for people
classification | used | policies and reviews go by it; who may see it is set in the warehouse
criticalDataElement | told | a mark for people
customProperties | told | what a team adds
deprecated | told | a mark for people
description | told | words for people
encryptedName | enforced | a column that is promised too; another is a fault
enum | enforced | the check `<column>.enum`: no other value; NULL is none
examples | told | values to look at
id | told | a stable name
items | enforced | the items of a list: their types when declared, their values by checks
logicalType | enforced | must be what the physical type holds
logicalTypeOptions | enforced | see the options below
map | enforced | the types of keys and values; more of them is refused
name | enforced | the column of this name, by the checks `columns` and `<column>.type`
partitionKeyPosition | told | how it is stored is the platform's affair
partitioned | told | how it is stored is the platform's affair
physicalName | enforced | the same as the name; another is a fault
physicalType | enforced | the check `<column>.type`, by DuckDB's own name of the type
primaryKey | enforced | the check `primary_key`: no row is NULL or repeated
primaryKeyPosition | enforced | the order of the key; without primaryKey it is a fault
properties | enforced | the fields of a STRUCT: their types when declared, their values by checks
quality | enforced | see the rules below
relationships | enforced | see the relationships below
required | enforced | the check `<column>.required`: no NULL
semanticType | enforced | column and dimension are told, measure is a fault
synonyms | told | other names
tags | told | words to search by
transformDescription | told | how it is made, for people
transformLogic | told | how it is made is the model's SQL
transformSourceObjects | told | what is read is the model's SQL
unique | enforced | the check `<column>.unique`: no value repeats; NULL repeats nothing
"""),
    "options of a logical type": _table("""
defaultTimezone | told | a TIMESTAMPTZ is an instant and needs none
dimensions | enforced | the size of the array type, when declared
distanceMetric | told | how vectors are compared
elementType | enforced | the type of the array's items, when declared
embeddingModel | told | which model made it
embeddingModelVersion | told | which model made it
exclusiveMaximum | enforced | no value is as great
exclusiveMinimum | enforced | no value is as small
format | enforced | of text and numbers; of dates and times it is told; an unknown one is a fault
maxItems | enforced | no list is longer
maxLength | enforced | no text is longer
maxProperties | refused | a STRUCT has the fields of its type
maximum | enforced | no value is greater
minItems | enforced | no list is shorter
minLength | enforced | no text is shorter
minProperties | refused | a STRUCT has the fields of its type
minimum | enforced | no value is smaller
multipleOf | enforced | every value divides without a rest
normalized | enforced | the length of every vector is 1
pattern | enforced | every text has this form
required | enforced | these fields of a STRUCT are not NULL
timezone | enforced | whether the type has a zone, when declared
uniqueItems | enforced | no list holds an item twice
"""),
    "a rule": _table("""
arguments | enforced | of the metric: see below
authoritativeDefinitions | told | a link
businessImpact | told | words for people
customProperties | told | what a team adds
description | told | it is shown with what the rule finds
dimension | told | it is shown with what the rule finds
engine | refused | a rule of type custom is no rule that every engine means alike
id | used | by it a rule is waived; without one it is a fault
implementation | refused | a rule of type custom is no rule that every engine means alike
method | told | words for people
metric | enforced | one of the library's words: see below
mustBe | enforced | the number found is this
mustBeBetween | enforced | both ends belong to it
mustBeGreaterOrEqualTo | enforced | the number found is so
mustBeGreaterThan | enforced | the number found is so
mustBeLessOrEqualTo | enforced | the number found is so
mustBeLessThan | enforced | the number found is so
mustNotBe | enforced | the number found is not this
mustNotBeBetween | enforced | both ends belong to it
name | told | shown where there is no description
query | enforced | one SELECT of one number, which reads and does nothing else
rule | refused | the old word for metric
schedule | refused | a rule runs in every audit
scheduler | refused | a rule runs in every audit
severity | enforced | error (or none) withholds; warning and info publish and tell
tags | told | words to search by
type | enforced | library and sql run, text is told, custom is a fault
unit | enforced | rows or percent
"""),
    "metrics and their arguments": _table("""
duplicateValues | enforced | rows that repeat a value; of several columns by `properties`
invalidValues | enforced | values that are not of `validValues` or break the `pattern`
missingValues | enforced | values that are one of `missingValues`
nullValues | enforced | NULLs
rowCount | enforced | rows
"""),
    "a relationship": _table("""
customProperties | used | severity; others are told
from | enforced | a column of this table, or several; under a column it is a fault
id | used | the name of its check
to | enforced | no value is absent there; over several columns too; a path with `/` is a fault
type | used | foreignKey
"""),
    "an allowed value (enum)": _table("""
authoritativeDefinitions | told | a link
customProperties | told | what a team adds
description | told | words for people
id | told | a stable name
label | told | a name for people
tags | told | words to search by
value | enforced | what may stand there
"""),
    "a service level": _table("""
authoritativeDefinitions | told | a link
customProperties | used | severity, of freshness and latency; others are told
description | told | it is shown with what the check finds
driver | told | why it matters
element | enforced | the column that freshness is measured on
id | used | the name of its check
property | enforced | one of the levels below; another is a fault
schedule | refused | of freshness and latency: every audit measures them; of others it is told
scheduler | refused | of freshness and latency: every audit measures them; of others it is told
unit | enforced | s, min, h, d, w, month, y and their longer names
value | enforced | the number, or the date
valueExt | told | a second value
"""),
    "the levels": _table("""
availability | told | a promise about a service
endOfLife | enforced | from this day on the table is held
endOfSupport | enforced | from this day on consumers are told to leave
errorRate | told | a promise about a service
freshness | enforced | from the newest row to the interval's end; a warning unless severity is error
frequency | enforced | not more often than the grain, when declared; the timetable keeps it
generalAvailability | told | a date; another word is a fault
latency | enforced | from the interval's end to its first publication; always a warning
retention | told | no published row is ever deleted
retirement | enforced | another word for endOfLife
throughput | told | a promise about a service
timeOfAvailability | told | a promise about a service
timeToDetect | told | a promise about a service
timeToNotify | told | a promise about a service
timeToRepair | told | a promise about a service
"""),
}
"""By the part of a contract, each word that may stand there."""


def markdown() -> str:
    """
    The tables of the reference page.

    >>> markdown().splitlines()[4]
    '| `apiVersion` | used | v3.1.0 or v3.2.0; another is a fault |'
    """
    parts = []
    for part, words in ANSWERS.items():
        rows = [f"| `{n}` | {w.answer.value} | {w.how} |" for n, w in words.items()]
        parts.append(
            "\n".join(
                [f"## {part.capitalize()}", "", "| word | | how |", "| --- | --- | --- |", *rows]
            )
        )
    return "\n\n".join(parts) + "\n"
