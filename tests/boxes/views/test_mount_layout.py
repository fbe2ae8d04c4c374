"""What becomes of the machine's mounts in root's wide view: found as a walk finds them, and sorted by what they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jubako.boxes.views.facts import HostFacts
from jubako.boxes.views.mount_layout import plan_mount_layout, visible_mounts
from jubako.kernel.mount_table import Mount, parse_mountinfo

ROOT = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"


def host(*lines: str, hidden: tuple[str, ...] = ()) -> HostFacts:
    text = ROOT + "".join(f"{line}\n" for line in lines)
    return HostFacts(uid=0, gid=0, in_user_namespace=False, mounts=tuple(parse_mountinfo(text)), hidden=hidden)


def walk(table: list[Mount], path: str) -> Mount:
    """The mount that the directory `path` is on: a step at a time, as the kernel looks it up."""
    current = [mount for mount in table if mount.parent_id == 0][-1]
    position = "/"
    while True:
        on_top = [m for m in table if m.parent_id == current.id and m.mount_point == position]
        if on_top and position != "/":  # a process keeps the root it has
            current = on_top[-1]
        elif position == path:
            return current
        else:
            rest = path[len(position.rstrip("/")) + 1 :]
            position = f"{position.rstrip('/')}/{rest.split('/')[0]}"


points = st.lists(st.sampled_from("abc"), max_size=3).map(lambda names: "/" + "/".join(names))


@given(st.lists(points, max_size=6))
def test_visible_mounts_of_any_history_are_those_a_walk_meets(mounted: list[str]) -> None:
    table = parse_mountinfo(ROOT)
    for number, point in enumerate(mounted, start=2):  # mount(2) puts the new mount on whatever the path leads to
        parent = walk(table, point)
        table += parse_mountinfo(f"{number} {parent.id} 0:{number} / {point} rw - tmpfs t rw\n")
    met = {walk(table, point).id for point in ["/", *mounted]}
    seen = visible_mounts(table)
    assert {mount.id for mount in seen} == met
    position = {mount.id: number for number, mount in enumerate(seen)}
    assert all(position[m.parent_id] < position[m.id] for m in seen if m.parent_id in position)


def test_layout_of_a_desktop_gives_each_disk_its_own_overlay_and_leaves_the_kernels_out() -> None:
    layout = plan_mount_layout(
        host(
            "2 1 0:2 / /proc rw - proc proc rw",
            "3 1 0:3 / /sys rw - sysfs sysfs rw",
            "4 3 0:4 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
            "5 1 0:5 / /dev rw - devtmpfs udev rw",
            "6 5 0:6 / /dev/shm rw - tmpfs tmpfs rw",
            "7 1 0:7 / /run rw - tmpfs tmpfs rw",
            "8 7 0:8 / /run/user/1000 rw - tmpfs tmpfs rw",
            "9 7 8:17 / /run/media/ann/stick rw - ext4 /dev/sdb1 rw",
            "10 1 8:2 / /home rw - btrfs /dev/sda2 rw",
            "11 10 8:3 / /home/ann/video rw - xfs /dev/sda3 rw",
            "12 1 8:2 /ann/src /srv/src rw - btrfs /dev/sda2 rw",
            "13 1 0:9 / /tmp rw - tmpfs tmpfs rw",
            "14 1 0:10 / /srv/chroot/proc rw - proc proc rw",
        )
    )
    assert layout.overlays == ("/", "/home", "/home/ann/video", "/run/media/ann/stick", "/srv/src", "/tmp")
    assert (layout.read_only, layout.files, layout.notes) == ((), (), ())


def test_layout_of_what_cannot_be_stacked_is_read_only_and_says_so() -> None:
    layout = plan_mount_layout(
        host(
            "2 1 0:2 / /mnt/nas rw - nfs4 nas:/ rw",
            "3 1 8:5 / /boot/efi rw - vfat /dev/sda5 rw",
            "4 1 0:4 / /snap/core/1 ro - squashfs /dev/loop0 ro",
            "5 1 8:6 / /data rw - ext4 /dev/sda6 rw",
        ),
        refused={"/data"},
    )
    assert layout.overlays == ("/",)
    assert layout.read_only == ("/boot/efi", "/data", "/mnt/nas", "/snap/core/1")
    assert layout.notes == (
        "read-only, since overlayfs does not stack on them: /boot/efi (vfat), /data (ext4), /mnt/nas (nfs4)",
    )


def test_layout_in_a_container_copies_single_files() -> None:
    layout = plan_mount_layout(
        host(
            "2 1 8:9 /c/hosts /etc/hosts rw - ext4 /dev/sdb rw",
            "3 1 8:9 /c/resolv.conf /etc/resolv.conf ro - ext4 /dev/sdb rw",
            "4 1 8:9 /v /data rw - ext4 /dev/sdb rw",
        ),
        file_points={"/etc/hosts", "/etc/resolv.conf"},
    )
    assert layout.overlays == ("/", "/data")
    assert layout.files == ("/etc/hosts",)
    assert layout.read_only == ("/etc/resolv.conf",)


def test_layout_leaves_out_other_containers_and_jubakos_own_state() -> None:
    layout = plan_mount_layout(
        host(
            "2 1 0:2 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw",
            "3 1 8:9 / /var/lib/jubako rw - ext4 /dev/sdb rw",
            "4 3 0:4 / /var/lib/jubako/deep rw - tmpfs t rw",
            hidden=("/var/lib/jubako",),
        )
    )
    assert layout.overlays == ("/",)
    assert layout.read_only == ()


def test_layout_has_a_copy_of_a_file_bound_over_another_and_leaves_a_socket_as_it_is() -> None:
    machine = host("2 1 8:9 /h /etc/hosts rw - ext4 /dev/sdb rw", "3 1 0:3 /s /app.sock rw - tmpfs tmpfs rw")
    layout = plan_mount_layout(machine, ["/etc/hosts"], special_points=["/app.sock"])
    assert (layout.overlays, layout.files, layout.read_only) == (("/",), ("/etc/hosts",), ("/app.sock",))
    assert layout.notes == ()


def test_layout_leaves_single_files_out_that_were_bound_in_run() -> None:
    machine = host(
        "2 1 8:9 /c /run/.containerenv rw - ext4 /dev/sdb rw", "3 1 8:9 /s /run/d.sock rw - ext4 /dev/sdb rw"
    )
    layout = plan_mount_layout(machine, ["/run/.containerenv"], special_points=["/run/d.sock"])
    assert (layout.overlays, layout.files, layout.read_only) == (("/",), (), ())
