from __future__ import annotations

import os
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jubako.boxes.run_lock import hold_sweeping, lock_dead_run
from jubako.boxes.spec import Output
from jubako.boxes.state import StateRoot, open_state_root
from jubako.boxes.transactions.journal import Journal, open_database, write_transaction
from jubako.boxes.transactions.planned import PlannedMoves
from jubako.boxes.transactions.stage import StageArea, sweep
from jubako.errors import BugError, HostError, InputError
from jubako.kernel.filesystems import make_filesystem, tmpfs
from jubako.kernel.group_places import read_group_places
from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.mounts import MOUNT_ATTR_RDONLY, MS_BIND, attach, mount
from jubako.layers.remove import remove_tree


@contextmanager
def opened(folder: Path) -> Iterator[tuple[StateRoot, Journal]]:
    state = open_state_root(str(folder / "state"))
    connection = open_database(state.ledger_path, durability="relaxed")
    try:
        yield state, Journal(connection)
    finally:
        connection.close()


@pytest.fixture
def ground(tmp_path):
    (tmp_path / "out").mkdir()
    with opened(tmp_path) as (state, journal):
        yield tmp_path, state, journal


@pytest.fixture
def in_folder(in_user_child):
    """Runs a function in a child in an empty folder of its user's own, once as root and once as an ordinary user."""

    def run(function):
        def act():
            path = tempfile.mkdtemp(dir="/tmp")
            os.chdir(path)
            try:
                return function()
            finally:
                remove_tree(path)

        return in_user_child(act)

    return run


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_output_that_belongs_elsewhere_is_staged_below_the_state_root(ground):
    folder, state, journal = ground
    with StageArea(state, "run", journal) as area:
        there, here = area.stage("attempt", [Output("s3://bucket/key", "elsewhere"), Output(str(folder / "out" / "a"))])
        directory = f"{state.stage_path}/run/attempt"
        assert there.path == "s3://bucket/key"
        assert (there.staged, here.staged) == (f"{directory}/0", f"{directory}/1")
        Path(there.staged).touch()
        area.discard("attempt")
    assert os.listdir(state.stage_path) == []


def test_staged_outputs_lie_in_a_private_directory_of_the_attempt(ground):
    folder, state, journal = ground
    os.umask(0o022)
    with StageArea(state, "run", journal) as area:
        file, tree = area.stage(
            "attempt", [Output(str(folder / "out" / "a")), Output(str(folder / "out" / "b"), "directory")]
        )
        assert (file.path, file.kind) == (str(folder / "out" / "a"), "file")
        assert not os.path.lexists(file.staged)
        assert os.path.dirname(file.staged) == f"{state.stage_path}/run/attempt"
        assert stat.S_IMODE(os.stat(os.path.dirname(file.staged)).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(tree.staged).st_mode) == 0o755
        assert os.listdir(tree.staged) == []
        os.rename(tree.staged, tree.path)
        assert area.places == ()
    assert names(folder / "out") == {"b"}
    assert os.listdir(state.stage_path) == []


def test_output_in_folders_to_be_made_is_staged_without_making_them(ground):
    folder, state, journal = ground
    with StageArea(state, "run", journal) as area:
        area.stage("attempt", [Output(str(folder / "out" / "2010" / "01" / "x"))])
        assert names(folder / "out") == set()


def test_discarded_attempt_leaves_nothing_whatever_it_staged(ground):
    folder, state, journal = ground
    with StageArea(state, "run", journal) as area:
        (tree,) = area.stage("attempt", [Output(str(folder / "out" / "tree"), "directory")])
        os.makedirs(f"{tree.staged}/work/work")
        os.chmod(f"{tree.staged}/work/work", 0)
        area.discard("attempt")
        area.discard("attempt")
        area.discard("never staged")
        assert os.listdir(f"{state.stage_path}/run") == ["lock"]
        area.stage("attempt", [])


def set_default_acl(directory):
    entries = ((1, 7, -1), (4, 5, -1), (8, 7, os.getegid()), (0x10, 7, -1), (0x20, 0, -1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(directory, "system.posix_acl_default", acl)


def spoil_mode(directory):
    os.chmod(directory, 0o755)


def leave_something(directory):
    Path(directory, "left").touch()


@pytest.mark.parametrize("spoil", [None, spoil_mode, set_default_acl, leave_something, "discarded"])
def test_directory_serves_a_later_attempt_only_after_publishing_and_as_it_was_made(ground, spoil):
    folder, state, journal = ground
    with StageArea(state, "run", journal) as area:
        (first,) = area.stage("first", [Output(str(folder / "out" / "a"))])
        if callable(spoil):
            spoil(os.path.dirname(first.staged))
        if spoil == "discarded":
            area.discard("first")
        else:
            area.release("first")
        (second,) = area.stage("second", [Output(str(folder / "out" / "b"))])
        name = "first" if spoil is None else "second"
        assert os.path.dirname(second.staged) == f"{state.stage_path}/run/{name}"
        assert os.listdir(os.path.dirname(second.staged)) == []
        (third,) = area.stage("third", [Output(str(folder / "out" / "c"))])
        assert os.path.dirname(third.staged) != os.path.dirname(second.staged)
    assert os.listdir(state.stage_path) == []


@pytest.mark.parametrize("attempt_id", ["", ".", "..", "a/b", "lock"])
def test_attempt_id_that_is_no_name_is_a_bug(ground, attempt_id):
    _, state, journal = ground
    with StageArea(state, "run", journal) as area, pytest.raises(BugError):
        area.stage(attempt_id, [])


def test_attempt_staged_twice_is_a_bug(ground):
    _, state, journal = ground
    with StageArea(state, "run", journal) as area:
        area.stage("attempt", [])
        with pytest.raises(BugError, match="staged already"):
            area.stage("attempt", [])


@pytest.mark.parametrize("run_id", ["", "..", "a/b"])
def test_run_id_that_is_no_name_is_a_bug(ground, run_id):
    _, state, journal = ground
    with pytest.raises(BugError):
        StageArea(state, run_id, journal)


def test_run_id_of_a_living_run_is_a_bug(ground):
    folder, state, journal = ground
    with StageArea(state, "run", journal), opened(folder) as (_, other), pytest.raises(BugError, match="living"):
        StageArea(state, "run", other)


@pytest.mark.parametrize("place", ["{long}", "missing/{long}", "missing/{long}/leaf", "missing/too/{long}/leaf"])
def test_name_that_the_file_system_does_not_take_is_refused_at_once(ground, place):
    folder, state, journal = ground
    path = str(folder / place.format(long="x" * 300))
    with StageArea(state, "run", journal) as area:
        with pytest.raises(HostError) as raised:
            area.stage("attempt", [Output(path)])
        assert "File name too long" in raised.value.message
        assert raised.value.message.startswith(f"the output {path} cannot be ")
        assert os.listdir(f"{state.stage_path}/run") == ["lock"]
        assert area.stage("again", [Output(str(folder / "missing" / ("x" * 255) / "leaf"))])


def test_output_where_nothing_can_be_made_is_named(ground):
    """Root may write to these folders, as far as their modes say; others are told so by the mode."""
    _, state, journal = ground
    for path in ("/proc/output", "/sys/kernel/output"):
        with StageArea(state, "run", journal) as area:
            with pytest.raises(HostError) as raised:
                area.stage("attempt", [Output(path)])
            assert raised.value.message.startswith(f"the output {path} cannot be ")
        assert journal.run_ids() == set()


# --- other mounts -----------------------------------------------------------------------------------------------------


def test_output_on_another_mount_is_staged_in_a_hidden_folder_beside_it(in_namespace):
    def act() -> None:
        folder = Path.cwd()
        os.mkdir("disk")
        attach(tmpfs(), "disk")
        os.makedirs("disk/out")
        with opened(folder) as (state, journal):
            with StageArea(state, "run", journal) as area:
                (first,) = area.stage("one", [Output(str(folder / "disk" / "out" / "new" / "a"))])
                (second,) = area.stage("two", [Output(str(folder / "disk" / "b"))])
                hidden = str(folder / "disk" / "out" / ".jubako-stage")
                assert area.places == (hidden,)
                assert first.staged.startswith(hidden + "/run/one/")
                assert second.staged.startswith(hidden + "/run/two/")
                assert stat.S_IMODE(os.stat(hidden).st_mode) == 0o700
                Path(second.staged).write_text("x")
                os.rename(second.staged, second.path)
                assert f"{hidden}/run" in journal.places("run")
            assert names(folder / "disk") == {"out", "b"}
            assert journal.run_ids() == set()

    in_namespace(act)


def test_two_mounts_of_one_file_system_are_two(in_namespace):
    def act() -> None:
        folder = Path.cwd()
        os.makedirs("real/out")
        os.mkdir("bound")
        mount("real", "bound", flags=MS_BIND)
        with opened(folder) as (state, journal), StageArea(state, "run", journal) as area:
            (direct,) = area.stage("one", [Output(str(folder / "real" / "out" / "a"))])
            (bound,) = area.stage("two", [Output(str(folder / "bound" / "out" / "b"))])
            assert direct.staged.startswith(state.stage_path)
            assert bound.staged.startswith(str(folder / "bound" / "out" / ".jubako-stage"))
            for output in (direct, bound):
                Path(output.staged).write_text("x")
                os.rename(output.staged, output.path)
        assert names(folder / "real") == {"out", "out/a", "out/b"}

    in_namespace(act)


def test_hidden_folder_of_somebody_else_is_left_alone(in_namespace):
    def act() -> None:
        folder = Path.cwd()
        os.mkdir("disk")
        attach(tmpfs(), "disk")
        os.mkdir("theirs")
        os.symlink(folder / "theirs", "disk/.jubako-stage")
        with opened(folder) as (state, journal), StageArea(state, "run", journal) as area:
            (output,) = area.stage("one", [Output(str(folder / "disk" / "a"))])
            assert f"/.jubako-stage-{os.geteuid()}/run/" in output.staged
            assert os.listdir("theirs") == []
        assert names(folder / "disk") == {".jubako-stage"}

    in_namespace(act)


def test_hidden_folder_shared_by_two_runs_goes_with_the_last(in_namespace):
    def act() -> None:
        folder = Path.cwd()
        os.mkdir("disk")
        attach(tmpfs(), "disk")
        output = [Output(str(folder / "disk" / "a"))]
        with opened(folder) as (state, journal), opened(folder) as (_, other):
            with StageArea(state, "one", journal) as first:
                first.stage("attempt", output)
                with StageArea(state, "two", other) as second:
                    second.stage("attempt", output)
                assert names(folder / "disk") == {".jubako-stage", ".jubako-stage/one", ".jubako-stage/one/attempt"}
            assert names(folder / "disk") == set()

    in_namespace(act)


# --- what cannot be staged --------------------------------------------------------------------------------------------


def refuse(folder: Path, output: Output) -> str:
    """The message with which staging `output` is refused; nothing is left of it."""
    with opened(folder) as (state, journal):
        with StageArea(state, "run", journal) as area:
            with pytest.raises(HostError) as caught:
                area.stage("attempt", [Output(str(folder / "fine")), output])
            assert os.listdir(f"{state.stage_path}/run") == ["lock"]
            area.stage("attempt", [Output(str(folder / "fine"))])
        assert os.listdir(state.stage_path) == []
    assert output.path in caught.value.message
    return caught.value.message


def test_output_on_a_read_only_file_system_is_refused(in_namespace):
    def act() -> str:
        os.mkdir("ro")
        attach(tmpfs(attributes=MOUNT_ATTR_RDONLY), "ro")
        return refuse(Path.cwd(), Output(str(Path.cwd() / "ro" / "deep" / "a")))

    assert "read-only file system" in in_namespace(act)


def test_output_in_a_folder_that_cannot_be_written_is_refused(in_folder):
    def act() -> str:
        (Path.cwd() / "shut").mkdir()
        (Path.cwd() / "shut").chmod(0o555)
        # Root may write anywhere but in places like this.
        path = "/proc/self/deep/a" if os.geteuid() == 0 else str(Path.cwd() / "shut" / "deep" / "a")
        return refuse(Path.cwd(), Output(path))

    assert "a cannot be" in in_folder(act)


def test_output_that_is_a_mount_point_is_refused(in_namespace):
    def act() -> str:
        os.mkdir("point")
        attach(tmpfs(), "point")
        return refuse(Path.cwd(), Output(str(Path.cwd() / "point"), "directory"))

    assert "is a mount point" in in_namespace(act)


def test_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "file is not a directory" in refuse(tmp_path, Output(str(tmp_path / "file" / "deep" / "a")))


def test_output_below_a_dangling_link_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    assert "symbolic link to nothing" in refuse(tmp_path, Output(str(tmp_path / "link" / "a")))


def test_full_disk_is_a_host_error_that_leaves_nothing(in_namespace):
    def act() -> str:
        folder = Path.cwd()
        os.mkdir("disk")
        attach(make_filesystem("tmpfs", {"nr_inodes": "3"}), "disk")
        (folder / "disk" / "ballast").touch()
        with opened(folder) as (state, journal):
            with StageArea(state, "run", journal) as area, pytest.raises(HostError) as caught:
                area.stage("attempt", [Output(str(folder / "disk" / "a"))])
            assert names(folder / "disk") == {"ballast"}
            assert journal.run_ids() == set()
        return caught.value.message

    assert "No space left" in in_namespace(act)


# --- what is passed on ------------------------------------------------------------------------------------------------


def test_group_of_a_shared_folder_is_passed_on(in_folder):
    def act() -> None:
        folder = Path.cwd()
        (folder / "out").mkdir()
        group = 12 if os.geteuid() == 0 else os.getegid()
        os.chown(folder / "out", -1, group)
        (folder / "out").chmod(0o2775)
        with opened(folder) as (state, journal), StageArea(state, "run", journal) as area:
            file, tree = area.stage(
                "a", [Output(str(folder / "out" / "x")), Output(str(folder / "out" / "y"), "directory")]
            )
            Path(file.staged).touch()
            assert os.stat(file.staged).st_gid == group
            assert os.stat(tree.staged).st_gid == group
            assert os.stat(tree.staged).st_mode & stat.S_ISGID

    in_folder(act)


def test_default_acl_of_a_folder_is_passed_on(in_folder):
    def act() -> None:
        folder = Path.cwd()
        (folder / "out").mkdir()
        set_default_acl(folder / "out")
        with opened(folder) as (state, journal), StageArea(state, "run", journal) as area:
            (file,) = area.stage("a", [Output(str(folder / "out" / "x"))])
            Path(file.staged).touch()
            (folder / "out" / "beside").touch()
            for path in (file.staged, folder / "out" / "beside"):
                assert os.listxattr(path) == ["system.posix_acl_access"]
            same = {os.getxattr(path, "system.posix_acl_access") for path in (file.staged, folder / "out" / "beside")}
            assert len(same) == 1

    in_folder(act)


# --- runs that died ---------------------------------------------------------------------------------------------------


def die(folder: Path, outputs: list[Output]) -> None:
    """In a child: a run that stages and is killed."""
    pid = os.fork()
    if pid == 0:
        with opened(folder) as (state, journal):
            area = StageArea(state, "dead", journal)
            for output in area.stage("attempt", outputs):
                if output.kind == "directory":
                    os.makedirs(f"{output.staged}/work/work")
                    os.chmod(f"{output.staged}/work/work", 0)
                else:
                    Path(output.staged).write_text("x")
            os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)


def test_sweep_removes_what_a_dead_run_left_everywhere(in_namespace):
    def act() -> None:
        folder = Path.cwd()
        for name in ("disk", "other"):
            os.mkdir(name)
            attach(tmpfs(), name)
        outputs = [Output(str(folder / place / "a"), "directory") for place in (".", "disk", "other")]
        with opened(folder) as (state, journal):
            die(folder, outputs)
            assert (folder / "disk" / ".jubako-stage" / "dead").exists()
            assert sweep(state, journal) == ("dead",)
            assert names(folder / "disk") == names(folder / "other") == set()
            assert os.listdir(state.stage_path) == []
            assert journal.run_ids() == set()
            assert sweep(state, journal) == ()

    in_namespace(act)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user may have no control group to make any below")
def test_sweep_removes_control_groups_that_a_killed_task_left(ground):
    _, state, journal = ground
    place = read_group_places(read_mount_table())[0]
    group = Path(place.directory) / f"jubako-test-{os.getpid()}"
    folder = Path(state.stage_path) / "dead"
    folder.mkdir()
    (folder / "attempt.groups").write_text(f"{group}\n")
    group.mkdir()
    try:
        assert sweep(state, journal) == ("dead",)
        assert not group.exists()
    finally:
        if group.exists():
            group.rmdir()


def test_sweep_leaves_the_living_alone(ground):
    folder, state, journal = ground
    with StageArea(state, "living", journal) as area:
        (output,) = area.stage("attempt", [Output(str(folder / "out" / "a"))])
        Path(output.staged).write_text("x")
        with opened(folder) as (_, other):
            assert sweep(state, other) == ()
        assert Path(output.staged).read_text() == "x"


def test_sweep_keeps_what_an_open_entry_may_need(ground):
    folder, state, journal = ground
    area = StageArea(state, "run", journal)
    (output,) = area.stage("attempt", [Output(str(folder / "out" / "a"))])
    Path(output.staged).write_text("x")
    with write_transaction(journal.connection):
        journal.open("attempt", "Task", PlannedMoves())
    area.close()
    assert Path(output.staged).read_text() == "x"
    assert sweep(state, journal) == ()
    with write_transaction(journal.connection):
        journal.close("run", "attempt")
    assert sweep(state, journal) == ("run",)


def test_run_that_died_before_it_had_a_lock_is_dead(ground):
    _, state, journal = ground
    os.mkdir(f"{state.stage_path}/early")
    with hold_sweeping(state), lock_dead_run(state, "early") as dead:
        assert dead
    assert sweep(state, journal) == ("early",)


def test_link_in_place_of_a_hidden_folder_is_not_followed_by_a_sweep(ground):
    folder, state, journal = ground
    (folder / "precious" / "dead").mkdir(parents=True)
    (folder / "out" / ".jubako-stage").symlink_to(folder / "precious")
    journal.add_place("dead", str(folder / "out" / ".jubako-stage" / "dead"))
    assert sweep(state, journal) == ("dead",)
    assert (folder / "precious" / "dead").is_dir()


def test_output_that_cannot_be_staged_is_named_and_nothing_is_left(ground):
    folder, state, journal = ground
    fine, long = str(folder / "out" / "fine"), str(folder / "out" / ("x" * 300))
    with StageArea(state, "run", journal) as area:
        with pytest.raises(HostError, match=r"the output .*/xxx.* cannot be staged: File name too long"):
            area.stage("attempt", [Output(fine), Output(long)])
        assert os.listdir(f"{state.stage_path}/run") == ["lock"]


def test_output_that_no_file_can_be_called_is_wrong_input(ground):
    folder, state, journal = ground
    with StageArea(state, "run", journal) as area:
        with pytest.raises(InputError, match=r"a\\x00b' cannot be the name of a file"):
            area.stage("attempt", [Output(str(folder / "out" / "a\0b"))])
        assert os.listdir(f"{state.stage_path}/run") == ["lock"]
