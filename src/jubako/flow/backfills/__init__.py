"""Backfills: the dates that are wanted, and what depends on them."""
