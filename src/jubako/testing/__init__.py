"""Fakes for tests of jubako and of pipelines written with it."""
