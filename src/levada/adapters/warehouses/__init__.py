"""Warehouses: where published data lives. One module for each engine, found by entry point."""

from __future__ import annotations
