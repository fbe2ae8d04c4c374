from __future__ import annotations

import itertools

import pytest

from jubako.boxes.transactions.move import PlannedMove, Progress, find_progress
from jubako.boxes.transactions.signature import Signature
from jubako.records import replace

OURS = Signature(1, 10, 5, 100, "file")
EXPECTED = Signature(1, 20, 6, 200, "file")
OTHER = Signature(1, 30, 7, 300, "file")
EDITED = replace(OURS, size=6)
NEW = PlannedMove("/out/file", "/stage/0", OURS, None, 7)
REPLACE = PlannedMove("/out/file", "/stage/0", OURS, EXPECTED, 7)
DELETE = PlannedMove("/out/file", "/stage/0", None, EXPECTED, 7)

# Per move: what the target and the name beside it are, and what that means. All other pairs are LOST.
TABLE = {
    NEW: {
        (None, OURS): Progress.BEFORE,
        (OURS, None): Progress.DONE,
        (EDITED, None): Progress.DONE,
        (OURS, OURS): Progress.DONE,
        (OURS, EDITED): Progress.DONE,
        (EDITED, OURS): Progress.DONE,
        (EDITED, EDITED): Progress.DONE,
        (OURS, EXPECTED): Progress.DONE,
        (OURS, OTHER): Progress.DONE,
        (EDITED, EXPECTED): Progress.DONE,
        (EDITED, OTHER): Progress.DONE,
        (OTHER, OURS): Progress.CHANGED,
        (EXPECTED, OURS): Progress.CHANGED,
    },
    REPLACE: {
        (EXPECTED, OURS): Progress.BEFORE,
        (OURS, EXPECTED): Progress.DONE,
        (EDITED, EXPECTED): Progress.DONE,
        (OURS, None): Progress.DONE,
        (EDITED, None): Progress.DONE,
        (OURS, OTHER): Progress.WRONG,
        (EDITED, OTHER): Progress.WRONG,
        (OTHER, OURS): Progress.CHANGED,
        (None, OURS): Progress.CHANGED,
        (OTHER, EXPECTED): Progress.OVERWRITTEN,
        (None, EXPECTED): Progress.OVERWRITTEN,
    },
    DELETE: {
        (EXPECTED, None): Progress.BEFORE,
        (None, EXPECTED): Progress.DONE,
        (None, None): Progress.DONE,
        (None, OTHER): Progress.WRONG,
        (None, OURS): Progress.WRONG,
        (None, EDITED): Progress.WRONG,
        (OTHER, None): Progress.DONE,
        (OURS, None): Progress.DONE,
        (EDITED, None): Progress.DONE,
        (OTHER, EXPECTED): Progress.OVERWRITTEN,
        (OURS, EXPECTED): Progress.OVERWRITTEN,
        (EDITED, EXPECTED): Progress.OVERWRITTEN,
    },
}
SEEN = [None, OURS, EDITED, EXPECTED, OTHER]


@pytest.mark.parametrize("move", TABLE, ids=["new", "replace", "delete"])
@pytest.mark.parametrize(("target", "aside"), list(itertools.product(SEEN, SEEN)))
def test_progress_of_every_pair_is_the_tables(move, target, aside):
    assert find_progress(move, target, aside) is TABLE[move].get((target, aside), Progress.LOST)


def test_anchor_is_the_folder_above_what_is_made():
    assert NEW.anchor == NEW.folder == "/out"
    deep = PlannedMove("/out/a/b/file", "/stage/0", OURS, None, 7, ("/out/a", "/out/a/b"))
    assert (deep.anchor, deep.folder, deep.name) == ("/out", "/out/a/b", "file")
