"""Namespaces by hand: a program in new ones (`unshare`), in those of another process, and a list of what there is."""
