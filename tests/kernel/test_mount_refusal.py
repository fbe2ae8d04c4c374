from __future__ import annotations

import errno
import os

import pytest

from jubako.errors import HostError, InputError, JubakoError
from jubako.kernel.mount_refusal import explain_propagation_refusal, explain_table_refusal
from jubako.kernel.mount_table import parse_mountinfo

TABLE = parse_mountinfo("1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /srv rw - tmpfs x rw\n")


@pytest.mark.parametrize(
    ("number", "kind", "said", "hint"),
    [
        (errno.ENOENT, InputError, "x: mount_setattr: No such file", "jubako mounts"),
        (errno.EINVAL, InputError, "x is not a mount point; it lies on the mount at /srv", "mounts set /srv slave"),
        (errno.EPERM, HostError, "without root's rights over this mount namespace", "jubako unshare -rm"),
        (errno.ENOMEM, HostError, "x: mount_setattr: Cannot allocate", "jubako doctor"),
    ],
)
def test_refused_change_names_call_path_and_cure(number: int, kind: type[JubakoError], said: str, hint: str) -> None:
    refused = OSError(number, f"mount_setattr: {os.strerror(number)}")
    error = explain_propagation_refusal(refused, "x", "/srv/x", TABLE, "slave")
    assert type(error) is kind
    assert said in error.message
    assert "mount_setattr" in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("number", "pid", "kind", "said"),
    [
        (errno.ENOENT, 7, InputError, "there is no process 7"),
        (errno.ESRCH, 7, InputError, "there is no process 7"),
        (errno.EINVAL, 7, InputError, "process 7 has ended"),
        (errno.EACCES, 7, HostError, "the mounts of process 7 cannot be read"),
        (errno.ENOENT, None, HostError, "the mount table cannot be read"),
    ],
)
def test_table_that_cannot_be_read_names_the_process(
    number: int, pid: int | None, kind: type[JubakoError], said: str
) -> None:
    error = explain_table_refusal(OSError(number, os.strerror(number)), pid)
    assert type(error) is kind
    assert said in error.message
    assert error.hint
