"""Boxes: a private copy-on-write view of the file system, run in it, look at the changes, publish or discard."""
