"""The plugin that registers Levada's timetable with Airflow."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from levada_sensors.timetable import IntervalTimetable

__all__ = ["LevadaPlugin"]


class LevadaPlugin(AirflowPlugin):
    """
    Found by its entry point, `airflow.plugins`: the plugins that a provider names are loaded only
    where `lazy_discover_providers` is off, and by default it is on.
    """

    name = "levada"
    timetables = [IntervalTimetable]  # noqa: RUF012 - Airflow's own declaration is a plain list
