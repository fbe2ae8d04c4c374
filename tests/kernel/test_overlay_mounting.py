from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bystander import bystander
from jubako.errors import ConflictError, HostError, InputError, JubakoError
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.mount_table import find_mount, read_mount_table, unescape
from jubako.kernel.mounts import MS_BIND, MS_RDONLY, MS_REMOUNT, attach, mount
from jubako.kernel.namespaces import CLONE_NEWNS, unshare
from jubako.kernel.overlay import Overlay, has_lowerdir_plus, mount_overlay
from jubako.kernel.overlay_mounting import find_overlays_of, mount_layers, needs_userxattr, unmount_layers
from jubako.kernel.overlay_options import parse_shown_options
from jubako.kernel.process import set_no_new_privs
from jubako.kernel.seccomp import Rule, compile_filter, install_filter

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box
HOSTILE = "a\\b,c:d=e \n\\040#\udcff"


def make(*names: str) -> None:
    for name in names:
        os.makedirs(name, exist_ok=True)


def refusal(function: Callable[[], object]) -> JubakoError:
    try:
        function()
    except JubakoError as error:
        return error
    raise AssertionError("nothing was refused")


def writable(**options: bool) -> Overlay:
    make("low", "up", "work", "merged")
    return mount_layers("merged", ["low"], upper="up", work="work", **options)


def test_layers_with_any_names_are_stacked_the_first_on_top(in_namespace: Runner) -> None:
    def use() -> tuple[str, str, list[str], bool]:
        os.mkdir(HOSTILE)
        os.chdir(HOSTILE)
        make("x:1", "y,2", "u p", "w=", "merged")
        Path("x:1/a").write_text("x")
        Path("y,2/a").write_text("y")
        Path("y,2/b").write_text("y")
        mount_layers("merged", ["x:1", "y,2"], upper="u p", work="w=")
        os.unlink("merged/b")
        Path("merged/c").touch()
        gone = os.lstat("u p/b")
        return (
            Path("merged/a").read_text(),
            Path("y,2/b").read_text(),
            sorted(os.listdir("u p")),
            stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0,
        )

    assert in_namespace(use) == ("x", "y", ["b", "c"], True)


def test_five_hundred_layers_are_mounted_and_one_more_is_refused(in_namespace: Runner) -> None:
    def use() -> tuple[int, str]:
        names = [f"layer-with-a-rather-long-name-{number}" for number in range(501)]
        make("merged", *names)
        for name in names:
            Path(f"{name}/{name}").touch()
        mount_layers("merged", names[:500])
        return len(os.listdir("merged")), refusal(lambda: mount_layers("merged", names)).message

    assert in_namespace(use) == (500, "501 lower directories were given, and an overlay has 500 at most")


def test_layers_by_descriptor_work_on_kernels_that_take_paths_only(in_namespace: Runner) -> None:
    def use() -> tuple[str, list[str]]:
        make("x:1", "up\\", "work", "merged")
        Path("x:1/a").write_text("x")
        set_no_new_privs()
        # FSCONFIG_SET_FD is command 5
        install_filter(compile_filter({"fsconfig": Rule(errno.EINVAL, argument=1, equal_to=(5,))}, os.uname().machine))
        mount_layers("merged", ["x:1"], upper="up\\", work="work")
        found = find_mount(read_mount_table(), "/mnt/merged")
        assert found is not None
        return Path("merged/a").read_text(), unescape(found.super_options).split(",")

    text, options = in_namespace(use)
    assert text == "x"
    assert {"lowerdir+=/mnt/x:1", "upperdir=/mnt/up\\\\"} <= set(options)


def forget_the_kernel() -> None:
    """Has what the kernel can do asked again, in this process: another test may have asked before."""
    for cell in getattr(has_lowerdir_plus, "__closure__", ()):
        if isinstance(cell.cell_contents, list):
            cell.cell_contents.clear()


def test_layers_by_descriptor_work_by_the_classic_call(in_namespace: Runner) -> None:
    def use() -> tuple[str, list[str]]:
        make("x:1", "up,", "work", "merged")
        Path("x:1/a").write_text("x")
        set_no_new_privs()
        install_filter(compile_filter({"fsopen": Rule(errno.ENOSYS)}, os.uname().machine))
        forget_the_kernel()
        mount_layers("merged", ["x:1"], upper="up,", work="work")
        (found,) = find_overlays_of("up,")
        return Path("merged/a").read_text(), list(parse_shown_options(found.super_options).lowers)

    assert in_namespace(use) == ("x", ["/mnt/x:1"])


def test_overlay_of_lowers_alone_is_read_only(in_namespace: Runner) -> None:
    def write() -> int | None:
        make("low", "high", "merged")
        mount_layers("merged", ["high", "low"])
        with pytest.raises(OSError, match="Read-only") as caught:
            Path("merged/new").touch()
        return caught.value.errno

    assert in_namespace(write) == errno.EROFS


def test_mounted_overlay_is_told_with_paths_without_links(in_namespace: Runner) -> None:
    def use() -> Overlay:
        make("low")
        os.symlink("low", "link")
        make("up", "work", "merged")
        return mount_layers("merged", ["link"], upper="up", work="work")

    mounted = in_namespace(use)
    assert (mounted.lowers, mounted.upper, mounted.work) == (("/mnt/low",), "/mnt/up", "/mnt/work")


def test_marks_are_kept_where_a_user_namespace_may_have_them(in_child: Runner) -> None:
    def ask() -> tuple[bool, bool]:
        before = needs_userxattr()
        enter_user_namespace(CLONE_NEWNS)
        return before, needs_userxattr()

    assert in_child(ask)[1] is True


def test_options_go_before_those_that_are_stated(in_namespace: Runner) -> None:
    def use() -> str:
        make("low", "up", "work", "merged")
        option = ("redirect_dir", "on") if not needs_userxattr() else ("xino", "auto")
        mount_layers("merged", ["low"], upper="up", work="work", options=[option])
        found = find_mount(read_mount_table(), "/mnt/merged")
        assert found is not None
        return found.super_options if option[0] == "redirect_dir" else "redirect_dir=on"

    assert "redirect_dir=on" in in_namespace(use).split(",")


def test_everything_wrong_is_said_at_once(in_namespace: Runner) -> None:
    def use() -> tuple[str, str]:
        make("low")
        Path("file").touch()
        error = refusal(lambda: mount_layers("gone", ["low", "none", "file"], upper="up", options=[("lowerdir", "x")]))
        assert isinstance(error, InputError)
        return error.message, error.hint

    message, hint = in_namespace(use)
    assert message.split("; ") == [
        "an upper directory needs a work directory, an empty one on the same file system",
        "lowerdir cannot be set as an option",
        "none: No such file or directory",
        "file: Not a directory",
        "up: No such file or directory",
        "gone, to mount it on, is not there",
    ]
    assert "--help" in hint


REFUSED: dict[str, tuple[Callable[[], object], type[JubakoError], str, str]] = {
    "no lower": (lambda: mount_layers("merged", []), InputError, "no lower directory was given", "--help"),
    "one lower alone": (lambda: mount_layers("merged", ["low"]), InputError, "needs two lower directories", "--help"),
    "volatile and read-only": (
        lambda: mount_layers("merged", ["low", "high"], volatile=True),
        InputError,
        "volatile is for overlays that can be written",
        "--help",
    ),
    "work alone": (lambda: mount_layers("merged", ["low", "high"], work="work"), InputError, "none was given", ""),
    "one twice": (
        lambda: mount_layers("merged", ["low", "low"]),
        InputError,
        "lie in each other: low and low (fsconfig create: Too many levels",
        "Name each once",
    ),
    "one in another": (
        lambda: mount_layers("merged", ["low/in", "high", "low"]),
        InputError,
        "lie in each other: low/in and low",
        "none that is inside another",
    ),
    "work in upper": (
        lambda: mount_layers("merged", ["low"], upper="up", work="up/in"),
        InputError,
        "up and up/in must not lie in each other",
        "",
    ),
    "two file systems": (
        lambda: mount_layers("merged", ["low"], upper="up", work="other"),
        InputError,
        "other is not on the same file system, by the same mount, as up",
        "",
    ),
    "unknown option": (
        lambda: mount_layers("merged", ["low", "high"], options=[("sparkle", "on")]),
        HostError,
        "Unknown parameter 'sparkle'",
        "dmesg",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_words(in_namespace: Runner, case: str) -> None:
    function, kind, message, hint = REFUSED[case]

    def use() -> JubakoError:
        make("low/in", "high", "up/in", "work", "merged", "other")
        attach(tmpfs(), "other")
        return refusal(function)

    error = in_namespace(use)
    assert type(error) is kind
    assert message in error.message
    assert hint in error.hint


def test_upper_on_an_overlay_is_refused_with_where_to_put_it(in_namespace: Runner) -> None:
    def use() -> tuple[str, str]:
        writable()
        make("merged/up", "merged/work", "second")
        error = refusal(lambda: mount_layers("second", ["low"], upper="merged/up", work="merged/work"))
        return error.message, error.hint

    message, hint = in_namespace(use)
    assert message.startswith("merged/up is on an overlay, which cannot be written through another (fsconfig upperdir")
    assert "tmpfs" in hint


def test_upper_that_is_mounted_already_is_a_conflict(in_namespace: Runner) -> None:
    def use() -> JubakoError:
        writable()
        assert [found.mount_point for found in find_overlays_of("up")] == ["/mnt/merged"]
        make("second", "work2")
        return refusal(lambda: mount_layers("second", ["low"], upper="up", work="work2"))

    error = in_namespace(use)
    assert isinstance(error, ConflictError)
    assert error.message == "up is the upper directory of the overlay at /mnt/merged already"
    assert error.hint.endswith("jubako overlay umount /mnt/merged")


def test_upper_that_is_mounted_in_another_namespace_is_a_conflict(in_namespace: Runner) -> None:
    def use() -> tuple[int, JubakoError]:
        make("low", "up", "work", "merged")
        with bystander(lambda: (unshare(CLONE_NEWNS), writable())) as pid:
            assert find_overlays_of("up") == []
            return pid, refusal(writable)

    pid, error = in_namespace(use)
    assert isinstance(error, ConflictError)
    assert error.message.startswith("up is the upper directory of the overlay at /mnt/merged of ")
    assert error.message.endswith(f" ({pid}) already")


def test_what_a_volatile_overlay_left_is_refused_with_what_to_remove(in_namespace: Runner) -> None:
    def use() -> tuple[bool, str, str]:
        writable(volatile=True)
        was_volatile = unmount_layers("merged").volatile
        error = refusal(writable)
        shutil.rmtree(error.hint.rpartition("rm -r ")[2])
        writable()
        return was_volatile, error.message, error.hint

    was_volatile, message, hint = in_namespace(use)
    assert was_volatile
    assert message.startswith("up is what a volatile overlay left")
    assert hint.endswith("rm -r /mnt/work/work/incompat/volatile")


def test_lower_with_mounts_below_is_refused_in_a_user_namespace(in_child: Runner) -> None:
    def use() -> tuple[str, str]:
        enter_user_namespace(CLONE_NEWNS)
        attach(tmpfs(), "/mnt")
        os.chdir("/mnt")
        make("up", "work", "merged")
        error = refusal(lambda: mount_layers("merged", ["/"], upper="up", work="work"))
        return error.message, error.hint

    message, hint = in_child(use)
    assert message.startswith("/ has something mounted below it, which this user namespace must not uncover")
    assert "without mounts below" in hint


def test_user_without_rights_is_told_of_a_namespace_of_its_own(in_user_child: Runner, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for folder in (tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)

    def use() -> tuple[str, str]:
        if os.geteuid() == 0:
            return "takes root's rights (fsopen", "jubako unshare -rm"
        os.chdir(tmp_path)
        make("low", "up", "work", "merged")
        error = refusal(writable)
        return error.message, error.hint

    message, hint = in_user_child(use)
    assert "takes root's rights (fsopen" in message
    assert "jubako unshare -rm" in hint


def test_failed_mount_leaves_no_descriptor_and_no_mount(in_namespace: Runner) -> None:
    def use() -> tuple[int, int]:
        make("low", "merged")
        before = len(os.listdir("/proc/self/fd"))
        refusal(lambda: mount_layers("merged", ["low", "low"]))
        refusal(lambda: mount_layers("gone", ["low", "low"], upper="low", work="none"))
        mounted = sum(found.fstype == "overlay" for found in read_mount_table())
        return len(os.listdir("/proc/self/fd")) - before, mounted

    assert in_namespace(use) == (0, 0)


# --- unmounting ------------------------------------------------------------------------------------------------------


def test_unmounting_uncovers_the_directory_and_leaves_what_was_written(in_namespace: Runner) -> None:
    def use() -> tuple[list[str], list[str]]:
        writable()
        Path("merged/new").touch()
        layers = unmount_layers("merged")
        assert (layers.lowers, layers.upper) == (("/mnt/low",), "/mnt/up")
        return os.listdir("merged"), os.listdir("up")

    assert in_namespace(use) == ([], ["new"])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere", "nowhere is not there"),
        ("plain", "nothing is mounted on plain"),
        ("other", "other is no overlay but tmpfs"),
    ],
)
def test_unmounting_what_is_no_overlay_is_refused(in_namespace: Runner, target: str, message: str) -> None:
    def use() -> JubakoError:
        make("plain", "other")
        attach(tmpfs(), "other")
        return refusal(lambda: unmount_layers(target))

    error = in_namespace(use)
    assert isinstance(error, InputError)
    assert error.message == message


def test_unmounting_what_is_in_use_names_who_and_goes_through_lazily(in_namespace: Runner) -> None:
    def use() -> tuple[str, str, bool]:
        writable()
        with bystander(lambda: os.chdir("merged")) as pid:
            error = refusal(lambda: unmount_layers("merged"))
            unmount_layers("merged", lazy=True)
            still = any(found.fstype == "overlay" for found in read_mount_table())
        return error.message.replace(str(pid), "PID"), error.hint, still

    message, hint, is_still_there = in_namespace(use)
    assert message.startswith("merged is in use: by ")
    assert "(PID) (umount2: Device or resource busy)" in message
    assert hint.endswith("jubako overlay umount --lazy merged")
    assert not is_still_there


def test_unmounting_below_which_something_is_mounted_names_that(in_namespace: Runner) -> None:
    def use() -> str:
        writable()
        make("merged/in")
        attach(tmpfs(), "merged/in")
        return refusal(lambda: unmount_layers("merged")).message

    assert "/mnt/merged/in is mounted below it" in in_namespace(use)


def test_unmounting_what_was_mounted_outside_of_the_user_namespace_is_explained(in_namespace: Runner) -> None:
    def use() -> str:
        writable()
        enter_user_namespace(CLONE_NEWNS)
        return refusal(lambda: unmount_layers("merged")).message

    assert "was mounted outside this user namespace" in in_namespace(use)


def test_read_only_mount_cannot_hold_the_upper_directory(in_namespace: Runner) -> None:
    def use() -> JubakoError:
        make("place", "low", "merged")
        attach(tmpfs(), "place")
        make("place/up", "place/work")
        mount("", "place", "", MS_REMOUNT | MS_BIND | MS_RDONLY)
        return refusal(lambda: mount_layers("merged", ["low"], upper="place/up", work="place/work"))

    assert isinstance(in_namespace(use), HostError)


def test_third_overlay_on_overlays_is_explained(in_namespace: Runner) -> None:
    def use() -> str:
        make("low", "high", "1", "2", "3")
        mount_overlay(Overlay(("/mnt/low", "/mnt/high")), "1")
        make("x")
        mount_overlay(Overlay(("/mnt/1", "/mnt/x")), "2")
        return refusal(lambda: mount_layers("3", ["2", "x"])).message

    assert "stacked on one another twice at most" in in_namespace(use)
