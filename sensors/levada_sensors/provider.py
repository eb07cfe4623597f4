"""What Airflow asks a provider about itself."""

from __future__ import annotations

from typing import Any

from levada import __version__

__all__ = ["get_provider_info"]


def get_provider_info() -> dict[str, Any]:
    """
    The provider's facts, as Airflow's schema wants them.

    >>> get_provider_info()["package-name"]
    'levada'
    """
    name = "Levada"
    return {
        "package-name": "levada",
        "name": name,
        "description": "Data-mesh pipelines wired by tables alone.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": name,
                "tags": ["software"],
            }
        ],
        "sensors": [{"integration-name": name, "python-modules": ["levada_sensors.sensors"]}],
        "triggers": [
            {
                "integration-name": name,
                "python-modules": ["levada_sensors.triggers", "levada_sensors.watching"],
            }
        ],
    }
