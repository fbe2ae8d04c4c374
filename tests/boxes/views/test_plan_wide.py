"""The wide view as a plan: what is made, in which order, from facts that are plain values."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from jubako.boxes.views.facts import HostFacts, KnownPath, Place
from jubako.boxes.views.operations import (
    MakeFile,
    MaskDirectory,
    MaskFile,
    MountProc,
    MountTmpfs,
    Operation,
    PivotRoot,
    PlaceTree,
    SetAttributes,
    TakeTree,
)
from jubako.boxes.views.plan_wide import Stacked, WideFacts, WidePlan, plan_wide, plan_wide_cover
from jubako.kernel.mount_table import parse_mountinfo
from jubako.records import replace

BOX = "/var/lib/jubako/boxes/3f9c01ab"
MOUNTS = (
    "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "2 1 8:2 / /home rw - ext4 /dev/sda2 rw\n"
    "3 2 8:3 / /home/ann/disk rw - ext4 /dev/sda3 rw\n"
    "4 1 0:9 / /mnt/nas rw - nfs4 nas:/ rw\n"
    "5 1 8:9 /h /etc/hosts rw - ext4 /dev/sdb rw\n"
    "6 1 0:6 / /proc rw - proc proc rw\n"
)


def facts(*places: Place, uid: int = 0) -> WideFacts:
    return WideFacts(
        HostFacts(
            uid=uid,
            gid=uid,
            in_user_namespace=uid != 0,
            mounts=tuple(parse_mountinfo(MOUNTS)),
            hidden=("/var/lib/jubako",),
            run_files=("/run/systemd/resolve/stub-resolv.conf",),
            control_sockets=("/tmp/agent",),
            devices=(KnownPath("/dev/null", is_directory=False),),
        ),
        places=places,
        file_points=frozenset({"/etc/hosts"}),
        proc_names=frozenset({"sys"}),
        terminal="/dev/pts/3",
    )


def place(path: str, *, children: tuple[str, ...] = ()) -> Place:
    return Place(path, "", path, writable=True, children=children)


def index(plan: WidePlan, operation: Operation) -> int:
    return plan.operations.index(operation)


def in_order(plan: WidePlan, operations: Sequence[Operation]) -> bool:
    numbers = [index(plan, operation) for operation in operations]
    return numbers == sorted(numbers)


def test_plan_for_root_has_one_overlay_per_file_system_and_a_copy_of_each_single_file() -> None:
    plan = plan_wide(facts(), BOX)
    assert [(top.target, top.is_file, top.upper) for top in plan.tops] == [
        ("/", False, "0/upper"),
        ("/etc/hosts", True, "1/upper"),
        ("/home", False, "2/upper"),
        ("/home/ann/disk", False, "3/upper"),
    ]
    assert [top.layer_target for top in plan.tops] == ["/", "/etc", "/home", "/home/ann/disk"]
    assert not plan.userxattr
    assert plan.notes == ("read-only, since overlayfs does not stack on them: /mnt/nas (nfs4)",)


def test_plan_for_root_takes_everything_before_the_root_changes_and_places_parents_first() -> None:
    plan = plan_wide(facts(), BOX)
    pivot = index(plan, PivotRoot(f"{BOX}/root"))
    assert all(number < pivot for number, one in enumerate(plan.operations) if isinstance(one, TakeTree))
    assert in_order(
        plan,
        [
            PlaceTree("top 0", f"{BOX}/root"),
            PivotRoot(f"{BOX}/root"),
            PlaceTree("top 1", "/etc/hosts"),
            PlaceTree("top 2", "/home"),
            PlaceTree("top 3", "/home/ann/disk"),
            PlaceTree("/mnt/nas", "/mnt/nas"),
            SetAttributes("/mnt/nas", read_only=True, nosuid=True, nodev=True),
            MountProc("/proc"),
            SetAttributes("/proc/sys", read_only=True),
            MaskFile("/tmp/agent", "/dev/null"),
            MaskDirectory("/var/lib/jubako"),
        ],
    )


def test_plan_places_each_tree_once_and_takes_what_it_places() -> None:
    shared = [KnownPath("/run/docker.sock", is_directory=False), KnownPath("/data", is_directory=True)]
    for plan in (plan_wide(facts(), BOX, shared=shared), plan_wide(facts(place("/tmp"), uid=7), BOX, shared=shared)):
        taken = [one.name for one in plan.operations if isinstance(one, TakeTree)] + [top.name for top in plan.tops]
        placed = [one.name for one in plan.operations if isinstance(one, PlaceTree)]
        assert sorted(placed) == sorted(taken)
        assert len(set(placed)) == len(placed)


def test_plan_with_a_shared_socket_below_run_makes_something_to_mount_it_on() -> None:
    plan = plan_wide(facts(), BOX, shared=[KnownPath("/run/docker.sock", is_directory=False)])
    assert in_order(
        plan,
        [
            TakeTree("/run/docker.sock", "/run/docker.sock"),
            MountTmpfs("/run", size="20%"),
            MakeFile("/run/docker.sock"),
            PlaceTree("/run/docker.sock", "/run/docker.sock"),
        ],
    )


def test_plan_keeps_the_resolvers_configuration_readable_and_read_only() -> None:
    path = "/run/systemd/resolve/stub-resolv.conf"
    plan = plan_wide(facts(), BOX)
    assert in_order(
        plan,
        [
            TakeTree(f"own {path}", path, recursive=False),
            MountTmpfs("/run", size="20%"),
            PlaceTree(f"own {path}", path),
            SetAttributes(path, read_only=True),
        ],
    )


@pytest.mark.parametrize(
    ("cwd", "is_said"), [("/home/ann/src/shared", True), ("/home/ann/src", False), ("/usr", False), ("", False)]
)
def test_plan_says_where_the_working_directory_cannot_be_changed(cwd: str, is_said: bool) -> None:
    known = facts(place("/home/ann/src"), uid=1000)
    notes = plan_wide(replace(known, foreign_cwd=cwd), BOX).notes
    assert any(note.startswith(f"{cwd} belongs to another user, or to a second group") for note in notes) is is_said


def test_plan_for_a_user_covers_what_can_be_written_and_says_the_rest_is_read_only() -> None:
    plan = plan_wide(facts(place("/home/ann", children=("disk", "src")), place("/tmp"), uid=1000), BOX)
    assert [top.target for top in plan.tops] == ["/home/ann/src", "/tmp"]
    assert plan.userxattr
    assert plan.notes[0] == (
        "without root, only this is copy-on-write: /home/ann/src, /tmp; everything else is read-only"
    )
    assert any("/home/ann/disk" in note for note in plan.notes[1:])
    assert in_order(
        plan,
        [
            TakeTree("terminal", "/dev/pts/3", recursive=False),
            SetAttributes("/", read_only=True, nosuid=True, nodev=True, recursive=True),
            PlaceTree("terminal", "/dev/console"),
            PlaceTree("top 0", "/home/ann/src"),
            PlaceTree("top 1", "/tmp"),
            MaskDirectory("/var/lib/jubako"),
        ],
    )
    assert not any(isinstance(one, PivotRoot) for one in plan.operations)
    assert not any(isinstance(one, SetAttributes) and one.target == "/proc/sys" for one in plan.operations)


def test_plan_with_a_refused_place_leaves_it_out_and_keeps_the_other_numbers() -> None:
    plan = plan_wide(facts(), BOX, refused={"/home"})
    assert [(top.target, top.name) for top in plan.tops] == [
        ("/", "top 0"),
        ("/etc/hosts", "top 1"),
        ("/home/ann/disk", "top 3"),
    ]
    assert PlaceTree("/home", "/home") in plan.operations


def test_plan_stacks_a_kept_box_between_the_machine_and_the_new_tops() -> None:
    stacked = [
        Stacked("/home/ann", "/b/1/stacked/0"),
        Stacked("/home/ann", "/b/1/0/upper"),
        Stacked("/", "/b/1/1/upper"),
    ]
    plan = plan_wide(facts(), BOX, stacked=stacked)
    lowers = {top.target: top.lowers for top in plan.tops}
    assert lowers["/"] == ("/b/1/1/upper", "/")
    assert lowers["/home/ann"] == ("/b/1/stacked/0", "/b/1/0/upper", "/home/ann")
    assert lowers["/home"] == ("/home",)


def test_plan_for_a_user_lets_no_new_overlay_cover_what_a_kept_box_holds() -> None:
    plan = plan_wide(facts(place("/srv/ann/project"), uid=1000), BOX, stacked=[Stacked("/srv/ann", "/b/1/0/upper")])
    assert [(top.target, top.lowers) for top in plan.tops] == [("/srv/ann", ("/b/1/0/upper", "/srv/ann"))]


def test_cover_of_a_task_is_for_root_what_the_overlays_of_a_command_are() -> None:
    cover = plan_wide_cover(facts())
    assert cover.directories == ("/", "/home", "/home/ann/disk")
    assert cover.files == ("/etc/hosts",)
    assert cover.notes == ("read-only, since overlayfs does not stack on them: /mnt/nas (nfs4)",)


def test_cover_of_a_task_has_those_disks_in_run_that_its_template_shows() -> None:
    text = MOUNTS + "".join(
        f"{number} {parent} 8:{number} / {path} rw - ext4 /dev/sdc rw\n"
        for number, parent, path in ((7, 1, "/run/media/usb"), (8, 7, "/run/media/usb/inner"), (9, 1, "/run/bound"))
    )
    host = replace(facts().host, mounts=tuple(parse_mountinfo(text)), run_mounts=("/run/media/usb",))
    cover = plan_wide_cover(replace(facts(), host=host))
    assert cover.directories == ("/", "/home", "/home/ann/disk", "/run/media/usb", "/run/media/usb/inner")


def test_cover_of_a_task_without_what_the_kernel_refused_says_so() -> None:
    cover = plan_wide_cover(facts(), {"/home/ann/disk"})
    assert cover.directories == ("/", "/home")
    assert "/home/ann/disk (ext4)" in cover.notes[0]


def test_cover_of_a_users_task_is_what_the_user_can_write_and_its_own_below_what_is_not() -> None:
    places = (place("/tmp"), place("/tmp/theirs/mine"), place("/srv/ann"), place("/"))
    told = replace(facts(*places, uid=1000), foreign=frozenset({"/", "/tmp", "/tmp/theirs"}))
    cover = plan_wide_cover(told)
    assert cover.directories == ("/srv/ann", "/tmp", "/tmp/theirs/mine")
    assert cover.files == ()
