"""The plugin that registers Levada's timetable with Airflow."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from levada_sensors.timetable import IntervalTimetable

__all__ = ["LevadaPlugin"]


class LevadaPlugin(AirflowPlugin):
    """Found through the provider; nothing is to be configured."""

    name = "levada"
    timetables = [IntervalTimetable]  # noqa: RUF012 - Airflow's own declaration is a plain list
