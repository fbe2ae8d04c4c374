"""Which directories a job gets copy-on-write, from facts that are plain values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jubako.boxes.views.cover import plan_cover
from jubako.boxes.views.facts import HostFacts, Place, is_below, mount_id_of
from jubako.kernel.mount_table import parse_mountinfo

MOUNTS = (
    "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "2 1 8:2 / /home rw - ext4 /dev/sda2 rw\n"
    "3 2 8:3 / /home/ann/disk rw - ext4 /dev/sda3 rw\n"
    "4 1 8:4 / /mnt/cd ro - iso9660 /dev/sr0 ro\n"
    "5 1 8:5 / /mnt/stick rw - vfat /dev/sdb1 rw\n"
    "6 1 0:6 / /run rw - tmpfs tmpfs rw\n"
    "7 6 8:7 / /run/media/ann/usb rw - ext4 /dev/sdc1 rw\n"
)


def facts(*, in_user_namespace: bool = False, hidden: tuple[str, ...] = ()) -> HostFacts:
    return HostFacts(
        uid=1000,
        gid=1000,
        in_user_namespace=in_user_namespace,
        mounts=tuple(parse_mountinfo(MOUNTS)),
        hidden=hidden,
        run_mounts=("/run/media/ann/usb",),
    )


def place(path: str, *, writable: bool = True, children: tuple[str, ...] = (), unmapped: tuple[str, ...] = ()) -> Place:
    return Place(path, "", f"the place {path}", writable, children, unmapped)


def test_cover_of_nested_places_is_the_outermost_alone() -> None:
    cover = plan_cover([place("/srv/a/b"), place("/srv/a"), place("/srv/a/b/c"), place("/srv/ab")], facts())
    assert cover.directories == ("/srv/a", "/srv/ab")
    assert cover.notes == ()


def test_cover_of_a_place_on_another_mount_inside_one_has_both() -> None:
    cover = plan_cover([place("/home/ann"), place("/home/ann/disk/out")], facts())
    assert cover.directories == ("/home/ann", "/home/ann/disk/out")


def test_cover_of_a_place_at_or_below_a_directory_of_a_foreign_group_has_it_too() -> None:
    shared, inner = place("/srv/a/shared", unmapped=("/srv/a/shared",)), "/srv/a/shared/in"
    below = place(inner, unmapped=("/srv/a/shared",))
    around = place("/srv/a")
    machine = facts(in_user_namespace=True)
    assert plan_cover([around, shared], machine).directories == ("/srv/a", "/srv/a/shared")
    assert plan_cover([around, below], machine).directories == ("/srv/a", inner)
    assert plan_cover([around, shared, below], machine).directories == ("/srv/a", "/srv/a/shared")


def test_cover_of_a_directory_of_a_foreign_group_alone_is_one_overlay() -> None:
    shared = place("/srv/shared", unmapped=("/srv/shared", "/srv"))
    assert plan_cover([shared, place("/srv/shared/in")], facts(in_user_namespace=True)).directories == ("/srv/shared",)


def test_cover_of_a_place_that_cannot_be_written_is_nothing_and_no_news() -> None:
    cover = plan_cover([place("/etc", writable=False), place("/mnt/cd")], facts())
    assert cover == plan_cover([], facts())


def test_cover_of_the_root_directory_says_so() -> None:
    cover = plan_cover([place("/")], facts())
    assert cover.directories == ()
    assert cover.notes == ("the place /: in / a task writes through a target only, not by name",)


def test_cover_leaves_what_every_view_replaces() -> None:
    assert plan_cover([place("/run/user/1000"), place("/dev/shm"), place("/proc/1")], facts()).directories == ()


def test_cover_of_a_removable_disk_below_run_is_the_disk() -> None:
    assert plan_cover([place("/run/media/ann/usb/out")], facts()).directories == ("/run/media/ann/usb/out",)


def test_cover_of_a_file_system_without_lower_layers_says_so() -> None:
    cover = plan_cover([place("/mnt/stick")], facts())
    assert cover.directories == ()
    assert "overlayfs cannot stack on vfat" in cover.notes[0]


def test_cover_of_jubakos_own_state_says_so() -> None:
    cover = plan_cover([place("/srv/state/x"), place("/srv/statement")], facts(hidden=("/srv/state",)))
    assert cover.directories == ("/srv/statement",)
    assert "inside jubako's own state" in cover.notes[0]


def test_cover_without_what_the_kernel_refused_says_so() -> None:
    cover = plan_cover([place("/srv/a"), place("/srv/b")], facts(), refused={"/srv/a"})
    assert cover.directories == ("/srv/b",)
    assert "the kernel refused an overlay" in cover.notes[0]


def test_cover_in_a_user_namespace_is_split_around_a_locked_mount() -> None:
    home = place("/home/ann", children=("disk", "src", "work"))
    cover = plan_cover([home, place("/home/ann/src/x")], facts(in_user_namespace=True))
    assert cover.directories == ("/home/ann/src", "/home/ann/work")
    assert "only 2 of its directories" in cover.notes[0]
    assert "/home/ann/disk" in cover.notes[0]


def test_cover_that_would_take_too_many_overlays_is_read_only_and_says_so() -> None:
    home = place("/home/ann", children=tuple(f"d{number}" for number in range(40)))
    cover = plan_cover([home], facts(in_user_namespace=True))
    assert cover.directories == ()
    assert "it is read-only" in cover.notes[0]


def test_cover_tells_each_note_once() -> None:
    assert len(plan_cover([place("/"), place("/")], facts()).notes) == 1


paths = st.lists(st.sampled_from(["home", "ann", "disk", "srv", "a", "b"]), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@given(st.lists(paths, max_size=8))
def test_cover_as_root_has_every_place_once_and_never_one_inside_another(wanted: list[str]) -> None:
    machine = facts()
    directories = plan_cover([place(path) for path in wanted], machine).directories
    for path in wanted:
        covering = [one for one in directories if is_below(path, one)]
        assert [one for one in covering if mount_id_of(one, machine) == mount_id_of(path, machine)]
    for one in directories:
        for other in directories:
            if one != other and is_below(one, other):
                assert mount_id_of(one, machine) != mount_id_of(other, machine)
    assert list(directories) == sorted(directories)
