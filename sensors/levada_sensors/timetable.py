"""The timetable whose data intervals are the partitions of a product."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pendulum
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable

from levada.calendars import calendar
from levada.intervals import containing, end, following
from levada.terms import Grain, Partition

__all__ = ["IntervalTimetable"]

_TICK = timedelta(microseconds=1)


class IntervalTimetable(Timetable):
    """
    One run for each partition: its data interval *is* the partition, by the one calendar of Levada,
    so that a local day has 23, 24 or 25 hours. A run is due when its partition is over.

    :param grain: how long a partition is (hour, day, week, month, quarter, year)
    :param zone: the calendar that cuts them: a time zone, or one with a start of days or weeks
    :param start: the first partition begins here or later
    :param stop: the last partition ends here or earlier
    """

    def __init__(self, grain: str, zone: str, start: datetime, stop: datetime) -> None:
        self._grain = Grain(grain)
        if self._grain is Grain.WHOLE:
            raise ValueError("a whole table has no intervals: say schedule=None")
        if start.tzinfo is None or stop.tzinfo is None:
            raise ValueError("a timetable is bounded by aware datetimes")
        self._zone = calendar(zone).name
        self._start, self._stop = start.astimezone(UTC), stop.astimezone(UTC)
        self.description = f"Every {grain} of {zone}, once it is over"

    @property
    def summary(self) -> str:
        """What the UI shows in the schedule's place."""
        return f"every {self._grain.value}"

    def serialize(self) -> dict[str, Any]:
        """Plain words, the same at every parse."""
        return {
            "grain": self._grain.value,
            "zone": self._zone,
            "start": self._start.isoformat(),
            "stop": self._stop.isoformat(),
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:
        """The timetable of these words."""
        return cls(
            data["grain"],
            data["zone"],
            datetime.fromisoformat(data["start"]),
            datetime.fromisoformat(data["stop"]),
        )

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The run after the last one, or None past the end."""
        since = self._start
        if restriction.earliest is not None:
            since = max(since, _plain(restriction.earliest))
        if not restriction.catchup:
            # The last partition that is over, as Airflow's own timetables have it.
            since = max(since, self._ended(datetime.now(UTC)).begin)
        if last_automated_data_interval is not None:
            since = max(since, _plain(last_automated_data_interval.start) + _TICK)
        partition = self._at_or_after(since)
        if end(partition) > self._stop:
            return None
        if restriction.latest is not None and partition.begin > _plain(restriction.latest):
            return None
        interval = _interval(partition)
        return DagRunInfo.interval(interval.start, interval.end)

    def infer_manual_data_interval(self, *, run_after: pendulum.DateTime) -> DataInterval:
        """The last partition that was over at `run_after`."""
        return _interval(self._ended(_plain(run_after)))

    def _ended(self, instant: datetime) -> Partition:
        now = containing(self._grain, instant, self._zone)
        return containing(self._grain, now.begin - _TICK, self._zone)

    def _at_or_after(self, instant: datetime) -> Partition:
        partition = containing(self._grain, instant, self._zone)
        return partition if partition.begin >= instant else following(partition)


def _plain(instant: datetime) -> datetime:
    """Without pendulum's arithmetic, which loses the zone of an instant in `datetime.UTC`."""
    return datetime.fromisoformat(instant.isoformat()).astimezone(UTC)


def _interval(partition: Partition) -> DataInterval:
    return DataInterval(pendulum.instance(partition.begin), pendulum.instance(end(partition)))
