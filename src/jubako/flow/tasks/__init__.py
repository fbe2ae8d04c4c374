"""Tasks: what a class declares, what its instances are, how one is found by name."""
