"""Private networks, for real: what is in reach of them, what is not, what reaches in, and what is left of them.

What they reach is this machine: a server on its loopback, one on an address of its own, a name server that a test
brings along. An ordinary user needs /dev/net/tun, which root here makes theirs in a mount namespace of the test's.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from interpreter import find_interpreter
from jubako.boxes.commands.launch import run_in_box
from jubako.boxes.serving.client import BoxServer
from jubako.boxes.spec import Box, Host
from jubako.boxes.state import open_state_root
from jubako.errors import HostError, InputError
from jubako.kernel import mounts, process
from jubako.kernel.children import wait_for_pidfd
from jubako.kernel.namespaces import CLONE_NEWNS, unshare
from jubako.kernel.process_tree import find_tree
from jubako.layers.remove import remove_tree

if TYPE_CHECKING:
    from tests.conftest import Runner

Result = TypeVar("Result")
USERS = ("root", "rootless") if os.geteuid() == 0 else ("rootless",)
ORDINARY_UID = 54321
PYTHON = "/usr/bin/python3"
SOURCE = Path(__file__).parents[3] / "src"
NAME_SERVER = "127.0.0.77"
pytestmark = [
    pytest.mark.box,
    pytest.mark.skipif(
        os.geteuid() != 0 and not os.access("/dev/net/tun", os.W_OK), reason="/dev/net/tun is root's here"
    ),
]


class Site:
    """One user's place; `do` calls a function there, on a machine where /dev/net/tun is everybody's."""

    def __init__(self, user: str, top: Path, in_child: Runner) -> None:
        self.user = user
        self.top = top
        self._in_child = in_child

    def do(self, function: Callable[[], Result]) -> Result:
        def there() -> Result:
            if os.geteuid() == 0:
                self._change_machine()
            if self.user == "rootless" and os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)
                os.setresuid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)
                process.set_dumpable(dumpable=True)  # giving up root made /proc/self root's
            os.environ["HOME"] = str(self.top)
            os.chdir(self.top)
            return function()

        return self._in_child(there)

    def _change_machine(self) -> None:
        unshare(CLONE_NEWNS)
        mounts.mount("none", "/", "", mounts.MS_REC | mounts.MS_PRIVATE)
        mounts.mount("none", "/mnt", "tmpfs")
        os.mknod("/mnt/tun", 0o20666, os.makedev(10, 200))
        os.chmod("/mnt/tun", 0o666)
        mounts.mount("/mnt/tun", "/dev/net/tun", flags=mounts.MS_BIND)
        Path("/mnt/resolv.conf").write_text(f"nameserver {NAME_SERVER}\n")
        mounts.mount("/mnt/resolv.conf", "/etc/resolv.conf", flags=mounts.MS_BIND)
        mounts.umount2("/mnt", mounts.MNT_DETACH)

    def run(self, script: str, **options: Any) -> str:
        """What a Python script printed in a box with a private network; it ends well."""

        def there() -> str:
            with tempfile.TemporaryFile() as output, open(os.devnull) as null:
                box = Box(Host(whole=True), network="private", **options)
                argv = [PYTHON, "-I", "-c", f"import socket\n{script}"]
                stdio = (null.fileno(), output.fileno(), output.fileno())
                with run_in_box(argv, box, state=open_state_root(f"{self.top}/state"), stdio=stdio) as result:
                    output.seek(0)
                    printed = output.read().decode()
                    assert result.exit_status == 0, printed
                    assert not any("name" in note for note in result.notes), result.notes
            return printed.strip()

        return self.do(there)

    @property
    def gateway(self) -> str:
        """By which address the machine's loopback is in reach, where it is: of a Python script in the box."""
        if self.user == "root":
            return "'10.0.2.2'"
        return "socket.inet_ntoa(bytes.fromhex(open('/proc/net/route').readlines()[1].split()[2])[::-1])"


@pytest.fixture(params=USERS)
def site(request: pytest.FixtureRequest, in_child: Runner) -> Iterator[Site]:
    top = Path(tempfile.mkdtemp(prefix="jubako-network-", dir="/var/tmp"))
    top.chmod(0o777)
    if request.param == "rootless" and os.geteuid() == 0:
        os.chown(top, ORDINARY_UID, ORDINARY_UID)
    try:
        yield Site(request.param, top, in_child)
    finally:
        remove_tree(str(top))


def program_of(pid: int) -> str:
    """The first word of a process's command line; pasta executes a build of itself with another name."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:
        return ""


def connect(address: str, port: int) -> str:
    return f"""
with socket.socket() as one:
    one.settimeout(3)
    try:
        one.connect(({address}, {port}))
        print("connected")
    except OSError as error:
        print("refused")
"""


def test_server_makes_boxes_with_private_networks(site: Site) -> None:
    def there() -> tuple[bytes, int | None]:
        box = Box(Host(whole=True), network="private")
        line = [PYTHON, "-I", "-c", "import socket; print(len(socket.if_nameindex()))"]
        state = open_state_root(f"{site.top}/state")
        find_interpreter()
        with (
            BoxServer(box, state=state, compiled=False) as boxes,
            boxes.popen(line, stdout=subprocess.PIPE) as process,
        ):
            said = process.communicate()[0]
            return said, process.wait()

    assert site.do(there) == (b"2\n", 0)


def test_pasta_may_close_what_it_was_not_told_of(site: Site) -> None:
    """As it does from 2024_08 on."""

    def there() -> list[bytes]:
        real = shutil.which("pasta", path=f"{os.environ['PATH']}:/usr/bin")
        program = site.top / "bin/pasta"
        program.parent.mkdir()
        closing = f"os.closerange(3, 4096); os.execv({real!r}, sys.argv)"
        signals = "signal.signal(signal.SIGPIPE, signal.SIG_DFL)"  # as whoever starts it did
        program.write_text(f"#!{PYTHON} -IS\nimport os, signal, sys; {signals}; {closing}\n")
        program.chmod(0o755)
        os.environ["PATH"] = f"{program.parent}:{os.environ['PATH']}"
        line = [PYTHON, "-I", "-c", "import socket; print(len(socket.if_nameindex()))"]
        box = Box(Host(whole=True), network="private")
        state = open_state_root(f"{site.top}/state")
        find_interpreter()
        said = []
        with (
            BoxServer(box, state=state, compiled=False) as boxes,
            boxes.popen(line, stdout=subprocess.PIPE) as process,
        ):
            said.append(process.communicate()[0])
            assert process.wait() == 0
        read_end, write_end = os.pipe()
        run_in_box(line, box, state=state, stdio=(0, write_end, 2)).close()
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            said.append(pipe.read())
        return said

    assert site.do(there) == [b"2\n", b"2\n"]


def test_box_has_an_interface_an_address_and_a_route_of_its_own(site: Site) -> None:
    script = "print(sorted(name for _, name in socket.if_nameindex()), len(open('/proc/net/route').readlines()) > 1)"
    own = "'tap0'" if site.user == "root" else ""
    printed = site.run(script)
    assert "'lo'" in printed
    assert own in printed
    assert printed.count("'") == 4
    assert printed.endswith("True")


def test_loopback_of_the_machine_is_out_of_reach_unless_it_is_asked_for(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert site.run(connect("'127.0.0.1'", port)) == "refused"
        assert site.run(connect(site.gateway, port)) == "refused"
        assert site.run(connect(site.gateway, port), host_loopback=True) == "connected"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_published_port_of_the_machine_leads_into_the_box(site: Site, protocol: str) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    box_port = 7777 if protocol == "tcp" else port  # pasta of 2023 answers from the port in the box
    script = f"""
one = socket.socket(socket.AF_INET, {int(kind)})
one.settimeout(20)
one.bind(("0.0.0.0", {box_port}))
if {kind == socket.SOCK_STREAM}:
    one.listen()
    open({str(site.top / "pipe")!r}, "w").close()
    other, _ = one.accept()
    other.sendall(b"from the box")
else:
    open({str(site.top / "pipe")!r}, "w").close()
    data, who = one.recvfrom(100)
    one.sendto(b"from the box", who)
    one.recvfrom(100)  # the answer has arrived: with the box the way back ends, too
"""
    os.mkfifo(site.top / "pipe")
    os.chmod(site.top / "pipe", 0o666)
    got: list[bytes] = []

    def ask() -> None:
        (site.top / "pipe").open().close()  # when the box listens
        with socket.socket(socket.AF_INET, kind) as one:
            one.settimeout(20)
            one.connect(("127.0.0.1", port))
            if protocol == "udp":
                one.send(b"hello")
            got.append(one.recv(100))
            if protocol == "udp":
                one.send(b"bye")

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    # What answers over UDP sends to an address that stands for this machine.
    options: dict[str, Any] = {"host_loopback": True} if protocol == "udp" else {}
    site.run(script, publish=[f"{port}:{box_port}/{protocol}"], binds=[str(site.top / "pipe")], **options)
    asking.join()
    assert got == [b"from the box"]


def test_port_that_is_taken_is_an_error_and_the_command_does_not_run(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def there() -> str:
            with pytest.raises(HostError) as caught:
                run_in_box(
                    ["/bin/true"],
                    Box(Host(whole=True), network="private", publish=[f"{port}:80"]),
                    state=open_state_root(f"{site.top}/state"),
                )
            assert os.listdir(f"{site.top}/state/boxes") == []
            return caught.value.message

        message = site.do(there)
    assert "the private network cannot be made" in message
    assert str(port) in message


def test_program_that_fails_is_quoted_and_the_command_does_not_run(site: Site) -> None:
    for name in ("pasta", "slirp4netns"):
        program = site.top / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\necho 'no route to anywhere' >&2\nexit 1\n")
        program.chmod(0o755)

    def there() -> str:
        os.environ["PATH"] = f"{site.top}/bin:{os.environ['PATH']}"
        box = Box(Host(whole=True), network="private")
        with pytest.raises(HostError) as caught:
            run_in_box(["/bin/true"], box, state=open_state_root(f"{site.top}/state"))
        return caught.value.message

    message = site.do(there)
    assert message.startswith("the private network cannot be made: ")
    assert message.endswith(" says: no route to anywhere")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be a name server for this")
def test_names_are_found_by_the_machines_name_server(site: Site) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((NAME_SERVER, 53))

        def answer() -> None:
            while True:
                query, who = server.recvfrom(512)
                if not query:
                    return
                end = query.index(b"\0", 12) + 5
                is_address = query[end - 4 : end - 2] == b"\0\1"
                record = b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\x04\xc0\0\2\x2a" if is_address else b""
                counts = b"\0\1" + (b"\0\1" if is_address else b"\0\0") + b"\0\0\0\0"
                server.sendto(query[:2] + b"\x81\x80" + counts + query[12:end] + record, who)

        answering = threading.Thread(target=answer)
        answering.start()
        try:
            printed = site.run("print(socket.gethostbyname('jubako.test'))")
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", (NAME_SERVER, 53))
            answering.join()
    assert printed == "192.0.2.42"


def test_box_that_is_killed_with_its_caller_takes_the_program_with_it(site: Site) -> None:
    program = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(SOURCE)!r})\n"
        "from jubako.boxes.commands.launch import run_in_box\n"
        "from jubako.boxes.spec import Box, Host\n"
        "from jubako.boxes.state import open_state_root\n"
        f"state = open_state_root({str(site.top / 'state')!r})\n"
        "box = Box(Host(whole=True), network='private')\n"
        "run_in_box(['/bin/sh', '-c', 'echo up; exec sleep 60'], box, state=state)\n"
    )

    def there() -> bool:
        with subprocess.Popen([PYTHON, "-c", program], stdout=subprocess.PIPE) as caller:
            assert caller.stdout is not None
            assert caller.stdout.readline() == b"up\n"
            (carrier,) = [pid for pid in find_tree(caller.pid) if program_of(pid) in ("pasta", "slirp4netns")]
            pidfd = os.pidfd_open(carrier)
            caller.send_signal(signal.SIGKILL)
        try:
            return wait_for_pidfd(pidfd, 20)
        finally:
            os.close(pidfd)

    assert site.do(there)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"network": "none", "publish": ["1:1"]}, ("publish", "'none'")),
        ({"host_loopback": True}, ("host_loopback", "'host'")),
        ({"network": "private", "publish": "80:80"}, ("publish='80:80'", "list")),
        ({"network": "bridge"}, ("network='bridge'", "'private'")),
    ],
)
def test_options_that_contradict_are_refused_together(options: dict[str, Any], named: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        Box(Host(whole=True), **options)
    assert all(name in caught.value.message for name in named)
