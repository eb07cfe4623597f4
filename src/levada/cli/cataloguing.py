"""`levada catalog`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from types import FrameType

from levada import compiled
from levada.adapters import odcs
from levada.adapters.datahub import FileCatalog, RestCatalog
from levada.adapters.postgres import Credentials
from levada.catalog import Catalog, catalogue
from levada.cli import output
from levada.errors import DeclarationError, Fault, TransientError
from levada.flow import platform as opening
from levada.ledger import PostgresLedger
from levada.settings import Settings, find_root, read_settings
from levada.terms import Publication

__all__ = ["catalog"]

_POLL = 2.0
_PATIENCE = 60.0


def catalog(
    project: Path | None, *, sink: Path | None, server: str | None, follow: bool, as_json: bool
) -> int:
    """Tell DataHub, or a file for it, what was published since it was last told."""
    if sink is not None and server is not None:
        right = "run one command for each: each has a cursor of its own"
        raise DeclarationError((Fault("--sink", 0, "given together with --server", right),))
    settings = read_settings(find_root(project))
    kept = settings.home / "catalog"
    opened = RestCatalog(server, kept) if server else FileCatalog(sink or kept / "datahub.json")
    where = opened.server if isinstance(opened, RestCatalog) else str(opened.path)
    with opened.opened(), _reader(settings, follow=follow) as ledger:
        if follow:
            with _interrupted() as ended, suppress(KeyboardInterrupt):
                _follow(settings, ledger, opened, where, ended, as_json=as_json)
        else:
            _report(_drain(settings, ledger, opened), where, as_json=as_json)
    return 0


@contextmanager
def _reader(settings: Settings, *, follow: bool) -> Iterator[PostgresLedger]:
    """The ledger, read as the runner. Who follows must not own the server that others use."""
    if follow:
        with opening.ledger(Credentials.load(settings.home), "levada_runner") as ledger:
            yield ledger
        return
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as ledger,
    ):
        yield ledger


def _drain(settings: Settings, ledger: PostgresLedger, told: Catalog) -> list[Publication]:
    """Tell everything that is new; the lines."""
    mesh = compiled.load(settings)
    lines: list[Publication] = []
    while fresh := catalogue(
        ledger, told, mesh, lambda label: odcs.from_canonical(ledger.contract(label))
    ):
        lines += fresh
    return lines


@contextmanager
def _interrupted() -> Iterator[Event]:
    """
    Set by Ctrl-C. The KeyboardInterrupt alone may be lost: Python drops one that is raised while it
    finalizes an object, and libraries catch what they should not.
    """
    ended = Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield ended
    finally:
        signal.signal(signal.SIGINT, before)


def _follow(
    settings: Settings,
    ledger: PostgresLedger,
    told: Catalog,
    where: str,
    ended: Event,
    *,
    as_json: bool,
) -> None:
    """Go on until it is ended; what does not answer is waited for, and said once."""
    pause, said = _POLL, ""
    while not ended.is_set():
        try:
            if lines := _drain(settings, ledger, told):
                _report(lines, where, as_json=as_json)
            pause, said = _POLL, ""
        except TransientError as error:
            if str(error) != said:
                said = str(error)
                output.errors.print(f"{said}; trying again", style="yellow", markup=False)
            pause = min(pause * 2, _PATIENCE)
        ended.wait(pause)


def _report(lines: list[Publication], where: str, *, as_json: bool) -> None:
    tables = len({line.table for line in lines})
    if as_json:
        position = lines[-1].position if lines else None
        output.print_json({"told": len(lines), "tables": tables, "position": position, "to": where})
    elif lines:
        output.console.print(f"told {where} {len(lines)} publications of {tables} tables")
    else:
        output.console.print(f"nothing new: {where} was told every publication")
