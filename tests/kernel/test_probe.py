from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.probe import probe_can_box

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box
SOURCE = Path(__file__).parents[2] / "src"


def test_can_box_works_as_root_and_as_an_ordinary_user(in_user_child: Runner) -> None:
    def probe() -> tuple[bool, bool, bool]:
        ability = probe_can_box()
        return ability.works, ability.with_user_namespace, os.geteuid() == 0

    works, with_user_namespace, is_root = in_user_child(probe)
    assert works
    assert with_user_namespace is not is_root


def test_can_box_where_namespaces_are_off_says_why_and_what_to_do(in_user_child: Runner) -> None:
    def probe() -> tuple[bool, str, str]:
        enter_user_namespace()
        os.chdir("/")
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        Path("/proc/sys/user/max_mnt_namespaces").write_text("0")
        ability = probe_can_box()
        return ability.works, ability.reason, ability.cure

    works, reason, cure = in_user_child(probe)
    assert not works
    assert "user.max_user_namespaces=0" in reason
    assert "sysctl" in cure


def test_elsewhere_than_on_linux_the_answer_is_a_sentence() -> None:
    code = (
        "import sys; sys.platform = 'darwin'\n"
        "from jubako.kernel.host.examine import examine_host\n"
        "from jubako.kernel.probe import probe_can_box\n"
        "from jubako.kernel.namespaces import unshare\n"
        "print(probe_can_box().reason)\n"
        "print(examine_host({}, {}, environment={}).abilities[0].verdict)\n"
        "try: unshare(0)\n"
        "except OSError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines() == [
        "boxes need Linux, and this is darwin",
        "no",
        "[Errno 38] unshare: Function not implemented",
    ]
