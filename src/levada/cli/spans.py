"""The span of a command: local days of the mesh's calendar, cut to the mesh's span."""

from __future__ import annotations

from datetime import date, timedelta
from zoneinfo import ZoneInfo

from levada.errors import DeclarationError, Fault
from levada.settings import Settings
from levada.terms import Span

__all__ = ["span_of"]


def span_of(settings: Settings, days: tuple[str | None, str | None]) -> Span:
    """The days `--from` .. `--to`, both included; the mesh's span where one is not said."""
    zone = ZoneInfo(settings.zone)
    whole = settings.span
    first = _day("--from", days[0]) or whole.start.astimezone(zone).date()
    last = _day("--to", days[1]) or (whole.end.astimezone(zone).date() - timedelta(days=1))
    if last < first and days[1] is not None:
        raise DeclarationError((Fault("--to", 0, f"{last} lies before --from {first}"),))
    span = Span.days(first, max(first, last), settings.zone)
    if span.start >= whole.end or span.end <= whole.start:
        wrong = f"{first} .. {last} lies outside the mesh's span"
        raise DeclarationError((Fault("--from", 0, wrong, "see `span` in levada.yaml"),))
    return Span(max(span.start, whole.start), min(span.end, whole.end))


def _day(option: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        fault = Fault(option, 0, f"{text!r} is no date", "write it like 2013-03-10")
        raise DeclarationError((fault,)) from error
