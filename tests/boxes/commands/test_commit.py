"""Committing what a box changed: what arrives on the machine, what is refused, what other programs' changes do."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from jubako.boxes.commands.commit import Committed
from jubako.errors import ConflictError, HostError, InputError

pytestmark = pytest.mark.box


def commit(desk: Any, script: str, paths: Sequence[str] = (".",)) -> Committed:
    """What `script`, run in a box, changed below `paths` is committed; called at the desk."""
    with desk.run(script) as result:
        assert result.exit_status == 0
        return result.commit(paths)  # type: ignore[no-any-return]


def test_commit_of_all_kinds_of_changes_makes_the_machine_what_the_box_was(desk: Any) -> None:
    def run() -> dict[str, str]:
        for name in ("changed", "mode", "gone"):
            Path(name).write_text("old")
        for name in ("dir", "remade", "tofile", "kept"):
            os.mkdir(name)
            Path(name, "x").write_text("x")
        Path("todir").write_text("file")
        commit(
            desk,
            "echo new > changed; chmod 640 mode; rm gone; rm -r dir; rm -r remade; mkdir remade; echo y > remade/y; "
            "rm -r tofile; echo now > tofile; rm todir; mkdir todir; echo z > todir/z; ln -s changed link; "
            "mkdir -p a/b; echo c > a/b/c; echo more > kept/new; chmod 750 kept",
        )
        return {
            str(path): path.read_text() if path.is_file() else oct(stat.S_IMODE(path.stat().st_mode))
            for path in sorted(Path().rglob("*"))
        }

    assert desk.do(run) == {
        "a": "0o755",
        "a/b": "0o755",
        "a/b/c": "c\n",
        "changed": "new\n",
        "kept": "0o750",
        "kept/new": "more\n",
        "kept/x": "x",
        "link": "new\n",
        "mode": "old",
        "remade": "0o755",
        "remade/y": "y\n",
        "todir": "0o755",
        "todir/z": "z\n",
        "tofile": "now\n",
    }
    assert desk.do(lambda: stat.S_IMODE(os.stat("mode").st_mode)) == 0o640


def test_commit_of_hostile_names_and_times_keeps_them(desk: Any) -> None:
    name = os.fsdecode(b"a\n\xff -")

    def run() -> tuple[list[str], int]:
        commit(desk, 'f=$(printf \'a\\n\\377 -\'); echo x > "$f"; touch -d @1000000000.5 "$f"')
        return os.listdir(), os.stat(name).st_mtime_ns

    assert desk.do(run) == ([name], 1_000_000_000_500_000_000)


def test_commit_of_a_file_in_a_new_directory_gives_the_directory_its_mode(desk: Any) -> None:
    def run() -> tuple[list[str], int]:
        commit(desk, "mkdir -p a/b; chmod 700 a; echo 1 > a/b/1; echo 2 > a/b/2", ["a/b/1"])
        return sorted(str(path) for path in Path().rglob("*")), stat.S_IMODE(os.stat("a").st_mode)

    assert desk.do(run) == (["a", "a/b", "a/b/1"], 0o700)


def test_commit_of_privileges_and_special_files_leaves_them_out_in_words(desk: Any) -> None:
    def run() -> tuple[tuple[str, ...], int]:
        committed = commit(desk, "mkfifo pipe; cp /bin/true tool; chmod 4755 tool")
        return committed.left_out, stat.S_IMODE(os.stat("tool").st_mode)

    left_out, mode = desk.do(run)
    assert [line.rpartition("/")[2] for line in left_out] == [
        "pipe: a fifo, left out",
        "tool: setuid or setgid bit left out",
    ]
    assert mode == 0o755
    assert desk.do(os.listdir) == ["tool"]


def test_commit_twice_from_one_box_publishes_the_rest_the_second_time(desk: Any) -> None:
    def run() -> tuple[list[str], list[str]]:
        with desk.run("mkdir d; echo 1 > d/1; echo 2 > d/2; echo 3 > e") as result:
            result.commit(["d/1"])
            first = sorted(str(path) for path in Path().rglob("*"))
            left = sorted(desk.relative(result))
            assert left == ["d/2", "e"]
            result.commit(["."])
            return first, sorted(str(path) for path in Path().rglob("*"))

    assert desk.do(run) == (["d", "d/1"], ["d", "d/1", "d/2", "e"])


def test_commit_of_nothing_publishes_nothing_and_is_no_error(desk: Any) -> None:
    assert desk.do(lambda: commit(desk, "true").plan.published) == ()


def test_commit_from_a_directory_that_the_box_made_read_only_publishes_and_empties_it(desk: Any) -> None:
    def run() -> tuple[dict[str, str], int, list[list[str]]]:
        Path("d").mkdir()
        for name in ("changed", "gone"):
            Path("d", name).write_text("old")
        with desk.run("echo new > d/changed; echo new > d/added; rm d/gone; chmod 555 d", keep=True) as result:
            result.commit(["."])
            assert result.changes == ()
            left = [os.listdir(upper) for upper in Path(result.directory).glob("*/upper/**/d")]
            texts = {path.name: path.read_text() for path in Path("d").iterdir()}
            return texts, os.stat("d").st_mode & 0o777, left

    assert desk.do(run) == ({"changed": "new\n", "added": "new\n"}, 0o555, [[]])
    desk.do(lambda: os.chmod("d", 0o755))


def test_commit_of_new_names_for_old_files_is_no_conflict(desk: Any) -> None:
    def run() -> tuple[list[str], list[str]]:
        for name in ("linked", "moved", "edited"):
            Path(name).write_text(name)
        with desk.run("ln linked hard; mv moved away; mv edited after; echo more >> after; echo more >> linked") as one:
            one.commit(["."])
        first = sorted(os.listdir())
        with desk.run("ln hard again; mv away back") as two:
            Path("busy").touch()  # another program is at work in the same folder
            two.commit(["."])
        return first, sorted(os.listdir())

    assert desk.do(run) == (["after", "away", "hard", "linked"], ["after", "again", "back", "busy", "hard", "linked"])
    assert desk.do(lambda: (Path("hard").read_text(), Path("after").read_text())) == ("linkedmore\n", "editedmore\n")


def test_commit_of_new_things_and_of_changed_files_gives_away_their_inodes(desk: Any) -> None:
    def run() -> tuple[dict[str, int], dict[str, int], list[list[str]]]:
        Path("old").write_text("old")
        with desk.run("echo new >> old; echo new > file; mkdir -p dir/sub; echo x > dir/sub/x", keep=True) as result:
            upper = next(str(path.parent) for path in Path(result.directory).glob("*/upper/**/old"))
            names = ("old", "file", "dir", "dir/sub/x")
            before = {name: os.lstat(f"{upper}/{name}").st_ino for name in names}
            result.commit(["."])
            return before, {name: os.lstat(name).st_ino for name in names}, [os.listxattr(name) for name in names]

    before, after, attributes = desk.do(run)
    assert before == after
    assert attributes == [[], [], [], []]


def test_commit_without_some_changes_leaves_them_in_the_box(desk: Any) -> None:
    def run() -> tuple[list[str], list[str]]:
        with desk.run("mkdir -p a/b; echo 1 > a/b/1; echo 2 > a/b/2; echo 3 > c") as result:
            home = os.path.realpath(".")
            result.commit(["."], without=frozenset({f"{home}/a/b/2", f"{home}/c"}))
            return sorted(str(path) for path in Path().rglob("*")), sorted(desk.relative(result))

    assert desk.do(run) == (["a", "a/b", "a/b/1"], ["a/b/2", "c"])


def test_box_whose_commit_failed_can_be_committed_again(desk: Any) -> None:
    def run() -> tuple[list[str], str]:
        for name in ("gone", "old"):
            Path(name).write_text("old")
        with desk.run("echo more >> gone; echo more >> old; mkdir new; touch new/x") as result:
            os.rename("gone", "elsewhere")
            for _ in range(2):  # that the box's file was a copy is remembered when overlayfs's note of it is gone
                with pytest.raises(ConflictError, match="/gone was deleted"):
                    result.commit(["."])
            home = os.path.realpath(".")
            result.commit(["."], without={f"{home}/gone"})
            return sorted(os.listdir()), Path("old").read_text()

    assert desk.do(run) == (["elsewhere", "new", "old"], "oldmore\n")


# --- another program changes the same things -------------------------------------------------------------------------


MEANWHILE: list[tuple[str, Callable[[], object], str, str]] = [
    ("echo box > file", lambda: Path("file").write_text("host"), "file", "was changed"),
    ("rm file", lambda: os.utime("file", ns=(1, 1)), "file", "was changed"),
    ("echo box > file", lambda: os.unlink("file"), "file", "was deleted"),
    ("chmod 600 file", lambda: os.unlink("file"), "file", "was deleted"),
    ("echo box > new", lambda: Path("new").write_text("host"), "new", "was changed"),
    ("mkdir new", lambda: os.mkdir("new") or Path("new/x").touch(), "new", "was changed"),
    ("rm -r dir", lambda: Path("dir/sub/y").write_text("host"), "dir/sub", "was changed"),
    ("rm -r dir; mkdir dir; touch dir/z", lambda: Path("dir/sub/x").write_text("host"), "dir/sub/x", "was changed"),
]


@pytest.mark.parametrize(("script", "meanwhile", "path", "what"), MEANWHILE, ids=[m[0] for m in MEANWHILE])
def test_commit_of_what_another_program_changed_meanwhile_is_refused_whole(
    desk: Any, script: str, meanwhile: Callable[[], object], path: str, what: str
) -> None:
    def run() -> str:
        Path("file").write_text("old")
        Path("dir/sub").mkdir(parents=True)
        Path("dir/sub/x").write_text("old")
        with desk.run(f"{script}; echo also > innocent") as result:
            meanwhile()
            with pytest.raises(ConflictError) as caught:
                result.commit(["."])
            assert not os.path.exists("innocent")
            return caught.value.message

    message = desk.do(run)
    assert message.startswith(f"{os.path.realpath(desk.home)}/{path} {what} on this machine after box ")


def test_commit_beside_what_others_change_in_the_same_folder_goes_through(desk: Any) -> None:
    def run() -> list[str]:
        os.mkdir("shared")
        Path("shared/old").write_text("old")
        with desk.run("echo box > shared/mine; chmod 711 shared") as result:
            Path("shared/theirs").write_text("host")
            Path("shared/old").unlink()
            result.commit(["shared"])
        return sorted(os.listdir("shared"))

    assert desk.do(run) == ["mine", "theirs"]


def test_commit_of_a_new_file_in_a_directory_that_was_deleted_meanwhile_is_refused(desk: Any) -> None:
    def run() -> str:
        os.mkdir("dir")
        with desk.run("echo box > dir/new") as result:
            os.rmdir("dir")
            with pytest.raises(ConflictError) as caught:
                result.commit(["dir/new"])
        return caught.value.message

    assert "/dir was deleted on this machine" in desk.do(run)


@pytest.mark.parametrize("in_user_child", ["rootless"], indirect=True)  # root may write anywhere
def test_commit_to_a_folder_that_became_read_only_is_refused_whole(desk: Any) -> None:
    def run() -> list[str]:
        for name in ("a", "b"):
            os.mkdir(name)
        with desk.run("echo 1 > a/1; echo 2 > b/2") as result:
            os.chmod("b", 0o500)
            with pytest.raises(HostError, match="/b/2"):
                result.commit(["."])
        os.chmod("b", 0o700)
        return sorted(str(path) for path in Path().rglob("*"))

    assert desk.do(run) == ["a", "b"]


def test_commit_of_part_of_a_replaced_directory_is_refused(desk: Any) -> None:
    def run() -> str:
        os.mkdir("dir")
        Path("dir/old").touch()
        with desk.run("rm -r dir; mkdir dir; echo 1 > dir/1") as result, pytest.raises(InputError) as caught:
            result.commit(["dir/1"])
        return caught.value.hint

    assert desk.do(run) == f"Commit {os.path.realpath(desk.home)}/dir."
