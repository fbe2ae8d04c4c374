from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from jubako.errors import ConflictError, HostError, InputError, JubakoError
from jubako.kernel.overlay import Overlay
from jubako.kernel.overlay_refusal import OpenedLayer, explain_mount_refusal, lies_within


def explain(number: int, layers: list[Path]) -> JubakoError:
    fds = [os.open(layer, os.O_RDONLY | os.O_CLOEXEC) for layer in layers]
    try:
        opened = [OpenedLayer(layer.name, fd) for layer, fd in zip(layers, fds, strict=True)]
        error = OSError(number, f"fsconfig create: {os.strerror(number)}")
        return explain_mount_refusal(error, Overlay(tuple(fds)), opened, (), "merged")
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize(
    ("number", "kind", "said", "hint"),
    [
        (errno.EPERM, HostError, "mounting on merged takes root's rights", "jubako unshare -rm"),
        (errno.EACCES, HostError, "mounting on merged takes root's rights", "jubako unshare -rm"),
        (errno.ENODEV, HostError, "this kernel has no overlays", "modprobe overlay"),
        (errno.ENOSYS, HostError, "this kernel has no overlays", "modprobe overlay"),
        (errno.EBUSY, ConflictError, "in use by another", ""),
        (errno.ELOOP, InputError, "lie in each other: top and inner", "none that is inside another"),
        (errno.EIO, HostError, "the kernel refuses this overlay", "dmesg"),
    ],
)
def test_refusal_names_the_call_and_the_cure(
    tmp_path: Path, number: int, kind: type[JubakoError], said: str, hint: str
) -> None:
    (tmp_path / "top/inner").mkdir(parents=True)
    error = explain(number, [tmp_path / "top", tmp_path / "top/inner"])
    assert type(error) is kind
    assert said in error.message
    assert f"(fsconfig create: {os.strerror(number)})" in error.message
    assert hint in error.hint


def test_path_lies_within_itself_and_what_is_above_but_not_in_a_namesake() -> None:
    assert lies_within("/a", "/a")
    assert lies_within("/a", "/a/b")
    assert lies_within("/", "/a")
    assert not lies_within("/a", "/ab")
    assert not lies_within("/a/b", "/a")
