"""`python -m levada.cli` is `levada`."""

from __future__ import annotations

from levada.cli import main

if __name__ == "__main__":
    main()
