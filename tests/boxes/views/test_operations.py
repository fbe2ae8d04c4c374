"""Operations say in one line what they do; every one can be performed."""

from __future__ import annotations

import typing

from jubako.boxes.mounts import IdMap
from jubako.boxes.views import apply, operations
from jubako.boxes.views.operations import (
    Bind,
    CopyFile,
    IdmapTree,
    MountOverlay,
    MountTmpfs,
    Operation,
    SetAttributes,
    SetPropagation,
    TakeTree,
)


def test_every_operation_can_be_performed() -> None:
    assert {*typing.get_args(Operation)} == {*apply._PERFORM}


def test_every_operation_is_public() -> None:
    assert {one.__name__ for one in typing.get_args(Operation)} <= {*operations.__all__}


def test_descriptions_name_the_paths_and_what_is_special() -> None:
    assert SetPropagation("/", "private").describe() == "make / with all below it private"
    assert SetAttributes("/x", read_only=True, nosuid=False).describe() == "make /x read-only, not nosuid"
    assert Bind("/a", "/b", recursive=True).describe() == "bind /a with all below it on /b"
    assert TakeTree("t", "/a", recursive=False).describe() == "take /a as 't'"
    assert IdmapTree("t", "/a", IdMap(uids=[(0, 1, 1)])).describe() == "map the owners of the files of /a"
    assert CopyFile("/a", "/b").describe() == "copy /a to /b"
    assert MountTmpfs("/t", "1m", 0o1777).describe() == "mount a tmpfs of 1m, mode 1777, on /t"
    assert MountOverlay(("/u", "/l"), "/m").describe() == "mount an overlay of /u:/l on /m read-only"
    assert MountOverlay(("/l",), "/m", "/u", "/w").describe() == "mount an overlay of /l on /m with top /u"
