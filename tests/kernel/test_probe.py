from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.filesystems import tmpfs
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.mounts import MOUNT_ATTR_RDONLY, attach
from jubako.kernel.probe import Ability, probe_can_box, probe_host

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


def test_host_report_explains_each_ability(in_user_child: Runner) -> None:
    report = in_user_child(lambda: probe_host({"here": "/", "root": "/"}, {"scratch": "/dev/shm"}))
    names = [ability.name for ability in report.abilities]
    assert report.can_box
    assert (names[0], len(names)) == ("boxes", len(set(names)))
    assert {"user namespaces", "seccomp", "control groups", "id ranges", "here", "scratch"} <= set(names)
    assert [name for name in names if name.startswith("durability")] == ["durability of /"]
    assert all(ability.meaning for ability in report.abilities)
    assert all(ability.cure for ability in report.abilities if ability.verdict == "no")


def find(abilities: tuple[Ability, ...], name: str) -> Ability:
    (found,) = (ability for ability in abilities if ability.name == name)
    return found


def test_host_report_on_places_tells_full_small_and_forbidden_ones(in_namespace: Runner) -> None:
    def probe() -> tuple[Ability, ...]:
        for name in ("small", "full", "read-only"):
            Path(name).mkdir()
        attach(tmpfs(size_bytes=1 << 20), "small")
        attach(tmpfs(size_bytes=4096), "full")
        Path("full/file").write_bytes(b"x" * 4096)
        attach(tmpfs(attributes=MOUNT_ATTR_RDONLY), "read-only")
        places = {name: f"/mnt/{name}/not/made/yet" for name in ("small", "full", "read-only")}
        return probe_host(places, {}).abilities

    abilities = in_namespace(probe)
    assert (find(abilities, "small").verdict, find(abilities, "small").meaning[:10]) == ("limited", "1 MiB free")
    assert find(abilities, "full").verdict == "no"
    assert find(abilities, "read-only").verdict == "no"
    assert "is memory" in find(abilities, "durability of /mnt/small").meaning


def test_elsewhere_than_on_linux_the_answer_is_a_sentence() -> None:
    code = (
        "import sys; sys.platform = 'darwin'\n"
        "from jubako.kernel.probe import probe_can_box, probe_host\n"
        "from jubako.kernel.namespaces import unshare\n"
        "print(probe_can_box().reason)\n"
        "print(probe_host({}, {}).abilities[0].verdict)\n"
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
