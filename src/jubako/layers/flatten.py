"""What layers show together, written out as plain files: a whole stack, or what an upper directory only refers to.

`flatten` makes a directory without any mark of a stack of layers. `make_plain` makes a copy of an upper directory in
which no redirect and no metacopy is left, but whiteouts and opaque directories are: what was renamed is there with all
that the lower directories have of it. Both read the layers as overlayfs would (`layers.stack`); nothing is mounted.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack

from jubako.errors import HostError
from jubako.layers.copy import copy_file, copy_folder_state, copy_parts
from jubako.layers.release import is_harmless
from jubako.layers.stack import Entry, Stack
from jubako.layers.walk import Folder, open_top, walk
from jubako.layers.whiteout import is_overlay_attribute, is_whiteout, read_file_marks, read_folder_marks
from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["flatten", "make_plain"]

_SMALL_BYTES = 65536  # to copy it costs little more than a link


def flatten(layers: Sequence[str], destination: str) -> tuple[str, ...]:
    """Makes `destination`, which must not exist, the directory that the stack `layers`, the topmost first, shows.

    Answers in words what was left out, as `copy_tree` does. HostError where a layer has a file whose content is in none
    of them. After an exception part of `destination` may be there.
    """
    with ExitStack() as held:
        stack = Stack(tuple(held.enter_context(open_top(layer)) for layer in layers))
        writer = _Writer(stack)
        root = stack.root()
        if root is not None:
            writer.write(root, destination)
    return tuple(writer.refused)


def make_plain(
    upper: str, lowers: Sequence[str], destination: str, *, opaque: str, copied_as: str = ""
) -> tuple[str, ...]:
    """Makes `destination`, which must not exist, an upper directory that says of the stack `lowers`, the topmost first,
    what `upper` says, without redirects and metacopy; what was left out, in words.

    Files are links to those of `upper` where that can be: write to neither. With `copied_as`, what the directory is
    called in words, small ones are copied, and can be given away. `opaque` is the attribute for what was renamed.
    HostError for what refers to something that the lowers have not.
    """
    with ExitStack() as held:
        top = held.enter_context(open_top(upper))
        stack = Stack((top, *(held.enter_context(open_top(lower)) for lower in lowers)))
        plain = _Plain(upper, destination, stack, opaque, copied_as)
        for folder in walk(top):
            plain.read(folder)
        plain.finish()
    return tuple(plain.writer.refused)


@record(frozen=False)
class _Writer:
    """Writes out what a stack shows."""

    stack: Stack
    refused: list[str] = field(default_factory=list)
    links: dict[tuple[int, int], str] = field(default_factory=dict)  # files with several names, and where they are now

    def write(self, entry: Entry, destination: str) -> None:
        """Writes a directory with all below it."""
        folders: list[tuple[str, str]] = []
        waiting = [(entry, destination)]
        while waiting:
            directory, made = waiting.pop()
            os.mkdir(made, 0o700)
            folders.append((self._path(directory.places[0]), made))
            names = {name for place in directory.places for name in os.listdir(self._path(place))}
            for name in sorted(names):
                child = self.stack.child(directory, name)
                if child is None:
                    continue
                if child.is_directory:
                    waiting.append((child, f"{made}/{name}"))
                else:
                    self.write_file(child, f"{made}/{name}")
        for source, made in reversed(folders):
            copy_folder_state(source, made)

    def write_file(self, entry: Entry, destination: str) -> None:
        """Writes anything but a directory; devices, sockets and pipes are left out in words."""
        found = entry.state
        shown = self._show(entry.places[0])
        known = self.links.get((found.st_dev, found.st_ino)) if found.st_nlink > 1 else None
        if known is not None:
            os.link(known, destination, follow_symlinks=False)
            return
        content_layer, content_path = entry.places[-1]
        if stat.S_ISREG(found.st_mode) and read_file_marks(content_path, self.stack.layers[content_layer]).metacopy:
            raise HostError(
                f"the content of {shown} is in a layer that was not named",
                hint="Name all lower directories of the overlay, in their order: --lower TOP:BELOW:LOWEST",
            )
        source = self._path(entry.places[0])
        if len(entry.places) > 1:
            self.refused += copy_parts(source, self._path(entry.places[-1]), destination, shown=shown)
        else:
            self.refused += copy_file(source, destination, shown=shown)
        if found.st_nlink > 1 and os.path.lexists(destination):
            self.links[found.st_dev, found.st_ino] = destination

    def _path(self, place: tuple[int, str]) -> str:
        number, path = place
        return f"/proc/self/fd/{self.stack.layers[number]}/{path or '.'}"

    def _show(self, place: tuple[int, str]) -> str:
        number, path = place
        return f"{os.readlink(f'/proc/self/fd/{self.stack.layers[number]}')}/{path}"


class _Plain:
    """An upper directory being made plain."""

    def __init__(self, upper: str, destination: str, stack: Stack, opaque: str, copied_as: str) -> None:
        self.writer = _Writer(stack)
        self._copied_as = copied_as
        self._upper = upper
        self._destination = destination
        self._opaque = opaque
        self._written: set[str] = set()  # directories that are there already, with all below them
        self._folders: list[tuple[str, str]] = []

    def read(self, folder: Folder) -> None:
        if folder.path.rpartition("/")[0] in self._written and folder.path:
            self._written.add(folder.path)
            return
        original = f"{self._upper}/{folder.path}" if folder.path else self._upper
        made = f"{self._destination}/{folder.path}" if folder.path else self._destination
        if folder.fd is None:
            raise HostError(f"{original[:200]}... is deeper than a path can say")
        if folder.path and read_folder_marks(folder.fd).redirect:
            entry = self.writer.stack.find(folder.path)
            if entry is None or len(entry.places) < 2:
                raise HostError(
                    f"{original} was renamed, and what it was is in none of the lower directories",
                    hint="Name all lower directories of the overlay, in their order: --lower TOP:BELOW:LOWEST",
                )
            self.writer.write(entry, made)
            os.setxattr(made, self._opaque, b"y")
            self._written.add(folder.path)
            return
        os.mkdir(made, 0o700)
        self._folders.append((original, made))
        for name, found in folder.entries:
            if not stat.S_ISDIR(found.st_mode):
                self._take(folder, name, found, f"{made}/{name}")

    def finish(self) -> None:
        for original, made in reversed(self._folders):
            for name in os.listxattr(original):
                if is_overlay_attribute(name) and name.endswith(".opaque") and os.getxattr(original, name) == b"y":
                    os.setxattr(made, name, b"y")
            copy_folder_state(original, made)

    def _take(self, folder: Folder, name: str, found: os.stat_result, made: str) -> None:
        assert folder.fd is not None
        if is_whiteout(found, name, folder.fd):
            os.mknod(made, stat.S_IFCHR | 0o600, 0)
            return
        path = folder.below(name)
        if stat.S_ISREG(found.st_mode) and read_file_marks(name, folder.fd).metacopy:
            entry = self.writer.stack.find(path)
            assert entry is not None  # the upper has it
            self.writer.write_file(entry, made)
            return
        if self._copied_as and is_harmless(found) and found.st_nlink == 1 and found.st_size <= _SMALL_BYTES:
            self.writer.refused += copy_file(f"{self._upper}/{path}", made, shown=f"{self._copied_as}/{path}")
            return
        try:
            os.link(f"{self._upper}/{path}", made, follow_symlinks=False)
        except OSError:  # another mount, or too many links
            self.writer.refused += copy_file(f"{self._upper}/{path}", made, shown=f"{self._upper}/{path}")
