"""Landlock: abstract Unix sockets of others are closed, one's own are not, and nothing is on a kernel without it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.landlock import landlock_abi, scope_abstract_sockets
from jubako.kernel.process import set_no_new_privs

if TYPE_CHECKING:
    from tests.conftest import Runner

SOURCE = Path(__file__).parents[2] / "src"
newer = pytest.mark.skipif(landlock_abi() < 6, reason="this kernel is older than 6.12, or has Landlock switched off")


def connects(name: str) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect(name)
        except PermissionError:
            return False
        return True


@newer
def test_abstract_socket_made_before_is_closed_and_one_made_after_is_not(in_user_child: Runner) -> None:
    def there() -> tuple[bool, bool, bool]:
        before, after = f"\0jubako-test-{os.getpid()}-before", f"\0jubako-test-{os.getpid()}-after"
        with socket.socket(socket.AF_UNIX) as first:
            first.bind(before)
            first.listen()
            was_open = connects(before)
            set_no_new_privs()
            assert scope_abstract_sockets()
            with socket.socket(socket.AF_UNIX) as second:
                second.bind(after)
                second.listen()
                return was_open, connects(before), connects(after)

    assert in_user_child(there) == (True, False, True)


@newer
def test_scope_needs_no_new_privileges_and_names_the_call(in_user_child: Runner) -> None:
    def there() -> str:
        try:
            scope_abstract_sockets()
        except PermissionError as error:
            return str(error)
        return f"allowed for uid {os.geteuid()}"

    assert in_user_child(there) in ("[Errno 1] landlock_restrict_self: Operation not permitted", "allowed for uid 0")


def test_kernel_without_landlock_closes_nothing_and_says_so() -> None:
    program = (
        "import errno, os\n"
        "from jubako.kernel.landlock import landlock_abi, scope_abstract_sockets\n"
        "from jubako.kernel.process import set_no_new_privs\n"
        "from jubako.kernel.seccomp import Rule, compile_filter, install_filter\n"
        "set_no_new_privs()\n"
        "install_filter(compile_filter({'landlock_create_ruleset': Rule(errno.ENOSYS)}, os.uname().machine))\n"
        "print(landlock_abi(), scope_abstract_sockets())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0 False\n"
