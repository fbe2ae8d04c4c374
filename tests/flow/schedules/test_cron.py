"""Which local times an expression names, and which expressions are refused."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import InputError
from jubako.flow.schedules.cron import Cron

DAY = datetime.datetime(2026, 3, 13)  # a Friday
MINUTE = datetime.timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 6 * * *", "2026-03-13 06:00"),
        ("  0   6 * * *  ", "2026-03-13 06:00"),
        ("@daily", "2026-03-14 00:00"),
        ("@Hourly", "2026-03-13 01:00"),
        ("30 7 * * MON", "2026-03-16 07:30"),
        ("0 0 L * *", "2026-03-31 00:00"),
        ("0 0 * * 5L", "2026-03-27 00:00"),
        ("0 0 * * mon#1", "2026-04-06 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("0 0 29 2 MON#5", "2028-02-29 00:00"),
        ("0 0 13 * FRI", "2026-03-20 00:00"),  # either of the two, as with cron
    ],
)
def test_find_after_a_day_is_the_first_time_named(text: str, expected: str) -> None:
    assert str(Cron(text).find_after(DAY)) == f"{expected}:00"


def test_find_after_a_time_that_is_named_is_a_later_one() -> None:
    cron = Cron("0 6 * * *")
    first = cron.find_after(DAY)
    assert first is not None
    assert cron.find_after(first) == first + datetime.timedelta(days=1)
    assert cron.find_after(first - MINUTE) == first


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "* * */20 * 1L", "0 0 31/2 FEB *"])
def test_cron_that_never_comes_true_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Cron(text)
    assert str(caught.value) == f"the cron '{text}' never comes true"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("61 * * * *", "'61 * * * *' can't be read: bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 0 32 2 *", "bad day-of-month"),
        ("0 0 * 13 *", "bad month"),
        ("0 0 * * FOO", "bad day-of-week"),
        ("* * * *", "it has 4 fields and not five"),
        ("0 * * * * *", "it has 6 fields and not five"),
        ("", "it has 0 fields and not five"),
        ("@dayly", "did you mean @daily"),
        ("@reboot", "can't be read"),
    ],
)
def test_cron_that_cannot_be_read_says_which_part(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Cron(text)
    assert words in str(caught.value)
    assert "0 6 * * *" in caught.value.hint


@given(st.text(alphabet="0123456789*/-,#LW@ MONFEB", max_size=20))
def test_cron_of_any_text_is_one_or_refused(text: str) -> None:
    try:
        cron = Cron(text)
    except InputError:
        return
    assert Cron(cron.text).text == cron.text
    assert cron.find_after(DAY) is not None
