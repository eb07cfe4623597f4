"""Around every query of the adapter: a deadline, and errors in a sentence without secrets."""

from __future__ import annotations

import re
import threading
from typing import Any, Self

__all__ = ["Watch", "raised", "told_of"]

_SECRET = re.compile(r"(password\s*=\s*|://[^:@/\s]*:)('[^']*'|[^\s'\"@]+)", re.IGNORECASE)


class Watch:
    """Interrupts a connection from its deadline on, so that no query outlives it."""

    def __init__(self, connection: Any, seconds: float) -> None:
        self.seconds = seconds
        self.expired = False
        self._connection = connection
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._wait, daemon=True)

    @property
    def sentence(self) -> str:
        """What is said of a query that it ended."""
        return f"timed out after {self.seconds:g} s"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _wait(self) -> None:
        delay = self.seconds
        while not self._over.wait(delay):
            self.expired, delay = True, 0.05
            self._connection.interrupt()


def raised(result: Any) -> str:
    """What went wrong inside an expectation; "" when it came to a verdict."""
    info = result.exception_info or {}
    nested = [info] if "raised_exception" in info else list(info.values())
    for each in nested:
        if each.get("raised_exception"):
            return _first_line(str(each.get("exception_message") or "an unnamed error"))
    return ""


def told_of(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {_first_line(str(error))}"


def _first_line(text: str) -> str:
    """The first line, without secrets: DuckDB repeats a connection string that fails."""
    line = (text.strip().splitlines() or ["an unnamed error"])[0]
    return _SECRET.sub(r"\1***", line)[:300]
