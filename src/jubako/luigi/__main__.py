"""`python -m jubako.luigi`: the `luigi` command line, run by jubako."""

from __future__ import annotations

import sys

from jubako.luigi.program import main

if __name__ == "__main__":
    main(sys.argv[1:])
