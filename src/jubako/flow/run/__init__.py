"""A run: the loop that carries out what the engine says, from the first question to the result."""
