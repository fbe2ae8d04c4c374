"""`python -m jubako` is the `jubako` command."""

from __future__ import annotations

from jubako.cli.main import main

if __name__ == "__main__":
    main()
