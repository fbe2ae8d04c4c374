from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.box_trial import Step, Trial
from jubako.kernel.host.ability import Ability
from jubako.kernel.host.users import look_at_id_ranges, look_at_user_namespaces
from jubako.kernel.mounts import MS_BIND, mount
from jubako.kernel.refusal import Switches

if TYPE_CHECKING:
    from tests.conftest import Runner

WORKED = Trial(True)
REFUSED = Trial(True, Step.USER_NAMESPACE, 1, "Operation not permitted")


def rows(trial: Trial, switches: Switches) -> dict[str, Ability]:
    return {row.name: row for row in look_at_user_namespaces(trial, switches)}


def test_switches_that_a_kernel_lacks_have_no_row_and_each_other_one_has_its_own() -> None:
    assert "unprivileged_userns_clone" not in rows(WORKED, Switches())
    assert rows(WORKED, Switches(unprivileged_userns_clone=1))["unprivileged_userns_clone"].verdict == "yes"


def test_switch_that_forbids_user_namespaces_has_its_cure() -> None:
    found = rows(REFUSED, Switches(unprivileged_userns_clone=0))
    assert found["user namespaces"].cure == "as root: sysctl -w kernel.unprivileged_userns_clone=1"
    assert found["unprivileged_userns_clone"].cure == "as root: sysctl -w kernel.unprivileged_userns_clone=1"
    assert found["user namespaces"].verdict == ("limited" if os.geteuid() == 0 else "no")


def test_apparmor_is_limited_only_where_it_refuses_this_program() -> None:
    assert rows(REFUSED, Switches(apparmor_restricts=1))["AppArmor"].verdict == "limited"
    assert rows(WORKED, Switches(apparmor_restricts=1))["AppArmor"].verdict == "yes"
    assert rows(WORKED, Switches())["AppArmor"].meaning == "does not restrict user namespaces"


@pytest.mark.box
def test_count_of_namespaces_that_is_too_low_is_named_with_its_cure(in_namespace: Runner) -> None:
    def probe() -> Ability:
        from jubako.kernel.idmap import enter_user_namespace

        enter_user_namespace()
        Path("/proc/sys/user/max_net_namespaces").write_text("3")
        return rows(WORKED, Switches())["counts of namespaces"]

    found = in_namespace(probe)
    assert (found.verdict, found.meaning) == ("limited", "user.max_net_namespaces=3")
    assert found.cure == "as root: sysctl -w user.max_net_namespaces=15000"


def make_programs(mode: int) -> str:
    os.mkdir("bin")
    for name in ("newuidmap", "newgidmap"):
        Path(f"bin/{name}").touch()
        os.chmod(f"bin/{name}", mode)
    return "/mnt/bin"


def lend(*paths: str, nobody: bool = False) -> None:
    for path in paths:
        Path("lent").write_text("" if nobody else f"{os.getuid()}:100000:65536\n")
        mount("/mnt/lent", path, "", MS_BIND)


@pytest.mark.box
@pytest.mark.parametrize("lacks", ["ranges", "programs", "their rights", "new privileges", "nothing"])
def test_id_ranges_name_what_an_ordinary_user_lacks(in_namespace: Runner, lacks: str) -> None:
    def probe() -> tuple[bool, Ability]:
        path = "/nowhere" if lacks == "programs" else make_programs(0o755 if lacks == "their rights" else 0o4755)
        for name in ("/etc/subuid", "/etc/subgid"):
            assert os.path.exists(name), f"{name} is missing: apt-get install uidmap"
        lend("/etc/subuid", "/etc/subgid", nobody=lacks == "ranges")
        found = look_at_id_ranges(path, has_no_new_privs=lacks == "new privileges")
        return os.getuid() == 0, found

    is_root, found = in_namespace(probe)
    said = {
        "ranges": ("no range in /etc/subuid and /etc/subgid", "usermod --add-subuids"),
        "programs": ("newuidmap and newgidmap are missing", "install uidmap"),
        "their rights": ("neither the set-id bit nor capabilities", "chmod u+s /mnt/bin/newuidmap"),
        "new privileges": ("newuidmap gains no rights in this process", "no_new_privs"),
        "nothing": ("ranges of ids and the programs to map them are there", ""),
    }
    meaning, cure = ("root may map any id", "") if is_root else said[lacks]
    assert meaning in found.meaning
    assert cure in found.cure
    assert found.verdict == ("yes" if is_root or lacks == "nothing" else "limited")
