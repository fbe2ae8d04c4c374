"""What hidden parameters hold is in nothing that is sent."""

from __future__ import annotations

from jubako.flow.notices.concealed import Concealed
from jubako.flow.parameters import DictParameter, IntParameter, OptionalStrParameter, Parameter, ParameterVisibility
from jubako.flow.tasks.task import Task

HIDDEN, PRIVATE = ParameterVisibility.HIDDEN, ParameterVisibility.PRIVATE


class Login(Task):
    name = Parameter(default="public name")
    password = Parameter(default="hunter2!", visibility=PRIVATE)
    pin = IntParameter(default=42, visibility=HIDDEN)
    keys = DictParameter(default={"a": ["inner-key"], "b": None}, visibility=HIDDEN)
    other = OptionalStrParameter(default=None, visibility=HIDDEN)


def learned(task: Task) -> Concealed:
    concealed = Concealed()
    concealed.learn(task)
    return concealed


def test_values_of_hidden_and_private_parameters_are_taken_out() -> None:
    clean = learned(Login()).clean
    assert clean("public name: hunter2!x") == "public name: ***x"
    assert clean("key inner-key, pin 42.") == "key ***, pin ***."
    assert clean("None of 1420") == "None of 1420"  # no value hides in another number


def test_longer_value_goes_before_one_that_is_a_part_of_it() -> None:
    concealed = learned(Login(password="abcdef"))
    concealed.learn(Login(password="abcdefghi"))
    assert concealed.clean("abcdefghi, abcdef") == "***, ***"


def test_values_of_every_task_that_was_met_are_taken_out() -> None:
    concealed = learned(Login())
    assert concealed.clean("letmein") == "letmein"
    concealed.learn(Login(password="letmein"))
    assert concealed.clean("letmein hunter2!") == "*** ***"


def test_text_is_one_line_without_what_a_terminal_obeys() -> None:
    assert Concealed().clean("a\nb\x1b[31m\udc80") == "a b\ufffd[31m\ufffd"


def test_long_text_is_cut() -> None:
    assert Concealed().clean("x" * 500, longest=10) == "x" * 9 + "…"
