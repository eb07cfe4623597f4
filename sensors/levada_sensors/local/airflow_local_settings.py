"""
Imports what worker tasks need, once, in the process that LocalExecutor forks its workers from. dbt
is imported in a process beside it: a fork of the scheduler would know all that the scheduler knows.

Airflow imports a module of this name wherever it starts; `levada up` puts this folder on its path.
Imports only: no connection may be opened before a fork.
"""

# ruff: noqa: INP001 - a folder for PYTHONPATH, no package

from __future__ import annotations

import sys

if sys.argv[1:2] == ["scheduler"]:
    import importlib

    from levada.adapters import dbt, gx

    dbt.keep_warm()
    gx.preload()
    importlib.import_module("levada_sensors.working")
