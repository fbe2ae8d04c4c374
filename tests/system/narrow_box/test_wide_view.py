"""What a job with Box(Host(whole=True)) sees, may do and leaves: as root everywhere, else where this user can write."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jubako.boxes.job import Finished, Job
from jubako.boxes.spec import Box, Host, StagedOutput
from jubako.boxes.views.capabilities import ROOT_CAPABILITIES
from jubako.boxes.workers.worker import Worker
from jubako.kernel import mounts
from jubako.kernel.capabilities import capability_number
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.mount_table import parse_mountinfo
from jubako.kernel.namespaces import CLONE_NEWNS, unshare

if TYPE_CHECKING:
    from tests.conftest import Runner
    from tests.system.narrow_box.conftest import Bench

pytestmark = pytest.mark.box
WIDE = Box(Host(whole=True))
HERE = Path(__file__).parent
DEADLINE_S = 30


def elsewhere(bench: Bench) -> Path:
    """A folder that the narrow view shows read-only and that this user can write in."""
    if bench.user == "rootless":
        return Path("/var/tmp")
    folder = bench.top / f"elsewhere-{bench.work.name}"
    if not folder.exists():
        bench.make_folder(folder)
    return folder


def stray(bench: Bench) -> Path:
    return elsewhere(bench) / f"jubako-{os.getpid()}-{bench.work.name}"


def test_write_where_the_narrow_view_has_none_stays_in_the_box_and_is_told(bench: Bench) -> None:
    path = stray(bench)
    assert bench.run("write", json.dumps({str(path): "x"})).outcome == "failed"
    ran = bench.run("write", json.dumps({str(path): "x", str(bench.work / "near"): "y"}), box=WIDE)
    assert ran.outcome == "ok", ran.finished.error
    assert ran.undeclared == sorted([str(path), str(bench.work / "near")])
    assert not path.exists()
    assert os.listdir(bench.work) == []
    assert bench.run("shell", f"ls {path} 2>&1 | grep -c 'No such file'", box=WIDE).report == "1\n"


def test_deletions_anywhere_are_changes(bench: Bench) -> None:
    path = stray(bench)
    bench.make_folder(path)
    bench.make_file(path / "old", "old")
    bench.make_file(bench.work / "near")
    try:
        ran = bench.run("shell", f"rm -r {path} near; ls -d {path}", box=WIDE)
        assert "No such file" in ran.report
        kinds = {change.path: change.kind for change in ran.finished.undeclared}
        assert kinds == {str(path): "deleted", str(bench.work / "near"): "deleted"}
        assert (path / "old").read_text() == "old"
    finally:
        (path / "old").unlink()
        path.rmdir()


def test_undeclared_write_anywhere_is_refused_or_handed_over_as_the_box_says(bench: Bench) -> None:
    path = stray(bench)
    payload = json.dumps({str(path): "x"})
    refused = bench.run("write", payload, box=Box(Host(whole=True), undeclared="fail"))
    assert refused.outcome == "failed"
    assert refused.finished.error == f"wrote {path}, which it did not declare"
    handed = bench.run("write", payload, box=Box(Host(whole=True), undeclared="publish"))
    assert Path(handed.finished.undeclared_in + str(path)).read_text() == "x"


@pytest.mark.parametrize("way", ["write", "write_staged"])
def test_output_is_staged_however_and_wherever_it_is_written(bench: Bench, way: str) -> None:
    paths = [bench.work / "new/deep/out", stray(bench), Path(f"/dev/shm/{stray(bench).name}")]
    ran = bench.run(way, json.dumps({str(path): path.name for path in paths}), paths, box=WIDE, check="accept")
    assert ran.outcome == "ok", ran.finished.error
    assert {path: ran.staged[str(path)].read_text() for path in paths} == {path: path.name for path in paths}
    assert (ran.undeclared, ran.finished.scratch_dropped) == ([], 0)
    assert not any(path.exists() for path in paths)


def test_directory_output_is_a_fresh_directory_at_its_path(bench: Bench) -> None:
    path = stray(bench)
    ran = bench.run("shell", f"ls -A {path}; echo x >{path}/x", [(path, "directory")], box=WIDE)
    assert ran.report == ""
    assert (ran.staged[str(path)] / "x").read_text() == "x\n"
    assert ran.undeclared == []
    assert not path.exists()


def test_check_sees_the_result_and_cannot_change_anything(bench: Bench) -> None:
    for way in ("write", "write_staged"):
        path = stray(bench)
        ran = bench.run(way, json.dumps({str(path): "content"}), [path], box=WIDE, check="check_frozen")
        assert ran.outcome == "ok", ran.finished.error
    ran = bench.run("nothing", json.dumps({str(stray(bench)): "x"}), box=WIDE, check="write")
    assert ran.outcome == "check"
    assert "is read-only in this box" in ran.finished.error


def test_scratch_is_counted_and_tmpdir_is_the_jobs_own(bench: Bench) -> None:
    ran = bench.run(
        "shell",
        "touch $TMPDIR/a /tmp/jubako-b /dev/shm/c; stat -c %a $TMPDIR",
        box=Box(Host(whole=True), scratch="disk"),
    )
    assert ran.report == "700\n"
    assert (ran.finished.scratch_dropped, ran.undeclared) == (3, [])


def test_state_processes_and_devices_are_hidden_as_in_the_narrow_view(bench: Bench) -> None:
    script = f"ls -A {bench.state}; ls /run; ls /dev; cat /proc/1/comm"
    narrow, wide = bench.run("shell", script), bench.run("shell", script, box=WIDE)
    assert wide.report == narrow.report
    for path in (bench.state / "x", "/dev/x", "/proc/sys/kernel/core_pattern", "/sys/x"):
        assert bench.run("write", json.dumps({str(path): "x"}), box=WIDE).outcome == "failed", path


def test_failed_job_is_kept_with_all_it_wrote(bench: Bench) -> None:
    path, keep = stray(bench), bench.top / f"kept-{bench.work.name}"
    bench.make_folder(keep)
    ran = bench.run("shell", f"echo x >{path}; echo y >/dev/shm/y; kill -9 $PPID", box=WIDE, keep_in=str(keep))
    assert ran.outcome == "failed"
    layers = json.loads((keep / "box.json").read_text())["layers"]
    assert "/run" not in [layer["target"] for layer in layers]
    layer = max((one for one in layers if str(path).startswith(one["target"])), key=lambda one: len(one["target"]))
    assert (keep / layer["upper"] / path.relative_to(layer["target"])).read_text() == "x\n"


def test_shared_folder_is_the_machines_own_also_in_the_wide_view(bench: Bench) -> None:
    shared = bench.work / "shared"
    bench.make_folder(shared)
    ran = bench.run("shell", "echo x >shared/x; echo y >y", box=Box(Host(whole=True), binds=[str(shared)]))
    assert (shared / "x").read_text() == "x\n"
    assert ran.undeclared == [str(bench.work / "y")]


def test_working_directory_that_is_shared_is_the_machines_own(bench: Bench) -> None:
    for base in (Host(), Host(whole=True)):
        ran = bench.run("shell", "echo x >x", box=Box(base, binds=[str(bench.work)]))
        assert (ran.outcome, ran.undeclared) == ("ok", [])
        (bench.work / "x").unlink()


def test_narrow_and_wide_jobs_of_one_worker_do_not_mix(bench: Bench) -> None:
    count = "grep -c ' - overlay ' /proc/self/mountinfo"
    first, wide, again = (bench.run("shell", count, box=box).report for box in (Box(), WIDE, Box()))
    assert first == again
    assert int(wide) > 0


def test_view_is_one_overlay_for_root_and_covers_what_a_user_can_write(bench: Bench) -> None:
    bench.ask("restart", {})
    table = parse_mountinfo(bench.run("shell", "cat /proc/self/mountinfo", box=WIDE).report)
    on_top = {mount.mount_point: mount for mount in table}
    overlays = {path for path, mount in on_top.items() if mount.fstype == "overlay"}
    notes = [note for note in bench.ask("notes") if "without root" in note]
    if bench.user == "root":
        assert {"/", "/run"} <= overlays
        assert notes == []
    else:
        # Where the session is this user's own, the folder around home is too: one overlay covers both.
        assert {"/tmp", "/var/tmp"} | ({str(bench.home)} if os.geteuid() == 0 else set()) <= overlays
        assert on_top["/"].is_read_only
        assert notes == [
            "without root, Box(Host(whole=True)) is copy-on-write only where this user can write; "
            "everything else is read-only"
        ]


def test_rights_are_those_of_a_command_in_a_box(bench: Bench) -> None:
    held = int(bench.run("shell", "grep CapEff /proc/self/status | cut -f2", box=WIDE).report, 16)
    usual = sum(1 << capability_number(name) for name in ROOT_CAPABILITIES)
    assert held == (usual if bench.user == "root" else 0)
    answers = json.loads(bench.run("try_calls", box=WIDE).report)
    assert {name for name, answer in answers.items() if answer == 0} <= {"chroot"}


if os.geteuid() == 0:  # only root has a machine of its own to mount things on

    def test_root_writes_anywhere_and_the_machine_stays_as_it_is(bench: Bench) -> None:
        if bench.user == "rootless":
            ran = bench.run("write", json.dumps({"/etc/jubako-stray": "x"}), box=WIDE)
            assert "/etc/jubako-stray is read-only in this box" in ran.finished.error
            return
        strays = ["/etc/jubako-stray", "/jubako-stray", "/opt/jubako/new/stray", "/usr/bin/jubako-stray"]
        script = "mkdir -p /opt/jubako/new; touch $0; chown 7:7 /usr/bin/env; echo x >/run/app.pid; rm /etc/hostname"
        ran = bench.run("shell", script.replace("$0", " ".join(strays)), box=WIDE)
        kinds = {change.path: change.kind for change in ran.finished.undeclared}
        made = dict.fromkeys([*strays, "/opt/jubako", "/opt/jubako/new"], "added")
        assert kinds == made | {"/etc/hostname": "deleted", os.path.realpath("/usr/bin/env"): "metadata"}
        assert ran.finished.scratch_dropped == 1
        assert not any(os.path.lexists(path) for path in strays)
        assert os.path.exists("/etc/hostname")
        assert os.stat("/usr/bin/env").st_uid == 0

    def test_every_file_system_has_its_own_top_and_single_files_are_copies(in_child: Runner) -> None:
        shown = in_child(lambda: _on_a_machine_with_mounts(_write_on_every_file_system))
        assert "cannot create /mnt/cd/stray: Read-only file system" in shown["printed"]
        assert "RUN" not in shown["printed"]
        assert shown["undeclared"] == {
            "/etc/hostname": "modified",
            "/mnt/disk/old": "deleted",
            "/mnt/disk/stray": "added",
            "/mnt/tree/stray": "added",
        }
        assert shown["staged"] == ["on disk\n", "in the tree\n"]
        assert shown["machine"] == (["inner", "old", "pipe", "tree"], [], "machine\n")
        kept = shown["kept"]
        assert {"/", "/mnt", "/mnt/disk", "/mnt/disk/inner", "/mnt/tree"} <= set(kept)
        assert (kept["/mnt/disk"], kept["/etc"]) == (["seen"], []), "a copy nobody wrote to is nothing to keep"

    def test_staging_directories_made_later_are_hidden_from_the_next_job(in_child: Runner) -> None:
        seen = in_child(lambda: _on_a_machine_with_mounts(_make_staging_directory_later))
        assert seen == ["RUN\n", "", ""]


def _on_a_machine_with_mounts(function: Callable[[Worker], Any]) -> Any:
    """Calls `function` where /mnt has a disk with another in it, a bind, a read-only disk, and single files bound."""
    unshare(CLONE_NEWNS)
    mounts.mount("none", "/", "", mounts.MS_REC | mounts.MS_PRIVATE)
    mounts.attach(tmpfs(), "/mnt")
    for name in ("disk", "cd", "tree", "state"):
        os.mkdir(f"/mnt/{name}")
    mounts.attach(tmpfs(), "/mnt/disk")
    os.mkdir("/mnt/disk/inner")
    mounts.attach(tmpfs(), "/mnt/disk/inner")
    os.mkdir("/mnt/disk/tree")
    mounts.mount("/mnt/disk/tree", "/mnt/tree", "", mounts.MS_BIND)
    mounts.attach(tmpfs(), "/mnt/cd")
    mounts.mount("none", "/mnt/cd", "", mounts.MS_REMOUNT | mounts.MS_BIND | mounts.MS_RDONLY)
    Path("/mnt/disk/old").write_text("old")
    Path("/mnt/name").write_text("machine\n")
    mounts.mount("/mnt/name", "/etc/hostname", "", mounts.MS_BIND)
    os.mkfifo("/mnt/pipe")
    Path("/mnt/disk/pipe").touch()
    mounts.mount("/mnt/pipe", "/mnt/disk/pipe", "", mounts.MS_BIND)
    sys.path.insert(0, str(HERE))
    with Worker.start(hidden=["/mnt/state"], cwd="/mnt/disk") as worker:
        return function(worker)


def _run(worker: Worker, name: str, script: str, **options: Any) -> Finished:
    options = {"box": WIDE, "cwd": "/mnt/disk"} | options
    worker.submit(Job(name, f"Test({name})", "functions:shell", script.encode(), **options))
    while select.select([worker], [], [], DEADLINE_S)[0]:
        for event in worker.receive():
            if isinstance(event, Finished):
                return event
    raise TimeoutError(f"nothing from the worker in {DEADLINE_S} s")


def _write_on_every_file_system(worker: Worker) -> dict[str, Any]:
    stage = "/mnt/disk/inner/.jubako-stage/RUN/a"
    os.makedirs(stage)
    os.mkdir("/mnt/state/a")
    outputs = (
        StagedOutput("/mnt/disk/inner/out", "file", f"{stage}/0"),
        StagedOutput("/mnt/tree/out", "file", "/mnt/state/a/1"),
    )
    script = """
        echo on disk >inner/out; echo in the tree >/mnt/tree/out; ls inner/.jubako-stage
        echo x >stray; echo x >/mnt/tree/stray; rm old; echo boxed >/etc/hostname; echo x >/mnt/cd/stray
    """
    ran = _run(worker, "all", script, outputs=outputs, hidden=("/mnt/disk/inner/.jubako-stage",))
    os.mkdir("/mnt/state/kept")
    _run(worker, "kept", "cat /etc/hostname >seen; kill -9 $PPID", keep_in="/mnt/state/kept")
    layers = json.loads(Path("/mnt/state/kept/box.json").read_text())["layers"]
    return {
        "printed": ran.report.decode(),
        "undeclared": {change.path: change.kind for change in ran.undeclared},
        "staged": [Path(one.staged).read_text() for one in ran.staged],
        "machine": (sorted(os.listdir("/mnt/disk")), os.listdir("/mnt/tree"), Path("/etc/hostname").read_text()),
        "kept": {one["target"]: os.listdir(f"/mnt/state/kept/{one['upper']}") for one in layers},
    }


def _make_staging_directory_later(worker: Worker) -> list[str]:
    _run(worker, "first", "true", box=Box())
    hidden = ("/mnt/disk/inner/.jubako-stage", "/mnt/disk/gone", "/dev/shm/.jubako-stage", "/mnt/state/RUN")
    os.makedirs("/mnt/disk/inner/.jubako-stage/RUN")
    return [
        _run(worker, f"job-{number}", "ls -A inner/.jubako-stage", box=box, hidden=names).report.decode()
        for number, (box, names) in enumerate([(Box(), ()), (Box(), hidden), (WIDE, hidden)])
    ]
