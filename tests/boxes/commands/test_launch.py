"""Commands in real boxes, as root and as an ordinary user: what they see, what they change, how they end."""

from __future__ import annotations

import os
import resource
import signal
import socket
import tempfile
import threading
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jubako.boxes.commands.first import Program
from jubako.boxes.commands.launch import run_in_box, run_in_new_box
from jubako.boxes.commands.result import resolve_path
from jubako.boxes.spec import Box, Host
from jubako.boxes.state import open_state_root
from jubako.boxes.transactions.journal import Journal, open_database
from jubako.boxes.transactions.stage import StageArea
from jubako.boxes.views.capabilities import ROOT_CAPABILITIES
from jubako.errors import HostError, InputError
from jubako.kernel.capabilities import capability_number
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.mounts import attach, umount2

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box
PYTHON = "/usr/bin/python3"


def whole(**options: Any) -> Box:
    return Box(Host(whole=True), **options)


# --- what it changed -------------------------------------------------------------------------------------------------


def test_changes_of_every_kind_are_listed_and_none_reaches_the_machine(desk: Any) -> None:
    def prepare() -> None:
        for name in ("changed", "same", "mode", "gone"):
            Path(name).write_text("old")
        for name in ("dir/sub", "emptied", "renamed", "remade"):
            Path(name).mkdir(parents=True)
        for name in ("dir/sub/x", "renamed/x", "remade/x"):
            Path(name).write_text("x")

    desk.do(prepare)
    before = desk.do(lambda: sorted(str(path) for path in Path().rglob("*")))
    seen = desk.see(
        "echo new > changed; touch -r same stamp; echo -n old > same; touch -r stamp same; rm stamp; chmod 600 mode; "
        "rm gone; rm -r dir; touch emptied/x; rm emptied/x; mv renamed moved; rm -r remade; mkdir remade; "
        "ln -s x link; mkfifo pipe; ln changed hard; mkdir -p a/b; echo hi > a/b/c"
    )
    assert (seen.status, seen.output) == (0, "")
    assert seen.changes == {
        "a": "added",
        "a/b": "added",
        "a/b/c": "added",
        "changed": "modified",
        "dir": "deleted",
        "gone": "deleted",
        "hard": "added",
        "link": "added",
        "mode": "metadata",
        "moved": "added",
        "moved/x": "added",
        "pipe": "added",
        "remade": "replaced",
        "renamed": "deleted",
    }
    assert desk.do(lambda: sorted(str(path) for path in Path().rglob("*"))) == before
    assert desk.do(lambda: Path("changed").read_text()) == "old"
    assert desk.boxes() == []


def test_changes_with_hostile_names_come_back_as_they_are(desk: Any) -> None:
    names = [os.fsdecode(raw) for raw in (b"a\nb", b"\xff\xfe", b"-rf", b" ", b"a,b:c\\d", b"\x1b[31m", b"%s")]
    script = f"import os\nfor name in {[os.fsencode(name) for name in names]!r}: open(name, 'w').close()"
    assert set(desk.see([PYTHON, "-c", script]).changes) == set(names)


def test_box_with_a_state_root_of_a_hostile_name_works(desk: Any) -> None:
    strange = desk.state_path / "a,b:c\\d\n\udcff e"
    changed = type(desk)(desk.home, strange, desk.in_child).see("echo hi > new")
    assert (changed.status, changed.changes) == (0, {"new": "added"})


def test_rename_of_a_directory_within_the_box_is_refused_as_between_disks(desk: Any) -> None:
    desk.do(lambda: os.mkdir("old"))
    seen = desk.see([PYTHON, "-c", "import os\ntry: os.rename('old', 'new')\nexcept OSError as e: print(e.errno)"])
    assert seen.output == "18\n"  # EXDEV: programs copy instead, as mv does


def test_result_of_a_box_that_is_kept_outlives_the_with_block(desk: Any) -> None:
    def kept() -> str | None:
        with desk.run("echo hi > new", keep=True) as result:
            return result.id

    box_id = desk.do(kept)
    assert desk.boxes() == [box_id]


# --- what it sees ----------------------------------------------------------------------------------------------------


def test_command_starts_where_it_was_called_with_its_environment_and_the_boxs_id(desk: Any) -> None:
    seen = desk.see('echo "$PWD $GREETING"; test -n "$JUBAKO_BOX"', environment={"GREETING": "hello", "PATH": "/bin"})
    assert (seen.status, seen.output) == (0, f"{os.path.realpath(desk.home)} hello\n")


def test_command_sees_itself_as_the_same_user_and_its_own_processes_only(desk: Any) -> None:
    seen = desk.see("id -u; id -g; ls -d /proc/[0-9]* | wc -l; cat /proc/1/comm >/dev/null; readlink /proc/self")
    uid, gid, processes, _ = seen.output.split()
    assert (int(uid), int(gid)) == desk.do(lambda: (os.getuid(), os.getgid()))
    assert int(processes) <= 4


def test_command_cannot_see_jubakos_state(desk: Any) -> None:
    seen = desk.see(f"ls -A {desk.state_path}; touch {desk.state_path}/x")
    assert seen.status != 0
    assert "boxes" not in seen.output


def test_command_has_the_usual_devices_and_a_run_of_its_own(desk: Any) -> None:
    seen = desk.see(
        "echo x > /dev/null && head -c 4 /dev/zero | wc -c && echo y | cat /dev/fd/0 && ls /dev/pts/ptmx /dev/ptmx && "
        "echo z > /dev/shm/z && touch /run/x && rm -r /run/lock"
    )
    assert (seen.status, seen.output.split()) == (0, ["4", "y", "/dev/ptmx", "/dev/pts/ptmx"])
    assert seen.changes == {}
    assert not os.path.exists("/run/x")


def test_command_gets_no_descriptor_but_its_three(desk: Any) -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    try:
        assert desk.see([PYTHON, "-c", "import os; print(len(os.listdir('/proc/self/fd')))"]).output == "4\n"
    finally:
        os.close(read_end)
        os.close(write_end)


def test_command_cannot_reach_a_socket_of_the_machine_unless_it_is_shared(desk: Any) -> None:
    script = (
        "import socket, sys\ns = socket.socket(socket.AF_UNIX)\n"
        "try: s.connect(sys.argv[1]); print('connected')\nexcept OSError: print('refused')"
    )

    def listen() -> list[str]:
        path = str(desk.home / "control")
        with socket.socket(socket.AF_UNIX) as server, tempfile.TemporaryFile() as output:
            server.bind(path)
            server.listen()
            for box in (whole(), whole(sockets=[path])):
                with desk.run([PYTHON, "-c", script, path], box, stdio=(0, output.fileno(), 2)):
                    pass
            output.seek(0)
            return output.read().decode().split()

    assert desk.do(listen) == ["refused", "connected"]


def test_command_without_network_has_a_working_loopback_and_nothing_else(desk: Any) -> None:
    script = (
        "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(server.getsockname()).close()\n"
        "print([name for _, name in socket.if_nameindex()])"
    )
    seen = desk.see([PYTHON, "-c", script], whole(network="none"))
    assert seen.status == 0, seen.output
    assert "'lo'" in seen.output
    assert "eth" not in seen.output


def test_writes_to_a_bind_are_real_and_no_change_of_the_box(desk: Any) -> None:
    desk.do(lambda: os.mkdir("shared"))
    seen = desk.see("echo hi > shared/file; echo no > other", whole(binds=[str(desk.home / "shared")]))
    assert seen.changes == {"other": "added"}
    assert desk.do(lambda: Path("shared/file").read_text()) == "hi\n"


def test_cache_that_is_missing_is_made_and_shared(desk: Any) -> None:
    assert desk.see("echo hi > cache/file", whole(cache=[str(desk.home / "cache")])).changes == {}
    assert desk.do(lambda: Path("cache/file").read_text()) == "hi\n"


def test_bind_that_does_not_exist_is_refused_by_name(desk: Any) -> None:
    def refused() -> str:
        with pytest.raises(InputError) as caught:
            desk.run("true", whole(binds=["/nowhere/at/all"]))
        return caught.value.message

    assert "/nowhere/at/all" in desk.do(refused)


# --- what it may not do ----------------------------------------------------------------------------------------------


def status_of(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_command_has_no_way_to_more_rights(desk: Any) -> None:
    status = status_of(desk.see("cat /proc/self/status").output)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    usual = sum(1 << capability_number(name) for name in ROOT_CAPABILITIES)
    wanted = usual if desk.do(os.getuid) == 0 else 0
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {wanted}
    if wanted:
        assert int(status["CapBnd"], 16) == wanted


def test_command_with_a_capability_by_name_has_it(desk: Any) -> None:
    status = status_of(desk.see("cat /proc/self/status", whole(capabilities=["CAP_NET_ADMIN"])).output)
    assert int(status["CapEff"], 16) >> capability_number("CAP_NET_ADMIN") & 1


def test_capability_that_is_none_is_refused_by_name(desk: Any) -> None:
    def refused() -> str:
        with pytest.raises(InputError) as caught:
            desk.run("true", whole(capabilities=["CAP_FLY"]))
        return caught.value.message

    assert "CAP_FLY" in desk.do(refused)
    assert desk.boxes() == []


FORBIDDEN = [
    "mount -t tmpfs none /mnt",
    "unshare -m true",
    "umount /proc",
    "mknod disk b 254 0",
    "echo 1 > /proc/sys/kernel/panic_on_oops",
    "echo h > /proc/sysrq-trigger",
    "mkdir /sys/fs/cgroup/jubako-test",
    "hostname elsewhere",
    "chroot / mount -t tmpfs none /mnt",
]


def test_command_cannot_touch_the_machine_itself(desk: Any) -> None:
    tries = [f"({command}) 2>/dev/null && echo {command!r}" for command in FORBIDDEN]
    seen = desk.see(f"PATH=$PATH:/usr/sbin:/sbin; {'; '.join(tries)}; echo tried")
    assert seen.output == "tried\n"


def test_setuid_program_gives_nobody_more_rights(desk: Any) -> None:
    if desk.do(os.getuid) != 0:
        script = "cp /usr/bin/id . && chmod 4755 id && ./id -u"
        assert desk.see(script).output.split() == [str(desk.do(os.getuid))]
        return
    script = (
        "import os, subprocess\nos.setresgid(7, 7, 7); os.setresuid(7, 7, 7)\n"
        "print(subprocess.run(['./id', '-u'], capture_output=True, text=True).stdout)"
    )
    seen = desk.see(f'cp /usr/bin/id . && chmod 4755 id && chmod 755 . && {PYTHON} -c "{script}"')
    assert seen.output.split() == ["7"]


# --- how it ends -----------------------------------------------------------------------------------------------------


def test_status_of_the_command_is_the_boxs(desk: Any) -> None:
    scripts = {"true": 0, "exit 3": 3, "exit 255": 255, "kill -KILL $$": 137}

    def run() -> dict[str, int]:
        statuses = {}
        for script in scripts:
            with desk.run(script) as result:
                statuses[script] = result.exit_status
        return statuses

    assert desk.do(run) == scripts


def test_command_that_cannot_be_executed_ends_as_in_a_shell(desk: Any) -> None:
    missing, denied = "No such file or directory", "Permission denied"
    wanted = {
        "no-such-program": (127, f"cannot run 'no-such-program': {missing}"),
        "/no/such/program": (127, f"cannot run '/no/such/program': {missing}"),
        "/etc/passwd": (126, f"cannot run '/etc/passwd': {denied}"),
        "/etc": (126, f"cannot run '/etc': {denied}"),
    }

    def run() -> dict[str, tuple[int, str]]:
        ends = {}
        for program in wanted:
            with desk.run([program]) as result:
                ends[program] = (result.exit_status, result.error)
        return ends

    assert desk.do(run) == wanted


def test_program_in_a_path_with_a_closed_directory_is_found_behind_it(desk: Any) -> None:
    def prepare() -> None:
        os.mkdir("closed", 0o000)
        os.mkdir("open")
        Path("open/tool").write_text("#!/bin/sh\necho found\n")
        os.chmod("open/tool", 0o755)

    desk.do(prepare)
    path = f"{desk.home}/closed:{desk.home}/open"
    assert desk.see(["tool"], environment={"PATH": path}).output == "found\n"
    assert desk.see(["nothing"], environment={"PATH": path}).status == 127


def test_daemon_that_the_command_leaves_is_killed(desk: Any) -> None:
    def leave_one() -> bytes:
        read_end, write_end = os.pipe()
        with desk.run(
            "setsid sleep 1000 & setsid sh -c 'trap \"\" TERM HUP; sleep 1000' & echo left", stdio=(0, write_end, 2)
        ):
            os.close(write_end)
            with os.fdopen(read_end, "rb") as pipe:
                return pipe.read()  # to the end: nobody holds the other side any more

    assert desk.do(leave_one) == b"left\n"


def test_working_directory_the_box_does_not_show_is_refused_by_name(desk: Any) -> None:
    def refused() -> tuple[str, str]:
        with pytest.raises(InputError) as caught:
            desk.run("true", cwd=desk.state.stage_path)
        return caught.value.message, caught.value.hint

    message, hint = desk.do(refused)
    assert desk.state_path.name in message
    assert "jubako's own" in hint
    assert desk.boxes() == []


@pytest.mark.parametrize(
    ("argv", "box", "part"),
    [
        ([], whole(), "no command"),
        ([""], whole(), "no command"),
        (["a\0b"], whole(), "null byte"),
        (["true"], Box(), "wide view"),
    ],
)
def test_what_cannot_be_run_is_refused_before_a_box_is_made(
    tmp_path: Path, argv: list[str], box: Box, part: str
) -> None:
    state = open_state_root(str(tmp_path))
    with pytest.raises(InputError, match=part):
        run_in_box(argv, box, state=state)
    assert os.listdir(state.boxes_path) == []


def test_descriptors_and_boxes_after_many_runs_are_as_before(desk: Any) -> None:
    def many() -> tuple[int, int]:
        desk.run("true").close()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            with desk.run("echo hi > new"):
                pass
            with suppress(InputError):
                desk.run("true", cwd="/nowhere")
        return before, len(os.listdir("/proc/self/fd"))

    before, after = desk.do(many)
    assert before == after
    assert desk.boxes() == []


def test_box_from_a_thread_works_and_leaves_the_processs_signals_alone(desk: Any) -> None:
    def run() -> tuple[list[int], bool]:
        statuses: list[int] = []

        def work() -> None:
            with desk.run("exit 4") as result:
                statuses.append(result.exit_status)

        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        child = os.fork()  # the process's own later children are in its own pid namespace
        if child == 0:
            os._exit(0 if os.getpid() != 1 else 1)
        own = os.waitpid(child, 0)[1] == 0
        return statuses, own and before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    assert desk.do(run) == ([4], True)


def test_box_inside_a_box_is_refused_in_plain_words(desk: Any) -> None:
    def refused() -> str:
        os.environ["JUBAKO_BOX"] = "3f9c01ab"
        with pytest.raises(HostError) as caught:
            desk.run("true")
        return caught.value.message

    assert desk.do(refused) == "this is box 3f9c01ab, and a box cannot be made inside a box"


def test_command_cannot_see_what_a_living_run_has_staged_on_another_mount(desk: Any) -> None:
    def run() -> tuple[bool, bool]:
        with closing(open_database(desk.state.ledger_path, durability="relaxed")) as connection:
            journal = Journal(connection)
            with StageArea(desk.state, "run", journal):
                place = desk.home / ".jubako-stage/run"
                place.mkdir(parents=True)
                (place / "staged").touch()
                journal.add_place("run", str(place))
                with desk.run("test -e .jubako-stage/run") as result:
                    return place.exists(), result.exit_status == 0

    assert desk.do(run) == (True, False)


# --- commit ----------------------------------------------------------------------------------------------------------


def test_commit_of_a_path_publishes_it_and_drops_the_rest(desk: Any) -> None:
    def run() -> tuple[list[str], list[str]]:
        Path("old").write_text("old")
        with desk.run("echo new > old; mkdir out; echo hi > out/a; echo no > stray", commit=["old", "out"]) as result:
            assert result.committed is not None
            left = [os.path.basename(change.path) for change in result.changes]
            return [os.path.basename(change.path) for change in result.committed.plan.published], left

    assert desk.do(run) == (["old", "out", "a"], ["stray"])
    assert desk.do(lambda: (Path("old").read_text(), Path("out/a").read_text())) == ("new\n", "hi\n")
    assert desk.do(lambda: sorted(os.listdir())) == ["old", "out"]
    assert desk.boxes() == []


def test_commit_after_a_failed_command_publishes_nothing(desk: Any) -> None:
    def run() -> bool:
        with desk.run("echo hi > new; exit 1", commit=["new"]) as result:
            return result.committed is None

    assert desk.do(run)
    assert desk.do(os.listdir) == []


def test_commit_that_conflicts_keeps_the_box_and_names_it(desk: Any) -> None:
    def run() -> tuple[str, str]:
        Path("mine").write_text("old")
        os.mkdir("door")
        box = whole(binds=[str(desk.home / "door")])
        os.mkfifo("door/fifo")
        if os.fork() == 0:
            with open("door/fifo") as fifo:
                fifo.read()
            Path("mine").write_text("changed by another program")
            Path("door/done").touch()
            os._exit(0)
        script = "echo box > mine; echo > door/fifo; while ! test -e door/done; do sleep 0.01; done"
        with pytest.raises(Exception) as caught:
            desk.run(script, box, commit=["mine"])
        os.wait()
        return f"{type(caught.value).__name__}: {caught.value}", caught.value.hint  # type: ignore[attr-defined]

    error, hint = desk.do(run)
    (kept,) = desk.boxes()
    assert error.startswith("ConflictError: ")
    assert "/mine was changed on this machine" in error
    assert f"jubako box changes {kept}" in hint
    assert desk.do(lambda: Path("mine").read_text()) == "changed by another program"


def failing_commit(desk: Any, script: str, paths: list[str]) -> str:
    """What the error of a commit says, all of it; the id of the box that was kept has to be in it."""

    def run() -> str:
        with pytest.raises(BaseException) as caught:
            desk.run(script, commit=paths)
        error = caught.value
        hint = getattr(error, "hint", "")
        return f"{type(error).__name__}: {error}. {hint} {' '.join(getattr(error, '__notes__', ()))}"

    said: str = desk.do(run)
    (kept,) = desk.boxes()
    assert f"The box is kept: 'jubako box changes {kept}'." in said
    return said


def test_commit_that_finds_no_room_keeps_the_box_and_names_the_path(desk: Any) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))

    limited = replace(desk, in_child=lambda act: desk.in_child(lambda: (limit(), act())[1]))
    # What has a setuid bit is copied, everything else is renamed or linked and needs no room.
    script = "ulimit -S -f unlimited; head -c 2000000 /dev/zero > big; chmod u+s big"
    said = failing_commit(limited, script, ["big"])
    assert "HostError: " in said
    assert "/big cannot be committed: File too large" in said
    assert not (desk.home / "big").exists()


def test_commit_that_is_interrupted_keeps_the_box(desk: Any) -> None:
    class Interrupted(list[str]):
        def __iter__(self) -> Any:
            raise KeyboardInterrupt

    assert failing_commit(desk, "touch new", Interrupted(["new"])).startswith("KeyboardInterrupt")
    assert not (desk.home / "new").exists()


def test_commit_of_a_path_where_nothing_was_changed_keeps_what_was_changed_elsewhere(desk: Any) -> None:
    said = failing_commit(desk, "mkdir site; touch site/x", ["sitee"])
    assert said.startswith("InputError: the command changed nothing at or below sitee")


def test_commit_of_an_empty_path_is_refused(desk: Any) -> None:
    assert failing_commit(desk, "touch new", [""]).startswith("InputError: an empty path was given")


def test_commit_of_a_command_that_changed_nothing_commits_nothing(desk: Any) -> None:
    assert desk.do(lambda: desk.run("true", commit=["x"]).committed.plan.published) == ()


def test_commit_of_relative_paths_means_the_entry_itself_not_what_it_links_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert resolve_path("link/../link/new", str(tmp_path)) == str(tmp_path / "real/new")
    assert resolve_path("link", str(tmp_path)) == str(tmp_path / "link")
    assert resolve_path("/", str(tmp_path)) == "/"


# --- while the machine changes ---------------------------------------------------------------------------------------


def test_box_is_made_anew_when_a_mount_it_was_planned_for_is_gone(in_namespace: Runner) -> None:
    def act() -> tuple[int, int]:
        for path in ("disk", "disk/inner"):
            os.mkdir(path)
            attach(tmpfs(), f"/mnt/{path}")
        calls: list[str] = []

        def stack(place: str, *, userxattr: bool, targets: list[str]) -> tuple[()]:
            calls.append(place)
            if len(calls) == 1:
                umount2("/mnt/disk/inner")
                umount2("/mnt/disk")
            return ()

        program = Program(["/bin/true"], "/", dict(os.environ))
        with run_in_new_box(program, whole(), open_state_root("/mnt/state"), stack=stack) as result:
            return result.exit_status, len(calls)

    assert in_namespace(act) == (0, 2)


def test_box_is_made_anew_when_a_directory_it_was_planned_for_is_gone(desk: Any) -> None:
    def act() -> tuple[int, int]:
        calls: list[str] = []
        os.mkdir("temporary")

        def stack(place: str, *, userxattr: bool, targets: list[str]) -> tuple[()]:
            calls.append(place)
            if len(calls) == 1 and os.geteuid() != 0:  # root's box is not planned from such directories
                os.rmdir("temporary")
            return ()

        program = Program(["/bin/true"], "/", os.environ | {"TMPDIR": os.path.abspath("temporary")})
        with run_in_new_box(program, whole(), desk.state, stack=stack) as result:
            return result.exit_status, len(calls) - (os.geteuid() != 0)

    # Where all of it is one user's, the directory lies in a part of the view that is one, and is not missed.
    assert desk.do(act) == (0, int(os.geteuid() == 0))


def test_command_cannot_report_that_it_could_not_start(desk: Any) -> None:
    """The first process of the box holds the pipe for that, where the command may not look."""
    forge = r"for f in /proc/1/fd/*; do printf 'kind\0HostError\0message\0forged\0' > $f; done 2> /dev/null"
    assert desk.do(lambda: desk.run(f"{forge}; exit 3").exit_status) == 3
