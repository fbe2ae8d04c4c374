"""The classic ways out of a container, tried from inside every kind of box; SECURITY.md says what each row means.

Numbers in the headings are those of the table there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.views.capabilities import ROOT_CAPABILITIES
from jubako.kernel.capabilities import capability_number, capget
from jubako.kernel.landlock import landlock_abi
from system.security.conftest import SOMEBODY, attack

if TYPE_CHECKING:
    from tests.system.security.conftest import Attacked, Site

pytestmark = pytest.mark.box
REFUSALS = {"EPERM", "EACCES", "EROFS", "ENOENT"}
IS_ROOT = os.geteuid() == 0


def expected_rights(attacked: Attacked) -> int:
    if not attacked.keeps_rights:
        return 0
    return sum(1 << capability_number(name) for name in ROOT_CAPABILITIES) & capget().permitted


# --- 1, 2, 15: other processes and what they hold open ---------------------------------------------------------------


def test_interpreter_that_runs_cannot_be_written(attacked: Attacked) -> None:
    assert attacked["runtime_program"]["first"] in REFUSALS
    assert attacked["runtime_program"]["self"] in REFUSALS | {"ETXTBSY"}


def test_interpreter_that_is_replaced_in_the_box_is_the_same_as_before_outside(attacked: Attacked) -> None:
    said = attacked["replace_interpreter"]
    assert said == "None" if attacked.keeps_rights else said in REFUSALS
    assert attacked.has_old_interpreter


def test_no_directory_of_the_machine_is_held_open_in_the_box(attacked: Attacked) -> None:
    assert attacked["own_descriptors"] == []
    assert attacked["enter_descriptors"] == {}


def test_going_up_from_any_directory_of_any_process_never_leaves_the_box(attacked: Attacked) -> None:
    assert attacked["climb_out"] == "tried"
    assert attacked.left == []


def test_first_process_of_the_box_is_closed_to_what_runs_in_it(attacked: Attacked) -> None:
    results = attacked["first_process"]
    assert results and set(results.values()) <= REFUSALS, results


def test_process_outside_can_neither_be_seen_nor_ended(attacked: Attacked) -> None:
    assert attacked["victim"] == {"kill": "ESRCH", "look": "ENOENT"}
    assert attacked["other_commands"] == []
    assert attacked.site.victim.poll() is None


# --- 4, 5, 7: the kernel's own files ---------------------------------------------------------------------------------


def test_files_that_change_the_kernel_cannot_be_opened_for_writing(attacked: Attacked) -> None:
    results = attacked["kernel_files"]
    assert "EROFS" in results.values() or not attacked.is_root  # some of them are there
    assert {path: found for path, found in results.items() if found not in REFUSALS} == {}


def test_memory_of_the_machine_cannot_be_read(attacked: Attacked) -> None:
    assert set(attacked["memory_of_the_machine"].values()) <= REFUSALS


def test_what_masks_other_files_is_the_null_device(attacked: Attacked) -> None:
    assert attacked["null_device"] == [1, 3]


# --- 6: the terminal -------------------------------------------------------------------------------------------------


def test_nothing_can_be_typed_into_a_terminal(attacked: Attacked) -> None:
    assert set(attacked["terminal"].values()) == {"EPERM"}
    assert len(attacked["terminal"]) == 5


# --- 8, 9, 13, 27: rights --------------------------------------------------------------------------------------------


def test_rights_are_what_the_box_keeps_and_no_more(attacked: Attacked) -> None:
    found = dict(attacked["rights"])
    assert (found.pop("NoNewPrivs"), found.pop("Seccomp")) == ("1", "2")
    assert set(found.values()) == {f"{expected_rights(attacked):016x}"}


def test_programs_that_give_rights_outside_give_none_in_the_box(attacked: Attacked) -> None:
    uid = str(attacked.site.bench.uid)
    unchanged = {"Uid": " ".join([uid] * 4), "Gid": " ".join([uid] * 4), "CapEff": attacked["rights"]["CapEff"]}
    names = ("setuid", "setgid", "capable") if IS_ROOT else ()
    assert attacked["gain_rights"] == dict.fromkeys(names, unchanged)


if IS_ROOT:  # only root can make such programs, and the device

    def test_programs_and_device_do_what_they_are_for_outside(site: Site) -> None:
        def field(program: str, name: str) -> str:
            """What the program's status says of its effective rights."""
            said = site.as_user(str(site.programs / program), "/proc/self/status").stdout
            (line,) = [line for line in said.splitlines() if line.startswith(name)]
            return line.split()[2 if name in ("Uid:", "Gid:") else 1]

        whose = str(SOMEBODY if site.bench.user == "root" else 0)
        assert field("setuid", "Uid:") == whose
        assert field("setgid", "Gid:") == whose
        assert int(field("capable", "CapEff:"), 16) >> capability_number("CAP_SYS_ADMIN") & 1
        assert site.as_user("head", "-c", "2", str(site.programs / "zero")).stdout == "\0\0"


def test_groups_that_are_denied_something_cannot_be_left(attacked: Attacked) -> None:
    """Leaving a group would open files that its members may not read; root may, which needs no such way."""
    assert attacked["groups"] == ("None" if attacked.keeps_rights else "EPERM")


def test_limits_cannot_be_raised(attacked: Attacked) -> None:
    assert attacked["limits"] in ("EPERM", "ValueError: not allowed to raise maximum limit")


# --- 10, 11, 12, 16: system calls ------------------------------------------------------------------------------------


def test_calls_on_the_list_are_refused(attacked: Attacked) -> None:
    assert set(attacked["refused_calls"].values()) == {"EPERM"}
    assert {"keyctl", "add_key", "ptrace", "bpf", "open_by_handle_at"} <= set(attacked["refused_calls"])


def test_namespaces_do_not_nest(attacked: Attacked) -> None:
    results = dict(attacked["namespaces"])
    assert results.pop("clone3") == "ENOSYS"
    assert set(results.values()) == {"EPERM"}


def test_other_conventions_of_calling_are_no_way_around(attacked: Attacked) -> None:
    assert attacked["other_conventions"] == {"32 bits": "SIGSYS", "x32": "ENOSYS"}


def test_mounts_are_refused_and_none_shows_outside(attacked: Attacked) -> None:
    assert set(attacked["mounts"].values()) == {"EPERM"}
    assert attacked.mounts == []


# --- 14: sockets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["task", "command"])
def test_without_the_network_abstract_sockets_and_loopback_of_the_machine_are_out_of_reach(
    site: Site, kind: str
) -> None:
    assert attack(site, kind, abstract_sockets=True)["sockets"] == {"abstract": "None", "loopback": "None"}
    found = attack(site, kind, network="none", abstract_sockets=True)["sockets"]
    assert found == {"abstract": "ECONNREFUSED", "loopback": "ECONNREFUSED"}


def test_with_the_network_abstract_sockets_of_the_machine_are_closed_where_the_kernel_can(attacked: Attacked) -> None:
    closed = "EPERM" if landlock_abi() >= 6 else "None"
    is_apart = attacked.kind == "strict command"  # in a network of its own, where neither is
    expected = ("ECONNREFUSED", "ECONNREFUSED") if is_apart else (closed, "None")
    assert attacked["sockets"] == dict(zip(("abstract", "loopback"), expected, strict=True))


# --- 17, 18: devices and marks ---------------------------------------------------------------------------------------


def test_devices_can_neither_be_made_nor_opened_where_they_lie_about(attacked: Attacked) -> None:
    results = dict(attacked["devices"])
    assert results.pop("open one", "EACCES") == "EACCES"
    assert set(results.values()) == {"EPERM"}


def test_marks_of_overlays_cannot_be_forged_and_capabilities_of_files_are_for_who_has_them(attacked: Attacked) -> None:
    results = dict(attacked["attributes"])
    assert results.pop("security.capability") == ("None" if attacked.keeps_rights else "EPERM")
    assert set(results.values()) == {"EPERM"}
