"""Boxes that stay: what is saved of one, its record on disk, and its changes."""
