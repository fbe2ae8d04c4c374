"""`jubako mounts`: the tree and its words, what `set` says, exit codes, and the article's session about propagation."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bystander import bystander
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.mounts import MS_BIND, attach, mount
from jubako.kernel.namespaces import CLONE_NEWNS, unshare

from .conftest import Said, say_here

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box
SOURCE = Path(__file__).parents[2] / "src"


def say(*words: str) -> Said:
    """`jubako mounts` with these words in this process."""
    return say_here("mounts", *words)


def make_family() -> None:
    """A shared mount, its peer, its slave, one that is unbindable and one that is covered, below the playground."""
    for name in ("peer", "slave", "alone", "covered"):
        os.mkdir(name)
    attach(tmpfs(), "covered")
    say("set", "/mnt", "shared")
    mount("/mnt", "peer", "", MS_BIND)
    mount("/mnt", "slave", "", MS_BIND)
    say("set", "/mnt/slave", "slave")
    attach(tmpfs(), "alone")
    say("set", "/mnt/alone", "unbindable")
    attach(tmpfs(), "covered")


def test_tree_shows_each_mount_with_its_propagation_and_peers_in_words(in_namespace: Runner) -> None:
    def look() -> tuple[Said, int]:
        make_family()
        group = next(one.peer_group for one in read_mount_table() if one.mount_point == "/mnt")
        return say("/mnt"), group

    said, group = in_namespace(look)
    assert said.code == 0
    lines = {line.split("  ")[0].strip("│├└─ "): line for line in said.out.splitlines()}
    assert lines["MOUNT POINT"].split() == ["MOUNT", "POINT", "PROPAGATION", "TYPE", "SOURCE", "OPTIONS"]
    assert f"shared:{group}; peers: /mnt/peer" in lines["/mnt"]
    assert f"slave of {group}; from: /mnt, /mnt/peer" in lines["/mnt/slave"]
    assert "unbindable" in lines["/mnt/alone"]
    assert "/mnt/covered (covered)" in lines
    assert "└─/mnt/covered" in said.out
    assert said.err.splitlines() == [
        "private: what is mounted below it stays here, and nothing comes.",
        "shared:N: what is mounted below it is mounted below all of group N, and the other way round.",
        "slave of N: what is mounted below group N comes here, and nothing goes back.",
        "unbindable: private, and cannot be bound to another place.",
        "(covered): another mount was put over it, or over a directory above it.",
    ]


def test_machine_formats_hold_every_field_and_the_whole_table(in_namespace: Runner) -> None:
    def look() -> tuple[Said, Said, Said, int]:
        make_family()
        return say("--format", "json"), say("--format", "csv"), say("show", "--format", "yaml"), len(read_mount_table())

    as_json, as_csv, as_yaml, count = in_namespace(look)
    document = json.loads(as_json.out)
    assert document["schema"] == "jubako.mounts/1"
    assert len(document["mounts"]) == count
    rows = {row["mount_point"]: row for row in document["mounts"]}
    assert rows["/mnt"]["propagation"] == "shared"
    assert {"mount_point": "/mnt/peer", "pid": None, "process": None} in rows["/mnt"]["peers"]
    assert rows["/mnt/slave"]["master"] == rows["/mnt"]["peer_group"] > 0
    assert rows["/mnt/slave"]["parent_id"] == rows["/mnt"]["id"]
    assert [row["covered"] for row in document["mounts"] if row["mount_point"] == "/mnt/covered"] == [True, False]
    header, *lines = csv.reader(io.StringIO(as_csv.out))
    assert header == list(document["mounts"][0])
    assert len(lines) == count
    assert as_yaml.out.startswith("schema: jubako.mounts/1\n")
    assert as_json.err == as_csv.err == as_yaml.err == ""


def test_findmnt_says_the_same_of_all_mounts(in_namespace: Runner) -> None:
    def look() -> tuple[Said, str]:
        make_family()
        columns = "ID,PARENT,PROPAGATION,FSTYPE,VFS-OPTIONS"
        findmnt = ["findmnt", "--kernel", "--raw", "--noheadings", "--output", columns]
        return say("--format", "json"), subprocess.run(findmnt, capture_output=True, text=True, check=True).stdout

    said, theirs = in_namespace(look)
    ours = {
        (row["id"], row["parent_id"], row["propagation"], row["fstype"], row["options"])
        for row in json.loads(said.out)["mounts"]
    }
    # It says private of all that are not shared.
    rows = [line.replace("private,", "").split(" ") for line in theirs.splitlines()]
    assert ours == {(int(own), int(parent), *words) for own, parent, *words in rows}


def test_path_that_is_no_mount_point_shows_the_mount_it_lies_on(in_namespace: Runner) -> None:
    def look() -> Said:
        os.makedirs("a/b")
        os.makedirs("c")
        attach(tmpfs(), "c")
        os.symlink("a", "link")
        return say("link/b", "--format", "json")

    document = json.loads(in_namespace(look).out)
    assert [row["mount_point"] for row in document["mounts"]] == ["/mnt"]


def test_names_are_harmless_to_a_terminal(in_namespace: Runner) -> None:
    def look() -> Said:
        os.mkdir("evil\x1b[2J\nname")
        attach(tmpfs(), "evil\x1b[2J\nname")
        return say("/mnt")

    out = in_namespace(look).out
    assert "\x1b" not in out
    assert r"/mnt/evil\x1b[2J\nname" in out


@pytest.mark.parametrize("words", [("set", "/mnt", "shared"), ("set", ".", "shared"), ("set", "/mnt/../mnt", "shared")])
def test_set_shows_the_kernels_number_and_what_it_was(in_namespace: Runner, words: tuple[str, ...]) -> None:
    def change() -> tuple[Said, int]:
        said = say(*words)
        return said, next(one.peer_group for one in read_mount_table() if one.mount_point == "/mnt")

    said, group = in_namespace(change)
    assert said.code == 0
    assert [line.split() for line in said.out.splitlines()] == [
        ["MOUNT", "POINT", "PROPAGATION", "WAS"],
        ["/mnt", f"shared:{group}", "private"],
    ]
    assert said.err == ""


def test_set_recursive_changes_what_hangs_from_it_and_nothing_else(in_namespace: Runner) -> None:
    def change() -> tuple[Said, str]:
        for name in ("a", "a/b", "c"):
            os.makedirs(name)
        attach(tmpfs(), "a")
        os.mkdir("a/b")
        attach(tmpfs(), "a/b")
        attach(tmpfs(), "c")
        said = say("set", "/mnt/a", "shared", "--recursive", "--format", "json")
        return said, next(one.propagation for one in read_mount_table() if one.mount_point == "/mnt/c")

    said, of_neighbour = in_namespace(change)
    document = json.loads(said.out)
    assert document["schema"] == "jubako.mounts.set/1"
    assert [(row["mount_point"], row["propagation"], row["was"]) for row in document["mounts"]] == [
        ("/mnt/a", "shared", "private"),
        ("/mnt/a/b", "shared", "private"),
    ]
    assert of_neighbour == "private"


def test_set_slave_of_nobody_says_what_became_of_it(in_namespace: Runner) -> None:
    said = in_namespace(lambda: say("set", "/mnt", "slave"))
    assert said.code == 0
    assert said.err == "note: /mnt had nobody to receive from, and so became private\n"


def test_set_on_what_is_no_mount_point_names_the_mount_and_the_cure(in_namespace: Runner) -> None:
    def change() -> Said:
        os.mkdir("plain")
        return say("set", "plain", "private")

    said = in_namespace(change)
    assert said.code == 2
    assert said.err.splitlines() == [
        "Error: plain is not a mount point; it lies on the mount at /mnt (mount_setattr: Invalid argument)",
        "hint: jubako mounts set /mnt private, or make it one first: mount --bind plain plain",
    ]


def test_set_by_an_ordinary_user_names_the_cure(in_user_child: Runner) -> None:
    def change() -> Said:
        return say("set", "/", "private") if os.geteuid() else Said(3, "", "jubako unshare -rm")

    said = in_user_child(change)
    assert said.code == 3
    assert "jubako unshare -rm" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("/no/such/place",), 2, "/no/such/place: statx: No such file or directory"),
        (("set", "/no/such/place", "shared"), 2, "/no/such/place: statx: No such file or directory"),
        (("--pid", "4194304"), 2, "there is no process 4194304"),
        (("--pid", "0"), 2, "Invalid value for '--pid'"),
        (("set", "/", "sharred"), 2, "'sharred' is not one of 'private', 'shared', 'slave', 'unbindable'"),
        (("set", "/"), 2, "Missing argument"),
        (("set",), 2, "Missing argument 'PATH'"),
        (("a", "b"), 2, "unexpected extra argument"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_code(words: tuple[str, ...], code: int, expected: str) -> None:
    said = say(*words)
    assert said.code == code
    assert expected in said.err
    assert "Traceback" not in said.err


def test_process_that_has_ended_is_named() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        said = say("--pid", str(pid))
    finally:
        os.waitpid(pid, 0)
    assert said.code == 2
    assert f"process {pid} has ended" in said.err


def test_show_need_not_be_said(in_namespace: Runner) -> None:
    def look() -> tuple[str, str, str]:
        return say("/mnt").out, say("show", "/mnt").out, say("show", "--pid", str(os.getpid()), "/mnt").out

    short, long, of_pid = in_namespace(look)
    assert short == long == of_pid != ""


# --- the article's session -------------------------------------------------------------------------------------------

JUBAKO = f"{sys.executable} -m jubako"
WITH_PROPAGATION = {"unchanged": "--propagation unchanged", "default": ""}


@pytest.mark.parametrize("unshare", ["unshare", f"{JUBAKO} unshare"], ids=["util-linux", "ours"])
@pytest.mark.parametrize("outside", ["shared", "private"])
@pytest.mark.parametrize("inside", WITH_PROPAGATION)
def test_mount_made_inside_is_seen_outside_only_if_shared_and_left_so(unshare: str, outside: str, inside: str) -> None:
    """A program in a mount namespace of its own mounts something; `/` outside is shared or private."""
    script = f"""
    {JUBAKO} mounts set / {outside} --recursive >&2
    {unshare} --mount {WITH_PROPAGATION[inside]} sh -c '
        mount -t tmpfs inside /mnt && {JUBAKO} mounts /mnt --format json'
    echo ,
    {JUBAKO} mounts / --format json
    """
    done = subprocess.run(
        [*unshare.split(), "--map-root-user", "--mount", "sh", "-ec", script],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    within, after = json.loads(f"[{done.stdout}]")
    assert [row["source"] for row in within["mounts"]][-1] == "inside"
    seen = [row["mount_point"] for row in after["mounts"] if row["source"] == "inside"]
    assert seen == (["/mnt"] if outside == "shared" and inside == "unchanged" else [])


def test_peers_in_other_namespaces_are_named_with_their_process(in_namespace: Runner) -> None:
    def session() -> tuple[int, Said, Said]:
        def prepare() -> None:
            unshare(CLONE_NEWNS)
            say("set", "/mnt", "slave")

        say("set", "/mnt", "shared")
        with bystander(prepare) as pid:
            words = ("--pid", str(pid), "/mnt")
            return os.getpid(), say(*words), say(*words, "--format", "json")

    pid, theirs, as_json = in_namespace(session)
    assert "; from: /mnt of " in theirs.out
    assert f" ({pid})" in theirs.out
    (row,) = json.loads(as_json.out)["mounts"]
    assert [(one["mount_point"], one["pid"]) for one in row["masters"]] == [("/mnt", pid)]


def test_command_runs_as_a_program_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jubako", "mounts", "/", "--format", "json"],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["mounts"][0]["mount_point"] == "/"
