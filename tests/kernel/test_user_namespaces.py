"""User namespaces made for their maps: what they hold, in whatever pid namespace, and that nothing is left of it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.children import fork_child, wait_for
from jubako.kernel.idmap import IdRange, parse_id_map
from jubako.kernel.namespaces import CLONE_NEWPID, CLONE_NEWUSER, setns, unshare
from jubako.kernel.user_namespaces import open_user_namespace

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = [pytest.mark.box, pytest.mark.skipif(os.geteuid() != 0, reason="only root may map ids of others")]

UIDS = (IdRange(0, 1000, 1), IdRange(5, 2000, 10))
GIDS = (IdRange(0, 0, 0xFFFFFFFF),)


def maps_of(fd: int) -> tuple[tuple[IdRange, ...], tuple[IdRange, ...]]:
    """The maps of the user namespace `fd`, as somebody outside reads them of a process in it."""
    heard, told = os.pipe()
    ended, end = os.pipe()

    def enter() -> int:
        os.close(end)
        setns(fd, CLONE_NEWUSER)
        os.write(told, b".")
        os.read(ended, 1)
        return 0

    child = fork_child(enter)
    os.close(told)
    os.read(heard, 1)
    texts = [open(f"/proc/{child}/{kind}_map").read() for kind in ("uid", "gid")]  # noqa: SIM115
    for one in (end, ended, heard):
        os.close(one)
    wait_for(child)
    return parse_id_map(texts[0]), parse_id_map(texts[1])


def test_namespace_has_the_maps_and_nobody_lives_in_it(in_child: Runner) -> None:
    def use() -> tuple[object, list[str]]:
        before = os.listdir("/proc/self/fd")
        fd = open_user_namespace(UIDS, GIDS)
        found = maps_of(fd)
        os.close(fd)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        return found, sorted({*os.listdir("/proc/self/fd")} ^ {*before})

    assert in_child(use) == ((UIDS, GIDS), [])


def test_namespace_is_made_where_proc_knows_processes_by_other_numbers(in_child: Runner) -> None:
    def use() -> int:
        unshare(CLONE_NEWPID)
        return wait_for(fork_child(lambda: os.close(open_user_namespace(UIDS, GIDS)) or 0))

    assert in_child(use) == 0


def test_map_of_others_is_refused_to_an_ordinary_user(in_child: Runner) -> None:
    def use() -> tuple[int | None, list[str]]:
        os.setresuid(54321, 54321, 54321)
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError) as caught:
            open_user_namespace(UIDS, GIDS)
        return caught.value.errno, sorted({*os.listdir("/proc/self/fd")} ^ {*before})

    code, left = in_child(use)
    assert (code in (errno.EPERM, errno.EACCES), left) == (True, [])


def test_limit_on_user_namespaces_is_said_by_the_call_that_meets_it(in_child: Runner) -> None:

    def refused() -> tuple[int | None, str | None]:
        for _ in range(40):  # they may be 32 deep
            fd = None
            try:
                fd = open_user_namespace((IdRange(0, 0, 1),), (IdRange(0, 0, 1),))
                setns(fd, CLONE_NEWUSER)
            except OSError as error:
                return error.errno, error.strerror
            finally:
                if fd is not None:
                    os.close(fd)
        return None, None

    assert in_child(refused) == (errno.ENOSPC, "unshare: No space left on device")


def test_namespace_that_does_not_nest_has_no_room_for_another(in_child: Runner) -> None:
    def use(*, nests: bool) -> int | None:
        fd = open_user_namespace(GIDS, GIDS, nests=nests)
        setns(fd, CLONE_NEWUSER)
        try:
            unshare(CLONE_NEWUSER)
        except OSError as error:
            return error.errno
        return None

    assert in_child(lambda: use(nests=True)) is None
    assert in_child(lambda: use(nests=False)) == errno.ENOSPC
