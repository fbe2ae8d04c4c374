from __future__ import annotations

import pytest

from jubako.kernel.host.surroundings import Surroundings, describe_surroundings, find_cure, name_container
from jubako.records import replace

ALL = (1 << 41) - 1
SYS_ADMIN = 1 << 21
PLAIN = Surroundings(bounding=ALL, root_type="ext4")


@pytest.mark.parametrize(
    ("environment", "exists", "texts", "expected"),
    [
        ({}, set(), {}, ("", "")),
        ({}, {"/.dockerenv"}, {}, ("docker", "")),
        ({"container": "podman"}, {"/run/.containerenv"}, {}, ("podman", "")),
        ({}, {"/run/.containerenv"}, {"/run/.containerenv": 'engine="podman-4.3.1"\nname="x"'}, ("podman", "4.3.1")),
        ({}, {"/.dockerenv", "/run/.containerenv"}, {}, ("podman", "")),  # podman makes both, for who looks for docker
        ({}, set(), {"/proc/1/environ": "PATH=/bin\0container=lxc\0"}, ("lxc", "")),
        ({"container": "systemd-nspawn"}, set(), {}, ("systemd-nspawn", "")),
        ({}, set(), {"/run/systemd/container": "systemd-nspawn"}, ("systemd-nspawn", "")),
        ({}, set(), {"/run/host/container-manager": "lxc-libvirt"}, ("lxc-libvirt", "")),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {"/.dockerenv"}, {}, ("kubernetes", "")),
        ({}, set(), {"/proc/1/cgroup": "0::/kubepods/besteffort/x"}, ("kubernetes", "")),
        ({}, {"/.flatpak-info"}, {}, ("flatpak", "")),
        ({"SNAP": "/snap/x/7", "SNAP_REVISION": "7"}, set(), {}, ("snap", "7")),
        ({}, set(), {"/proc/sys/kernel/osrelease": "5.15.0-microsoft-standard-WSL2"}, ("wsl", "")),
    ],
)
def test_container_is_named_by_the_marks_its_engine_leaves(
    environment: dict[str, str], exists: set[str], texts: dict[str, str], expected: tuple[str, str]
) -> None:
    assert name_container(environment, exists, texts) == expected


def test_surroundings_without_any_mark_are_one_row_that_lacks_nothing() -> None:
    (row,) = describe_surroundings(PLAIN)
    assert (row.name, row.verdict, row.meaning) == ("container", "yes", "no container shows")


def test_container_that_takes_nothing_away_says_so() -> None:
    (row,) = describe_surroundings(replace(PLAIN, container="docker"))
    assert (row.verdict, row.meaning) == ("yes", "runs in docker, which takes away nothing that is needed")


@pytest.mark.parametrize(
    ("change", "name", "part", "cure"),
    [
        ({"bounding": ALL & ~SYS_ADMIN}, "capabilities", "CAP_SYS_ADMIN cannot be had", "--cap-add SYS_ADMIN"),
        ({"bounding": 0}, "capabilities", "CAP_SYS_ADMIN, CAP_SYS_CHROOT", "--cap-add SYS_ADMIN"),
        ({"is_filtered": True}, "system call filter", "runs under one", "seccomp=unconfined"),
        ({"has_no_new_privs": True}, "new privileges", "set-id programs gain nothing", "no-new-privileges"),
        ({"covered": ("/proc/kcore", "/proc/keys")}, "/proc", "/proc/kcore, /proc/keys", "systempaths=unconfined"),
        ({"covered": tuple("abcde")}, "/proc", "a, b, c and 2 more", "systempaths=unconfined"),
        ({"uid_map": "0 100000 65536"}, "user ids", "0 100000 65536", "--userns=host"),
        ({"profile": "docker-default (enforce)"}, "security profile", "docker-default", "apparmor=unconfined"),
        ({"root_type": "overlay"}, "root file system", "/ is overlay", "-v VOLUME"),
    ],
)
def test_each_thing_that_is_taken_away_has_a_row_with_the_way_to_get_it_back(
    change: dict[str, object], name: str, part: str, cure: str
) -> None:
    first, row = describe_surroundings(replace(PLAIN, container="docker", **change))
    assert (first.verdict, first.meaning) == ("limited", f"runs in docker, which takes away: {name}")
    assert (row.name, row.verdict) == (name, "limited")
    assert part in row.meaning
    assert cure in row.cure


def test_what_is_taken_away_shows_where_no_container_does() -> None:
    first, row = describe_surroundings(replace(PLAIN, is_filtered=True))
    assert (first.verdict, row.verdict, row.cure) == ("yes", "limited", "start this outside of what confines it")


@pytest.mark.parametrize("container", ["docker", "podman", "lxc", "systemd-nspawn", "kubernetes", "flatpak", ""])
@pytest.mark.parametrize("what", ["filter", "proc", "capabilities", "ids", "profile", "privileges", "root"])
def test_every_container_has_a_cure_for_everything(container: str, what: str) -> None:
    assert find_cure(container, what)
