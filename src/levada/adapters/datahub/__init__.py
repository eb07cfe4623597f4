"""
DataHub as the catalogue: publications as datasets, lineage, operations and audit results.

    FileCatalog   a file of metadata change proposals, as `datahub ingest` and `datahub check` read
    RestCatalog   a DataHub server (GMS)

A table is a dataset of the platform `levada`, in the mesh's own platform instance, rather than one
of dbt's or DuckDB's. Its name is then what the mesh calls it, and outlives a move of the data to
another warehouse; dbt's own nodes name the private stages of runs, and DuckDB knows no readiness.

DataHub's package takes a second to import: it is, when the first facts are told.
"""

from __future__ import annotations

from levada.adapters.datahub.catalogs import FileCatalog, RestCatalog
from levada.adapters.datahub.proposals import PLATFORM, dataset_urn, proposals

__all__ = ["PLATFORM", "FileCatalog", "RestCatalog", "dataset_urn", "proposals"]
