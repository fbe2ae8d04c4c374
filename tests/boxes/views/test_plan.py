"""The view of a task as a plan: what is made, in which order, from facts that are plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from jubako.boxes.spec import Box, OutputKind, StagedOutput
from jubako.boxes.transactions.place import HIDDEN_NAME
from jubako.boxes.views.cover import Cover
from jubako.boxes.views.facts import HostFacts, KnownPath, Place
from jubako.boxes.views.operations import (
    Bind,
    CopyAttributes,
    MakeDirectory,
    MakeFile,
    MakeSymlink,
    MaskDirectory,
    MaskFile,
    MountOverlay,
    MountTmpfs,
    Operation,
    PivotRoot,
    PlaceTree,
    SetAttributes,
    TakeTree,
)
from jubako.boxes.views.plan import (
    JobPlan,
    LocatedOutput,
    ViewPlan,
    is_shown,
    locate_output,
    plan_job,
    plan_shape,
    plan_template,
    plan_view,
    staged_in_box,
)
from jubako.boxes.views.plan_tops import SCRATCH
from jubako.kernel.mount_table import parse_mountinfo

STATE = "/home/ann/.local/state/jubako"
MOUNTS = (
    "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "2 1 8:2 / /home rw - ext4 /dev/sda2 rw\n"
    "3 2 8:3 / /home/ann/disk rw - ext4 /dev/sda3 rw\n"
    "4 3 8:4 / /home/ann/disk/inner rw - ext4 /dev/sda4 rw\n"
    "5 1 0:5 / /run rw - tmpfs tmpfs rw\n"
)


def facts(*, in_user_namespace: bool = False, mounts: str = MOUNTS) -> HostFacts:
    return HostFacts(
        uid=0,
        gid=0,
        in_user_namespace=in_user_namespace,
        mounts=tuple(parse_mountinfo(mounts)),
        hidden=(STATE,),
        run_files=("/run/systemd/resolve/stub-resolv.conf",),
        run_links=(("current-system", "/nix/store/x"),),
        run_mounts=("/run/media/ann/usb",),
        masked_directories=("/var/run",),
        control_sockets=("/var/lib/incus/unix.socket",),
        devices=(KnownPath("/dev/dri", is_directory=True), KnownPath("/dev/null", is_directory=False)),
    )


def located(path: str, staged: str, kind: OutputKind = "file") -> LocatedOutput:
    folder, _, _ = path.rpartition("/")
    return locate_output(StagedOutput(path, kind, staged), Place(folder, "", f"the output {path}", writable=True))


def view(
    *outputs: LocatedOutput,
    cover: tuple[str, ...] = ("/home/ann",),
    box: Box | None = None,
    machine: HostFacts | None = None,
    shared: tuple[KnownPath, ...] = (),
    hidden: tuple[str, ...] = (),
) -> ViewPlan:
    return plan_view(plan_shape(box or Box(), Cover(cover), outputs, shared, hidden), machine or facts())


def job(*outputs: LocatedOutput, directory: str = "", **options: Any) -> JobPlan:
    return plan_job(view(*outputs, **options), outputs, directory)


def build(**options: Any) -> list[Operation]:
    plan = view(**options)
    return [*plan.ahead, *plan.build]


def order(plan: Sequence[Operation], *wanted: Operation) -> list[int]:
    return [list(plan).index(operation) for operation in wanted]


def in_order(plan: Sequence[Operation], *wanted: Operation) -> bool:
    positions = order(plan, *wanted)
    return positions == sorted(positions)


def test_template_makes_everything_read_only_before_it_replaces_anything() -> None:
    plan = plan_template(facts())
    assert in_order(
        plan,
        SetAttributes("/", read_only=True, nosuid=True, nodev=True, recursive=True),
        MountTmpfs("/dev", size="64k", noexec=True),
        MountTmpfs("/run", size="1m"),
    )


def test_template_holds_no_overlay() -> None:
    assert not [one for one in plan_template(facts()) if isinstance(one, MountOverlay)]


def test_template_takes_what_lies_below_run_before_it_covers_run_and_places_it_before_that_is_read_only() -> None:
    conf = "/run/systemd/resolve/stub-resolv.conf"
    assert in_order(
        plan_template(facts()),
        TakeTree(conf, conf),
        MountTmpfs("/run", size="1m"),
        MakeFile(conf),
        PlaceTree(conf, conf),
        MakeSymlink("/run/current-system", "/nix/store/x"),
        MakeDirectory(SCRATCH),
        SetAttributes("/run", read_only=True),
    )


def test_template_shows_device_directories_and_device_files() -> None:
    plan = plan_template(facts())
    assert in_order(plan, MakeDirectory("/dev/dri"), PlaceTree("/dev/dri", "/dev/dri"))
    assert in_order(plan, MakeFile("/dev/null"), PlaceTree("/dev/null", "/dev/null"))


def test_template_hides_state_and_control_sockets() -> None:
    plan = plan_template(facts())
    assert {MaskDirectory(STATE), MaskDirectory("/var/run"), MaskFile("/var/lib/incus/unix.socket", "/dev/null")} <= {
        *plan
    }


def test_template_takes_what_is_shared_while_it_is_writable_and_places_it_last() -> None:
    data = KnownPath("/data", is_directory=True)
    plan = plan_template(facts(), (data,))
    assert in_order(
        plan,
        TakeTree("/data", "/data"),
        SetAttributes("/", read_only=True, nosuid=True, nodev=True, recursive=True),
        PlaceTree("/data", "/data"),
    )
    assert plan[-1] == PlaceTree("/data", "/data")


def test_template_makes_mount_points_for_shared_paths_below_what_it_replaces() -> None:
    sockets = (
        KnownPath("/run/docker.sock", is_directory=False),
        KnownPath("/run/user/1000", is_directory=True),
        KnownPath("/run/user/1000/bus", is_directory=False),
    )
    plan = plan_template(facts(), sockets)
    assert in_order(plan, MakeFile("/run/docker.sock"), SetAttributes("/run", read_only=True))
    assert in_order(plan, MakeDirectory("/run/user/1000"), SetAttributes("/run", read_only=True))
    assert MakeFile("/run/user/1000/bus") not in plan, "it is there in the tree of its parent"


def test_template_takes_a_device_once_that_is_shared_too() -> None:
    plan = plan_template(facts(), (KnownPath("/dev/null", is_directory=False),))
    assert list(plan).count(TakeTree("/dev/null", "/dev/null")) == 1


def test_template_with_shared_memory_shared_has_that_and_no_link_in_its_place() -> None:
    plan = plan_template(facts(), (KnownPath("/dev/shm", is_directory=True),))
    assert in_order(plan, MakeDirectory("/dev/shm"), SetAttributes("/dev", read_only=True))
    assert not [one for one in plan if isinstance(one, MakeSymlink) and one.path == "/dev/shm"]
    assert plan[-1] == PlaceTree("/dev/shm", "/dev/shm")


def test_job_prepares_the_top_like_what_it_covers_before_it_mounts() -> None:
    assert in_order(
        build(),
        MountTmpfs(SCRATCH, "50%"),
        MakeDirectory(f"{SCRATCH}/upper-0"),
        CopyAttributes("/home/ann", f"{SCRATCH}/upper-0"),
        MountOverlay(("/home/ann",), "/home/ann", f"{SCRATCH}/upper-0", f"{SCRATCH}/work-0", volatile=False),
    )


def test_what_may_come_ahead_of_the_job_looks_at_nothing_but_the_scratch() -> None:
    plan = view(located("/home/ann/x", "/state/stage/R/a1/0"), hidden=("/srv/.jubako-stage",), cover=("/", "/home"))
    assert {type(one) for one in plan.ahead} == {MountTmpfs, MakeDirectory}
    assert all(SCRATCH in one.describe() for one in plan.ahead)


def test_job_in_a_user_namespace_keeps_marks_in_user_attributes() -> None:
    root_only = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
    plan = job(machine=facts(in_user_namespace=True, mounts=root_only))
    overlays = [one for one in plan.build if isinstance(one, MountOverlay)]
    assert [one.userxattr for one in overlays] == [True]


@pytest.mark.parametrize(("scratch", "volatile"), [("memory", False), ("disk", True)])
def test_overlays_are_volatile_where_their_umount_would_sync_a_disk(
    scratch: Literal["memory", "disk"], volatile: bool
) -> None:
    overlays = [one for one in job(box=Box(scratch=scratch)).build if isinstance(one, MountOverlay)]
    assert [one.volatile for one in overlays] == [volatile]


def test_job_puts_disks_and_masks_back_on_top_of_an_overlay_and_not_what_lies_in_them() -> None:
    plan = job().build
    overlay = next(one for one in plan if isinstance(one, MountOverlay))
    for path in ("/home/ann/disk", STATE):
        assert in_order(plan, TakeTree(path, path), overlay, PlaceTree(path, path))
    assert TakeTree("/home/ann/disk/inner", "/home/ann/disk/inner") not in plan


def test_job_mounts_the_innermost_overlay_first_so_that_the_outer_one_takes_it_along() -> None:
    plan = job(cover=("/home/ann", "/home/ann/disk/out")).build
    inner, outer = (one for one in plan if isinstance(one, MountOverlay))
    assert (inner.target, outer.target) == ("/home/ann/disk/out", "/home/ann")
    assert in_order(plan, inner, TakeTree("/home/ann/disk", "/home/ann/disk"), outer)


def test_job_puts_shared_paths_back_on_top_of_an_overlay() -> None:
    shared = KnownPath("/home/ann/models", is_directory=True)
    plan = job(shared=(shared,)).build
    overlay = next(one for one in plan if isinstance(one, MountOverlay))
    assert in_order(plan, TakeTree(shared.path, shared.path), overlay, PlaceTree(shared.path, shared.path))


def test_job_covers_the_tops_before_it_places_staging_directories() -> None:
    plan = job(located("/home/ann/out/x", "/state/stage/R/a1/0"), located("/home/ann/y", "/state/stage/R/a1/1"))
    assert plan.stages == ("/state/stage/R/a1",)
    assert plan.take == (TakeTree("/run/jubako/stage/0", "/state/stage/R/a1", recursive=False),)
    assert plan.show == (
        Bind("/run/jubako/view", SCRATCH),
        PlaceTree("/run/jubako/stage/0", "/run/jubako/stage/0"),
    )


def test_job_binds_a_directory_output_over_its_path_and_freezes_all_of_the_result() -> None:
    plan = job(located("/home/ann/out", "/state/stage/R/a1/0", "directory"))
    assert plan.show[-2:] == (MakeDirectory("/home/ann/out"), Bind("/run/jubako/stage/0/0", "/home/ann/out"))
    assert {one.target for one in plan.freeze if isinstance(one, SetAttributes) and one.read_only} == {
        "/home/ann",
        "/run/jubako/stage/0",
        "/home/ann/out",
    }


def test_job_does_not_bind_a_directory_output_where_no_mount_point_can_be_made() -> None:
    plan = job(located("/srv/out", "/state/stage/R/a1/0", "directory"))
    assert not [one for one in plan.show if isinstance(one, MakeDirectory)]


def test_job_hides_what_it_must_not_see_on_top_of_the_overlays() -> None:
    stage = f"/home/ann/{HIDDEN_NAME}-7"
    plan = build(hidden=(stage,))
    overlay = next(one for one in plan if isinstance(one, MountOverlay))
    assert in_order(plan, MakeDirectory(f"{SCRATCH}/empty", 0o555), overlay, Bind(f"{SCRATCH}/empty", stage))


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (f"/srv/{HIDDEN_NAME}", True),
        (f"/run/media/ann/usb/{HIDDEN_NAME}", True),
        (f"/run/app/{HIDDEN_NAME}", False),
        (f"/dev/shm/{HIDDEN_NAME}", False),
        (f"{STATE}/{HIDDEN_NAME}", False),
        (STATE, False),
        (f"/var/run/{HIDDEN_NAME}", False),
        (f"/run/shared/{HIDDEN_NAME}", True),
    ],
)
def test_path_is_shown_unless_the_template_puts_something_else_there(path: str, shown: bool) -> None:
    assert is_shown(path, facts(), (KnownPath("/run/shared", is_directory=True),)) is shown


def test_job_lays_no_overlay_over_what_is_shared() -> None:
    plan = job(cover=("/home/ann", "/srv", "/srv/ann/disk"), shared=(KnownPath("/srv", is_directory=True),))
    assert [overlay.target for overlay in plan.overlays] == ["/home/ann"]


def test_job_that_may_write_everywhere_gets_a_root_of_its_own_and_can_write_in_run() -> None:
    plan = job(cover=("/", "/home"))
    assert plan.has_new_root
    assert [overlay.target for overlay in plan.overlays] == ["/", "/home", "/run"]
    assert isinstance(plan.build[-1], PivotRoot)
    assert {SetAttributes(path, read_only=True) for path in ("/", "/home", "/run")} <= {*plan.freeze}
    assert not job().has_new_root


def test_job_with_an_output_in_shared_memory_finds_its_folder_there_and_cannot_change_it_in_the_check() -> None:
    outputs = (
        located("/dev/shm/app/x", "/dev/shm/app/.jubako-stage/R/a1/0"),
        located("/dev/shm/app/tree", "/dev/shm/app/.jubako-stage/R/a1/1", "directory"),
    )
    plan = job(*outputs)
    assert in_order(
        plan.show,
        PlaceTree("/run/jubako/stage/0", "/run/jubako/stage/0"),
        MakeDirectory("/dev/shm/app"),
        MakeDirectory("/dev/shm/app/tree"),
        Bind("/run/jubako/stage/0/1", "/dev/shm/app/tree"),
    )
    shm = f"{SCRATCH}/shm"
    assert plan.freeze[-2:] == (Bind(shm, shm, recursive=True), SetAttributes(shm, read_only=True))
    assert Bind(shm, shm, recursive=True) not in job(located("/home/ann/x", "/state/stage/R/a1/0")).freeze


def test_job_with_scratch_on_disk_has_the_directory_it_was_given_instead_of_memory() -> None:
    plan = job(box=Box(scratch="disk"), directory="/state/stage/R/a1.scratch")
    assert plan.take == (TakeTree(SCRATCH, "/state/stage/R/a1.scratch", recursive=False),)
    assert build(box=Box(scratch="disk"))[0] == PlaceTree(SCRATCH, SCRATCH)


def test_job_limits_its_scratch_as_the_box_says() -> None:
    assert build(box=Box(scratch_size_bytes=12345))[0] == MountTmpfs(SCRATCH, "12345")


def test_staged_path_in_the_box_goes_by_the_mount_it_is_staged_on() -> None:
    output = StagedOutput("/x/y", "file", "/b/a1/3")
    assert staged_in_box(output, ("/a/a1", "/b/a1")) == "/run/jubako/stage/1/3"


def test_real_path_keeps_what_does_not_exist_yet_below_the_real_folder() -> None:
    place = Place("/mnt/disk", "new/deep", "the output", writable=True)
    assert locate_output(StagedOutput("/data/new/deep/x", "file", "/s/0"), place).real_path == "/mnt/disk/new/deep/x"
