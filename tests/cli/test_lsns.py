"""`jubako lsns` beside lsns(8) of util-linux, and what that of this machine may not know yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beside_util_linux import IS_ROOT, NOBODY, User
from bystander import bystander
from jubako.boxes.namespaces.listing import Member, group_members
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.namespaces import CLONE_NEWNET, CLONE_NEWUTS

pytestmark = pytest.mark.box
US = User(os.geteuid())
of_root = pytest.mark.skipif(not IS_ROOT, reason="only root may do this")


def namespaces(*words: str) -> dict[int, dict[str, object]]:
    """The rows of the list, by number."""
    done = US.run(f"jubako lsns --format json {' '.join(words)}")
    assert done.code == 0, done.err
    return {row["namespace"]: row for row in json.loads(done.out)["namespaces"]}


def number(pid: int | str, type_: str) -> int:
    return int(os.readlink(f"/proc/{pid}/ns/{type_}").partition("[")[2][:-1])


def test_list_is_that_of_util_linux_for_processes_that_stay() -> None:
    columns = "NS,TYPE,NPROCS,PID,PPID,COMMAND,UID,USER,PATH"
    with bystander(lambda: enter_user_namespace(CLONE_NEWUTS | CLONE_NEWNET)) as pid:
        ours = namespaces()
        theirs = json.loads(US.run(f"lsns -J -o {columns}").out)["namespaces"]
        made = {number(pid, type_) for type_ in ("user", "uts", "net")}
    compared = 0
    for row in theirs:  # grows while it is walked: what hangs below another row is in there
        theirs += row.get("children", [])
        if row["ns"] in made:
            compared += 1
            mine = ours[row["ns"]]
            assert (mine["type"], mine["processes"], mine["pid"], mine["ppid"], mine["uid"], mine["user"]) == (
                *(row[name] for name in ("type", "nprocs", "pid", "ppid", "uid", "user")),
            )
            assert (mine["path"], mine["command"]) == (row["path"], row["command"])
    assert compared == 3


def test_task_shows_what_a_process_is_in() -> None:
    with bystander(lambda: enter_user_namespace(CLONE_NEWUTS)) as pid:
        shown = namespaces("--task", str(pid))
        of_one_type = namespaces("-p", str(pid), "-t", "uts", "-t", "user")
        expected = {number(pid, type_) for type_ in ("mnt", "net", "ipc", "user", "pid", "uts", "cgroup", "time")}
        two = {number(pid, "uts"), number(pid, "user")}
    assert shown.keys() == expected
    assert of_one_type.keys() == two


def test_owner_and_parent_are_named() -> None:
    with bystander(lambda: enter_user_namespace(CLONE_NEWUTS)) as pid:
        rows = namespaces()
        user, uts = number(pid, "user"), number(pid, "uts")
    assert rows[uts]["owner"] == user
    assert rows[user]["parent"] == rows[user]["owner"] == number("self", "user")
    assert rows[uts]["parent"] is None


def test_namespace_that_only_others_need_is_listed() -> None:
    def nest() -> None:
        enter_user_namespace()
        enter_user_namespace(CLONE_NEWUTS)

    with bystander(nest) as pid:
        rows = namespaces("-t", "user")
        inner = number(pid, "user")
    outer = rows[inner]["parent"]
    assert isinstance(outer, int)
    assert rows[outer]["processes"] == 0
    assert rows[outer]["parent"] == number("self", "user")


def test_processes_of_a_namespace_are_listed() -> None:
    with bystander(lambda: enter_user_namespace(CLONE_NEWUTS)) as pid:
        done = US.run(f"jubako lsns {number(pid, 'uts')} --format json")
    document = json.loads(done.out)
    assert (document["type"], [row["pid"] for row in document["processes"]]) == ("uts", [pid])
    assert document["processes"][0]["ppid"] == os.getpid()


@of_root
def test_files_that_keep_a_namespace_are_named() -> None:
    script = """mount -t tmpfs none /mnt; mount --make-private /mnt; touch /mnt/uts
        unshare --uts=/mnt/uts true; "$@" lsns -t uts --format json; "$@" lsns -t uts; umount /mnt/uts"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, "sh", sys.executable, "-m", "jubako"],
        env=US.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    document, end = json.JSONDecoder().raw_decode(done.stdout)
    kept = [row for row in document["namespaces"] if "/mnt/uts" in row["files"]]
    assert [(row["type"], row["processes"], row["pid"]) for row in kept] == [("uts", 0, None)]
    assert "kept by /mnt/uts" in done.stdout[end:]


@of_root
def test_ordinary_user_sees_the_own_and_is_told_of_others() -> None:
    done = User(NOBODY).run("jubako lsns")
    assert done.code == 0
    assert "could not be looked at" in done.err
    assert done.out.startswith(" NAMESPACE  TYPE")
    closed = User(NOBODY).run(f"jubako lsns --task {os.getpid()}")
    assert (closed.code, closed.out) == (1, "")
    assert f"the namespaces of process {os.getpid()} are closed to you" in closed.err


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("-p 4194304", 1, "there is no process 4194304"),
        ("17", 1, "there is no namespace 17"),
        ("-t mount", 2, "'mount' is not one of"),
        ("-t uts 4026531838", 2, "--type and --task are for lists of namespaces"),
        ("x", 2, "'x' is not a valid integer"),
    ],
)
def test_bad_input_is_a_sentence(line: str, code: int, error: str) -> None:
    done = US.run(f"jubako lsns {line}")
    assert (done.code, done.out) == (code, "")
    assert error in done.err
    assert "Traceback" not in done.err


MEMBERS = st.lists(
    st.builds(
        Member,
        st.integers(1, 50),
        st.just(1),
        st.just(0),
        st.just("x"),
        st.fixed_dictionaries({"mnt": st.integers(1, 3), "uts": st.integers(4, 5)}),
    ),
    unique_by=lambda member: member.pid,
)


@given(MEMBERS)
def test_every_process_is_in_each_of_its_namespaces_once(members: list[Member]) -> None:
    grouped = group_members(members)
    for member in members:
        for type_, of_type in member.namespaces.items():
            assert grouped[of_type].type == type_
            assert grouped[of_type].members.count(member) == 1
    assert sum(len(one.members) for one in grouped.values()) == 2 * len(members)
    assert all([*one.members] == sorted(one.members, key=lambda each: each.pid) for one in grouped.values())
