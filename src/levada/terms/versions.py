"""Versions of contracts, compared."""

from __future__ import annotations

__all__ = ["version_number"]


def version_number(version: str) -> tuple[int, ...]:
    """
    A version to compare by; what comes before a release is below it.

    >>> version_number("1.2.0-rc.1") < version_number("1.2.0") < version_number("1.10.0")
    True
    """
    release, _, before = version.partition("-")
    return (*(int(part) for part in release.split(".")), 0 if before else 1)
