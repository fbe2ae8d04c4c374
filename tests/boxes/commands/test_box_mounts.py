"""What a box has beside its view: binds in other places, memory, an environment, a name, a directory and a user."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.mounts import Bind, Tmpfs
from jubako.boxes.spec import Box, Host
from jubako.errors import InputError

if TYPE_CHECKING:
    from tests.boxes.conftest import Desk

pytestmark = pytest.mark.box
of_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run something as another user")


def whole(**options: object) -> Box:
    return Box(Host(whole=True), **options)  # type: ignore[arg-type]


def test_binds_show_a_part_of_the_machine_elsewhere_and_read_only_if_said(desk: Desk) -> None:
    def prepare() -> None:
        for name in ("models", "shared"):
            Path(name).mkdir()
            Path(name, "file").write_text(name)

    desk.do(prepare)
    home = desk.home
    box = whole(mounts=[Bind(f"{home}/models", f"{home}/one", read_only=True), Bind(f"{home}/shared", f"{home}/two")])
    seen = desk.see("cat one/file two/file; echo x > one/file; echo real > two/new", box)
    assert seen.output.startswith("modelsshared")
    assert "Read-only file system" in seen.output
    assert (home / "shared/new").read_text() == "real\n"
    assert (home / "models/file").read_text() == "models"


def test_single_file_can_be_bound_over_another(desk: Desk) -> None:
    desk.do(lambda: (Path("mine").write_text("mine"), Path("theirs").write_text("theirs")))
    seen = desk.see("cat theirs", whole(mounts=[Bind(f"{desk.home}/mine", f"{desk.home}/theirs")]))
    assert (seen.output, seen.changes) == ("mine", {})


def test_tmpfs_has_its_size_and_leaves_nothing(desk: Desk) -> None:
    box = whole(mounts=[Tmpfs(f"{desk.home}/memory", size_bytes=1 << 20)])
    desk.do(lambda: Path("memory").mkdir())
    seen = desk.see(
        "echo x > memory/file; df -k --output=size memory | tail -1; head -c 2M /dev/zero > memory/big", box
    )
    assert seen.output.split()[0] == "1024"
    assert "No space left on device" in seen.output
    assert seen.changes == {}


def test_environment_hostname_and_directory_are_what_the_box_says(desk: Desk) -> None:
    desk.do(lambda: Path("work").mkdir())
    box = whole(environment=[("A", "of the box"), ("B", "b")], hostname="boxy", cwd=f"{desk.home}/work")
    environment = {"PATH": os.defpath, "A": "of the caller", "C": "c"}
    seen = desk.see("echo $A $B $C; hostname; pwd", box, environment=environment)
    assert seen.output == f"of the box b c\nboxy\n{desk.home}/work\n"
    assert os.uname().nodename != "boxy"


@of_root
def test_user_is_another_with_its_groups_and_without_rights(desk: Desk) -> None:
    if desk.do(os.geteuid) != 0:
        with pytest.raises(pytest.fail.Exception, match="only root can run something as another user"):
            desk.see("id", whole(user="nobody"))
        return
    nobody = pwd.getpwnam("nobody")
    seen = desk.see("id -u; id -g; echo $HOME; grep CapEff /proc/self/status", whole(user="nobody"))
    assert seen.output == f"{nobody.pw_uid}\n{nobody.pw_gid}\n{nobody.pw_dir}\nCapEff:\t{0:016x}\n"
    assert desk.see("id -u; id -g; id -G", whole(user="1234:5678")).output == "1234\n5678\n5678\n"


def test_state_of_jubako_stays_hidden_in_what_is_shared(desk: Desk) -> None:
    top = desk.home.parent
    for box in (whole(binds=[str(top)]), whole(mounts=[Bind(str(top), f"{desk.home}/top")])):
        seen = desk.see(f"ls {top}/state {desk.home}/top/state 2>/dev/null | grep -c boxes", box)
        assert seen.output == "0\n"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Bind("/etc", "relative"), "'relative' is no place in a box to mount something on"),
        (lambda: Bind("/etc", "/"), "'/' is no place in a box to mount something on"),
        (lambda: Tmpfs("/x", size_bytes=0), "a tmpfs of 0 bytes cannot hold anything"),
        (lambda: Box(hostname="a b"), "hostname='a b' is no name for a machine"),
        (lambda: Box(hostname="x" * 65), "is no name for a machine"),
        (lambda: Box(cwd="here"), "cwd='here' is not an absolute path"),
    ],
)
def test_what_makes_no_sense_is_refused(make: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("mounts", "said"),
    [
        ([Bind("/no/such", "/tmp/x")], "/no/such, which the box should show at /tmp/x, does not exist"),
        ([Tmpfs("/tmp/x"), Bind("/etc", "/tmp/x/")], "two things are to be mounted on /tmp/x"),
    ],
)
def test_mounts_that_cannot_be_are_refused_before_a_box_is_made(desk: Desk, mounts: list[object], said: str) -> None:
    def use() -> str:
        with pytest.raises(InputError) as caught:
            desk.run("true", whole(mounts=mounts))
        return caught.value.message

    assert desk.do(use) == said
    assert desk.boxes() == []
