"""`jubako try`: what it shows, what it asks on a terminal, and what becomes of the box."""

from __future__ import annotations

import os
import pty
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from jubako.layers.remove import remove_tree

from .conftest import Said, say_here

pytestmark = pytest.mark.box


class Ended(NamedTuple):
    """How a command on a terminal ended, all it printed, and what was in the folder."""

    status: int
    text: str
    files: list[str]


class Desk:
    """A folder with a state root beside it, and a user to work there."""

    def __init__(self, user, top: Path) -> None:
        self._user = user
        self.top = top

    def do(self, act):
        """What `act` returns, called in the folder as the user."""

        def there():
            os.environ.update(JUBAKO_STATE=str(self.top / "state"), HOME=str(self.top))
            os.chdir(self.top / "work")
            return act()

        return self._user(there)

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.top / "work")) for path in (self.top / "work").rglob("*"))

    def boxes(self) -> list[str]:
        return os.listdir(self.top / "state/boxes") if (self.top / "state/boxes").exists() else []


@pytest.fixture
def desk(in_user_child, tmp_path_factory) -> Iterator[Desk]:
    top = Path("/var/tmp") / f"jubako-try-{os.getpid()}-{tmp_path_factory.mktemp('t').name}"
    try:
        in_user_child(lambda: os.makedirs(top / "work"))
        yield Desk(in_user_child, top)
    finally:
        remove_tree(str(top))


def say(*words: str) -> Said:
    """`jubako try` with these words in this process; what the command itself prints is not in it."""
    return say_here("try", *words)


def on_terminal(words: list[str], answers: list[tuple[str, str]]) -> Ended:
    """`jubako try WORDS` on a terminal of its own: waits for each text, then types. "^C" is a Ctrl-C, "" the end."""
    pid, fd = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ["NO_COLOR"] = "1"
        from jubako.cli.main import main

        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, "r" if n == 0 else "w", closefd=False) for n in range(3))
        try:
            main(["try", *words])
        except SystemExit as ended:
            sys.stderr.flush()
            os._exit(ended.code)
    text = ""
    for wanted, typed in answers:
        while wanted not in text:
            text += os.read(fd, 4096).decode()
        os.write(fd, {"^C": b"\x03", "": b"\x04"}.get(typed, f"{typed}\n".encode()))
        text = text.rpartition(wanted)[2]
    try:
        while chunk := os.read(fd, 4096):
            text += chunk.decode()
    except OSError:  # the terminal is gone with its last user
        pass
    os.close(fd)
    _, status = os.waitpid(pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), text.replace("\r\n", "\n"), sorted(os.listdir()))


ASKED = "[k]eep (default): "


@pytest.mark.parametrize(
    ("typed", "files", "kept", "said"),
    [
        ("y", ["new"], 0, "Committed 1 change."),
        ("d", [], 0, "Discarded."),
        ("k", [], 1, "Kept as "),
        ("", [], 1, "Kept as "),
    ],
)
def test_answer_on_a_terminal_is_carried_out(desk, typed, files, kept, said):
    ended = desk.do(lambda: on_terminal(["echo hello > new"], [(ASKED, typed)]))
    assert (ended.status, ended.files) == (0, files)
    assert said in ended.text
    assert len(desk.boxes()) == kept


def test_question_is_repeated_after_nonsense_and_after_showing_more(desk):
    def act():
        return on_terminal(["mkdir d; echo hello > d/new"], [(ASKED, "what"), (ASKED, "s"), ("+hello", "y")])

    ended = desk.do(act)
    assert (ended.status, desk.files()) == (0, ["d", "d/new"])


def test_ctrl_c_at_the_question_keeps_the_box_and_names_it(desk):
    ended = desk.do(lambda: on_terminal(["touch new"], [(ASKED, "^C")]))
    (kept,) = desk.boxes()
    assert (ended.status, ended.files) == (130, [])
    assert f"Kept as {kept}: jubako try summary {kept}" in ended.text


def test_commit_that_conflicts_keeps_the_box(desk):
    def act():
        Path("file").write_text("old")
        kept = say("-n", "echo box > file").out.strip()
        Path("file").write_text("another")
        return say("commit", kept), Path("file").read_text()

    said, text = desk.do(act)
    assert (said.code, text) == (4, "another")
    assert "/file was changed on this machine after box" in said.err
    assert len(desk.boxes()) == 1


def test_without_a_terminal_it_is_kept_and_says_how_to_go_on(desk):
    def act():
        Path("text").write_text("one\ntwo\n")
        Path("gone").touch()
        first = say("echo three >> text; rm gone; mkdir -p new/deep; touch new/deep/x")
        (kept,) = desk.boxes()
        return first, kept, say("summary", kept), say("commit", kept), desk.files()

    first, kept, summary, committed, files = desk.do(act)
    work = os.path.realpath(desk.top / "work")
    assert first.out == ""
    assert f"{work}/\n  deleted   gone\n  added     new/ and 2 below\n  modified  text (14 B)\n" in first.err
    assert "@@ -1,2 +1,3 @@\n one\n two\n+three\n" in first.err
    assert f"Kept as {kept}. Go on with: jubako try summary {kept}" in first.err
    assert f"{work}/new/deep/\n  added     x (0 B)\n" in summary.out
    assert (committed.code, files) == (0, ["new", "new/deep", "new/deep/x", "text"])
    assert desk.boxes() == []


def test_n_prints_the_id_and_y_commits_what_succeeds(desk):
    def act():
        asked = say("-n", "echo 1 > one")
        return asked, say("-y", "echo 2 > two"), say("-y", "echo 3 > three; exit 5"), os.listdir()

    asked, done, failed, files = desk.do(act)
    assert asked.out.strip() in desk.boxes()
    assert (done.code, failed.code, files) == (0, 5, ["two"])
    assert "Nothing was committed, since the command failed." in failed.err
    assert len(desk.boxes()) == 2


def test_what_changes_nothing_is_not_kept(desk):
    said = desk.do(lambda: say("true"))
    assert (said.code, said.out) == (0, "")
    assert said.err.endswith("No changes.\n")
    assert desk.boxes() == []


def test_patterns_choose_what_is_shown_and_committed(desk):
    def act():
        excluded = say("-y", "-E", r"\.pyc$", "mkdir d; touch d/a.py d/a.pyc b.pyc")
        return excluded, desk.files(), say("-y", "-I", r"/c\.", "touch c.txt e.txt"), desk.files()

    excluded, first, _, second = desk.do(act)
    assert "pyc" not in excluded.err
    assert first == ["d", "d/a.py"]
    assert second == ["c.txt", "d", "d/a.py"]
    assert desk.boxes() == []


def test_hidden_path_is_not_seen_and_stays(desk):
    def act():
        os.makedirs("dir/sub")
        Path("dir/secret").write_text("s")
        Path("dir/seen").touch()
        script = "ls dir > listing; cat dir/secret || echo more >> dir/seen"
        first = say("-n", "-i", "dir/secret", "-i", "dir/sub", script)
        said = say("commit", first.out.strip())
        return said.code, Path("listing").read_text(), desk.files()

    code, listing, files = desk.do(act)
    assert (code, listing) == (0, "seen\n")
    assert files == ["dir", "dir/secret", "dir/seen", "dir/sub", "listing"]


def test_named_box_goes_on_where_it_was_and_goes_with_its_name(desk):
    def act():
        Path("old").write_text("old")
        say("-N", "trial", "echo 1 > one; rm old; mkdir d; touch d/x")
        first = os.readlink("trial")
        say("-N", "trial", "cat one > two; rm one; touch d/y; rm d/x")
        is_another = os.readlink("trial") != first
        before = sorted(os.listdir())
        committed = say("commit", "trial")
        return is_another, before, committed.code, desk.files(), Path("two").read_text()

    assert desk.do(act) == (True, ["old", "trial"], 0, ["d", "d/y", "two"], "1\n")
    assert desk.boxes() == []


def test_box_on_others_holds_what_they_hold_and_needs_them_no_more(desk):
    def act():
        Path("base").write_text("base")
        ids = []
        for script in ("echo 1 > f; touch only1; echo 1 >> base", "echo 2 > f; touch only2"):
            ids.append(say("-n", script).out.strip())
        top = say("-n", "-L", f"{ids[1]}:{ids[0]}", "cat f > seen; echo 3 >> f; rm only1").out.strip()
        say_here("box", "rm", *ids)
        said = say("commit", top)
        return said.code, desk.files(), Path("seen").read_text(), Path("f").read_text(), Path("base").read_text()

    assert desk.do(act) == (0, ["base", "f", "only2", "seen"], "2\n", "2\n3\n", "base1\n")
    assert desk.boxes() == []


def test_explore_keeps_what_was_done_in_the_box(desk):
    def act():
        os.environ["SHELL"] = "/bin/bash"  # dash and a terminal: see docs/commands/box.md
        first = say("-n", "echo 1 > one").out.strip()
        ended = on_terminal(["explore", first], [("until it is committed", "cat one > two; exit"), (ASKED, "y")])
        return ended.status, ended.files

    assert desk.do(act) == (0, ["one", "two"])
    assert desk.boxes() == []


BAD = [
    (("-n", "-y", "true"), 2, "-n and -y contradict each other"),
    (("-t", "x", "true"), 2, "jubako try has no -t"),
    (("-U", "x", "true"), 2, "jubako try has no -U"),
    (("-E", "(", "true"), 2, "'(' is no regular expression"),
    (("-i", "nowhere", "true"), 2, "/nowhere cannot be hidden: there is no such file"),
    (("-L", "a::b", "true"), 2, "-L names a box that is empty text"),
    (("-L", "0123", "true"), 2, "there is no box '0123'"),
    (("-N", "", "true"), 2, "an empty name was given"),
    (("-N", "full", "true"), 2, "full is a directory with something in it, and no box"),
    (("-N", "no/where", "true"), 2, "no/where cannot name a box: there is no directory"),
    (("summary",), 2, "'summary' takes one box"),
    (("-n", "commit", "x"), 2, "'commit' does not go with -n"),
    (("summary", "zzz"), 2, "there is no box 'zzz'"),
    ((), 2, "Missing argument"),
]


def test_what_is_asked_wrongly_is_refused_in_a_sentence_and_runs_nothing(desk):
    def act():
        os.makedirs("full/of")
        return [say(*words) for words, _, _ in BAD]

    for (words, code, message), said in zip(BAD, desk.do(act), strict=True):
        assert said.code == code, words
        assert message in said.err, words
        assert said.out == ""
    assert desk.boxes() == []


def test_two_at_once_in_one_named_box_are_kept_apart(desk):
    def act():
        say("-N", "trial", "touch one")
        os.mkfifo("door")
        pid = os.fork()
        if pid == 0:
            os._exit(say("--bind", os.path.realpath("door"), "-N", "trial", "cat door; touch two").code)
        with open("door", "w"):  # it is running
            second = say("-N", "trial", "touch three")
        status = os.waitpid(pid, 0)[1]
        os.unlink("door")
        say("commit", "trial")
        return status, second, sorted(os.listdir())

    status, second, files = desk.do(act)
    assert (status, second.code, files) == (0, 4, ["one", "two"])
    assert "is in use" in second.err
