from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.overlay import Overlay, mount_overlay_classic
from jubako.kernel.overlay_mounting import mount_layers
from jubako.kernel.overlay_options import ShownLayers, format_layer_list, parse_layer_list, parse_shown_options

if TYPE_CHECKING:
    from tests.conftest import Runner

NAMES = st.text(min_size=1)


@given(st.lists(NAMES))
def test_parse_after_format_gives_the_paths_back(paths: list[str]) -> None:
    assert list(parse_layer_list(format_layer_list(paths))) == paths


@given(st.text())
def test_parse_takes_any_text_and_gives_no_empty_path(text: str) -> None:
    assert "" not in parse_layer_list(text)
    assert isinstance(parse_shown_options(text), ShownLayers)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("a:b", ("a", "b")),
        (r"a\:b:c", ("a:b", "c")),
        (r"a\\:b", ("a\\", "b")),
        ("a::b:", ("a", "b")),
        ("a,b", ("a,b",)),
        ("", ()),
        ("a\\", ("a\\",)),
    ],
)
def test_list_is_split_at_colons_that_no_backslash_precedes(text: str, paths: tuple[str, ...]) -> None:
    assert parse_layer_list(text) == paths


@pytest.mark.parametrize(
    ("shown", "layers"),
    [
        ("rw,lowerdir=/a:/b,upperdir=/u,workdir=/w", ShownLayers(("/a", "/b"), "/u", "/w")),
        (r"rw,lowerdir=/a\134::/b\054\040,volatile", ShownLayers(("/a:", "/b, "), volatile=True)),
        ("ro,lowerdir+=/a,lowerdir+=/b:c,fsync=volatile", ShownLayers(("/a", "/b:c"), volatile=True)),
        ("rw,lowerdir=/a:/b::/data,metacopy=on", ShownLayers(("/a", "/b"))),
        ("rw,lowerdir+=/a,datadir+=/data", ShownLayers(("/a",))),
        (r"rw,lowerdir=/a,upperdir=/u\134\054,workdir=/w\134\134", ShownLayers(("/a",), "/u,", "/w\\")),
        ("rw", ShownLayers()),
    ],
)
def test_options_of_a_mount_table_are_read(shown: str, layers: ShownLayers) -> None:
    assert parse_shown_options(shown) == layers


def mount_by_descriptor(overlay: Overlay, target: str) -> None:
    mount_layers(target, [str(lower) for lower in overlay.lowers], upper=str(overlay.upper), work=str(overlay.work))


@pytest.mark.box
@pytest.mark.parametrize("name", ["plain", "a:b,c=d", "back\\slash \n\t#", "\udcff\\040"])
@pytest.mark.parametrize("mount_it", [mount_by_descriptor, mount_overlay_classic])
def test_layers_are_read_from_what_the_kernel_shows(in_namespace: Runner, name: str, mount_it: object) -> None:
    def look() -> tuple[ShownLayers, ShownLayers]:
        assert callable(mount_it)
        for folder in ("low", "high", "up", "work", "merged"):
            os.makedirs(f"{name}/{folder}")
        top = f"/mnt/{name}"
        layers = Overlay((f"{top}/high", f"{top}/low"), f"{top}/up", f"{top}/work", os.geteuid() != 0)
        mount_it(layers, f"{name}/merged")
        (found,) = [mount for mount in read_mount_table() if mount.fstype == "overlay"]
        expected = ShownLayers((f"{top}/high", f"{top}/low"), f"{top}/up", f"{top}/work")
        return parse_shown_options(found.super_options), expected

    shown, expected = in_namespace(look)
    assert shown == expected
