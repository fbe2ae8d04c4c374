"""Publishing whole or not at all: staging, the journal, the renames, recovery."""
