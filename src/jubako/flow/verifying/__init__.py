"""Verifying: what is done is made again and compared."""
