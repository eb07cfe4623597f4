"""The command line: `levada check | run | compile | status | why | up | down | ledger`."""

from __future__ import annotations

import os
import sys

from levada.cli.app import app
from levada.cli.output import fail
from levada.errors import LevadaError

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; an error of ours is a sentence and exit code 2, never a traceback."""
    try:
        app()
    except LevadaError as error:
        if os.environ.get("LEVADA_DEBUG"):
            raise
        fail(error)
        sys.exit(2)
