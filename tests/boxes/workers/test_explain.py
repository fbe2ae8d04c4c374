"""Sentences for what goes wrong in a box."""

from __future__ import annotations

import errno

from jubako.boxes.workers.explain import explain_failure, explain_status
from jubako.errors import WorkError


def os_error(code: int, path: str | bytes | None = None) -> OSError:
    return OSError(code, "text") if path is None else OSError(code, "text", path)


def test_failure_in_plain_words_is_type_and_text() -> None:
    assert explain_failure(ValueError("bad value")) == "ValueError: bad value"
    assert explain_failure(KeyError()) == "KeyError"


def test_failure_of_our_own_kind_is_its_message_with_the_hint() -> None:
    assert explain_failure(WorkError("no rows", hint="look at the input")) == "no rows (look at the input)"


def test_write_outside_names_the_path_and_where_one_may_write() -> None:
    text = explain_failure(os_error(errno.EROFS, "/etc/x"), ["/home/ann"])
    assert "/etc/x is read-only in this box" in text
    assert "below /home/ann" in text


def test_write_outside_in_the_wide_view_names_the_path_alone() -> None:
    text = explain_failure(os_error(errno.EROFS, "/dev/x"), ["/", "/home"])
    assert "/dev/x is read-only in this box; declare it" in text


def test_full_scratch_is_told_wherever_the_wide_view_can_be_written() -> None:
    assert "the box's scratch is full" in explain_failure(os_error(errno.ENOSPC, "/opt/x"), ["/", "/home"])


def test_write_outside_is_found_behind_an_exception_of_a_library() -> None:
    try:
        try:
            raise os_error(errno.EROFS, b"/srv/\xff")
        except OSError as cause:
            raise RuntimeError("cannot save") from cause
    except RuntimeError as error:
        text = explain_failure(error)
    assert text.startswith("RuntimeError: cannot save: /srv/\udcff is read-only")


def test_full_scratch_and_full_disk_are_told_apart() -> None:
    assert "scratch is full" in explain_failure(os_error(errno.ENOSPC, "/run/jubako/tmp/x"))
    assert "disk of an output is full, or the box's scratch" in explain_failure(os_error(errno.ENOSPC))
    assert "disk that holds this output" in explain_failure(os_error(errno.ENOSPC, "/run/jubako/stage/0/0"))
    assert explain_failure(os_error(errno.ENOSPC, "/data/x"), ["/home"]) == "OSError: [Errno 28] text: '/data/x'"


def test_full_disk_is_found_where_the_error_names_no_path() -> None:
    error, staged = os_error(errno.ENOSPC), {"/data/a": "/run/jubako/stage/0/0", "/other/b": "/run/jubako/stage/1/1"}

    def explain(full: str) -> str:
        return explain_failure(error, ["/home"], staged, lambda path: path == full)

    assert explain("/run/jubako/stage/1") == "OSError: [Errno 28] text: the disk that holds /other/b is full"
    assert "the box's scratch is full, where all goes that is written below TMPDIR, /home;" in explain(
        "/run/jubako/tmp"
    )
    assert "disk of an output is full, or the box's scratch" in explain("/elsewhere")


def test_full_disk_of_an_output_is_told_by_the_path_the_task_knows() -> None:
    error = os_error(errno.ENOSPC, "/run/jubako/stage/0/0")
    text = explain_failure(error, [], {"/data/a": "/run/jubako/stage/0/0"})
    assert text == "OSError: [Errno 28] text: '/data/a': the disk that holds this output is full"


def test_file_of_a_group_that_the_box_lacks_says_what_can_be_done() -> None:
    text = explain_failure(os_error(errno.EOVERFLOW, "/srv/out/x"))
    assert "/srv/out/x or its folder belongs to another user, or to a second group of yours" in text
    assert text.endswith("write it through its target, or remove it first")


def test_directory_output_that_cannot_be_removed_says_why() -> None:
    assert "write into it instead" in explain_failure(os_error(errno.EBUSY, "/srv/out"))


def test_exceptions_in_a_circle_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert explain_failure(one) == "ValueError: one"


def test_status_is_a_signal_or_a_number() -> None:
    assert explain_status(3) == "ended with exit status 3 before it returned"
    assert explain_status(139) == "was killed by SIGSEGV"
    assert "out of memory" in explain_status(137)
