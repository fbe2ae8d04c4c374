"""What can be wrong with a task's arguments, by Luigi's class names."""

from __future__ import annotations

from jubako.errors import InputError

__all__ = [
    "AnnotationException",
    "DuplicateParameterException",
    "InvalidParameterException",
    "MissingParameterException",
    "OptionalParameterTypeWarning",
    "ParameterException",
    "UnconsumedParameterWarning",
    "UnknownParameterException",
]


class ParameterException(InputError):
    """A parameter is declared, or its value given, in a way that can't work."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message, hint=hint)


class AnnotationException(ParameterException):
    """An annotated attribute of a task class can't be a parameter; the message begins with file and class."""


class MissingParameterException(ParameterException):
    """A parameter without a default was given no value."""


class UnknownParameterException(ParameterException):
    """A value was given for a parameter that the task does not have."""


class DuplicateParameterException(ParameterException):
    """A parameter was given two values, by position and by name."""


class InvalidParameterException(ParameterException, ValueError):
    """A text that should become a parameter's value doesn't; the message names task and parameter."""


class OptionalParameterTypeWarning(UserWarning):
    """The value of an Optional parameter is neither None nor of the parameter's type."""


class UnconsumedParameterWarning(UserWarning):
    """A setting in a task's section names no parameter of the task."""
