"""Looking without running: why a task would run, what dated tasks stand at."""
