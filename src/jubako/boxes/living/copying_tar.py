"""Copies into and out of a living box as a stream of tar: what a pipe can carry to another program, or machine.

As in `copying`, directories are opened below the destination by openat2(2) and nothing is followed: an archive whose
names lead out, or through links that it has brought itself, is refused. Setuid bits, devices and pipes are left out.
"""

from __future__ import annotations

import os
import stat
import tarfile

from jubako.boxes.living.copying import STAY, Place, open_source, open_target
from jubako.errors import HostError, InputError
from jubako.kernel.files import openat2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["read_tar", "write_tar"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_PERMISSIONS = 0o1777


def write_tar(source: Place, stream: BinaryIO) -> tuple[str, ...]:
    """Writes a file, or a directory with all below it, to `stream`; what was left out, in words."""
    folder, name = open_source(source)
    refused: list[str] = []
    try:
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            waiting = [name]
            while waiting:
                path = waiting.pop()
                above, last = os.path.split(path)
                parent = openat2(folder, above or ".", _DIRECTORY, resolve=STAY if above else 0)
                try:
                    found = os.stat(last or ".", dir_fd=parent, follow_symlinks=False)
                    if not _add(tar, path or ".", last or ".", parent, found):
                        refused.append(f"{source.shown}/{path}: neither file nor directory nor link, left out")
                    if stat.S_ISDIR(found.st_mode):
                        inner = openat2(parent, last or ".", _DIRECTORY, resolve=STAY if last else 0)
                        try:
                            names = sorted(os.listdir(inner), reverse=True)
                        finally:
                            os.close(inner)
                        waiting += [f"{path}/{one}" if path else one for one in names]
                finally:
                    os.close(parent)
    except (OSError, tarfile.TarError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise HostError(f"{source.shown} cannot be written as tar: {error}") from error
    finally:
        os.close(folder)
    return tuple(refused)


def read_tar(stream: BinaryIO, destination: Place) -> tuple[str, ...]:
    """Unpacks the archive that comes from `stream` into a directory, which must be there; what was left out, in words.

    What is there under a name is replaced unless both are directories. Raises InputError for what is no archive and for
    names that lead out; what came before is there then.
    """
    top, rest = open_target(destination, "")
    try:
        if rest:
            raise InputError(f"{destination.shown} is no directory", hint="An archive is unpacked into one.")
        refused: list[str] = []
        folders: list[tuple[str, tarfile.TarInfo]] = []
        try:
            with tarfile.open(fileobj=stream, mode="r|*") as tar:
                for member in tar:
                    path = _check(member.name)
                    if path:
                        _unpack(tar, member, path, top, refused)
                    if member.isdir():
                        folders.append((path or ".", member))
        except tarfile.TarError as error:
            raise InputError(f"what came is no tar archive: {error}") from error
        for path, member in reversed(folders):  # when all is in them
            fd = openat2(top, path, _DIRECTORY, resolve=STAY)
            try:
                _set_state(fd, member)
            finally:
                os.close(fd)
        return tuple(refused)
    except OSError as error:
        raise HostError(f"the archive cannot be unpacked to {destination.shown}: {error}") from error
    finally:
        os.close(top)


def _add(tar: tarfile.TarFile, path: str, name: str, folder: int, found: os.stat_result) -> bool:
    """Adds one entry; False if it is of a kind that is left out."""
    info = tarfile.TarInfo(path)
    info.mode = stat.S_IMODE(found.st_mode) & _PERMISSIONS
    info.uid, info.gid, info.mtime = found.st_uid, found.st_gid, int(found.st_mtime)
    if stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif stat.S_ISLNK(found.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=folder)
        tar.addfile(info)
    elif stat.S_ISREG(found.st_mode):
        with os.fdopen(os.open(name, _READ, dir_fd=folder), "rb") as file:
            info.size = os.fstat(file.fileno()).st_size
            tar.addfile(info, file)
    else:
        return False
    return True


def _check(name: str) -> str:
    """The path of a member below the destination, "" for the destination itself."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise InputError(f"the archive holds {name!r}, which leads out of where it is unpacked")
    return "/".join(parts)


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, top: int, refused: list[str]) -> None:
    above, name = os.path.split(path)
    folder = _open_made(top, above)
    try:
        if member.isdir():
            _make_folder(folder, name)
            return
        file = tar.extractfile(member) if member.isreg() else None
        new = f".jubako-cp-{os.getpid()}-{name}"[:255]
        if member.issym():
            os.symlink(member.linkname, new, dir_fd=folder)
        elif member.islnk():
            _link(top, _check(member.linkname), folder, new)
        elif file is not None:
            _write(file, member, folder, new, path, refused)
        else:
            refused.append(f"{path}: neither file nor directory nor link, left out")
            return
        try:
            os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(new, dir_fd=folder)
            raise
    finally:
        os.close(folder)


def _write(file: object, member: tarfile.TarInfo, folder: int, new: str, path: str, refused: list[str]) -> None:
    fd = os.open(new, _WRITE, 0o600, dir_fd=folder)
    try:
        while chunk := file.read(_CHUNK):  # type: ignore[attr-defined]
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(fd, rest) :]
        if member.mode & ~_PERMISSIONS & 0o7777:
            refused.append(f"{path}: setuid or setgid bit left out")
        _set_state(fd, member)
    except BaseException:
        os.unlink(new, dir_fd=folder)
        raise
    finally:
        os.close(fd)


def _link(top: int, path: str, folder: int, new: str) -> None:
    above, name = os.path.split(path)
    other = openat2(top, above or ".", _DIRECTORY, resolve=STAY)
    try:
        os.link(name, new, src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False)
    finally:
        os.close(other)


def _open_made(top: int, path: str) -> int:
    """The directory `path` below `top`, made with those above it where it is missing."""
    try:
        return openat2(top, path or ".", _DIRECTORY, resolve=STAY)
    except FileNotFoundError:
        above, name = os.path.split(path)
        folder = _open_made(top, above)
        try:
            _make_folder(folder, name)
            return openat2(folder, name, _DIRECTORY, resolve=STAY)
        finally:
            os.close(folder)


def _make_folder(folder: int, name: str) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise


def _set_state(fd: int, member: tarfile.TarInfo) -> None:
    if os.geteuid() == 0:
        os.fchown(fd, member.uid, member.gid)
    os.fchmod(fd, member.mode & _PERMISSIONS)
    os.utime(fd, ns=(int(member.mtime) * 10**9, int(member.mtime) * 10**9))
