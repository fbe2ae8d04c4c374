"""`jubako overlay`: the article's two sessions to the letter, what it says, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.cli.overlay_report import changes_document
from jubako.kernel.mount_table import read_mount_table
from jubako.layers.upper import UpperChange

from .conftest import Said, say_here

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box
SOURCE = Path(__file__).parents[2] / "src"


def say(*words: str) -> Said:
    """`jubako overlay` with these words in this process."""
    return say_here("overlay", *words)


def plant() -> None:
    """The article's directories: `a` is in both lowers, `b` in the second."""
    for name in ("lower1", "lower2", "upper", "work", "merged"):
        os.mkdir(name)
    Path("lower1/a").write_text("from lower1\n")
    Path("lower2/a").write_text("from lower2\n")
    Path("lower2/b").write_text("from lower2\n")


def test_session_of_two_lowers_is_read_only(in_namespace: Runner) -> None:
    def session() -> None:
        plant()
        assert say("mount", "--lower", "lower1:lower2", "merged") == (0, "", "")
        assert Path("merged/a").read_text() == "from lower1\n"
        assert Path("merged/b").read_text() == "from lower2\n"
        with pytest.raises(OSError, match="Read-only file system"):
            Path("merged/c").write_text("c")
        assert say("umount", "merged") == (0, "", "")
        assert os.listdir("merged") == []
        assert not [mount for mount in read_mount_table() if mount.fstype == "overlay"]

    in_namespace(session)


def test_session_with_an_upper_says_what_was_written_and_removed(in_namespace: Runner) -> None:
    def session() -> tuple[Said, Said, Said]:
        plant()
        words = ("--lower", "lower1:lower2", "--upper", "upper", "--work", "work")
        assert say("mount", *words, "merged").code == 0
        Path("merged/c").write_text("new\n")
        os.unlink("merged/b")
        assert Path("upper/c").read_text() == "new\n"
        gone = os.lstat("upper/b")
        assert stat.S_ISCHR(gone.st_mode)
        assert gone.st_rdev == os.makedev(0, 0)
        assert Path("lower2/b").read_text() == "from lower2\n"
        while_mounted = say("changes", "upper")
        assert say("umount", "merged").code == 0
        return while_mounted, say("changes", "upper"), say("changes", "upper", "--lower", "lower1:lower2")

    while_mounted, alone, compared = in_namespace(session)
    lines = [
        "CHANGE   SIZE  PATH  WORDS",
        "deleted  -     b     file removed: a 0/0 character device in its place",
        "added    4 B   c     new file",
    ]
    assert while_mounted.out.splitlines() == compared.out.splitlines() == lines
    assert alone.out.splitlines() == [line.replace("file removed", "removed") for line in lines]
    assert while_mounted.err.splitlines()[0] == "2 changes: 1 deleted, 1 added."
    assert "note: told by overlayfs's marks alone" in alone.err
    assert "marks alone" not in while_mounted.err + compared.err
    assert "for root to read" not in while_mounted.err  # what is mounted here says where it keeps them


def test_changes_for_programs_hold_every_field(in_namespace: Runner) -> None:
    def look() -> tuple[Said, Said, Said]:
        plant()
        say("mount", "--lower", "lower1", "--lower", "lower2", "--upper", "upper", "--work", "work", "merged")
        os.unlink("merged/b")
        os.makedirs("merged/d/e")
        say("umount", "merged")
        words = ("changes", "upper", "--lower", "lower1", "--lower", "lower2", "--format")
        return say(*words, "json"), say(*words, "csv"), say(*words, "yaml")

    as_json, as_csv, as_yaml = in_namespace(look)
    document = json.loads(as_json.out)
    assert document["schema"] == "jubako.overlay.changes/1"
    assert document["lowers"] == ["lower1", "lower2"]
    assert [(row["path"], row["change"], row["type"], row["whiteout"]) for row in document["changes"]] == [
        ("b", "deleted", "file", "device"),
        ("d", "added", "directory", None),
        ("d/e", "added", "directory", None),
    ]
    header, *rows = csv.reader(io.StringIO(as_csv.out))
    assert header == list(document["changes"][0])
    assert len(rows) == 3
    assert as_yaml.out.startswith("schema: jubako.overlay.changes/1\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (UpperChange("a", "deleted", None, whiteout="device"), "removed: a 0/0 character device in its place"),
        (
            UpperChange("a", "deleted", "directory", whiteout="attribute"),
            "directory removed: an empty file marked as whiteout in its place",
        ),
        (UpperChange("a", "added", "symlink"), "new symlink"),
        (UpperChange("a", "modified", "file", 3), "file with new content"),
        (
            UpperChange("a", "metadata", "file", 3, metacopy=True),
            "file with another mode, owner, time or attribute; its content is in a lower directory",
        ),
        (
            UpperChange("a", "replaced", "directory", opaque=True),
            "directory in the place of what was there; opaque, it hides what is below it",
        ),
        (UpperChange("a", "renamed", "directory", moved_from="b/c"), "directory that was b/c"),
    ],
)
def test_words_say_what_became_of_it_and_how_the_upper_says_so(change: UpperChange, words: str) -> None:
    (row,) = changes_document([change], "json", facts={}).rows
    assert row["words"] == words


def test_names_with_colons_and_commas_are_taken(in_namespace: Runner) -> None:
    def use() -> tuple[Said, str]:
        for name in ("x:1", "y,2", "merged"):
            os.mkdir(name)
        Path("x:1/a").write_text("x")
        return say("mount", "--lower", r"x\:1:y,2", "merged"), Path("merged/a").read_text()

    assert in_namespace(use) == ((0, "", ""), "x")


def test_volatile_overlay_says_what_it_leaves(in_namespace: Runner) -> None:
    def use() -> tuple[Said, Said, Said]:
        plant()
        words = ("mount", "--lower", "lower1", "--upper", "upper", "--work", "work", "--volatile", "merged")
        return say(*words), say("umount", "merged"), say(*words)

    mounted, unmounted, again = in_namespace(use)
    assert mounted == (0, "", "")
    assert unmounted.err.endswith("sync; rm -r /mnt/work/work/incompat/volatile\n")
    assert again.code == 3
    assert "may lack what had not reached the disk" in again.err


def test_changes_of_nothing_say_so(in_namespace: Runner) -> None:
    def look() -> Said:
        plant()
        return say("changes", "upper", "--lower", "lower1")

    said = in_namespace(look)
    assert (said.code, said.out) == (0, "")
    assert said.err.startswith("No changes.\n")


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("mount", "merged"), 2, "Missing option '--lower'"),
        (("mount", "--lower", "lower1", "merged"), 2, "needs two lower directories"),
        (("mount", "--lower", "none:lower1", "merged"), 2, "none: No such file or directory"),
        (("mount", "--lower", "lower1:lower2", "--upper", "upper", "merged"), 2, "needs a work directory"),
        (("mount", "--lower", "lower1:lower2", "-o", "index", "merged"), 2, "index is not of the form NAME=VALUE"),
        (("mount", "--lower", "lower1:lower2", "-o", "upperdir=x", "merged"), 2, "upperdir cannot be set as an option"),
        (("mount", "--lower", "lower1:lower2", "-o", "sparkle=1", "merged"), 3, "Unknown parameter 'sparkle'"),
        (("umount", "merged"), 2, "nothing is mounted on merged"),
        (("umount", "none"), 2, "none is not there"),
        (("changes", "none"), 2, "none: no such directory"),
        (("changes", "upper", "--lower", "none"), 2, "none: no such directory"),
        (("changes", "upper", "--lower", ":"), 0, "No changes."),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(
    in_namespace: Runner, words: tuple[str, ...], code: int, expected: str
) -> None:
    def use() -> Said:
        plant()
        return say(*words)

    said = in_namespace(use)
    assert said.code == code
    assert expected in said.err
    assert "Traceback" not in said.err


def test_upper_that_is_mounted_already_ends_with_a_conflict(in_namespace: Runner) -> None:
    def use() -> Said:
        plant()
        words = ("mount", "--lower", "lower1", "--upper", "upper", "--work", "work", "merged")
        say(*words)
        return say(*words)

    said = in_namespace(use)
    assert said.code == 4
    assert "upper is the upper directory of the overlay at /mnt/merged already" in said.err


def test_upper_that_cannot_be_read_is_named(in_user_child: Runner, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    (tmp_path / "upper/shut").mkdir(parents=True)
    (tmp_path / "upper/shut").chmod(0o700)

    def use() -> tuple[int, Said]:
        return os.geteuid(), say("changes", str(tmp_path / "upper"))

    uid, said = in_user_child(use)
    if uid != (tmp_path / "upper").stat().st_uid:
        assert said.code == 3
        assert f"{tmp_path}/upper or what is below it cannot be read (Permission denied: shut)" in said.err
    else:
        assert (said.code, said.out.split()[-4:]) == (0, ["-", "shut/", "new", "directory"])


def test_user_without_rights_is_told_the_cure(in_user_child: Runner) -> None:
    def use() -> Said:
        if os.geteuid() == 0:
            return Said(3, "", "jubako unshare -rm")
        return say("mount", "--lower", "/usr:/etc", "/mnt")

    said = in_user_child(use)
    assert said.code == 3
    assert "jubako unshare -rm" in said.err


def test_command_runs_as_a_program_in_a_namespace_of_ones_own(tmp_path: Path) -> None:
    script = f"""
    mkdir l1 l2 up work merged; echo 1 > l1/a; echo 2 > l2/b
    {sys.executable} -m jubako overlay mount --lower l1:l2 --upper up --work work merged
    cat merged/a merged/b; rm merged/b
    {sys.executable} -m jubako overlay umount merged
    {sys.executable} -m jubako overlay changes up --lower l1:l2
    """
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-ec", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "1",
        "2",
        "CHANGE   SIZE  PATH  WORDS",
        "deleted  -     b     file removed: a 0/0 character device in its place",
    ]


def test_apply_merge_and_hide_say_what_they_do(in_namespace: Runner) -> None:
    def session() -> tuple[list[Said], list[str], list[str], list[str]]:
        os.environ["JUBAKO_STATE"] = f"{os.getcwd()}/state"
        plant()
        assert say("mount", "--lower", "lower1:lower2", "--upper", "upper", "--work", "work", "merged").code == 0
        Path("merged/c").write_text("c")
        os.unlink("merged/b")
        assert say("umount", "merged").code == 0
        said = [
            say("merge", "--lower", "upper:lower1:lower2", "flat"),
            say("hide", "--lower", "lower2", "mask", "a"),
            say("merge", "--layer", "--lower", "mask:upper", "both"),
            say("apply", "upper", "lower2"),
        ]
        return said, sorted(os.listdir("flat")), sorted(os.listdir("both")), sorted(os.listdir("lower2"))

    said, flat, both, applied = in_namespace(session)
    assert [one.code for one in said] == [0, 0, 0, 0]
    assert said[3].err == "Applied 2 changes to lower2.\n"
    assert (flat, both, applied) == (["a", "c"], ["a", "b", "c"], ["a", "c"])


@pytest.mark.parametrize("form", ["device", "attribute"])
def test_hidden_path_is_gone_from_listings_too(in_namespace: Runner, form: str) -> None:
    def session() -> tuple[list[str], int, list[str]]:
        os.makedirs("lower/etc/deep")
        os.chmod("lower/etc", 0o711)
        for name in ("secret", "seen"):
            Path(f"lower/etc/{name}").touch()
        for path in ("etc/secret", "/etc/deep", "etc/secret"):
            assert say("hide", "--form", form, "--lower", "lower", "mask", path) == (0, "", "")
        assert say("mount", "--lower", "mask:lower", "merged").code == 0
        return os.listdir("merged/etc"), os.stat("merged/etc").st_mode & 0o777, os.listdir("lower/etc")

    os_listing, mode, below = in_namespace(lambda: (os.mkdir("merged"), session())[1])
    assert (os_listing, mode, sorted(below)) == (["seen"], 0o711, ["deep", "secret", "seen"])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("hide", "--lower", ".", "mask", "nowhere"), 2, "nowhere: not in ., so there is nothing to hide"),
        (("hide", "mask", "../x"), 2, "'../x' is not a path below the top of a layer"),
        (("hide", "mask", "/"), 2, "'/' is not a path below the top of a layer"),
        (("hide", "mask"), 2, "Missing argument"),
        (("merge", "--lower", ".", "."), 2, ". is there already"),
        (("merge", "new"), 2, "Missing option '--lower'"),
        (("merge", "--lower", "none", "new"), 2, "none: no such directory"),
        (("apply", "none", "."), 2, "none: no such directory"),
    ],
)
def test_apply_merge_and_hide_refuse_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = say(*words)
    assert (said.code, said.out) == (code, "")
    assert message in said.err
    assert os.listdir() == []
