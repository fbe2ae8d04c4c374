"""Boxes of every kind to attack from inside: each is started once, and stands all of `attacks`.

A box is a task's (narrow or wide), a command's or one that lives, and somebody's: root's, or an ordinary user's. What
lies ready for the attacks is made on the machine before, by root where only root can, and is dangerous there: a test
shows that too.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jubako.boxes.spec import Box, Host, Network
from system.narrow_box.conftest import code_for_users, shared_bench

if TYPE_CHECKING:
    from tests.system.narrow_box.conftest import Bench

__all__ = ["code_for_users", "shared_bench"]

KINDS = ("task", "wide task", "command", "strict command", "served command", "living")
SYSTEM_PYTHON = "/usr/bin/python3"  # any user may execute it
ATTACKS = Path(__file__).with_name("attacks.py")
MARK = "jubako-victim"
SOMEBODY = 54399  # neither root nor the ordinary user


@dataclass
class Site:
    """One user's part of the machine, with all that the attacks need."""

    bench: Bench
    given: dict[str, Any]
    canary: Path
    programs: Path
    victim: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{os.defpath}:/usr/sbin:/sbin",
            "HOME": str(self.bench.home),
            "JUBAKO_STATE": str(self.bench.home / "boxes"),
            "PYTHONPATH": str(self.bench.code),
        }

    def jubako(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`jubako WORDS`, as this user."""
        return self.as_user(SYSTEM_PYTHON, "-m", "jubako", *words, env=self.environment, **options)

    def command(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`jubako box run WORDS`, as this user."""
        return self.jubako("box", "run", *words, **options)

    def as_user(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """The program WORDS on the machine itself, as this user, in this test's folder."""
        who = (
            {}
            if self.bench.uid == os.geteuid()
            else {"user": self.bench.uid, "group": self.bench.uid, "extra_groups": []}
        )
        return subprocess.run(
            words, **{"cwd": self.bench.work, "capture_output": True, "text": True, "check": False} | who | options
        )


@dataclass
class Attacked:
    """A box that was attacked, and what came of each attack."""

    site: Site
    kind: str
    results: dict[str, Any]
    left: list[str]  # in the canary's folder on the machine, when the box had ended
    mounts: list[str]  # of the machine, in this user's part of it, when the box had ended
    has_old_interpreter: bool  # the machine, when the box had ended

    @property
    def is_root(self) -> bool:
        return self.site.bench.user == "root"

    @property
    def keeps_rights(self) -> bool:
        """Whether what runs in it keeps some of root's capabilities."""
        return self.is_root and self.kind not in ("task", "strict command")

    def __getitem__(self, attack: str) -> Any:
        return self.results[attack]


@pytest.fixture(scope="module")
def site(shared_bench: Bench) -> Iterator[Site]:
    shared_bench.fresh()
    canary, programs = shared_bench.home / "canary", shared_bench.top / "programs"  # one copy-on-write, one read-only
    for folder in (canary, programs):
        shared_bench.make_folder(folder)
    if os.geteuid() == 0:
        _make_programs(programs, somebody=SOMEBODY if shared_bench.user == "root" else 0)
    with ExitStack() as stack:
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        name = f"jubako-{os.getpid()}-{shared_bench.user}"
        abstract.bind("\0" + name)
        abstract.listen(20)
        port = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=20))
        who = {} if shared_bench.uid == os.geteuid() else {"user": shared_bench.uid}
        victim = stack.enter_context(
            subprocess.Popen([SYSTEM_PYTHON, "-c", "input()", MARK], stdin=subprocess.PIPE, **who)
        )
        given = {
            "canary": str(canary),
            "programs": str(programs),
            "victim": victim.pid,
            "mark": MARK,
            "abstract": name,
            "port": port.getsockname()[1],
            "interpreter": SYSTEM_PYTHON,
        }
        yield Site(shared_bench, given, canary, programs, victim)
        victim.kill()


@pytest.fixture(scope="module", params=KINDS)
def attacked(site: Site, request: pytest.FixtureRequest) -> Attacked:
    kind: str = request.param
    before = _look_at_interpreter()
    results = attack(site, kind)
    return Attacked(
        site,
        kind,
        results,
        left=sorted(os.listdir(site.canary)),
        mounts=[one for one in Path("/proc/self/mountinfo").read_text().splitlines() if str(site.bench.top) in one],
        has_old_interpreter=_look_at_interpreter() == before,
    )


def attack(site: Site, kind: str, *, network: Network = "host", abstract_sockets: bool = False) -> dict[str, Any]:
    """Makes all attacks in a new box of this kind; what came of each."""
    site.bench.fresh()
    source, given = ATTACKS.read_text(), json.dumps(site.given)
    if kind == "living":
        assert site.jubako("box", "create", "--name", "attacked").returncode == 0
        try:
            done = site.jubako("box", "exec", "attacked", "--", SYSTEM_PYTHON, "-I", "-c", source, given)
        finally:
            site.jubako("box", "rm", "--force", "attacked")
        assert done.returncode == 0, done.stderr
        found = done.stdout.splitlines()[0]
    elif kind == "served command":
        program = (
            "import sys; from jubako import BoxServer\n"
            "with BoxServer() as boxes:\n"
            f"    for line in (['true'], [{SYSTEM_PYTHON!r}, '-I', '-c', *sys.argv[1:]]): boxes.run(line).close()"
        )
        done = site.as_user(SYSTEM_PYTHON, "-c", program, source, given, env=site.environment)
        assert done.returncode == 0, done.stderr
        found = done.stdout.splitlines()[0]
    elif kind in ("command", "strict command"):
        options: tuple[str, ...] = ("--network", network, *(("--abstract-sockets",) if abstract_sockets else ()))
        if kind == "strict command":  # what the attacks need must be given to it
            shared = ("--bind", str(site.bench.work), "--bind", f"{site.programs}:{site.programs}:ro")
            options = ("--profile", "strict", *shared)
        done = site.command(*options, "--", SYSTEM_PYTHON, "-I", "-c", source, given)
        assert done.returncode == 0, done.stderr
        found = done.stdout.splitlines()[0]
    else:
        box = Box(Host(whole=kind == "wide task"), network=network, abstract_sockets=abstract_sockets)
        payload = f"{source}\nimport json\nanswer = json.dumps(attack_all(json.loads({given!r})))"
        ran = site.bench.run("python", payload, box=box)
        assert ran.outcome == "ok", f"{ran.finished.error}\n{ran.printed}"
        found = ran.report
    results: dict[str, Any] = json.loads(found)
    return results


def _look_at_interpreter() -> tuple[int, int, int]:
    found = os.stat(SYSTEM_PYTHON)
    return found.st_ino, found.st_size, found.st_ctime_ns


def _make_programs(folder: Path, *, somebody: int) -> None:
    """Programs that give who executes them the rights of `somebody`, or a capability; and a device anybody may open."""
    for name, mode in (("setuid", 0o4755), ("setgid", 0o2755), ("capable", 0o755)):
        shutil.copy("/bin/cat", folder / name)
        os.chown(folder / name, somebody, somebody)
        (folder / name).chmod(mode)
    subprocess.run(["setcap", "cap_sys_admin+ep", folder / "capable"], check=True)
    os.mknod(folder / "zero", 0o020666, os.makedev(1, 5))
    (folder / "zero").chmod(0o666)
