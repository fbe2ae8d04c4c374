"""A commit while somebody exchanges the folder it publishes into for a link to another folder, again and again: at
every moment the other folder, where everything has the same names, stays as it is.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from jubako.boxes.commands.commit import commit_changes
from jubako.boxes.keeping.kept_record import BoxRecord, Layer
from jubako.boxes.state import StateRoot
from jubako.errors import ConflictError, HostError
from jubako.kernel.files import RENAME_EXCHANGE, renameat2
from jubako.kernel.syscalls import AT_FDCWD
from jubako.layers.change import Change
from jubako.layers.remove import remove_tree

PRECIOUS = {"page": "precious page", "gone": "precious gone", "new": "precious new"}
FAR_AHEAD_NS = 10**15  # nothing here is a conflict by its time alone


def read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def fill(folder: Path, texts: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)


def exchange_until_closed(first: str, second: str, heart: int) -> None:
    os.set_blocking(heart, False)
    while True:
        renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE)
        try:
            if os.read(heart, 1) == b"":
                return
        except BlockingIOError:
            continue


def commit_once(state: StateRoot, upper: Path, number: int) -> bool:
    """Commits a new page, a deletion and a mode to `folder`; whether it was published."""
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
    except (ConflictError, HostError):  # each is one of the moments at which the folder was a link
        return False
    return True


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
            heart, beat = os.pipe()
            attacker = os.fork()
            if attacker == 0:
                os.close(beat)
                try:
                    exchange_until_closed(str(here / "folder"), str(here / "link"), heart)
                finally:
                    os._exit(0)
            os.close(heart)
            try:
                done = commit_once(state, Path(desk.state_path, "boxes", "made", "upper"), number)
            finally:
                os.close(beat)
                os.waitpid(attacker, 0)
            if (here / "folder").is_symlink():
                renameat2(AT_FDCWD, str(here / "folder"), AT_FDCWD, str(here / "link"), RENAME_EXCHANGE)
            new, old = {"page": f"page {number}", "new": f"new {number}"}, {"page": "old page", "gone": "old gone"}
            assert read(here / "elsewhere") == PRECIOUS
            assert read(here / "folder") in ((new,) if done else (new, old))  # the mode comes after the contents
        fill(here / "folder", {"page": "old page", "gone": "old gone"})
        assert commit_once(state, Path(desk.state_path, "boxes", "made", "upper"), rounds)  # nobody attacks now
        assert read(here / "folder") == {"page": f"page {rounds}", "new": f"new {rounds}"}
        return read(here / "elsewhere"), (here / "elsewhere").stat().st_mode & 0o777, os.listdir(here)

    elsewhere, mode, names = desk.do(act)
    assert elsewhere == PRECIOUS
    assert mode == 0o750
    assert sorted(names) == ["elsewhere", "folder", "link"]


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
