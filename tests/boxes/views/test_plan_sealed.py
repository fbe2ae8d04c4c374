"""The sealed view as a plan: what is shown of the machine, what is the box's own, and what comes last."""

from __future__ import annotations

import pytest

from jubako.boxes.views.facts import HostFacts, KnownPath
from jubako.boxes.views.operations import (
    MakeDirectory,
    MakeFile,
    MakeSymlink,
    MaskDirectory,
    MaskFile,
    MountProc,
    MountTmpfs,
    PivotRoot,
    PlaceTree,
    SetAttributes,
)
from jubako.boxes.views.plan_sealed import is_sealed_off, plan_sealed
from jubako.boxes.views.plan_wide import WideFacts
from jubako.records import replace

BOX = "/var/lib/jubako/boxes/3f9c01ab"
ROOT = f"{BOX}/root"


def facts(*, home: str = "/home/ann", uid: int = 1000) -> WideFacts:
    return WideFacts(
        HostFacts(
            uid=uid,
            gid=uid,
            in_user_namespace=uid != 0,
            mounts=(),
            hidden=("/home/ann/.local/state/jubako", "/var/lib/jubako"),
            masked_directories=("/tmp/.X11-unix",),
            control_sockets=("/tmp/agent", "/var/lib/lxd/unix.socket"),
            devices=tuple(KnownPath(f"/dev/{name}", is_directory=name == "dri") for name in ("dri", "null", "tty")),
        ),
        proc_names=frozenset({"sys"}),
        terminal="/dev/pts/3",
        home=home,
        root_entries=(
            ("bin", "usr/bin"),
            ("dev", ""),
            ("etc", ""),
            ("home", ""),
            ("proc", ""),
            ("tmp", ""),
            ("var", ""),
        ),
    )


def test_machines_directories_are_shown_read_only_on_an_empty_root() -> None:
    plan = plan_sealed(facts(), BOX)
    shown = [one.target for one in plan.operations if isinstance(one, PlaceTree) and one.target.startswith(ROOT)]
    assert shown == [f"{ROOT}/etc", f"{ROOT}/var"]
    for path in shown:
        assert SetAttributes(path, read_only=True, nosuid=True, nodev=True, recursive=True) in plan.operations
    assert MakeSymlink(f"{ROOT}/bin", "usr/bin") in plan.operations
    assert plan.tops == ()
    assert plan.seal == (SetAttributes("/", read_only=True),)


def test_proc_is_mounted_while_the_machines_is_in_sight() -> None:
    operations = plan_sealed(facts(), BOX).operations
    assert operations.index(MountProc(f"{ROOT}/proc")) < operations.index(PivotRoot(ROOT))


def test_scratch_and_home_are_the_boxs_own() -> None:
    own = {one.target for one in plan_sealed(facts(), BOX).operations if isinstance(one, MountTmpfs)}
    assert own == {ROOT, "/dev", "/dev/shm", "/run", "/tmp", "/var/tmp", "/home/ann"}


@pytest.mark.parametrize("home", ["", "/", "/proc/self"])
def test_home_that_cannot_be_mounted_on_is_not(home: str) -> None:
    plan = plan_sealed(facts(home=home), BOX)
    own = {one.target for one in plan.operations if isinstance(one, MountTmpfs)}
    assert own == {ROOT, "/dev", "/dev/shm", "/run", "/tmp", "/var/tmp"}
    assert bool(plan.notes) == (home == "/")


def test_home_among_the_machines_directories_is_not_shown() -> None:
    plan = plan_sealed(replace(facts(home="/ann"), root_entries=(("ann", ""), ("etc", ""))), BOX)
    assert PlaceTree("/ann", f"{ROOT}/ann") not in plan.operations
    assert MountTmpfs("/ann", size="50%", mode=0o700) in plan.operations


def test_only_devices_without_a_driver_are_shown() -> None:
    placed = {one.target for one in plan_sealed(facts(), BOX).operations if isinstance(one, PlaceTree)}
    assert {path for path in placed if path.startswith("/dev")} == {"/dev/null"}


def test_what_reaches_out_is_hidden_where_it_would_be_seen() -> None:
    operations = plan_sealed(facts(), BOX).operations
    assert [one for one in operations if isinstance(one, (MaskDirectory, MaskFile))] == [
        MaskDirectory("/var/lib/jubako"),
        MaskFile("/var/lib/lxd/unix.socket", "/dev/null"),
    ]


def test_settings_of_the_kernel_are_kept_from_root() -> None:
    assert SetAttributes("/proc/sys", read_only=True) in plan_sealed(facts(uid=0, home="/root"), BOX).operations
    assert SetAttributes("/proc/sys", read_only=True) not in plan_sealed(facts(), BOX).operations


def test_shared_path_gets_a_place_where_the_view_has_none() -> None:
    shared = (KnownPath("/home/ann/project", is_directory=True), KnownPath("/tmp/x/file", is_directory=False))
    operations = plan_sealed(facts(), BOX, (*shared, KnownPath("/var/data", is_directory=True))).operations
    placed = operations.index(PlaceTree("/home/ann/project", "/home/ann/project"))
    assert operations.index(MakeDirectory("/home/ann/project")) < placed
    assert operations.index(MakeFile("/tmp/x/file")) < operations.index(PlaceTree("/tmp/x/file", "/tmp/x/file"))
    assert MakeDirectory("/var/data") not in operations
    assert PlaceTree("/var/data", "/var/data") in operations


@pytest.mark.parametrize(
    ("path", "sealed"),
    [("/home/ann/x", True), ("/root", True), ("/tmp", True), ("/var/tmp/x", True), ("/var", False), ("/etc/x", False)],
)
def test_what_is_sealed_off(path: str, sealed: bool) -> None:
    assert is_sealed_off(path, facts()) == sealed
