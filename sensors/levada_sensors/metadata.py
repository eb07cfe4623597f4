"""
Airflow's metadata, made ready by the supervisor of `levada up`: schema, and the backfills' pool.

    python -m levada_sensors.metadata SLOTS

One process for both, since importing Airflow is what takes long.
"""

from __future__ import annotations

import sys

from levada_sensors.limits import POOL

__all__ = ["main"]


def main() -> None:
    """Migrate the schema; make the pool, or give it these slots."""
    slots = int(sys.argv[1])
    from airflow.__main__ import main as airflow

    sys.argv[1:] = ["db", "migrate"]
    airflow()  # type: ignore[no-untyped-call]
    from airflow.models.pool import Pool

    Pool.create_or_update_pool(
        POOL, slots, "Levada: builds of backfills, behind the live day", include_deferred=False
    )


if __name__ == "__main__":
    main()
