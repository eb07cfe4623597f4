"""
Levada: data-mesh pipelines wired by tables alone.

The way of the data, one module a stage:

    declare -> govern -> plan -> sense -> build -> audit -> publish -> catalog

A stage speaks to the next in values (`levada.terms`); `levada.flow` alone puts them in order.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
