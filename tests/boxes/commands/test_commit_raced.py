"""A commit while somebody is at work in the same place, again and again, as root and as an ordinary user.

The folder it publishes into is exchanged for a link to another folder: at every moment the other folder, where
everything has the same names, stays as it is. Or the files it replaces are exchanged for others: none of those is lost.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jubako.boxes.commands.commit import commit_changes, recover_dead
from jubako.boxes.keeping.kept_record import BoxRecord, Layer
from jubako.boxes.state import StateRoot
from jubako.errors import ConflictError, HostError
from jubako.kernel.files import RENAME_EXCHANGE, renameat2
from jubako.kernel.syscalls import AT_FDCWD
from jubako.layers.change import Change
from jubako.layers.remove import remove_tree

PRECIOUS = {"page": "precious page", "gone": "precious gone", "new": "precious new"}
PERIODS = (1, 300, 3_000, 10_000)  # of an attacker: its attacks are that many turns apart
FAR_AHEAD_NS = 10**15  # nothing here is a conflict by its time alone


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def fill(folder: Path, texts: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)


class Beside:
    """A process that calls `act` again and again for the time of a `with` block."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self._act = act

    def __enter__(self) -> None:
        heart, self._beat = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._beat)
            os.set_blocking(heart, False)
            try:
                for number in itertools.count():
                    self._act(number)
                    with contextlib.suppress(BlockingIOError):
                        if os.read(heart, 1) == b"":
                            break
            finally:
                os._exit(0)
        os.close(heart)

    def __exit__(self, *_error: object) -> None:
        os.close(self._beat)
        os.waitpid(self._pid, 0)


def exchange(first: Path, second: Path) -> None:
    renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE)


def commit_once(state: StateRoot, upper: Path, number: int) -> str:
    """Commits a new page, a deletion and a mode to `folder`; "" if it was published, else why not."""
    here = Path.cwd()
    remove_tree(str(upper))  # or it would write into what was published: a commit gives files away
    fill(upper / "folder", {"page": f"page {number}", "new": f"new {number}"})
    (upper / "folder").chmod(0o711)
    record = BoxRecord(
        id="0000aaaa",
        label="",
        created="2024-05-06T07:08:09Z",
        cwd=str(here),
        layers=(Layer(str(here), "upper"),),
        started_ns=time.time_ns() + FAR_AHEAD_NS,
    )
    changes = [
        Change(f"{here}/folder", "metadata", "directory"),
        Change(f"{here}/folder/gone", "deleted", "file"),
        Change(f"{here}/folder/new", "added", "file"),
        Change(f"{here}/folder/page", "modified", "file"),
    ]
    try:
        commit_changes(state, str(upper.parent), record, changes, [f"{here}/folder"], durability="relaxed")
    except (ConflictError, HostError) as error:
        return error.message
    return ""


@pytest.mark.parametrize("rounds", [60, pytest.param(10_000, marks=pytest.mark.soak)])
def test_folder_exchanged_for_a_link_during_commits_redirects_nothing(desk: Any, rounds: int) -> None:
    def act() -> tuple[dict[str, str], int, list[str]]:
        here = Path.cwd()
        fill(here / "elsewhere", PRECIOUS)
        (here / "elsewhere").chmod(0o750)
        (here / "link").symlink_to(here / "elsewhere")
        state = desk.state
        (here / "folder").mkdir()
        for number in range(rounds):
            fill(here / "folder", {"page": "old page", "gone": "old gone"})
            (here / "folder" / "new").unlink(missing_ok=True)
            with Beside(lambda _: exchange(here / "folder", here / "link")):
                refusal = commit_once(state, Path(desk.state_path, "boxes", "made", "upper"), number)
            if (here / "folder").is_symlink():
                exchange(here / "folder", here / "link")
            new, old = {"page": f"page {number}", "new": f"new {number}"}, {"page": "old page", "gone": "old gone"}
            assert read(here / "elsewhere") == PRECIOUS
            assert read(here / "folder") in ((new, old) if refusal else (new,))  # the mode comes after the contents
        fill(here / "folder", {"page": "old page", "gone": "old gone"})
        assert commit_once(state, Path(desk.state_path, "boxes", "made", "upper"), rounds) == ""  # nobody attacks now
        assert read(here / "folder") == {"page": f"page {rounds}", "new": f"new {rounds}"}
        return read(here / "elsewhere"), (here / "elsewhere").stat().st_mode & 0o777, os.listdir(here)

    elsewhere, mode, names = desk.do(act)
    assert elsewhere == PRECIOUS
    assert mode == 0o750
    assert sorted(names) == ["elsewhere", "folder", "link"]


@pytest.mark.parametrize("rounds", [60, pytest.param(10_000, marks=pytest.mark.soak)])
def test_files_exchanged_for_others_during_commits_are_not_lost(desk: Any, rounds: int) -> None:
    """The attacker keeps a second name of each of its versions. One that has no other name afterwards was removed: that
    may only be the one that a commit replaced knowingly, as it was there before. Where it was faster twice, a person is
    told where one of its versions is."""

    def act() -> set[bool]:
        folder, attic = Path.cwd() / "folder", Path.cwd() / "attic"
        upper = Path(desk.state_path, "boxes", "made", "upper")
        outcomes = set()

        def attack(period: int, number: int) -> None:
            if number % period:
                return
            mine = attic / f"mine {number}"
            mine.write_text(f"mine {number}")
            os.link(mine, attic / f"known {number}")
            exchange(mine, folder / "page")

        for number in range(rounds):
            remove_tree(str(attic))
            attic.mkdir()
            fill(folder, {"page": "old page", "gone": "old gone"})
            (folder / "new").unlink(missing_ok=True)
            with Beside(partial(attack, PERIODS[number % len(PERIODS)])):
                refusal = commit_once(desk.state, upper, number)
            lost = [known.name for known in attic.glob("known *") if known.stat().st_nlink == 1]
            assert len(lost) <= (not refusal), (number, lost)
            outcomes.add(bool(refusal))
            if not refusal:
                assert read(folder)["new"] == f"new {number}"
                assert "gone" not in read(folder)
                assert list(upper.rglob("page")) == list(upper.rglob("new")) == []
                continue
            assert read(folder).keys() == {"page", "gone"}
            if str(upper) in refusal:
                assert f"one of their versions is kept at {upper}/folder/page" in refusal
                os.replace(upper / "folder/page", folder / "page")  # as it says
                recover_dead(desk.state)
                assert read(upper / "folder") == {"new": f"new {number}"}
            else:
                assert read(upper / "folder") == {"page": f"page {number}", "new": f"new {number}"}
            assert os.listdir(desk.state.stage_path) == []
        return outcomes

    assert desk.do(act) == {True, False}


def test_folder_exchanged_for_a_link_between_the_end_and_the_commit_is_a_conflict(desk: Any) -> None:
    def act() -> tuple[str, dict[str, str], dict[str, str]]:
        fill(Path("elsewhere"), PRECIOUS)
        fill(Path("folder"), {"page": "old page", "gone": "old gone"})
        with desk.run("echo page > folder/page; rm folder/gone; echo new > folder/new; chmod 711 folder") as result:
            os.rename("folder", "aside")
            os.symlink("elsewhere", "folder")
            with pytest.raises(ConflictError) as caught:
                result.commit(["."])
        return caught.value.message, read(Path("elsewhere")), read(Path("aside"))

    message, elsewhere, aside = desk.do(act)
    assert "there is a symbolic link on the way to" in message
    assert elsewhere == PRECIOUS
    assert aside == {"page": "old page", "gone": "old gone"}
