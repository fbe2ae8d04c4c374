"""Runs a command on this kernel as on one that lacks something; all but that is the kernel's own.

    python lesser_kernel.py overlay COMMAND...             fsopen(2) and mount(2) of an overlay fail with ENODEV, as
                                                           where it is not built in and no module has it
    python lesser_kernel.py user-namespaces COMMAND...     none can be made: EPERM, as in many containers

The first takes a seccomp filter that asks this process (seccomp_unotify(2)), since a filter alone cannot read the name
of a file system, which is in the memory of whoever calls.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import sys
from ctypes import addressof, create_string_buffer
from typing import NoReturn

from jubako.kernel.namespaces import CLONE_NEWUSER
from jubako.kernel.process import set_no_new_privs
from jubako.kernel.seccomp import Rule, compile_filter, install_filter
from jubako.kernel.syscall_numbers import find_number
from jubako.kernel.syscalls import call

_SET_MODE_FILTER = 1
_NEW_LISTENER = 8
_USER_NOTIFICATION = 0x7FC00000
_ALLOW = 0x7FFF0000
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV, _SEND
_SEND = 0xC0182101
_NOTIFICATION_BYTES = 80
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06


def install_asking_filter(names: tuple[str, ...]) -> int:
    """Has every later call of these names asked about; the descriptor that the questions come from."""
    numbers = [number for name in names if (number := find_number(name, os.uname().machine)) is not None]
    program = [(_LOAD_WORD, 0, 0, 0)]
    program += [(_JUMP_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _USER_NOTIFICATION)]
    code = create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    return call("seccomp", _SET_MODE_FILTER, _NEW_LISTENER, struct.pack("=HxxxxxxQ", len(program), addressof(code)))


def answer(listener: int, filesystem: bytes) -> None:
    """Answers one question: ENODEV for that file system, else the kernel goes on."""
    question = bytearray(_NOTIFICATION_BYTES)
    try:
        fcntl.ioctl(listener, _RECEIVE, question)
    except FileNotFoundError:  # who asked was killed meanwhile
        return
    identity, pid, _, number, _, _, *arguments = struct.unpack("=QIIiIQ6Q", question)
    name_at = arguments[0] if number == find_number("fsopen", os.uname().machine) else arguments[2]
    refused = name_at and read_text(pid, name_at) == filesystem
    reply = struct.pack("=QqiI", identity, 0, -errno.ENODEV if refused else 0, 0 if refused else _CONTINUE)
    try:
        fcntl.ioctl(listener, _SEND, reply)
    except FileNotFoundError:
        return


def read_text(pid: int, address: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(32).partition(b"\0")[0]


def without_overlay(command: tuple[str, ...]) -> int:
    """Runs the command and answers what its processes ask; its exit status."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        listener = install_asking_filter(("fsopen", "mount"))
        socket.send_fds(theirs, [b"."], [listener])
        os.close(listener)
        os.execvp(command[0], command)
    theirs.close()
    _, (listener, *_), _, _ = socket.recv_fds(ours, 1, 1)
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if ready.get(listener, 0) & select.POLLIN:
            answer(listener, b"overlay")
        elif pidfd in ready:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        else:  # nobody is left who could ask
            poll.unregister(listener)


def without_user_namespaces(command: tuple[str, ...]) -> NoReturn:
    """Becomes the command."""
    refused = Rule(errno.EPERM, any_bit=CLONE_NEWUSER)
    rules = {"unshare": refused, "clone": refused, "clone3": Rule(errno.ENOSYS)}
    install_filter(compile_filter(rules, os.uname().machine))
    os.execvp(command[0], command)


def main(missing: str, *command: str) -> int:
    if os.geteuid() != 0:
        set_no_new_privs()  # without it only root may have a filter
    return {"overlay": without_overlay, "user-namespaces": without_user_namespaces}[missing](command)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
