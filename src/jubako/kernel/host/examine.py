"""Looks at everything `jubako doctor` shows. What can be tried is tried for real, and nothing outlives it."""

from __future__ import annotations

import os
import sys
import time

from jubako.kernel.box_trial import try_box
from jubako.kernel.host.ability import Ability, HostReport
from jubako.kernel.host.calls import look_at_calls, look_at_filter
from jubako.kernel.host.overlays import look_at_overlays, look_at_top
from jubako.kernel.host.places import find_nearest_directory, look_at_durability, look_at_space
from jubako.kernel.host.programs import look_at_clock, look_at_network_programs, look_at_terminals
from jubako.kernel.host.resources import look_at_control_groups, look_at_limits, look_at_memory
from jubako.kernel.host.surroundings import describe_surroundings, find_cure, read_surroundings
from jubako.kernel.host.users import look_at_id_ranges, look_at_user_namespaces
from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.probe import BoxAbility, judge_trials, probe_can_box, try_boxes
from jubako.kernel.refusal import read_switches
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["examine_host"]


def examine_host(
    kept: Mapping[str, str], scratch: Mapping[str, str], *, environment: Mapping[str, str], box_id: str = ""
) -> HostReport:
    """Everything about this host. `environment` is this process's: PATH for helper programs, and marks of containers.

    `kept` are directories whose contents should survive, the first of them the one that boxes are kept in, `scratch`
    those where they need not: paths, by what they are called for people. They need not exist yet. `box_id` is that of
    the box this runs in, if it does: none can be made there.
    """
    if sys.platform != "linux":
        return HostReport("", "", False, False, "", (_describe_boxes(probe_can_box()),))
    path = environment.get("PATH", os.defpath)
    table = read_mount_table()
    around = read_surroundings(environment, table)
    if box_id:
        around = replace(around, container="box", version=box_id)
    switches = read_switches()
    if around.container:
        switches = replace(
            switches,
            filter_of=around.kind,
            filter_cure=find_cure(around.container, "filter"),
            proc_cure=find_cure(around.container, "proc"),
        )
    trials = try_boxes()
    box = judge_trials(trials, lambda: switches)
    if box_id:
        reason = f"this is box {box_id}, and boxes do not nest"
        box = BoxAbility(False, box.with_user_namespace, reason, "run what needs boxes outside of this one")
    rootless = next((trial for trial in trials if trial.with_user_namespace), None)
    if rootless is None:
        rootless = try_box(with_user_namespace=True)
        trials = [*trials, rootless]
    places = (*kept.items(), *scratch.items())
    abilities = (
        _describe_boxes(box),
        *describe_surroundings(around),
        *look_at_calls(),
        look_at_filter(),
        *look_at_user_namespaces(rootless, switches),
        look_at_id_ranges(path, has_no_new_privs=around.has_no_new_privs),
        *look_at_overlays(trials, switches),
        *(
            ability
            for name, place in [*kept.items()][:1]
            if box.works
            for ability in look_at_top(
                name, find_nearest_directory(place), table, with_user_namespace=box.with_user_namespace
            )
        ),
        look_at_control_groups(table),
        look_at_memory(table),
        *look_at_limits(table),
        *(look_at_space(name, place, table) for name, place in places),
        *look_at_durability(kept.values(), table),
        look_at_terminals(),
        *look_at_network_programs(path),
        *look_at_clock(time.time()),
    )
    return HostReport(os.uname().release, os.uname().machine, os.geteuid() == 0, box.works, around.container, abilities)


def _describe_boxes(box: BoxAbility) -> Ability:
    why = "tasks and commands run in them, so that what goes wrong changes nothing"
    if not box.works:
        return Ability("boxes", "boxes", "no", f"tasks cannot run in boxes: {box.reason}", why, box.cure)
    way = "in a user namespace" if box.with_user_namespace else "as root"
    return Ability("boxes", "boxes", "yes", f"tasks run in boxes {way}", why)
