"""What a task sees and may do in the narrow view, asked from inside."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.spec import Box, Host
from jubako.kernel.mount_table import parse_mountinfo

if TYPE_CHECKING:
    from tests.system.narrow_box.conftest import Bench

pytestmark = pytest.mark.box


def test_view_is_read_only_but_for_a_few_places(bench: Bench) -> None:
    table = parse_mountinfo(bench.run("shell", "cat /proc/self/mountinfo").report)
    on_top = {mount.mount_point: mount for mount in table}
    writable = {path for path, mount in on_top.items() if not mount.is_read_only}
    assert writable == {str(bench.home), "/tmp", "/run/jubako", "/run/jubako/stage", "/dev/pts"} - {"/run/jubako/stage"}
    overlays = {path for path, mount in on_top.items() if mount.fstype == "overlay"}
    assert overlays == {str(bench.home), "/tmp"}


def test_write_elsewhere_fails_and_names_the_path(bench: Bench) -> None:
    ran = bench.run("write", json.dumps({"/var/tmp/stray": "x"}))
    assert ran.outcome == "failed"
    assert "/var/tmp/stray is read-only in this box" in ran.finished.error
    assert not Path("/var/tmp/stray").exists()


def test_write_below_the_working_directory_stays_in_the_box(bench: Bench) -> None:
    bench.make_file(bench.work / "input", "old")
    ran = bench.run("shell", "echo new >input; cat input; echo x >stray; mv stray stray2; ls")
    assert ran.report == "new\ninput\nstray2\n"
    assert (bench.work / "input").read_text() == "old"
    assert [path.name for path in bench.work.iterdir()] == ["input"]
    assert ran.undeclared == [str(bench.work / "input"), str(bench.work / "stray2")]


def test_next_job_sees_nothing_of_the_one_before(bench: Bench) -> None:
    bench.run("shell", "touch a /tmp/jubako-b $TMPDIR/c /dev/shm/d")
    assert bench.run("shell", "ls -A . $TMPDIR /dev/shm /tmp | grep -E '^(a|jubako-b|c|d)$'").report == ""


def test_next_job_sees_what_was_put_there_since_the_one_before(bench: Bench) -> None:
    # The view of the next job is begun when the one before has ended; what it covers may not be looked at then.
    bench.make_file(bench.work / "old", "old\n")
    assert bench.run("shell", "cat old; ls").report == "old\nold\n"
    bench.make_file(bench.work / "new", "new\n")
    bench.make_file(bench.work / "old", "changed\n")
    bench.work.chmod(0o711)
    ran = bench.run("shell", "ls; cat old new; stat -c %a .")
    assert ran.report == "new\nold\nchanged\nnew\n711\n"
    assert ran.undeclared == []


def test_next_job_gets_the_box_it_asks_for_whatever_the_one_before_had(bench: Bench) -> None:
    shared = bench.top / "shared"
    bench.make_folder(shared)
    size = "df --output=size -B1 $TMPDIR | tail -1"
    for _ in range(2):
        assert bench.run("shell", size, box=Box(scratch_size_bytes=1 << 20)).report.strip() == str(1 << 20)
        assert bench.run("shell", size, box=Box(scratch_size_bytes=1 << 21)).report.strip() == str(1 << 21)
        assert bench.run("shell", f"echo x > {shared}/x", box=Box(binds=[str(shared)])).outcome == "ok"
        (shared / "x").unlink()
        assert bench.run("shell", f"(echo x > {shared}/x) 2>/dev/null || echo refused").report == "refused\n"
        assert bench.run("shell", "touch x; ls", box=Box(scratch="disk")).report == "x\n"
    shared.rmdir()


def test_tmpdir_and_shared_memory_are_the_jobs_own_and_counted(bench: Bench) -> None:
    ran = bench.run("shell", "mkdir $TMPDIR/x; touch $TMPDIR/x/y /dev/shm/z; stat -c %a $TMPDIR /dev/shm/.")
    assert ran.report == "700\n1777\n"
    assert ran.finished.scratch_dropped == 3
    assert ran.undeclared == []


def test_state_of_jubako_is_hidden(bench: Bench) -> None:
    assert bench.run("shell", f"ls -A {bench.state} | wc -l; touch {bench.state}/x 2>&1 | grep -c denied").report in (
        "0\n0\n",
        "0\n1\n",
    )
    assert bench.run("write", json.dumps({str(bench.state / "x"): "x"})).outcome == "failed"


def test_processes_outside_are_not_seen(bench: Bench) -> None:
    seen = bench.run("python", "answer = sorted(int(name) for name in os.listdir('/proc') if name.isdecimal())").report
    zygote, task = json.loads(seen)
    assert zygote == 1
    assert task > 1


def test_devices_are_few_and_work(bench: Bench) -> None:
    ran = bench.run(
        "shell", "echo x >/dev/null; head -c 4 /dev/urandom | wc -c; test -e /dev/sda; echo $?; ls /dev/shm/"
    )
    assert ran.report == "4\n1\n"
    assert bench.run("python", "import pty; a, b = pty.openpty(); answer = os.isatty(b)").report == "True"


def test_descriptors_of_a_task_are_the_standard_three(bench: Bench) -> None:
    assert bench.run("shell", "ls /proc/self/fd | wc -l").report == "4\n", "and the one of ls itself"
    assert bench.run("shell", "readlink /proc/self/fd/0").report == "/dev/null\n"


def test_rights_are_gone_and_cannot_come_back(bench: Bench) -> None:
    status = bench.run("shell", "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status").report
    values = dict(line.split() for line in status.splitlines())
    assert {name: int(value, 16) for name, value in values.items() if name.startswith("Cap")} == {
        "CapInh:": 0,
        "CapPrm:": 0,
        "CapEff:": 0,
        "CapBnd:": 0,
        "CapAmb:": 0,
    }
    assert (values["NoNewPrivs:"], values["Seccomp:"]) == ("1", "2")


def test_calls_out_of_the_box_are_refused(bench: Bench) -> None:
    answers = json.loads(bench.run("try_calls").report)
    assert answers == dict.fromkeys(answers, errno.EPERM)
    assert len(answers) == 7


def test_kept_capability_is_held_and_passed_on_by_root(bench: Bench) -> None:
    ran = bench.run("shell", "grep CapEff /proc/self/status", box=Box(capabilities=["CAP_DAC_OVERRIDE"]))
    assert ran.report.split() == ["CapEff:", f"{1 << 1:016x}"]
    refused = bench.run("try_calls", box=Box(capabilities=["CAP_SYS_ADMIN"])).report
    assert json.loads(refused)["mount"] == errno.EPERM, "the whole deny list holds where capabilities are kept"


def test_ids_and_umask_are_the_users_own(bench: Bench) -> None:
    assert bench.run("shell", "id -u; id -g; umask").report == f"{bench.uid}\n{bench.uid}\n0022\n"


def test_variables_to_control_sockets_are_gone(bench: Bench) -> None:
    assert bench.run("shell", "echo ${SSH_AUTH_SOCK-none} $TMPDIR").report == "none /run/jubako/tmp\n"
    given = {"HOME": str(bench.home), "SSH_AUTH_SOCK": "/x", "WORD": "w", "PATH": os.environ["PATH"]}
    ran = bench.run("shell", "echo ${SSH_AUTH_SOCK-none} $TMPDIR $WORD", environment=given)
    assert ran.report == "none /run/jubako/tmp w\n"


def test_socket_in_a_writable_place_refuses_and_one_opened_by_name_answers(bench: Bench) -> None:
    path = bench.home / f"{bench.work.name}.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        os.chown(path, bench.uid, bench.uid)
        server.listen()
        assert bench.run("connect", str(path)).report == "ConnectionRefusedError"
        assert bench.run("connect", str(path), box=Box(sockets=[str(path)])).report == "connected"


def test_run_shows_nothing_but_our_own(bench: Bench) -> None:
    seen = bench.run("python", "answer = [e.name for e in os.scandir('/run') if not e.is_symlink()]").report
    assert seen == "['jubako']"


if os.access("/run", os.W_OK):  # nobody else can put anything there to be hidden

    def test_socket_below_run_is_hidden_and_one_opened_by_name_answers(bench: Bench) -> None:
        path = Path(f"/run/jubako-test-{os.getpid()}.sock")
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
                path.chmod(0o777)
                server.listen()
                for base in (Host(), Host(whole=True)):
                    assert bench.run("connect", str(path), box=Box(base)).report == "FileNotFoundError"
                    assert bench.run("connect", str(path), box=Box(base, sockets=[str(path)])).report == "connected"
        finally:
            path.unlink()


def test_network_is_shared_unless_it_is_taken_away(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert bench.run("connect_to_port", port).report == "connected"
        assert bench.run("connect_to_port", port, box=Box(network="none")).report == "ConnectionRefusedError"


def test_bind_is_shared_with_the_host_and_no_part_of_the_result(bench: Bench) -> None:
    inner, outer = bench.work / "shared", bench.top / f"outer-{bench.work.name}"
    for folder in (inner, outer):
        bench.make_folder(folder)
    box = Box(binds=[str(inner), str(outer)], cache=[str(bench.work / "new" / "cache")])
    ran = bench.run("shell", f"echo 1 >shared/a; echo 2 >{outer}/b; echo 3 >new/cache/c; echo 4 >stray", box=box)
    assert (inner / "a").read_text() == "1\n"
    assert (outer / "b").read_text() == "2\n"
    assert (bench.work / "new" / "cache" / "c").read_text() == "3\n"
    assert ran.undeclared == [str(bench.work / "stray")]


def test_shared_memory_can_be_shared_with_the_host(bench: Bench) -> None:
    path = Path(f"/dev/shm/jubako-test-{os.getpid()}")
    try:
        for base in (Host(), Host(whole=True)):
            ran = bench.run("shell", f"echo x >>{path}", box=Box(base, binds=["/dev/shm"]))
            assert (ran.outcome, ran.undeclared) == ("ok", []), ran.finished.error
        assert path.read_text() == "x\nx\n"
    finally:
        path.unlink(missing_ok=True)


def test_missing_bind_is_named(bench: Bench) -> None:
    ran = bench.run("nothing", box=Box(binds=["/no/such/place"]))
    assert ran.outcome == "host"
    assert "/no/such/place, which cannot be found" in ran.finished.error


def test_scratch_is_limited_and_says_so_when_it_is_full(bench: Bench) -> None:
    text = f"open({str(bench.work / 'big')!r}, 'wb').write(b'x' * 3_000_000)"
    ran = bench.run("python", text, box=Box(scratch_size_bytes=1 << 20))
    assert ran.outcome == "failed"
    assert "Box(scratch_size_bytes=...)" in ran.finished.error


def test_scratch_on_disk_is_used_and_removed(bench: Bench) -> None:
    stage = bench.state / "stage" / "RUN"
    ran = bench.run(
        "shell", "stat -f -c %T $TMPDIR; echo x >stray; rm -rf gone; mkdir d; chmod 0 d", box=Box(scratch="disk")
    )
    assert ran.report != "tmpfs\n"
    assert ran.undeclared == [str(bench.work / "d"), str(bench.work / "stray")]
    bench.ask("restart", {})
    assert [path.name for path in stage.iterdir() if path.name.endswith(".scratch")] == []


def test_working_directory_with_a_hostile_name_works(bench: Bench) -> None:
    folder = Path(os.fsdecode(os.fsencode(bench.home / "a,b:c\\d\ne f") + b"\xff"))
    if not folder.exists():
        bench.make_folder(folder)
    ran = bench.run("shell", "echo x >stray; cat stray", cwd=str(folder))
    assert ran.report == "x\n"
    assert ran.undeclared == [str(folder / "stray")]


def test_missing_working_directory_fails_and_names_it(bench: Bench) -> None:
    ran = bench.run("nothing", cwd=str(bench.work / "gone"))
    assert ran.outcome == "failed"
    assert f"{bench.work}/gone" in ran.finished.error


def test_working_directory_outside_the_home_is_writable_too(bench: Bench) -> None:
    folder = bench.top / f"project-{bench.work.name}"
    bench.make_folder(folder)
    ran = bench.run("shell", f"echo x >stray; echo y >{bench.work}/other; ls", cwd=str(folder))
    assert ran.report == "stray\n"
    assert ran.undeclared == sorted([str(folder / "stray"), str(bench.work / "other")])


def test_working_directory_that_belongs_to_somebody_else_is_read_only(bench: Bench) -> None:
    ran = bench.run("shell", "touch /etc/stray || ls -d .", cwd="/etc" if bench.uid else "/proc")
    assert ran.report.endswith(".\n")


def test_upper_looks_like_what_it_covers(bench: Bench) -> None:
    os.chmod(bench.home, 0o2751)
    os.setxattr(bench.home, "user.note", b"kept")
    try:
        text = (
            f"s = os.stat({str(bench.home)!r}); answer = oct(s.st_mode), os.getxattr({str(bench.home)!r}, 'user.note')"
        )
        assert bench.run("python", text).report == "('0o42751', b'kept')"
    finally:
        os.removexattr(bench.home, "user.note")
        os.chmod(bench.home, 0o755)
