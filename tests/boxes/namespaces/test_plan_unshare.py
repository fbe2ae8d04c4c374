"""The steps that options lead to, their order, and what is refused."""

from __future__ import annotations

import pytest

from jubako.boxes.namespaces.plan_unshare import Caller, plan_unshare
from jubako.boxes.namespaces.unshare_options import Unshare
from jubako.errors import InputError
from jubako.kernel.idmap import IdRange, SubordinateRange

USER = Caller(uid=1000, gid=100, may_write_maps=False, lent_uids=SubordinateRange("u", 5000, 9))
ROOT = Caller(uid=0, gid=0, may_write_maps=True)


def steps(caller: Caller = USER, **options: object) -> tuple[str, ...]:
    return plan_unshare(Unshare(**options), caller).describe()  # type: ignore[arg-type]


def test_mount_namespace_is_private_unless_it_shall_be_otherwise() -> None:
    assert steps(new=["mount"]) == ("make a new mount namespace", "make / recursively private")
    assert steps(new=["mount"], propagation="unchanged") == ("make a new mount namespace",)
    assert steps(new=["uts"], propagation="slave") == ("make a new uts namespace",)


def test_everything_at_once_is_done_in_the_order_of_unshare() -> None:
    done = steps(
        ROOT,
        new=["pid", "time"],
        persist={"uts": "/f"},
        fork=True,
        map_user=0,
        map_group=0,
        keep_caps=True,
        mount_proc="/proc",
        root="/r",
        directory="d",
        uid=1,
        gid=2,
        monotonic_s=3,
        boottime_s=-4,
    )
    assert done == (
        "make new namespaces (mount, uts, pid, user, time)",
        "set the boottime clock off by -4 seconds",
        "set the monotonic clock off by 3 seconds",
        "start a child",
        "make the uts namespace persistent",
        "map users into the new user namespace",
        "deny setgroups",
        "map groups into the new user namespace",
        "make / recursively private",
        "change the root directory",
        "change the working directory",
        "mount proc",
        "set the group id 2",
        "set the user id 1",
        "keep the capabilities",
    )


def test_kill_child_and_forwarding_imply_a_fork() -> None:
    for options in ({"kill_child": 9}, {"forward_signals": True}):
        assert plan_unshare(Unshare(**options), USER).fork is not None  # type: ignore[arg-type]


def test_ranges_are_mapped_from_outside_by_a_program_or_by_who_may() -> None:
    by_program, by_itself = (
        plan_unshare(Unshare(map_users=[IdRange(0, 50, 9)], map_user=3), caller).maps for caller in (USER, ROOT)
    )
    assert [(one.program, one.ranges) for one in by_program] == [  # type: ignore[union-attr]
        ("newuidmap", (IdRange(0, 50, 3), IdRange(3, 1000, 1), IdRange(4, 53, 5)))
    ]
    assert by_itself[0].program is None  # type: ignore[union-attr]


def test_setgroups_beside_ranges_of_groups_is_said_before_they_are_mapped() -> None:
    done = steps(ROOT, map_groups=[IdRange(0, 0, 5)], setgroups="deny")
    assert done[1:3] == ("deny setgroups", "map groups into the new user namespace")


def test_owner_becomes_another_user_first_and_has_maps_written_for_it() -> None:
    plan = plan_unshare(Unshare(owner=(7, 8), map_user=0, map_group=0), ROOT)
    assert [step.describe() for step in plan.before_make] == ["set the group id 8", "set the user id 7"]
    assert [step.ranges for step in plan.maps] == [(IdRange(0, 0, 1),)] * 2  # type: ignore[union-attr]
    assert plan.after_fork == ()


def test_proc_is_made_private_first_where_the_rest_is_not() -> None:
    assert "make /proc recursively private" in steps(mount_proc="/proc", propagation="shared")
    assert "make /proc recursively private" not in steps(mount_proc="/proc", propagation="shared", root="/r")


@pytest.mark.parametrize(
    ("flags", "root", "order"),
    [
        ("F", "/r", ["mount binfmt_misc", "register", "change", "change", "mount proc", "mount binfmt_misc"]),
        ("", "/r", ["change", "change", "mount proc", "mount binfmt_misc", "register"]),
        ("F", None, ["mount proc", "mount binfmt_misc", "register"]),
    ],
)
def test_interpreter_that_is_opened_at_once_is_that_of_the_old_root(
    flags: str, root: str | None, order: list[str]
) -> None:
    done = steps(load_interp=f":x:M::y::/z:{flags}", root=root)
    assert done[0] == "make new namespaces (mount, user)"
    assert all(step.startswith(start) for step, start in zip(done[2:], order, strict=True)), done


def test_all_contradictions_are_refused_together() -> None:
    options = Unshare(monotonic_s=1, map_group=0, setgroups="allow", persist={"pid": "/p", "uts": ""})
    with pytest.raises(InputError) as caught:
        plan_unshare(options, USER)
    for part in ("--monotonic and --boottime", "--setgroups allow and --map-group", "add --fork", "--uts was given"):
        assert part in caught.value.message


def test_kind_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="no namespace of the kind 'mnt'"):
        steps(new=["mnt"])
