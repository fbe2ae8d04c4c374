"""System calls jubako's plans need, one thin typed function each. Standard library only; loads on any platform."""
