"""Pipelines written for Luigi, run unchanged by Luigi and by jubako."""
