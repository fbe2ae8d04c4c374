"""Views begun ahead of their jobs: what goes wrong there is the next job's to say, and nothing is held for good."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.job import Job
from jubako.boxes.spec import Box
from jubako.boxes.views.facts import read_host_facts
from jubako.boxes.views.view import Views
from jubako.kernel.filesystems import tmpfs

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box


def make_views() -> Views:
    return Views(read_host_facts([], {}), tmpfs())  # what is shown as /proc does not matter here


def open_and_close(views: Views, box: Box | None = None) -> None:
    for fd in views.open(Job("1", "Test()", "m:f", b"", cwd="/mnt", box=box or Box()), {}).close().fds:
        os.close(fd)


def count_descriptors() -> int:
    return sum(os.path.exists(f"/proc/self/fd/{fd}") for fd in range(256))


def test_view_that_cannot_be_begun_ahead_is_made_with_its_job(in_namespace: Runner) -> None:
    def act() -> None:
        views = make_views()
        open_and_close(views)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        views.begin_next()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        open_and_close(views)

    in_namespace(act)


def test_views_begun_for_other_boxes_are_let_go(in_namespace: Runner) -> None:
    def act() -> tuple[int, int]:
        views = make_views()
        boxes = [Box(scratch_size_bytes=size << 20) for size in range(1, 4)]
        boxes += [Box(binds=[f"/mnt/{name}"]) for name in "abcdefghij"]  # more than there are templates at a time
        for name in "abcdefghij":
            os.mkdir(f"/mnt/{name}")
        counts = []
        for _ in range(2):
            for box in boxes:
                open_and_close(views, box)
                views.begin_next()
            counts.append(count_descriptors())
        return counts[0], counts[1]

    first, second = in_namespace(act)
    assert first == second
