from __future__ import annotations

import os
import resource
import sqlite3
from pathlib import Path

import pytest

from jubako.boxes.spec import Output
from jubako.boxes.state import open_state_root
from jubako.boxes.transactions.folders import find_anchor
from jubako.boxes.transactions.journal import Journal, open_database
from jubako.boxes.transactions.publish import Move, Published, Publisher, Transaction, take_signature
from jubako.boxes.transactions.recovery import recover
from jubako.boxes.transactions.stage import StageArea
from jubako.errors import BugError, ConflictError, HostError
from jubako.kernel.filesystems import make_filesystem, tmpfs
from jubako.kernel.mounts import MS_BIND, MS_RDONLY, MS_REMOUNT, attach, mount


class Desk:
    """A run with its staging area and its publisher, and a folder of outputs."""

    def __init__(self, folder: Path, durability: str = "relaxed") -> None:
        self.out = folder / "out"
        self.out.mkdir(exist_ok=True)
        self.state = open_state_root(str(folder / "state"))
        self.connection = open_database(self.state.ledger_path, durability=durability)
        self.journal = Journal(self.connection)
        self.area = StageArea(self.state, "run", self.journal)
        self.publisher = Publisher(self.journal, durability)
        self.serial = 0

    def close(self) -> None:
        self.area.close()
        self.connection.close()

    def plan(self, *names: str, inputs=(), text: str = "new") -> Transaction:
        """A transaction that writes `text` to the outputs named; "-name" deletes one, "name/" is a directory."""
        self.serial += 1
        id = f"attempt-{self.serial}"
        outputs = [
            Output(str(self.out / name.rstrip("/")), "directory" if name.endswith("/") else "file")
            for name in names
            if not name.startswith("-")
        ]
        moves = []
        for output in self.area.stage(id, outputs):
            target = Path(output.staged, "leaf") if output.kind == "directory" else Path(output.staged)
            target.write_text(text)
            moves.append(Move(output.staged, output.path, take_signature(output.path)))
        for name in names:
            if name.startswith("-"):
                path = str(self.out / name[1:])
                moves.append(Move(None, path, take_signature(path)))
        return Transaction(id, f"Task({id})", tuple(moves), tuple((path, take_signature(path)) for path in inputs))

    def publish(self, *batch: Transaction, **options):
        return self.publisher.publish(batch, **options)

    def seen(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.out)): path.read_text() if path.is_file() else "(directory)"
            for path in sorted(self.out.rglob("*"))
            if ".jubako" not in str(path)
        }


@pytest.fixture(params=["relaxed", "full"])
def desk(request, tmp_path):
    desk = Desk(tmp_path, request.param)
    yield desk
    desk.close()
    assert os.listdir(desk.state.stage_path) == []


def test_new_replaced_and_deleted_outputs_are_published_together(desk):
    (desk.out / "old").write_text("old")
    (desk.out / "gone").write_text("old")
    (desk.out / "tree").mkdir()
    (desk.out / "tree" / "before").write_text("old")
    transaction = desk.plan("a/b/new", "old", "tree/", "-gone", "-never")
    assert desk.publish(transaction) == [Published(transaction.id)]
    assert desk.seen() == {
        "a": "(directory)",
        "a/b": "(directory)",
        "a/b/new": "new",
        "old": "new",
        "tree": "(directory)",
        "tree/leaf": "new",
    }
    assert desk.journal.entries("run") == []
    assert os.listdir(f"{desk.state.stage_path}/run/{transaction.id}") == []


def test_types_may_change_both_ways(desk):
    (desk.out / "file").write_text("old")
    (desk.out / "tree").mkdir()
    (desk.out / "link").symlink_to("file")
    desk.publish(desk.plan("file/", "tree", "link"))
    assert desk.seen() == {"file": "(directory)", "file/leaf": "new", "tree": "new", "link": "new"}


def test_published_file_keeps_mode_and_time(desk):
    transaction = desk.plan("file")
    staged = transaction.moves[0].staged
    os.chmod(staged, 0o440)
    os.utime(staged, ns=(1, 1_000_000_001))
    desk.publish(transaction)
    found = (desk.out / "file").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o440, 1_000_000_001)


def test_many_tasks_publish_into_one_folder_in_one_batch(desk):
    batch = [desk.plan(f"2010/{number % 3}/day-{number}") for number in range(100)]
    assert desk.publish(*batch) == [Published(each.id) for each in batch]
    assert sum(text == "new" for text in desk.seen().values()) == 100


@pytest.mark.parametrize("fails", [False, True])
def test_transaction_of_more_folders_than_descriptors_is_all_or_nothing(tmp_path, in_child, fails):
    def act() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        desk = Desk(tmp_path)
        for number in range(0, 400, 2):
            (desk.out / str(number)).mkdir()
        before = set(os.listdir("/proc/self/fd"))
        transaction = desk.plan(*(f"{number}/deep/x" for number in range(400)), "last")
        if fails:
            second = desk.plan("last", text="first")
            outcomes = desk.publish(second, transaction)
            assert [type(outcome) for outcome in outcomes] == [Published, ConflictError]
            assert desk.seen() == {"last": "first"} | {str(number): "(directory)" for number in range(0, 400, 2)}
        else:
            assert desk.publish(transaction) == [Published(transaction.id)]
            assert sum(text == "new" for text in desk.seen().values()) == 401
        assert set(os.listdir("/proc/self/fd")) == before
        desk.close()

    in_child(act)


def test_hostile_names_are_published(desk):
    name = os.fsdecode(b"\xff new\nline \\ ' %s")
    desk.publish(desk.plan(name, f"{name}-dir/{name}"))
    assert desk.seen() == {name: "new", f"{name}-dir": "(directory)", f"{name}-dir/{name}": "new"}


def test_transaction_without_moves_is_published(desk):
    assert desk.publish(Transaction("empty", "Task", ())) == [Published("empty")]


# --- conflicts --------------------------------------------------------------------------------------------------------


def edit(path: Path) -> None:
    path.write_text("edited by somebody")


def replace(path: Path) -> None:
    path.with_name("theirs").write_text("old")
    path.with_name("theirs").rename(path)


CHANGES = {
    "edited": (edit, "and now the same file has "),
    "replaced": (replace, "and now it is another file of 3 bytes, modified "),
    "removed": (Path.unlink, "and now there is nothing"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_target_changed_since_the_start_is_a_conflict_that_names_both_versions(desk, change):
    (desk.out / "old").write_text("old")
    transaction = desk.plan("new", "old", "-old2")
    act, sentence = CHANGES[change]
    act(desk.out / "old")
    before = desk.seen()
    (outcome,) = desk.publish(transaction)
    assert isinstance(outcome, ConflictError)
    assert f"{desk.out}/old was changed by another program while {transaction.label}" in outcome.message
    assert "was running: it was a file of 3 bytes, modified " in outcome.message
    assert sentence in outcome.message
    assert desk.seen() == before


def test_target_made_since_the_start_is_a_conflict(desk):
    transaction = desk.plan("new")
    (desk.out / "new").write_text("theirs")
    (outcome,) = desk.publish(transaction)
    assert isinstance(outcome, ConflictError)
    assert "was running: there was nothing, and now there is a file of 6 bytes, modified " in outcome.message
    assert desk.seen() == {"new": "theirs"}


def test_edit_deep_in_a_directory_to_be_replaced_is_a_conflict(desk):
    (desk.out / "tree" / "deep").mkdir(parents=True)
    (desk.out / "tree" / "deep" / "leaf").write_text("old")
    transaction = desk.plan("tree/")
    (desk.out / "tree" / "deep" / "leaf").write_text("edited")
    assert isinstance(desk.publish(transaction)[0], ConflictError)
    assert (desk.out / "tree" / "deep" / "leaf").read_text() == "edited"


def test_input_changed_while_running_is_a_conflict_that_names_it(desk, tmp_path):
    source = tmp_path / "input"
    source.write_text("1")
    transaction = desk.plan("new", inputs=[str(source)])
    source.write_text("22")
    (outcome,) = desk.publish(transaction)
    assert isinstance(outcome, ConflictError)
    assert f"{source}, an input of it, was changed" in outcome.message
    assert desk.seen() == {}


def test_conflict_refuses_one_transaction_of_a_batch(desk):
    batch = [desk.plan(name) for name in ("one/x", "two", "three")]
    (desk.out / "two").write_text("theirs")
    outcomes = desk.publish(*batch)
    assert [isinstance(outcome, Published) for outcome in outcomes] == [True, False, True]
    assert desk.seen() == {"one": "(directory)", "one/x": "new", "two": "theirs", "three": "new"}


def test_second_of_two_transactions_on_one_path_is_taken_back_whole(desk):
    first, second = desk.plan("same", text="first"), desk.plan("deep/er/other", "same", text="second")
    outcomes = desk.publish(first, second)
    assert [type(outcome) for outcome in outcomes] == [Published, ConflictError]
    assert desk.seen() == {"same": "first"}


# --- the ledger's part ------------------------------------------------------------------------------------------------


@pytest.fixture
def table(desk):
    desk.connection.execute("CREATE TABLE notes (text)")
    return lambda: [text for (text,) in desk.connection.execute("SELECT text FROM notes")]


def test_guard_refuses_its_transaction_alone_and_what_it_wrote_is_undone(desk, table):
    def guard(connection: sqlite3.Connection, transaction: Transaction) -> None:
        connection.execute("INSERT INTO notes VALUES (?)", (transaction.id,))
        if transaction is batch[1]:
            raise ConflictError("the lease is somebody else's")

    batch = [desk.plan(name) for name in ("a", "b", "c")]
    outcomes = desk.publish(*batch, guard=guard)
    assert [type(outcome) for outcome in outcomes] == [Published, ConflictError, Published]
    assert table() == [batch[0].id, batch[2].id]
    assert set(desk.seen()) == {"a", "c"}


def test_record_sees_every_outcome_with_the_journal_still_open(desk, table):
    seen = []

    def record(connection: sqlite3.Connection, transaction: Transaction, outcome) -> None:
        assert connection.in_transaction
        seen.append((transaction.id, type(outcome), len(desk.journal.entries("run"))))

    batch = [desk.plan("a"), desk.plan("b")]
    (desk.out / "b").write_text("theirs")
    desk.publish(*batch, record=record)
    assert seen == [(batch[0].id, Published, 1), (batch[1].id, ConflictError, 0)]


def test_failing_record_leaves_the_journal_open_and_the_outputs_in_place(tmp_path):
    desk = Desk(tmp_path)

    def record(connection: sqlite3.Connection, transaction: Transaction, outcome) -> None:
        raise KeyboardInterrupt

    (desk.out / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        desk.publish(desk.plan("old"), record=record)
    desk.close()
    assert desk.seen() == {"old": "new"}
    assert os.listdir(desk.state.stage_path) == ["run"]


# --- what must not be published ---------------------------------------------------------------------------------------


def test_staged_content_that_is_missing_is_a_bug(desk):
    transaction = desk.plan("a")
    os.unlink(transaction.moves[0].staged)
    with pytest.raises(BugError, match="does not exist"):
        desk.publish(transaction)


def test_upper_directory_of_an_overlay_is_a_bug(desk):
    transaction = desk.plan("tree/")
    os.setxattr(transaction.moves[0].staged, "user.overlay.opaque", b"y")
    with pytest.raises(BugError, match="upper directory"):
        desk.publish(transaction)


def test_publishing_without_a_staging_area_is_a_bug(tmp_path):
    connection = open_database(str(tmp_path / "ledger.sqlite"), durability="relaxed")
    (tmp_path / "staged").touch()
    with pytest.raises(BugError, match="no owner"):
        Publisher(Journal(connection), "relaxed").publish(
            [Transaction("x", "Task", (Move(str(tmp_path / "staged"), str(tmp_path / "out"), None),))]
        )
    connection.close()


# --- hosts that refuse ------------------------------------------------------------------------------------------------


def refused(desk: Desk, transaction: Transaction) -> str:
    """The message of the HostError; nothing of the transaction is to be seen, and nothing is left."""
    before = desk.seen()
    (outcome,) = desk.publish(transaction)
    assert isinstance(outcome, HostError), outcome
    assert desk.seen() == before
    assert desk.journal.entries("run") == []
    desk.area.discard(transaction.id)
    desk.close()
    assert os.listdir(desk.state.stage_path) == []
    return outcome.message


def test_disk_turned_read_only_meanwhile_is_a_host_error_and_swept_when_it_can_be(in_namespace):
    def act() -> str:
        os.mkdir("out")
        attach(tmpfs(), "out")
        desk = Desk(Path.cwd())
        (desk.out / "first").write_text("old")
        transaction = desk.plan("first", "sub/second")
        mount("none", "out", flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
        (outcome,) = desk.publish(transaction)
        assert isinstance(outcome, HostError)
        assert desk.seen() == {"first": "old"}
        desk.area.discard(transaction.id)
        with pytest.raises(HostError, match=r"cannot be removed.*Read-only"):
            desk.area.close()
        assert "Read-only" in recover(desk.journal, desk.state).not_swept[0]
        mount("none", "out", flags=MS_BIND | MS_REMOUNT)
        assert recover(desk.journal, desk.state).swept == ("run",)
        assert os.listdir("out") == ["first"]
        assert desk.journal.run_ids() == set()
        desk.connection.close()
        return outcome.message

    message = in_namespace(act)
    assert "out/first" in message
    assert "Read-only file system" in message


def test_deletion_that_cannot_be_staged_refuses_its_transaction_alone(in_namespace):
    def act() -> str:
        os.mkdir("out")
        desk = Desk(Path.cwd())
        os.mkdir("out/disk")
        attach(make_filesystem("tmpfs", {"nr_inodes": "2"}), "out/disk")
        (desk.out / "disk" / "full").touch()
        fine, broken = desk.plan("fine"), desk.plan("-disk/full")
        outcomes = desk.publish(fine, broken)
        assert [type(outcome) for outcome in outcomes] == [Published, HostError]
        assert desk.seen() == {"disk": "(directory)", "disk/full": "", "fine": "new"}
        desk.close()
        return str(outcomes[1])

    assert "out/disk" in in_namespace(act)


def test_folder_removed_meanwhile_is_made_again(desk):
    (desk.out / "sub").mkdir()
    transaction = desk.plan("sub/x")
    (desk.out / "sub").rmdir()
    assert desk.publish(transaction) == [Published(transaction.id)]
    assert desk.seen() == {"sub": "(directory)", "sub/x": "new"}


def test_file_put_in_place_of_a_folder_to_be_made_is_refused(desk):
    transaction = desk.plan("first", "sub/x")
    (desk.out / "sub").write_text("theirs")
    (outcome,) = desk.publish(transaction)
    assert isinstance(outcome, ConflictError)
    assert f"{desk.out}/sub is not a directory any more" in outcome.message
    assert desk.seen() == {"sub": "theirs"}


def test_full_disk_while_publishing_takes_everything_back(in_namespace):
    def act() -> str:
        os.mkdir("out")
        # Room for the hidden folder, the run's, the attempt's, two staged files, and not for two more folders.
        attach(make_filesystem("tmpfs", {"nr_inodes": "9"}), "out")
        desk = Desk(Path.cwd())
        (desk.out / "old").write_text("old")
        return refused(desk, desk.plan("old", "new", "deep/er/still/x"))

    assert "No space left on device" in in_namespace(act)


def test_state_root_that_is_full_refuses_the_batch_and_loses_nothing(in_namespace):
    def act() -> None:
        os.mkdir("state")
        attach(tmpfs(size_bytes=512 << 10), "state")
        desk = Desk(Path.cwd())
        transaction = desk.plan("new")
        ballast = os.open("state/ballast", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError, match="No space"):
            while True:
                os.write(ballast, bytes(4096))
        os.close(ballast)

        def guard(connection: sqlite3.Connection, transaction: Transaction) -> None:
            connection.execute("CREATE TABLE big AS SELECT zeroblob(100000) AS x")

        with pytest.raises(HostError, match="is full"):
            desk.publish(transaction, guard=guard)
        assert desk.seen() == {}
        os.unlink("state/ballast")
        assert desk.publish(transaction) == [Published(transaction.id)]
        desk.close()

    in_namespace(act)


def test_folder_that_is_reached_through_a_link_now_is_a_conflict_where_it_must_be_the_same(desk):
    (desk.out / "folder").mkdir()
    move = desk.plan("folder/new").moves[0]
    held = Move(move.staged, move.target, move.expected, find_anchor(move.target))
    (desk.out / "folder").rename(desk.out / "aside")
    (desk.out / "folder").symlink_to(desk.out / "aside")  # the very same directory, by another way
    (outcome,) = desk.publish(Transaction("held", "Task", (held,)))
    assert isinstance(outcome, ConflictError)
    assert "symbolic link" in str(outcome)
    (free,) = desk.publish(Transaction("free", "Task", (move,)))
    assert free == Published("free")


def test_folder_that_is_another_one_now_is_a_conflict_where_it_must_be_the_same(desk):
    (desk.out / "folder").mkdir()
    move = desk.plan("folder/sub/new").moves[0]
    held = Move(move.staged, move.target, move.expected, find_anchor(move.target))
    (desk.out / "folder").rename(desk.out / "aside")
    (desk.out / "folder").mkdir()
    (outcome,) = desk.publish(Transaction("held", "Task", (held,)))
    assert isinstance(outcome, ConflictError)
    assert "moved or replaced" in str(outcome)
    assert desk.seen() == {"aside": "(directory)", "folder": "(directory)"}
