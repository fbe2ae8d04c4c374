from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.boxes.transactions.move import PlannedMove
from jubako.boxes.transactions.planned import MOVES_OF_A_PART, MoveGroup, PlannedMoves, Signatures, group_of
from jubako.boxes.transactions.signature import Signature
from jubako.layers.entry import LETTERS
from jubako.records import replace

PATHS = st.binary(min_size=1, max_size=20).filter(lambda raw: b"\0" not in raw).map(lambda raw: "/" + os.fsdecode(raw))
SIGNATURES = st.none() | st.builds(
    Signature,
    st.integers(0, 2**63),
    st.integers(0, 2**63),
    st.integers(0),
    st.integers(),
    st.sampled_from(list(LETTERS)),
    st.text(),
)
MOVES = st.builds(PlannedMove, PATHS, PATHS, SIGNATURES, SIGNATURES, st.integers(0, 2**63), st.lists(PATHS).map(tuple))


def without_devices(move: PlannedMove) -> PlannedMove:
    return replace(
        move,
        content=move.content and replace(move.content, device=0),
        expected=move.expected and replace(move.expected, device=0),
    )


def written(moves: PlannedMoves) -> list[bytes]:
    return [moves.packed(part) for part in range(moves.part_count)]


def many(count: int, *, start: int = 0) -> MoveGroup:
    numbers = range(start, start + count)
    values = (
        [7 + n for n in numbers],
        [n % 100 for n in numbers],
        [1_700_000_000_123_456_789 + 1000 * n for n in numbers],
    )
    signatures = Signatures(3, "f" * count, *values)
    names = [f"file-{n}" for n in numbers]
    return MoveGroup("/home/you/folder", "/state/boxes/0000aaaa/0/upper", 42, (), names, names, signatures, signatures)


@settings(max_examples=50)
@given(st.lists(MOVES, max_size=4))
def test_moves_are_what_was_added_and_what_was_written_is_read_without_devices(moves):
    planned = PlannedMoves(moves)
    assert list(planned) == moves
    assert len(planned) == len(moves)
    read = PlannedMoves.read(written(planned))
    assert list(read) == [without_devices(move) for move in moves]
    assert len(read) == len(moves)


def test_many_moves_take_few_bytes_in_several_parts_and_keep_their_order():
    planned = PlannedMoves()
    for start in range(0, 10_000, 500):
        planned.add(many(500, start=start))
    assert planned.part_count == 10
    assert all(sum(len(group) for group in planned.part(part)) <= MOVES_OF_A_PART for part in range(10))
    assert sum(map(len, written(planned))) < 30 * 10_000
    assert [move.name for move in planned] == [f"file-{n}" for n in range(10_000)]
    backwards = [move.name for group in planned.backwards() for move in group.backwards()]
    assert backwards == [f"file-{n}" for n in reversed(range(10_000))]
    assert list(PlannedMoves.read(written(planned))) == list(map(without_devices, planned))


def test_group_larger_than_a_part_is_a_part_of_its_own():
    planned = PlannedMoves()
    for group in (many(1), many(3 * MOVES_OF_A_PART), many(1)):
        planned.add(group)
    assert [[len(group) for group in planned.part(part)] for part in range(3)] == [[1], [3 * MOVES_OF_A_PART], [1]]


@pytest.mark.parametrize("part", [0, 1])
def test_part_is_replaced_by_other_moves(part):
    planned = PlannedMoves()
    planned.add(many(1000))
    planned.add(many(1000, start=1000))
    (group,) = planned.part(part)
    other = replace(group.move(3), aside="/elsewhere/3")
    planned.replace(part, [group.part(0, 3), group_of(other), group.part(4, 1000)])
    read = list(PlannedMoves.read(written(planned)))
    assert [move.name for move in read] == [f"file-{n}" for n in range(2000)]
    assert [n for n, move in enumerate(read) if move.aside == "/elsewhere/3"] == [1000 * part + 3]


def test_devices_are_those_of_contents_or_of_what_is_deleted():
    file = Signature(5, 1, 1, 1, "file")
    planned = PlannedMoves()
    planned.append(PlannedMove("/a", "/stage/a", file, None, 1))
    planned.append(PlannedMove("/b", "/other/b", None, replace(file, device=6), 1))
    planned.append(PlannedMove("/c", "/stage/c", file, replace(file, device=7), 1))
    assert planned.devices == {5: "/stage/a", 6: "/other/b"}


def test_moves_of_the_first_version_of_the_journal_are_read():
    text = (
        '[{"target":"/out/\\udcff","aside":"/stage/0","content":[9,10,5,100,"f",""],"expected":[9,11,0,0,"d","ab"],'
        '"folder_inode":7,"made":["/out"]},'
        '{"target":"/gone","aside":"/stage/1","content":null,"expected":[9,12,6,-1,"l",""],"folder_inode":2,"made":[]}]'
    )
    replaced = PlannedMove(
        "/out/\udcff",
        "/stage/0",
        Signature(0, 10, 5, 100, "file"),
        Signature(0, 11, 0, 0, "directory", "ab"),
        7,
        ("/out",),
    )
    deleted = PlannedMove("/gone", "/stage/1", None, Signature(0, 12, 6, -1, "symlink"), 2)
    assert list(PlannedMoves.read([text.encode()])) == [replaced, deleted]
