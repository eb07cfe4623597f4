"""Where DataHub is told: a file of proposals, or a server."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from levada.adapters.cursor import CursorFile, replacing
from levada.adapters.datahub.proposals import proposals
from levada.catalog import Fact, Mark
from levada.errors import TerminalError, ToolError, Unavailable

if TYPE_CHECKING:
    from datahub.emitter.rest_emitter import DatahubRestEmitter

__all__ = ["FileCatalog", "RestCatalog"]

_TOKEN = "DATAHUB_GMS_TOKEN"
_BEGIN, _BETWEEN, _END = b"[\n", b",\n", b"\n]\n"


class FileCatalog:
    """
    A file of facts that only grows, whole at any moment: a reader never sees half of it.

    Its cursor stands beside it. Remove the file, and it is written anew from the first publication.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cursor = CursorFile(path.with_name(f"{path.name}.cursor"))

    @contextmanager
    def opened(self) -> Iterator[FileCatalog]:
        """Be the only writer for the block."""
        with self._cursor.alone():
            yield self

    def mark(self) -> Mark | None:
        """The last line that stands in the file."""
        return self._cursor.read() if self.path.is_file() else None

    def take(self, facts: Sequence[Fact], mark: Mark) -> None:
        """Write the facts behind those that stand there, then move the cursor."""
        with replacing(self.path) as file:
            before = self._copy(file)
            for number, proposal in enumerate(proposals(facts)):
                file.write(_BETWEEN if before or number else b"")
                file.write(json.dumps(proposal.to_obj(simplified_structure=True)).encode())
            file.write(_END)
        self._cursor.write(mark)

    def _copy(self, to: BinaryIO) -> bool:
        """Copy what stands in the file, its end excepted; whether anything does."""
        if not self.path.is_file():
            to.write(_BEGIN)
            return False
        with self.path.open("rb") as old:
            head = old.read(len(_BEGIN))
            size = old.seek(0, os.SEEK_END) - len(_END)
            old.seek(max(size, 0))
            if head != _BEGIN or old.read() != _END:
                raise TerminalError(f"{self.path} is no file of `levada catalog`: name a new one")
            old.seek(0)
            shutil.copyfileobj(old, to)
        to.seek(size)
        to.truncate()
        return size > len(_BEGIN)


class RestCatalog:
    """
    A DataHub server. A line counts as told when the server's database holds its facts.

    The token of a server that wants one stands in DATAHUB_GMS_TOKEN. A new server at an old address
    is told everything once its cursor, a file in `cursors`, is removed.
    """

    def __init__(self, server: str, cursors: Path) -> None:
        place = urlsplit(server)
        if place.scheme not in ("http", "https") or not place.hostname:
            raise TerminalError(f"{server!r} is no server: write it like http://datahub:8080")
        self.server = server.rstrip("/")
        name = re.sub(r"\W+", "_", f"{place.netloc.rpartition('@')[2]}{place.path}").strip("_")
        self._cursor = CursorFile(cursors / f"{name}.cursor")
        self._emitter: DatahubRestEmitter | None = None

    @contextmanager
    def opened(self) -> Iterator[RestCatalog]:
        """Be the only one of this project that tells this server, for the block."""
        with self._cursor.alone():
            try:
                yield self
            finally:
                self._disconnect()

    def mark(self) -> Mark | None:
        """The last line that the server was told."""
        return self._cursor.read()

    def take(self, facts: Sequence[Fact], mark: Mark) -> None:
        """Send the facts, wait until they are stored, then move the cursor."""
        told = list(proposals(facts))
        from datahub.emitter.emit_mode import EmitMode

        with self._translated():
            self._connected().emit_mcps(told, emit_mode=EmitMode.SYNC_PRIMARY)
        self._cursor.write(mark)

    def _connected(self) -> DatahubRestEmitter:
        if self._emitter is None:
            from datahub.emitter.rest_emitter import DatahubRestEmitter

            emitter = DatahubRestEmitter(
                self.server,
                token=os.environ.get(_TOKEN) or None,
                connect_timeout_sec=5,
                read_timeout_sec=60,
                retry_max_times=1,  # whoever calls tries again, and says so meanwhile
                openapi_ingestion=False,  # the one way in that every release has
            )
            emitter.test_connection()
            self._emitter = emitter
        return self._emitter

    def _disconnect(self) -> None:
        if self._emitter is not None:
            with suppress(Exception):
                self._emitter.close()
            self._emitter = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise what the emitter raises as errors of Levada."""
        from datahub.configuration.common import ConfigurationError, OperationalError
        from requests.exceptions import HTTPError, RequestException

        try:
            yield
        except (ConfigurationError, OperationalError, RequestException) as error:
            self._disconnect()
            cause = error if isinstance(error, RequestException) else error.__cause__
            response = cause.response if isinstance(cause, HTTPError) else None
            status = response.status_code if response is not None else _status(str(error))
            if status in (401, 403):
                said = f"DataHub at {self.server} refuses us ({status}): set {_TOKEN} to its token"
                raise TerminalError(said) from error
            later = status is None or status >= 500 or status in (408, 429)
            if isinstance(error, ConfigurationError) and (status is None or not later):
                raise TerminalError(f"{self.server} is no DataHub GMS: {_said(error)}") from error
            if not later:
                raise ToolError("DataHub", f"{self.server} refused: {_said(error)}") from error
            why = f"it answers {status}" if status else _why(cause or error)
            raise Unavailable("DataHub", self.server, why) from error


def _status(message: str) -> int | None:
    """
    The status that a sentence of the emitter names.

    >>> _status("Unable to connect to http://x/config with status_code: 404.")
    404
    >>> _status("Unable to connect to http://x/config - got an authentication error: no")
    401
    """
    if "authentication error" in message:
        return 401
    found = re.search(r"status_code: (\d{3})", message)
    return int(found[1]) if found else None


def _said(error: Exception) -> str:
    """The first line of what the emitter said."""
    return str(error.args[0] if error.args else error).strip().splitlines()[0][:300]


def _why(error: BaseException) -> str:
    """
    The reason, out of the layers that it comes wrapped in.

    >>> _why(OSError("HTTPConnectionPool(host='x'): Max retries (Caused by E('too many 503 error "
    ... "responses'))"))
    'it answers 503'
    """
    said = " ".join(str(error).split())
    for known, word in (
        ("refused", "connection refused"),
        ("timed out", "it timed out"),
        ("resolve", "no such host"),
        ("Expecting value", "its answer is no JSON"),
    ):
        if known in said:
            return word
    found = re.search(r"too many (\d{3}) error responses", said)
    return f"it answers {found[1]}" if found else said[:200]
