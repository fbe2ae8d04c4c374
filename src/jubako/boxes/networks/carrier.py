"""The program that carries a box's private network, started when the namespace is there and ended with the box.

caller                               pid 1 of the box
  │            <── its namespaces ─── has a network namespace with nothing but loopback, waits
  ├─ forks a warden, which starts the program on it
  │            ─── "." or an error ─> goes on, or tells what went wrong
  │  waits for the box
  └─ closes the warden's pipe, as its own end would: the warden ends the program
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
from contextlib import suppress

from jubako.boxes.networks.plan_network import (
    API_NAME,
    USER_NAMESPACE,
    NetworkFacts,
    NetworkPlan,
)
from jubako.errors import HostError
from jubako.kernel.capabilities import drop_all_capabilities
from jubako.kernel.children import fork_child
from jubako.kernel.mounts import MS_BIND, mount
from jubako.kernel.namespaces import open_namespace
from jubako.kernel.process import pidfd_open
from jubako.kernel.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from jubako.boxes.networks.publish import Published

__all__ = ["Carrier", "read_network_facts"]

_TEXT_BYTES = 4096
_ABOVE = 10  # all the descriptors that a program is given
_PATIENCE_S = 20  # what takes milliseconds
_HARMLESS = int(signal.SIGCONT)  # the warden outlives its parent by what it has to do then
_RESOLVER = "/etc/resolv.conf"
_OWN_RESOLVER = "/run/jubako-resolv.conf"
_STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def read_network_facts(path: str) -> NetworkFacts:
    """What there is on this machine; `path` is a PATH, beside which the standard places are looked through."""
    return NetworkFacts(
        is_root=os.geteuid() == 0,
        pasta=_find("pasta", path),
        slirp4netns=_find("slirp4netns", path),
        tun=_look_at_tun(),
    )


class Carrier:
    """One box's. The caller calls `open` before the fork, then `meet` and `leave`; pid 1 `ask` and `show_resolver`."""

    def __init__(self, plan: NetworkPlan, folder: str) -> None:
        """`folder` is a directory for the program's socket, if it needs one."""
        self._plan = plan
        self._folder = folder
        self._warden = 0
        self._hold = -1

    def open(self) -> None:
        """Makes the line between caller and pid 1."""
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    @property
    def fd(self) -> int:
        """What pid 1 must not close before `ask`."""
        return self._theirs.fileno()

    # --- pid 1 ---

    def ask(self) -> None:
        """Has the caller connect this process's network namespace. Raises HostError."""
        with self._theirs:
            namespaces = [open_namespace(kind) for kind in ("net", "user")]
            socket.send_fds(self._theirs, [b"."], namespaces)
            for fd in namespaces:
                os.close(fd)
            answer = self._theirs.recv(_TEXT_BYTES)
        if answer != b".":
            raise HostError(f"the private network cannot be made: {os.fsdecode(answer) or 'nobody is there to do it'}")

    def show_resolver(self) -> list[str]:
        """Has the box, whose view is mounted, ask the program for names; what it cannot do, in words."""
        with open(_OWN_RESOLVER, "w", encoding="utf-8") as file:
            file.write(f"nameserver {self._plan.nameserver}\n")
        try:
            mount(_OWN_RESOLVER, _RESOLVER, flags=MS_BIND)
        except OSError as error:
            return [f"names may not be found in the private network: {error}"]
        return []

    # --- the caller ---

    def meet(self) -> None:
        """Waits for pid 1, starts the program, and tells pid 1 how that went. Returns at once if pid 1 has ended."""
        self._theirs.close()
        message, namespaces, _flags, _address = socket.recv_fds(self._ours, 1, 2, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return
        try:
            network, user = namespaces
            self._start(network, user)
            answer = b"."
        except HostError as error:
            answer = os.fsencode(error.message)
        except OSError as error:
            answer = os.fsencode(f"{self._plan.program}: {error}")
        finally:
            for fd in namespaces:
                os.close(fd)
        try:
            self._ours.sendall(answer[: _TEXT_BYTES - 1])
        except BrokenPipeError:  # it was killed meanwhile
            return

    def leave(self) -> None:
        """Ends the program. Repeatable."""
        self._ours.close()
        self._theirs.close()
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1
        if self._warden:
            os.waitpid(self._warden, 0)
            self._warden = 0
        if self._plan.published:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self._folder, API_NAME))

    def _start(self, network: int, user: int) -> None:
        """Starts the program by way of a warden, and waits until it carries the network."""
        ready, tell = os.pipe()
        alive, self._hold = os.pipe()
        said = os.memfd_create("said")
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            own = (ready, self._hold, self._ours.fileno())
            given = {"ready": tell, "exit": alive, "folder": folder, "network": network, "user": user, "said": said}
            self._warden = fork_child(lambda: _guard(self._plan, own, given), death_signal=_HARMLESS)
            os.close(tell)
            tell = -1
            poll = select.poll()
            poll.register(ready, select.POLLIN)
            if not poll.poll(_PATIENCE_S * 1000):
                raise HostError(f"{os.path.basename(self._plan.program)} has not made it in {_PATIENCE_S} s")
            if not os.read(ready, 1):
                raise HostError(f"{os.path.basename(self._plan.program)} says: {_read_all(said)}")
            for published in self._plan.published:
                self._publish(folder, published)
        finally:
            for fd in (ready, alive, said, folder, tell):
                if fd >= 0:
                    os.close(fd)

    def _publish(self, folder: int, published: Published) -> None:
        """Has slirp4netns, which runs, forward a port."""
        import json  # 2 ms to import, for who publishes ports

        arguments = {
            "proto": published.protocol,
            "host_addr": published.address,
            "host_port": published.port,
            "guest_addr": self._plan.box_address,
            "guest_port": published.box_port,
        }
        with socket.socket(socket.AF_UNIX) as api:
            api.connect(f"/proc/self/fd/{folder}/{API_NAME}")
            api.sendall(json.dumps({"execute": "add_hostfwd", "arguments": arguments}).encode())
            api.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := api.recv(_TEXT_BYTES):
                answer += piece
        if "return" not in json.loads(answer or b"{}"):
            place = f"{published.address}:{published.port}/{published.protocol}"
            raise HostError(f"{place} cannot be published: it is taken, or not yours")


def _guard(plan: NetworkPlan, foreign: tuple[int, ...], given: dict[str, int]) -> int:
    """The warden's life: starts the program, and ends it when the caller closes its pipe, or is no more.

    The program cannot be asked to: it forgets a signal for its parent's death when it enters the box's user namespace.
    """
    for fd in foreign:
        os.close(fd)
    os.setsid()  # a Ctrl-C is for the command, which may live on
    held = {what: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for what, fd in given.items()}
    # Of this process, as it is called in that /proc, which may be of another pid namespace than ours.
    user_namespace = f"/proc/{os.readlink('/proc/self')}/fd/{held['user']}"
    if os.geteuid() != 0:  # pasta gives up a server's capabilities, and may look at who has no more than it has
        drop_all_capabilities()
    program = os.posix_spawn(
        plan.program,
        [word if word != USER_NAMESPACE else user_namespace for word in plan.arguments],
        {"PATH": _STANDARD_PATH},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            *((os.POSIX_SPAWN_DUP2, held[what], place) for what, place in {**plan.places, "said": 2}.items()),
        ],
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )
    for fd in (held["ready"], given["ready"]):  # or nobody would learn that the program has ended
        os.close(fd)
    poll = select.poll()
    poll.register(held["exit"], select.POLLIN)
    ended = pidfd_open(program)
    poll.register(ended, select.POLLIN)
    poll.poll()
    os.kill(program, signal.SIGKILL)  # our child: the number stays its own until it is waited for
    os.waitpid(program, 0)
    return 0


def _read_all(fd: int) -> str:
    lines = os.pread(fd, _TEXT_BYTES, 0).decode(errors="replace").splitlines()
    told = [line for line in lines if "syslog" not in line]  # pasta also says so when there is none to tell
    return "; ".join(told[-3:]) or "nothing, and ended"


def _find(program: str, path: str) -> str:
    for directory in (*path.split(":"), *_STANDARD_PATH.split(":")):
        candidate = os.path.join(directory, program)
        if directory.startswith("/") and os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return candidate
    return ""


def _look_at_tun() -> Literal["usable", "forbidden", "missing"]:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return "forbidden"
        return "missing"
    return "usable"
