"""Declared outputs: however they are written, what is staged in the end is complete, clean, and nothing else."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.spec import Box

if TYPE_CHECKING:
    from tests.system.narrow_box.conftest import Bench

pytestmark = pytest.mark.box
made_by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to somebody else")
OTHER_GROUP = 54323


def texts(**files: str) -> str:
    return json.dumps(files)


@pytest.mark.parametrize("way", ["write", "write_staged"])
@pytest.mark.parametrize("place", ["out.txt", "new/deep/out.txt"])
def test_output_is_staged_and_nothing_is_undeclared(bench: Bench, way: str, place: str) -> None:
    path = bench.work / place
    ran = bench.run(way, texts(**{str(path): "content"}), [path])
    assert ran.outcome == "ok", ran.finished.error
    assert ran.staged[str(path)].read_text() == "content"
    assert ran.undeclared == []
    assert not path.exists(), "publishing is the runner's"
    status = ran.staged[str(path)].stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o644, bench.uid)


@made_by_root
@pytest.mark.parametrize("way", ["write", "write_staged"])
@pytest.mark.parametrize("place", ["x", "in/x", "in/new/x"])
def test_output_in_a_folder_of_a_group_that_the_box_lacks_is_staged(bench: Bench, way: str, place: str) -> None:
    """Without root a box has one group; and overlayfs copies up no directory of another one."""
    shared = bench.work / "shared"
    bench.make_folder(shared / "in")
    os.chown(shared, bench.uid, OTHER_GROUP)
    path, folder = shared / place, (shared / place).with_name("tree")
    ran = bench.run(way, texts(**{str(path): "content"}), [path])
    assert ran.outcome == "ok", ran.finished.error
    assert ran.staged[str(path)].read_text() == "content"
    assert ran.undeclared == []
    ran = bench.run("write", texts(**{str(folder / "leaf"): "content"}), [(folder, "directory")])
    assert (ran.staged[str(folder)] / "leaf").read_text() == "content"
    assert ran.undeclared == []


@made_by_root
def test_output_written_where_a_task_may_not_write_by_name_is_staged_once_it_is_finished(bench: Bench) -> None:
    """As root may publish into the folder of somebody else: in a box it has no capabilities."""
    folder = bench.work / "theirs"
    bench.make_folder(folder)
    os.chown(folder, *[OTHER_GROUP] * 2 if bench.user == "root" else (0, 0))
    path, other = folder / "out", folder / "other"
    ran = bench.run("write_staged", texts(**{str(path): "content"}), [path, other])
    assert ran.outcome == "ok", ran.finished.error
    assert ran.staged[str(path)].read_text() == "content"
    assert ran.finished.missing == (str(other),)
    assert ran.undeclared == []


@made_by_root
def test_file_of_a_group_that_the_box_lacks_cannot_be_changed_in_place_and_says_why(bench: Bench) -> None:
    path = bench.work / "out"
    bench.make_file(path, "old")
    os.chown(path, bench.uid, OTHER_GROUP)
    ran = bench.run("write", texts(**{str(path): "new"}), [path])
    if bench.user == "root":
        assert ran.staged[str(path)].read_text() == "new"
        return
    assert ran.outcome == "failed"
    assert ran.finished.error.endswith("write it through its target, or remove it first")
    anew = bench.run("shell", "rm out; echo new >out", [path])
    assert anew.staged[str(path)].read_text() == "new\n"


@pytest.mark.parametrize("way", ["write", "write_staged"])
def test_output_that_was_there_is_staged_anew_and_the_old_one_stays(bench: Bench, way: str) -> None:
    path = bench.work / "out.txt"
    bench.make_file(path, "old")
    ran = bench.run(way, texts(**{str(path): "new"}), [path])
    assert ran.staged[str(path)].read_text() == "new"
    assert path.read_text() == "old"


def test_output_that_is_appended_to_is_staged_as_a_whole(bench: Bench) -> None:
    path = bench.work / "log"
    bench.make_file(path, "old\n")
    ran = bench.run("shell", "echo new >>log", [path])
    assert ran.staged[str(path)].read_text() == "old\nnew\n"


def test_output_written_by_name_after_it_was_exposed_wins(bench: Bench) -> None:
    path = bench.work / "out"
    text = f"""
staged = inside.staged_path({str(path)!r})
Path(staged).write_text("first")
inside.expose({str(path)!r})
inside.expose({str(path)!r})
answer = Path({str(path)!r}).read_text()
os.unlink({str(path)!r})
Path({str(path)!r}).write_text("second")
"""
    ran = bench.run("python", text, [path])
    assert ran.report == "first"
    assert ran.staged[str(path)].read_text() == "second"


def test_output_written_aside_and_renamed_is_staged(bench: Bench) -> None:
    path = bench.work / "out"
    ran = bench.run(
        "shell", "echo x >out-luigi-tmp-123456789; mv out-luigi-tmp-123456789 out; echo y >out-luigi-tmp-2", [path]
    )
    assert ran.staged[str(path)].read_text() == "x\n"
    assert ran.undeclared == []


def test_output_never_written_deleted_or_left_unfinished_is_missing(bench: Bench) -> None:
    never, deleted, unfinished = (bench.work / name for name in ("never", "deleted", "unfinished"))
    bench.make_file(deleted, "old")
    text = f"os.unlink({str(deleted)!r}); Path(inside.staged_path({str(unfinished)!r})).write_text('half')"
    ran = bench.run("python", text, [never, deleted, unfinished])
    assert ran.outcome == "ok"
    assert ran.finished.missing == (str(never), str(deleted), str(unfinished))
    assert ran.finished.staged == ()


@pytest.mark.parametrize("way", ["write", "write_staged"])
def test_output_in_shared_memory_is_staged_and_no_scratch(bench: Bench, way: str) -> None:
    """A job's /dev/shm is its own; the folder of the output is there all the same."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        os.chown(name, bench.uid, bench.uid)
        paths = [Path(name, "out"), Path(name, "new/out"), Path("/dev/shm", f"jubako-{os.getpid()}-out")]
        payload = texts(**{str(path): str(path) for path in paths})
        ran = bench.run(way, payload, paths, check="check_frozen")
        assert ran.outcome == "ok", ran.finished.error
        assert [ran.staged[str(path)].read_text() for path in paths] == [str(path) for path in paths]
        assert (ran.undeclared, ran.finished.scratch_dropped) == ([], 1), "what the check has in TMPDIR"
        assert os.listdir(name) == []


def test_directory_output_in_shared_memory_is_staged_and_what_is_beside_it_is_scratch(bench: Bench) -> None:
    path = Path("/dev/shm", f"jubako-{os.getpid()}-tree")
    ran = bench.run("shell", f"echo x >{path}/x; touch {path}-y; mkdir {path}-z", [(path, "directory")])
    assert (ran.staged[str(path)] / "x").read_text() == "x\n"
    assert (ran.undeclared, ran.finished.scratch_dropped) == ([], 2)


def test_output_below_tmp_is_no_scratch(bench: Bench) -> None:
    path = Path(f"/tmp/jubako-{bench.user}-{os.getpid()}-luigi")
    ran = bench.run("write", texts(**{str(path): "x", f"{path}.other": "y"}), [path])
    assert ran.staged[str(path)].read_text() == "x"
    assert (ran.undeclared, ran.finished.scratch_dropped) == ([], 1)


def test_output_through_a_linked_folder_is_staged(bench: Bench) -> None:
    bench.make_folder(bench.top / "data", 0o755) if not (bench.top / "data").exists() else None
    (bench.work / "link").symlink_to(bench.top / "data")
    path = bench.work / "link" / f"{bench.work.name}" / "out"
    ran = bench.run("write", texts(**{str(path): "x", str(path) + ".bak": "y"}), [path])
    assert ran.staged[str(path)].read_text() == "x"
    assert ran.undeclared == [f"{bench.top}/data/{bench.work.name}/out.bak"]


def test_outputs_with_hostile_names_are_staged(bench: Bench) -> None:
    paths = [Path(os.fsdecode(os.fsencode(bench.work) + b"/" + name)) for name in (b"a\nb", b"\xff\xfe", b" :,\\")]
    ran = bench.run("write", texts(**{str(path): "x" for path in paths}), paths)
    assert [staged.read_text() for staged in ran.staged.values()] == ["x", "x", "x"]
    assert [*ran.staged] == [str(path) for path in paths]


def test_directory_output_is_a_fresh_directory_at_its_path(bench: Bench) -> None:
    old, new = bench.work / "old", bench.work / "new" / "er"
    bench.make_folder(old)
    bench.make_file(old / "before", "x")
    ran = bench.run(
        "shell",
        "ls old new/er; echo 1 >old/a; mkdir new/er/sub; echo 2 >new/er/sub/b",
        [(old, "directory"), (new, "directory")],
    )
    assert ran.report == "new/er:\n\nold:\n"
    assert (ran.staged[str(old)] / "a").read_text() == "1\n"
    assert not (ran.staged[str(old)] / "before").exists()
    assert (ran.staged[str(new)] / "sub" / "b").read_text() == "2\n"
    assert ran.undeclared == []
    assert [*old.iterdir()] == [old / "before"]


def test_directory_output_untouched_is_missing_and_emptied_on_purpose_is_not(bench: Bench) -> None:
    untouched, empty, emptied = (bench.work / name for name in ("untouched", "empty", "emptied"))
    text = (
        f"inside.expose({str(empty)!r}); open({str(emptied / 'x')!r}, 'w').close(); os.unlink({str(emptied / 'x')!r})"
    )
    ran = bench.run("python", text, [(path, "directory") for path in (untouched, empty, emptied)])
    assert ran.finished.missing == (str(untouched),)
    assert sorted(ran.staged) == sorted([str(empty), str(emptied)])


def test_directory_written_where_a_file_was_declared_is_staged_whole(bench: Bench) -> None:
    path = bench.work / "out"
    bench.make_folder(path)
    for name in ("kept", "changed", "gone"):
        bench.make_file(path / name, "old")
    ran = bench.run("shell", "echo new >out/changed; rm out/gone; echo more >out/added", [path])
    (staged,) = ran.finished.staged
    assert staged.kind == "directory"
    found = {one.name: one.read_text() for one in Path(staged.staged).iterdir()}
    assert found == {"kept": "old", "changed": "new\n", "added": "more\n"}


def test_link_as_an_output_is_staged_as_a_link_and_one_into_the_box_is_not(bench: Bench) -> None:
    good, bad = bench.work / "good", bench.work / "bad"
    ran = bench.run("shell", "ln -s target good; ln -s $TMPDIR/x bad", [good, bad])
    assert os.readlink(ran.staged[str(good)]) == "target"
    assert ran.finished.missing == (str(bad),)
    assert "ends with the box" in ran.finished.refused[0]


def test_what_must_not_leave_a_box_is_taken_off_and_said(bench: Bench) -> None:
    setuid, pipe, tree = bench.work / "setuid", bench.work / "pipe", bench.work / "tree"
    script = "echo x >setuid; chmod 4755 setuid; mkfifo pipe; echo x >tree/a; mkfifo tree/b"
    ran = bench.run("shell", script, [setuid, pipe, (tree, "directory")])
    assert stat.S_IMODE(ran.staged[str(setuid)].stat().st_mode) == 0o755
    assert ran.finished.missing == (str(pipe),)
    assert [one.name for one in ran.staged[str(tree)].iterdir()] == ["a"]
    assert len(ran.finished.refused) == 3
    assert all(str(bench.work) in line for line in ran.finished.refused)


def test_attributes_of_an_output_are_kept(bench: Bench) -> None:
    path = bench.work / "out"
    text = f"""
with open({str(path)!r}, "wb") as file:
    file.truncate(1 << 20)
    file.write(b"start")
os.chmod({str(path)!r}, 0o640)
os.setxattr({str(path)!r}, "user.unit", b"mm")
os.utime({str(path)!r}, ns=(5_000_000_000, 7_000_000_000))
"""
    staged = bench.run("python", text, [path]).staged[str(path)]
    status = staged.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns, status.st_size) == (0o640, 7_000_000_000, 1 << 20)
    assert status.st_blocks * 512 < 1 << 18
    assert os.getxattr(staged, "user.unit") == b"mm"


def test_open_database_is_refused_and_a_closed_one_is_not(bench: Bench) -> None:
    path = bench.work / "data.sqlite"
    refused = bench.run("leave_database_open", str(path), [path])
    assert refused.outcome == "failed"
    assert f"{path} was not closed" in refused.finished.error
    closed = bench.run("leave_database_open", str(path), [path, *(Path(f"{path}{end}") for end in ("-wal", "-shm"))])
    assert closed.outcome == "ok", "declared companions are the task's own business"
    assert sorted(closed.staged) == [str(path), f"{path}-shm", f"{path}-wal"]


def test_undeclared_writes_are_refused_when_the_box_says_so(bench: Bench) -> None:
    path = bench.work / "out"
    ran = bench.run("shell", "echo x >out; touch a b c d", [path], box=Box(undeclared="fail"))
    assert ran.outcome == "failed"
    assert (
        f"wrote {bench.work}/a, {bench.work}/b, {bench.work}/c and 1 more, which it did not declare"
        == ran.finished.error
    )
    assert ran.finished.staged == ()
    assert len(ran.undeclared) == 4


def test_undeclared_writes_are_handed_over_when_the_box_says_so(bench: Bench) -> None:
    bench.make_file(bench.work / "gone", "x")
    bench.make_file(bench.work / "changed", "x")
    ran = bench.run("shell", "mkdir -p d/e; echo 1 >d/e/f; rm gone; echo 2 >>changed", box=Box(undeclared="publish"))
    copies = Path(ran.finished.undeclared_in + str(bench.work))
    assert (copies / "d/e/f").read_text() == "1\n"
    assert (copies / "changed").read_text() == "x2\n"
    assert not (copies / "gone").exists()
    kinds = {change.path.removeprefix(f"{bench.work}/"): change.kind for change in ran.finished.undeclared}
    assert kinds == {"changed": "modified", "d": "added", "d/e": "added", "d/e/f": "added", "gone": "deleted"}


def test_what_is_created_and_removed_is_no_change(bench: Bench) -> None:
    assert bench.run("shell", "mkdir x; touch x/y; rm -r x; touch z; rm z").undeclared == []


def test_failed_job_stages_nothing_and_tells_what_it_wrote(bench: Bench) -> None:
    path = bench.work / "out"
    ran = bench.run("write_and_fail", texts(**{str(path): "x", str(bench.work / "stray"): "y"}), [path])
    assert ran.outcome == "failed"
    assert ran.finished.error == "half-way (look at it)"
    assert "write_and_fail" in ran.finished.traceback
    assert "child.py" not in ran.finished.traceback
    assert ran.finished.staged == ()
    assert ran.undeclared == [str(bench.work / "stray")]


def test_failed_job_is_kept_where_it_says(bench: Bench) -> None:
    path, keep = bench.work / "out", bench.top / f"kept-{bench.work.name}"
    bench.make_folder(keep)
    bench.make_file(bench.work / "gone")
    bench.make_folder(bench.work / "replaced")
    bench.make_file(bench.work / "replaced" / "old")
    script = f"rm gone; rm -r replaced; mkdir replaced; echo x >stray; echo half >out; kill -9 $PPID; # {path}"
    ran = bench.run("shell", script, [path], keep_in=str(keep))
    assert ran.outcome == "failed"
    record = json.loads((keep / "box.json").read_text())
    assert record["id"] == keep.name
    assert "SIGKILL" in record["error"]
    assert record["cwd"] == str(bench.work)
    layer = next(one for one in record["layers"] if one["target"] == str(bench.home))
    top = keep / layer["upper"] / bench.work.name
    assert (top / "stray").read_text() == "x\n"
    assert (top / "out").read_text() == "half\n"
    whiteout = (top / "gone").lstat()
    assert stat.S_ISCHR(whiteout.st_mode) and whiteout.st_rdev == 0
    marks = [name for name in os.listxattr(top / "replaced") if name.endswith("overlay.opaque")]
    assert os.getxattr(top / "replaced", marks[0]) == b"y"


def test_check_sees_the_result_and_cannot_change_it(bench: Bench) -> None:
    raw, staged = bench.work / "raw", bench.work / "staged"
    bench_payload = texts(**{str(staged): "content"})
    ran = bench.run("write_staged", bench_payload, [staged], check="check_frozen")
    assert ran.outcome == "ok", ran.finished.error
    ran = bench.run("write", texts(**{str(raw): "content"}), [raw], check="check_frozen")
    assert ran.outcome == "ok", ran.finished.error
    assert ran.staged[str(raw)].read_text() == "content"


def test_check_shares_no_memory_with_the_call(bench: Bench) -> None:
    assert bench.run("count", check="check_memory").outcome == "ok"


def test_check_that_does_not_accept_discards_the_result(bench: Bench) -> None:
    path = bench.work / "out"
    rejected = bench.run("write", texts(**{str(path): "x"}), [path], check="reject")
    assert (rejected.outcome, rejected.finished.error) == ("check", "the check did not accept the result")
    assert rejected.finished.staged == ()
    raised = bench.run("write", texts(**{str(path): "x"}), [path], check="check_memory_of_nobody")
    assert raised.outcome == "check"
    assert "AttributeError" in raised.finished.error


def test_check_of_a_failed_call_is_not_asked(bench: Bench) -> None:
    assert bench.run("write_and_fail", "{}", check="accept").outcome == "failed"


def test_output_that_belongs_elsewhere_is_collected_where_it_is_staged(bench: Bench) -> None:
    name, other = Path("store:/bucket/key"), Path("store:/bucket/other")
    code = f"""
from jubako.boxes import inside
with open(inside.staged_path({str(name)!r}), "w") as file:
    file.write("for a store")
"""
    ran = bench.run("python", code, [(name, "elsewhere"), bench.work / "here", (other, "elsewhere")])
    assert ran.staged[str(name)].read_text() == "for a store"
    assert [staged.path for staged in ran.finished.staged] == [str(name)]
    assert ran.finished.missing == (str(bench.work / "here"), str(other))
    assert ran.undeclared == []


def test_pipe_in_the_place_of_an_output_that_belongs_elsewhere_is_refused(bench: Bench) -> None:
    name = Path("store:/bucket/key")
    code = f"from jubako.boxes import inside; import os; os.mkfifo(inside.staged_path({str(name)!r}))"
    ran = bench.run("python", code, [(name, "elsewhere")])
    assert ran.finished.missing == (str(name),)
    assert str(name) in ran.finished.refused[0]
