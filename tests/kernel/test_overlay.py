from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.mount_table import find_mount, read_mount_table, unescape
from jubako.kernel.mounts import MountError
from jubako.kernel.overlay import (
    Overlay,
    format_options,
    has_lowerdir_plus,
    mount_overlay,
    mount_overlay_classic,
    open_overlay,
)

if TYPE_CHECKING:
    from tests.conftest import Runner

MOUNTERS = [mount_overlay, mount_overlay_classic]
HOSTILE = "a\\b,c:d=e \n\\040#\udcff"


def layers(place: str, **options: bool) -> Overlay:
    for name in ("low", "high", "up", "work", "merged"):
        os.makedirs(f"{place}/{name}")
    Path(f"{place}/low/both").write_text("low")
    Path(f"{place}/high/both").write_text("high")
    Path(f"{place}/low/only-low").write_text("low")
    return Overlay(
        lowers=(os.path.abspath(f"{place}/high"), os.path.abspath(f"{place}/low")),
        upper=os.path.abspath(f"{place}/up"),
        work=os.path.abspath(f"{place}/work"),
        userxattr=os.geteuid() != 0,
        **options,
    )


@pytest.mark.box
@pytest.mark.parametrize("place", ["plain", HOSTILE])
@pytest.mark.parametrize("mount_it", MOUNTERS)
def test_overlay_stacks_its_layers_whatever_their_names(
    in_namespace: Runner, place: str, mount_it: Callable[[Overlay, str], None]
) -> None:
    def use() -> tuple[str, str, bool, str]:
        mount_it(layers(place), f"{place}/merged")
        Path(f"{place}/merged/new").write_text("new")
        Path(f"{place}/merged/only-low").unlink()
        return (
            Path(f"{place}/merged/both").read_text(),
            Path(f"{place}/up/new").read_text(),
            stat.S_ISCHR(os.lstat(f"{place}/up/only-low").st_mode),
            Path(f"{place}/low/only-low").read_text(),
        )

    assert in_namespace(use) == ("high", "new", True, "low")


@pytest.mark.box
@pytest.mark.parametrize("mount_it", MOUNTERS)
def test_overlay_states_its_options_and_shows_whose_it_is(
    in_namespace: Runner, mount_it: Callable[[Overlay, str], None]
) -> None:
    def options() -> tuple[str, str, str, str]:
        mount_it(layers("x", volatile=True), "x/merged")
        found = find_mount(read_mount_table(), "/mnt/x/merged")
        assert found is not None
        return found.fstype, found.source, unescape(found.super_options), found.options

    fstype, source, options_shown, mount_options = in_namespace(options)
    assert (fstype, source) == ("overlay", "jubako")
    assert "upperdir=/mnt/x/up" in options_shown
    assert "volatile" in options_shown
    assert not {"index=on", "metacopy=on", "redirect_dir=on", "xino=on"} & set(options_shown.split(","))
    assert {"nosuid", "nodev"} <= set(mount_options.split(","))


@pytest.mark.box
def test_volatile_overlay_leaves_its_mark_in_the_work_directory(in_namespace: Runner) -> None:
    def second_mount() -> int | None:
        overlay = layers("x", volatile=True)
        os.close(open_overlay(overlay))
        with pytest.raises(MountError) as caught:
            open_overlay(overlay)
        return caught.value.errno

    assert in_namespace(second_mount) == errno.EINVAL


@pytest.mark.box
def test_overlay_without_upper_is_read_only(in_namespace: Runner) -> None:
    def write() -> int | None:
        full = layers("x")
        mount_overlay(Overlay(lowers=full.lowers), "x/merged")
        with pytest.raises(OSError, match="Read-only") as caught:
            Path("x/merged/new").touch()
        return caught.value.errno

    assert in_namespace(write) == errno.EROFS


@pytest.mark.box
def test_overlay_of_many_layers_works_the_new_way_and_is_refused_in_words_the_old(in_namespace: Runner) -> None:
    def stack() -> tuple[int, str]:
        for number in range(300):
            Path(f"layer-with-a-long-name-{number}").mkdir()
            Path(f"layer-with-a-long-name-{number}/f{number}").touch()
        Path("merged").mkdir()
        overlay = Overlay(lowers=tuple(f"/mnt/layer-with-a-long-name-{number}" for number in range(300)))
        mount_overlay(overlay, "merged")
        with pytest.raises(MountError) as caught:
            mount_overlay_classic(overlay, "merged")
        return len(os.listdir("merged")), str(caught.value)

    count, text = in_namespace(stack)
    assert count == 300
    assert text == "[Errno 7] mount: 300 layers do not fit a page: 'merged'"


@pytest.mark.box
def test_overlay_on_a_missing_layer_names_it(in_namespace: Runner) -> None:
    def message() -> str:
        with pytest.raises(MountError) as caught:
            open_overlay(Overlay(lowers=("/no/such/layer", "/usr")))
        return str(caught.value)

    assert in_namespace(message).startswith("[Errno 2] fsconfig lowerdir+=/no/such/layer: No such file or directory")


@pytest.mark.box
def test_lowerdir_plus_is_known_to_the_kernels_that_have_it(in_namespace: Runner) -> None:
    release = tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2])
    assert in_namespace(has_lowerdir_plus) == (release >= (6, 7))


def test_format_options_escapes_what_separates() -> None:
    overlay = Overlay(lowers=("/a:b", "/c,d"), upper="/u:p", work="/w\\k", userxattr=True, volatile=True)
    assert format_options(overlay) == (
        r"lowerdir=/a\:b:/c\,d,upperdir=/u:p,workdir=/w\\k,"
        "index=off,metacopy=off,xino=off,redirect_dir=nofollow,userxattr,volatile"
    )
