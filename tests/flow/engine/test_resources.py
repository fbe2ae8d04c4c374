"""Resources by themselves; that they are never exceeded and never stall a run is tested with the engine."""

from __future__ import annotations

from jubako.flow.engine.resources import Resources


def test_unnamed_resource_has_one() -> None:
    resources = Resources({"ram": 4})
    assert not resources.is_too_much((("ram", 4), ("db", 1)))
    assert resources.is_too_much((("ram", 4), ("db", 2)))
    assert resources.is_too_much((("ram", 5),))


def test_all_is_taken_or_nothing() -> None:
    resources = Resources({})
    assert resources.take((0, 1), (("a", 1),)) is None
    assert resources.take((0, 2), (("b", 1), ("a", 1))) == []
    assert resources.take((0, 3), (("b", 1),)) is None
    assert resources.give_back((("a", 1),)) == [(0, 2)]


def test_as_many_are_woken_as_fit_in_order() -> None:
    resources = Resources({"ram": 4})
    assert resources.take((0, 0), (("ram", 4),)) is None
    for number, amount in ((3, 2), (1, 2), (2, 1)):
        assert resources.take((0, number), (("ram", amount),)) == []
    assert resources.give_back((("ram", 4),)) == [(0, 1), (0, 2)]


def test_nobody_is_overtaken_by_somebody_less_important() -> None:
    resources = Resources({"ram": 4})
    assert resources.take((0, 0), (("ram", 3),)) is None
    assert resources.take((-5, 1), (("ram", 4),)) == []
    assert resources.take((0, 2), (("ram", 1),)) == []
    assert resources.take((-9, 3), (("ram", 1),)) is None


def test_who_finds_another_resource_short_makes_way() -> None:
    resources = Resources({})
    both = (("a", 1), ("b", 1))
    assert resources.take((0, 0), (("a", 1),)) is None
    assert resources.take((0, 1), (("b", 1),)) is None
    assert resources.take((0, 2), both) == []
    assert resources.take((0, 3), (("a", 1),)) == []
    assert resources.give_back((("a", 1),)) == [(0, 2)]
    assert resources.take((0, 2), both) == [(0, 3)]
