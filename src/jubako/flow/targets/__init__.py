"""Targets: what tasks make, and how it is asked for, read and written."""
