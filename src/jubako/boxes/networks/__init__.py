"""A network of a box's own that reaches out through a program of this user's: planned, started, ended with the box."""
