"""Boxes that live: made, started, entered, looked at, copied to and from, stopped and started again."""
