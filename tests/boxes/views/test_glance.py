"""A glance at a top agrees with reading all of its changes, on real overlays after random work."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.views.glance import holds_only, is_untouched, plan_expected, read_state
from jubako.kernel import mounts
from jubako.kernel.overlay import Overlay, mount_overlay
from jubako.layers.diff import read_changes

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box
LINK = "/run/jubako/stage/0/0"


def test_expected_is_a_tree_of_the_links() -> None:
    assert plan_expected({"a/b/x": "1", "a/y": "2", "z": "3"}) == {"a": {"b": {"x": "1"}, "y": "2"}, "z": "3"}


def look(work: Callable[[Path], None], links: dict[str, str]) -> tuple[bool, bool, list[str]]:
    """What the two glances say, and which changes there are, after `work` on an overlay of a small tree."""
    os.umask(0o022)
    for name in ("lower/folder/inner", "upper", "work", "merged"):
        Path(name).mkdir(parents=True)
    Path("lower/folder/file").write_text("old")
    Path("lower/file").write_text("old")
    os.chmod("upper", 0o755)
    overlay = Overlay(("/mnt/lower",), "/mnt/upper", "/mnt/work", userxattr=os.geteuid() != 0)
    mount_overlay(overlay, "/mnt/merged")
    before = read_state("upper")
    try:
        work(Path("/mnt/merged"))
    finally:
        mounts.umount2("/mnt/merged")
    changes = [change.path for change in read_changes("upper", "lower", "")]
    return holds_only("upper", "lower", plan_expected(links)), is_untouched("upper", before), changes


CASES: dict[str, tuple[Callable[[Path], object], dict[str, str], bool]] = {
    "nothing at all": (lambda top: None, {}, True),
    "a link to an output": (lambda top: (top / "out").symlink_to(LINK), {"out": LINK}, True),
    "a link below a folder that was there": (
        lambda top: (top / "folder/inner/out").symlink_to(LINK),
        {"folder/inner/out": LINK},
        True,
    ),
    "a link below new folders": (
        lambda top: ((top / "new/er").mkdir(parents=True), (top / "new/er/out").symlink_to(LINK)),
        {"new/er/out": LINK},
        True,
    ),
    "another link": (lambda top: (top / "out").symlink_to("elsewhere"), {"out": LINK}, False),
    "a file where a link should be": (lambda top: (top / "out").write_text("raw"), {"out": LINK}, False),
    "a stray file beside the link": (
        lambda top: ((top / "folder/out").symlink_to(LINK), (top / "folder/stray").touch()),
        {"folder/out": LINK},
        False,
    ),
    "a deletion": (lambda top: (top / "file").unlink(), {}, False),
    "a mode of a folder on the way": (
        lambda top: (os.chmod(top / "folder", 0o700), (top / "folder/out").symlink_to(LINK)),
        {"folder/out": LINK},
        False,
    ),
    "a mode of the top": (lambda top: os.chmod(top, 0o700), {}, False),
    "an attribute of the top": (lambda top: os.setxattr(top, "user.note", b"x"), {}, False),
    "a folder that was emptied and filled anew": (
        lambda top: (
            (top / "folder/file").unlink(),
            (top / "folder/inner").rmdir(),
            (top / "folder").rmdir(),
            (top / "folder").mkdir(),
            (top / "folder/out").symlink_to(LINK),
        ),
        {"folder/out": LINK},
        False,
    ),
    "a folder in place of a file": (
        lambda top: ((top / "file").unlink(), (top / "file").mkdir(), (top / "file/out").symlink_to(LINK)),
        {"file/out": LINK},
        False,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_glance_at(case: str, in_namespace: Runner) -> None:
    work, links, expected = CASES[case]
    said, untouched, changes = in_namespace(lambda: look(lambda top: work(top) and None, links))
    assert said is expected
    assert untouched is (case == "nothing at all")
    ours = {f"/{path}" for path in links} | {f"/{path}".rsplit("/", count)[0] for path in links for count in (1, 2)}
    assert (set(changes) <= ours) or not said


@pytest.mark.parametrize("seed", range(12))
def test_glance_never_overlooks_a_change(seed: int, in_namespace: Runner) -> None:
    links = {"folder/out": LINK, "new/out": LINK}

    def work(top: Path) -> None:
        chance = random.Random(seed)
        names = ["file", "folder", "folder/file", "folder/inner", "folder/out", "new", "new/out", "stray"]
        for _ in range(chance.randrange(1, 6)):
            path = top / chance.choice(names)
            act = chance.choice(
                [
                    path.touch,
                    path.unlink,
                    path.mkdir,
                    path.rmdir,
                    lambda path=path: path.symlink_to(LINK),
                    lambda path=path: os.chmod(path, 0o711),
                ]
            )
            try:
                act()
            except OSError:
                continue

    said, untouched, changes = in_namespace(lambda: look(work, links))
    if untouched:
        assert changes == []
    allowed = {"/folder/out", "/new", "/new/out"}
    if said:
        assert set(changes) <= allowed
    if not changes:
        assert said
