"""The tops of a task's view as a plan: what each covers, what is put back on it, and where in them a path is."""

from __future__ import annotations

import pytest

from jubako.boxes.views.facts import HostFacts, KnownPath
from jubako.boxes.views.operations import (
    Bind,
    CopyAttributes,
    CopyFile,
    MakeDirectory,
    MountOverlay,
    Operation,
    PivotRoot,
    PlaceTree,
    TakeTree,
)
from jubako.boxes.views.plan_tops import (
    SCRATCH,
    Overlay,
    find_top,
    list_private_tops,
    plan_overlays,
    plan_top_directories,
    plan_tops,
)
from jubako.kernel.mount_table import parse_mountinfo

STATE = "/home/ann/.local/state/jubako"
MOUNTS = (
    "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "2 1 8:2 / /home rw - ext4 /dev/sda2 rw\n"
    "3 2 8:3 / /home/ann/disk rw - ext4 /dev/sda3 rw\n"
    "4 1 0:9 / /mnt/nas rw - nfs4 nas:/ rw\n"
    "5 1 8:9 /h /etc/hosts rw - ext4 /dev/sdb rw\n"
    "6 1 0:6 / /proc rw - proc proc rw\n"
    "7 1 0:7 / /sys rw - sysfs sysfs rw\n"
)
WIDE = ("/", "/home", "/home/ann/disk", "/run")
FACTS = HostFacts(
    uid=0,
    gid=0,
    in_user_namespace=False,
    mounts=tuple(parse_mountinfo(MOUNTS)),
    hidden=(STATE,),
    run_files=("/run/systemd/resolve/stub-resolv.conf",),
    run_mounts=("/run/media/ann/usb",),
    masked_directories=("/var/run",),
    control_sockets=("/var/lib/incus/unix.socket",),
)


def wide(*shared: KnownPath) -> tuple[Overlay, ...]:
    return plan_tops(WIDE, ("/etc/hosts",), shared, FACTS)


def operations(*shared: KnownPath) -> list[Operation]:
    return [*plan_top_directories(wide(*shared)), *plan_overlays(wide(*shared), volatile=True, userxattr=False)]


def test_tops_are_in_order_and_each_has_its_upper() -> None:
    assert [(one.target, one.upper, one.is_file, one.is_private) for one in wide()] == [
        ("/", "upper-0", False, False),
        ("/etc/hosts", "upper-1", True, False),
        ("/home", "upper-2", False, False),
        ("/home/ann/disk", "upper-3", False, False),
        ("/run", "upper-4", False, True),
    ]


def test_root_gets_back_what_the_machine_and_the_template_have_mounted_in_it() -> None:
    root = wide()[0]
    others = ("/dev", "/mnt/nas", "/proc", "/sys", "/var/lib/incus/unix.socket", "/var/run")
    assert sorted(root.kept) == sorted((*others, "/etc/hosts", "/home", "/run"))
    assert sorted(root.holes) == sorted(others)


def test_run_gets_back_the_scratch_and_what_the_template_has_put_there() -> None:
    assert wide(KnownPath("/run/docker.sock", is_directory=False))[-1].kept == (
        "/run/docker.sock",
        "/run/jubako",
        "/run/media/ann/usb",
        "/run/systemd/resolve/stub-resolv.conf",
    )


def test_root_is_put_together_aside_and_becomes_the_root_when_all_else_is_in_place() -> None:
    plan = operations()
    root = f"{SCRATCH}/root"
    assert plan[-1] == PivotRoot(root)
    (overlay,) = (one for one in plan if isinstance(one, MountOverlay) and one.lowers == ("/",))
    assert (overlay.target, overlay.upper, overlay.work) == (root, f"{SCRATCH}/upper-0", f"{SCRATCH}/work-0")
    at = plan.index(overlay)
    assert not [one for one in plan[at + 1 :] if not isinstance(one, PlaceTree | PivotRoot)]
    for path in ("/proc", "/home", "/etc/hosts", "/run"):
        assert plan.index(TakeTree(path, path)) < at < plan.index(PlaceTree(path, root + path))
    assert plan.index(MakeDirectory(root)) < at


def test_file_is_copied_and_the_copy_takes_its_place() -> None:
    plan = operations()
    copy = f"{SCRATCH}/upper-1/hosts"
    at = plan.index(CopyFile("/etc/hosts", copy))
    assert plan[at - 1 : at + 2] == [
        CopyAttributes("/etc", f"{SCRATCH}/upper-1"),
        CopyFile("/etc/hosts", copy),
        Bind(copy, "/etc/hosts"),
    ]
    assert plan.index(Bind(copy, "/etc/hosts")) < plan.index(TakeTree("/etc/hosts", "/etc/hosts"))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/srv/x", "upper-0/srv/x"),
        ("/", "upper-0/"),
        ("/etc/hosts", "upper-1/hosts"),
        ("/etc/hostsx", "upper-0/etc/hostsx"),
        ("/home", "upper-2"),
        ("/home/ann/x", "upper-2/ann/x"),
        ("/home/ann/disk/new/x", "upper-3/new/x"),
        ("/run/app/x", "upper-4/app/x"),
        ("/run/media/ann/usb/x", None),
        ("/dev/shm/x", "view/shm/x"),
        ("/dev/x", None),
        ("/mnt/nas/x", None),
        (f"{STATE}/x", None),
        ("/data/x", None),
    ],
)
def test_path_is_found_in_the_top_of_the_file_system_it_lies_on(path: str, found: str | None) -> None:
    top = find_top(path, wide(KnownPath("/data", is_directory=True)))
    assert (None if top is None else top.find(path)) == found


def test_path_outside_every_top_is_found_nowhere() -> None:
    narrow = plan_tops(("/home/ann",), (), (), FACTS)
    assert find_top("/srv/x", narrow) is None
    assert find_top("/home/ann/disk/x", narrow) is None, "a disk that is read-only there"
    assert find_top("/run/x", narrow) is None
    assert find_top("/home/ann/x", narrow) == narrow[0]


def test_private_tops_are_run_where_it_can_be_written_and_shared_memory() -> None:
    assert [one.target for one in list_private_tops(wide())] == ["/dev/shm", "/run"]
    assert [one.target for one in list_private_tops(plan_tops(("/home/ann",), (), (), FACTS))] == ["/dev/shm"]
