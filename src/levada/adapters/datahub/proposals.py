"""Facts of the mesh in DataHub's words: metadata change proposals."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from levada.catalog import Fact, ProductFact, PublicationFact, TableFact
from levada.terms import Column, Grain, Owner, Partition, TableRef

if TYPE_CHECKING:
    from types import ModuleType

    from datahub.emitter.mcp import MetadataChangeProposalWrapper

    Proposals = Iterator[MetadataChangeProposalWrapper]

__all__ = ["PLATFORM", "dataset_urn", "proposals"]

PLATFORM = "levada"
_ENVIRONMENT = "PROD"
_ACTOR = "urn:li:corpuser:levada"
_PLATFORM_URN = f"urn:li:dataPlatform:{PLATFORM}"


def dataset_urn(mesh: str, table: TableRef) -> str:
    """
    The name of a table in DataHub: the same for every publication, on any warehouse.

    >>> dataset_urn("flights", TableRef("operations", "delays", 2))
    'urn:li:dataset:(urn:li:dataPlatform:levada,flights.operations.delays_v2,PROD)'
    """
    name = f"{mesh}.{table.domain}.{table.name}" + (f"_v{table.major}" if table.major else "")
    return f"urn:li:dataset:({_PLATFORM_URN},{_quoted(name)},{_ENVIRONMENT})"


def proposals(facts: Iterable[Fact]) -> Proposals:
    """
    What DataHub is told. Equal facts make equal proposals, whenever they are told, so that a
    repetition overwrites itself.
    """
    facts = tuple(facts)
    tables = [fact for fact in facts if isinstance(fact, TableFact)]
    domains = {(fact.mesh, fact.table.domain) for fact in tables}
    meshes = {mesh for mesh, _ in domains}
    yield from _platform(sorted(meshes))
    for mesh, domain in sorted(domains):
        yield from _domain(mesh, domain)
    for fact in facts:
        if isinstance(fact, TableFact):
            yield from _dataset(fact)
        elif isinstance(fact, ProductFact):
            yield from _data_product(fact)
        else:
            yield from _events(fact)


@functools.cache
def _words() -> ModuleType:
    """DataHub's vocabulary, with its telemetry off and its loggers quiet."""
    os.environ["DATAHUB_TELEMETRY_ENABLED"] = "false"  # read when the package is imported
    for name in ("datahub", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from datahub.metadata import schema_classes

    return schema_classes


def _tell(urn: str, *aspects: Any) -> Proposals:
    from datahub.emitter.mcp import MetadataChangeProposalWrapper

    for aspect in aspects:
        yield MetadataChangeProposalWrapper(entityUrn=urn, aspect=aspect)


def _platform(meshes: Sequence[str]) -> Proposals:
    m = _words()
    if meshes:
        kind = m.PlatformTypeClass.OTHERS
        yield from _tell(_PLATFORM_URN, m.DataPlatformInfoClass(PLATFORM, kind, ".", "Levada"))
    for mesh in meshes:
        yield from _tell(_instance(mesh), m.DataPlatformInstancePropertiesClass(name=mesh))


def _domain(mesh: str, domain: str) -> Proposals:
    m = _words()
    description = f"The domain {domain} of the mesh {mesh}."
    yield from _tell(
        _domain_urn(mesh, domain), m.DomainPropertiesClass(name=domain, description=description)
    )


def _dataset(fact: TableFact) -> Proposals:
    m = _words()
    table = fact.table
    urn = dataset_urn(fact.mesh, table)
    when = _millis(fact.at)
    upstreams = [
        m.UpstreamClass(
            dataset=dataset_urn(fact.mesh, upstream),
            type=m.DatasetLineageTypeClass.TRANSFORMED,
            auditStamp=m.AuditStampClass(when, _ACTOR),
        )
        for upstream in fact.upstreams
    ]
    for name in sorted({c.classification for c in fact.columns if c.classification}):
        yield from _tell(_tag(name), m.TagPropertiesClass(name))
    yield from _tell(
        urn,
        m.DatasetPropertiesClass(
            name=table.name,
            qualifiedName=str(table),
            description=fact.description or None,
            customProperties={key: value for key, value in fact.properties if value},
            lastModified=None if table.is_source else m.TimeStampClass(when, _ACTOR),
        ),
        m.DataPlatformInstanceClass(_PLATFORM_URN, _instance(fact.mesh)),
        m.SubTypesClass(["Landed source" if table.is_source else "Table"]),
        m.StatusClass(removed=False),
        _schema(fact),
        _ownership(fact.owner),
        m.DomainsClass([_domain_urn(fact.mesh, table.domain)]),
        m.UpstreamLineageClass(upstreams),
    )
    if fact.status in ("deprecated", "retired"):
        note = f"Its contract is {fact.status}."
        yield from _tell(urn, m.DeprecationClass(deprecated=True, note=note, actor=_ACTOR))
    if not table.is_source:
        yield from _tell(
            _assertion(urn),
            m.AssertionInfoClass(
                type=m.AssertionTypeClass.CUSTOM,
                description="The audit of the contract that stands before every publication",
                source=m.AssertionSourceClass(m.AssertionSourceTypeClass.EXTERNAL),
                customAssertion=m.CustomAssertionInfoClass(type="Levada audit", entity=urn),
            ),
            m.DataPlatformInstanceClass(_PLATFORM_URN),
        )


def _schema(fact: TableFact) -> Any:
    m = _words()
    key = [column.name for column in fact.columns if column.key_position is not None]
    return m.SchemaMetadataClass(
        schemaName=str(fact.table),
        platform=_PLATFORM_URN,
        version=0,
        hash=fact.hash,
        platformSchema=m.OtherSchemaClass(rawSchema=""),
        primaryKeys=key or None,
        fields=[
            m.SchemaFieldClass(
                fieldPath=column.name,
                type=m.SchemaFieldDataTypeClass(_type(column.type)),
                nativeDataType=column.type,
                nullable=not column.required,
                description=column.description or None,
                isPartOfKey=column.key_position is not None,
                globalTags=_tagged(column),
            )
            for column in fact.columns
        ],
    )


def _type(native: str) -> Any:
    """DataHub's word for a type of DuckDB's; what it has no word for is told as it is."""
    m = _words()
    word = native.upper()
    if word.endswith("]"):
        return m.ArrayTypeClass(nestedType=[re.sub(r"\[\d*\]$", "", native)])
    for pattern, found in (
        (r"(U|HUGE|UHUGE|BIG|UBIG|SMALL|USMALL|TINY|UTINY)?INT(EGER)?\d*\b", m.NumberTypeClass),
        (r"UINTEGER|DECIMAL|NUMERIC|DOUBLE|FLOAT|REAL", m.NumberTypeClass),
        (r"VARCHAR|CHAR|TEXT|STRING|UUID|JSON", m.StringTypeClass),
        (r"DATE$", m.DateTypeClass),
        (r"TIME|DATETIME|INTERVAL", m.TimeTypeClass),
        (r"BOOL", m.BooleanTypeClass),
        (r"BLOB|BYTEA|BINARY|VARBINARY", m.BytesTypeClass),
        (r"STRUCT|ROW", m.RecordTypeClass),
        (r"MAP", m.MapTypeClass),
        (r"ENUM", m.EnumTypeClass),
        (r"UNION", m.UnionTypeClass),
    ):
        if re.match(pattern, word):
            return found()
    return m.NullTypeClass()


def _ownership(owner: Owner) -> Any:
    # Only named: who is in the group is the company's directory's to say, not ours.
    m = _words()
    group = f"urn:li:corpGroup:{_quoted(owner.team)}"
    return m.OwnershipClass([m.OwnerClass(group, m.OwnershipTypeClass.TECHNICAL_OWNER)])


def _tagged(column: Column) -> Any:
    m = _words()
    if not column.classification:
        return None
    return m.GlobalTagsClass([m.TagAssociationClass(_tag(column.classification))])


def _data_product(fact: ProductFact) -> Proposals:
    m = _words()
    assets = [
        m.DataProductAssociationClass(destinationUrn=dataset_urn(fact.mesh, t), outputPort=True)
        for t in fact.tables
    ]
    yield from _tell(
        f"urn:li:dataProduct:{_quoted(f'{fact.mesh}.{fact.domain}.{fact.name}')}",
        m.DataProductPropertiesClass(name=f"{fact.domain}.{fact.name}", assets=assets),
        m.DomainsClass([_domain_urn(fact.mesh, fact.domain)]),
        _ownership(fact.owner),
    )


def _events(fact: PublicationFact) -> Proposals:
    """A publication as an operation on its table and as a result of its audit."""
    m = _words()
    urn = dataset_urn(fact.mesh, fact.table)
    when = _millis(fact.at)
    said = {key: value for key, value in fact.properties if value}
    # With time and partition, what tells one event from another, and a repetition from both.
    event = f"{fact.table} {fact.partition.key} {fact.generation}"
    first = fact.generation == 1
    yield from _tell(
        urn,
        m.OperationClass(
            timestampMillis=when,
            lastUpdatedTimestamp=when,
            operationType=m.OperationTypeClass.INSERT if first else m.OperationTypeClass.UPDATE,
            sourceType=m.OperationSourceTypeClass.DATA_PLATFORM,
            actor=_ACTOR,
            numAffectedRows=fact.rows,
            partitionSpec=_partition(fact.partition),
            messageId=event,
            customProperties=said,
        ),
    )
    yield from _tell(
        _assertion(urn),
        m.AssertionRunEventClass(
            timestampMillis=when,
            runId=fact.run,
            asserteeUrn=urn,
            assertionUrn=_assertion(urn),
            status=m.AssertionRunStatusClass.COMPLETE,
            result=m.AssertionResultClass(
                type=m.AssertionResultTypeClass.SUCCESS
                if fact.verdict.publishes
                else m.AssertionResultTypeClass.FAILURE,
                rowCount=fact.rows,
                nativeResults=said,
            ),
            partitionSpec=_partition(fact.partition),
            messageId=event,
        ),
    )


def _partition(partition: Partition) -> Any:
    m = _words()
    if partition.grain is Grain.WHOLE:
        return m.PartitionSpecClass("FULL_TABLE_SNAPSHOT", type=m.PartitionTypeClass.FULL_TABLE)
    length = m.TimeWindowSizeClass(unit=partition.grain.name)
    window = m.TimeWindowClass(startTimeMillis=_millis(partition.begin), length=length)
    return m.PartitionSpecClass(partition.key, window, m.PartitionTypeClass.PARTITION)


def _assertion(dataset: str) -> str:
    from datahub.emitter.mce_builder import datahub_guid

    return f"urn:li:assertion:{datahub_guid({'platform': PLATFORM, 'audit': dataset})}"


def _instance(mesh: str) -> str:
    return f"urn:li:dataPlatformInstance:({_PLATFORM_URN},{_quoted(mesh)})"


def _domain_urn(mesh: str, domain: str) -> str:
    return f"urn:li:domain:{_quoted(f'{mesh}.{domain}')}"


def _tag(classification: str) -> str:
    return f"urn:li:tag:{_quoted(classification)}"


def _quoted(name: str) -> str:
    """
    A name as part of an URN, where commas and brackets have a meaning of their own.

    >>> _quoted("data (flights), ops")
    'data %28flights%29%2C ops'
    """
    return "".join(f"%{ord(c):02X}" if c in "(),%" else c for c in name)


def _millis(at: datetime) -> int:
    return round(at.timestamp() * 1000)
