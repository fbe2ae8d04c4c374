"""Stores: S3 and the like as places for targets. Only here is fsspec imported."""
