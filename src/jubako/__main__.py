"""`python -m jubako`: the `jubako` command where its script isn't on the PATH."""

from jubako.cli.main import main

main()
