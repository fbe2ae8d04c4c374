"""Which tasks were made of something else than what is there now."""
