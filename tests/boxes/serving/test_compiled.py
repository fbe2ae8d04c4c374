"""The compiled first process: where it comes from, what happens where there is none, and that a box is made anyhow."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.boxes.serving.conftest import place_program

from interpreter import find_interpreter
from jubako.boxes.secrets import BoxSecret
from jubako.boxes.serving.client import BoxServer
from jubako.boxes.serving.compiled import find_compiled_first
from jubako.boxes.spec import Box, Host
from jubako.boxes.state import open_state_root

if TYPE_CHECKING:
    from tests.boxes.conftest import Desk

pytestmark = pytest.mark.box


def server_of(desk: Desk, **options: Any) -> BoxServer:
    """A server of the desk's user, who may not be able to execute this Python."""
    find_interpreter()
    return BoxServer(state=desk.state, **options)


def answer(boxes: BoxServer, script: str, **options: Any) -> str:
    with boxes.popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, **options) as process:
        said, _ = process.communicate()
        process.wait()
    return said.decode()


def test_program_is_compiled_once_for_a_state_root(tmp_path: Path) -> None:
    state = open_state_root(str(tmp_path / "state"))
    first = find_compiled_first(state)
    before = os.stat(first)
    assert find_compiled_first(state) == first
    assert os.stat(first).st_mtime_ns == before.st_mtime_ns
    assert os.listdir(os.path.dirname(first)) == [os.path.basename(first)]
    assert before.st_mode & 0o077 == 0


def test_without_a_compiler_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_compiled_first(open_state_root(str(tmp_path / "state"))) == ""


def test_compiler_that_fails_is_not_asked_again_and_what_it_said_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\necho no headers >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    state = open_state_root(str(tmp_path / "state"))
    assert [find_compiled_first(state), find_compiled_first(state)] == ["", ""]
    assert (tmp_path / "asked").read_text() == "asked\n" * 2  # with and without -static, once
    (said,) = Path(state.path, "compiled").glob("*.failed")
    assert said.read_text() == "no headers\n" * 2


@pytest.mark.parametrize(
    "program",
    [
        "#!/bin/sh\nprintf 'refused\\0000 272 1\\000' >&3\nexit 125\n",
        "#!/bin/sh\nexit 1\n",
        "no program at all",
    ],
    ids=["refused", "dies", "nonsense"],
)
def test_box_is_made_by_a_fork_where_the_program_fails(desk: Desk, compiled_first: Path, program: str) -> None:
    place_program(desk, compiled_first).write_text(program)

    def act() -> list[str]:
        with server_of(desk) as boxes:
            return [answer(boxes, "echo made; touch new") for _ in range(3)]

    assert desk.do(act) == ["made\n"] * 3


def test_box_with_secrets_is_not_written_down_and_made_anyhow(desk: Desk, compiled_first: Path) -> None:
    place_program(desk, compiled_first)

    def act() -> list[str]:
        wanted = Box(Host(whole=True), secrets=[BoxSecret("key", value=b"sesame")])
        with server_of(desk) as boxes:
            return [answer(boxes, "cat /run/secrets/key 2>&1", box=box) for box in (wanted, None, wanted)]

    first, without, again = desk.do(act)
    assert first == again == "sesame"
    assert "No such file" in without
    assert not Path("/run/secrets/key").exists()


def test_boxes_of_different_kinds_are_each_written_down_anew(desk: Desk, compiled_first: Path) -> None:
    place_program(desk, compiled_first)
    kinds = [
        Box(Host(whole=True)),
        Box(Host(whole=True), network="none", hostname="inner"),
        Box(Host(whole=True), profile="strict", cwd="/tmp"),
        Box(Host(whole=True), profile="trusted"),
    ]
    script = "hostname; ls /sys/class/net 2>/dev/null | wc -l; grep ^Seccomp: /proc/self/status; touch /etc/x 2>&1; pwd"

    def act(*, compiled: bool) -> list[str]:
        with server_of(desk, compiled=compiled) as boxes:
            return [answer(boxes, script, box=box) for box in (*kinds, *kinds)]

    compiled, forked = desk.do(lambda: act(compiled=True)), desk.do(lambda: act(compiled=False))
    assert compiled == forked
    assert len(set(compiled)) == len(kinds)


def test_words_of_the_command_arrive_as_they_are(desk: Desk, compiled_first: Path) -> None:
    place_program(desk, compiled_first)
    environment = {"PATH": os.defpath, "EMPTY": "", "EQUALS": "a=b=c", "ODD": os.fsdecode(b"\xff\n\t")}
    argv = ["/usr/bin/env", "-0"]

    def act() -> tuple[bytes, bytes]:
        with server_of(desk) as boxes:
            found = []
            for line in (argv, ["printf", "%s|", "", "two words", os.fsdecode(b"\xfe"), "x" * 100_000]):
                with boxes.popen(line, environment=environment, stdout=subprocess.PIPE) as process:
                    found.append(process.communicate()[0])
                    process.wait()
            return found[0], found[1]

    told, printed = desk.do(act)
    names = dict(one.split(b"=", 1) for one in told.split(b"\0") if b"=" in one)
    assert {name: names[name] for name in (b"EMPTY", b"EQUALS", b"ODD")} == {
        b"EMPTY": b"",
        b"EQUALS": b"a=b=c",
        b"ODD": b"\xff\n\t",
    }
    assert printed == b"|two words|\xfe|" + b"x" * 100_000 + b"|"


@pytest.mark.parametrize("path", ["", "/nowhere:/usr/bin", "relative:/usr/bin", ":/usr/bin", None])
def test_program_is_found_as_a_shell_finds_it(desk: Desk, compiled_first: Path, path: str | None) -> None:
    place_program(desk, compiled_first)
    environment = {} if path is None else {"PATH": path}

    def prepare() -> None:
        Path("here").write_text("#!/bin/sh\necho here\n")
        Path("here").chmod(0o755)
        Path("there").write_text("no program")

    def act(name: str, *, compiled: bool) -> tuple[str, int | None, str]:
        with (
            server_of(desk, compiled=compiled) as boxes,
            boxes.popen([name], environment=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process,
        ):
            said = process.communicate()[0].decode()
            status = process.wait()
            with process.result() as result:
                return said, status, result.error

    desk.do(prepare)
    for name in ("true", "here", "there", "./here", "nowhere"):
        assert desk.do(lambda name=name: act(name, compiled=True)) == desk.do(
            lambda name=name: act(name, compiled=False)
        )
