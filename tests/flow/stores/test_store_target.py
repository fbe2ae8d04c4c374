"""Files and folders in a store as targets, against a real S3 server: whole or not there, and nothing left anywhere."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jubako.boxes import inside
from jubako.errors import InputError
from jubako.flow.graph.completeness import targets_exist
from jubako.flow.graph.standing import Broken, Standing
from jubako.flow.parameters import IntParameter
from jubako.flow.stores.store_connection import Connection, close_connections
from jubako.flow.stores.store_errors import StoreError
from jubako.flow.stores.store_target import StoreFolderTarget, StoreTarget
from jubako.flow.stores.store_upload import begin_upload
from jubako.flow.targets.format import UTF8, Gzip, Nop
from jubako.flow.targets.target import FileAlreadyExists, StorageUnreachable
from jubako.flow.tasks.task import Task
from s3_server import Bucket

PART = 5 << 20


@pytest.fixture(params=["s3", "memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty folder in each kind of store."""
    if request.param == "s3":
        yield request.getfixturevalue("bucket").url + "/folder"
    elif request.param == "file":
        yield f"file://{tmp_path}/folder"
    else:
        import fsspec

        yield "memory://folder"
        fsspec.filesystem("memory").store.clear()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are written before they are sent."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def write(target: StoreTarget, text: str = "content") -> None:
    with target.open("w") as file:
        file.write(text)


def read(target: StoreTarget) -> Any:
    with target.open() as file:
        return file.read()


# --- the same in every store


@pytest.mark.parametrize(
    ("format", "content"), [(None, "zażółć\n"), (Nop, b"\0\xff"), (UTF8 >> Gzip, "zażółć\n" * 1000)]
)
def test_what_is_written_is_read_back(place: str, format: Any, content: Any) -> None:
    target = StoreTarget(f"{place}/deep/down/a", format=format)
    assert not target.exists()
    with target.open("w") as file:
        file.write(content)
        assert not target.exists()
    assert target.exists()
    assert read(target) == content
    write(target, content[:2])
    assert read(target) == content[:2]


def test_version_of_the_content_changes_with_it(place: str, temporary: Path) -> None:
    target = StoreTarget(f"{place}/file")
    assert target.content_version() == ""
    write(target, "one")
    before = target.content_version()
    assert before == StoreTarget(f"{place}/file").content_version() != ""
    write(target, "another")
    assert target.content_version() != before


def test_version_of_a_folder_changes_with_any_file_in_it(place: str, temporary: Path) -> None:
    folder = StoreFolderTarget(f"{place}/")
    assert folder.content_version() == ""
    versions = set()
    for name, text in (("a", "one"), ("a", "other"), ("below/b", "one")):
        write(StoreTarget(f"{place}/{name}"), text)
        write(StoreTarget(f"{place}/{folder.flag}"), "")
        versions.add(folder.content_version())
        assert folder.content_version() in versions
    assert len(versions) == 3
    assert "" not in versions


def test_exception_while_writing_leaves_the_old_file_and_no_other(place: str, temporary: Path) -> None:
    target = StoreTarget(f"{place}/a")
    for _ in range(2):
        with pytest.raises(RuntimeError), target.open("w") as file:
            file.write("half")
            raise RuntimeError
        assert not target.exists()
    write(target, "old")
    with pytest.raises(RuntimeError), target.open("w") as file:
        file.write("half")
        raise RuntimeError
    assert read(target) == "old"
    assert list(target.fs.listdir(place)) == [f"{place}/a"]
    assert list(temporary.iterdir()) == []


def test_file_that_is_dropped_without_closing_never_appears(place: str, temporary: Path) -> None:
    target = StoreTarget(f"{place}/a")
    file = target.open("w")
    file.write("half")
    del file
    gc.collect()
    assert not target.exists()
    assert list(temporary.iterdir()) == []


def test_temporary_path_becomes_the_target_or_goes(place: str, temporary: Path) -> None:
    target = StoreTarget(f"{place}/a")
    with pytest.raises(RuntimeError), target.temporary_path() as path:
        Path(path).write_text("half")
        raise RuntimeError
    assert not target.exists()
    with target.temporary_path() as path:
        Path(path).write_text("whole")
    assert read(target) == "whole"
    assert list(temporary.iterdir()) == []


def test_temporary_path_that_nothing_was_written_to_is_an_error(place: str) -> None:
    with pytest.raises(StoreError, match="is no file"), StoreTarget(f"{place}/a").temporary_path():
        pass


def test_files_are_copied_moved_and_removed(place: str) -> None:
    target = StoreTarget(f"{place}/a")
    write(target)
    target.copy(f"{place}/new/b")
    target.move(f"{place}/c")
    assert sorted(target.fs.listdir(place)) == [f"{place}/c", f"{place}/new/b"]
    copy = StoreTarget(f"{place}/new/b")
    with pytest.raises(FileAlreadyExists):
        copy.move(f"{place}/c", raise_if_exists=True)
    assert read(copy) == "content"
    copy.remove()
    assert not copy.exists()
    with pytest.raises(FileNotFoundError):
        copy.remove()


def test_folder_is_moved_and_removed_with_what_is_in_it(place: str) -> None:
    for name in ("a", "b/c"):
        write(StoreTarget(f"{place}/one/{name}"), name)
    fs = StoreTarget(f"{place}/x").fs
    with pytest.raises(StoreError, match="is a folder"):
        fs.remove(f"{place}/one", recursive=False)
    fs.move(f"{place}/one", f"{place}/two")
    assert sorted(fs.listdir(place)) == [f"{place}/two/a", f"{place}/two/b/c"]
    assert fs.isdir(f"{place}/two/b")
    fs.remove(f"{place}/two")
    assert list(fs.listdir(place)) == []


def test_file_that_is_not_there_is_an_error_as_of_this_machine(place: str) -> None:
    target = StoreTarget(f"{place}/nothing")
    with pytest.raises(FileNotFoundError) as caught:
        target.open()
    assert str(caught.value) == f"[Errno 2] No such file or directory: '{place.removeprefix('file://')}/nothing'"


def test_folder_is_there_when_its_flag_is(place: str, temporary: Path) -> None:
    target = StoreFolderTarget(f"{place}/day")
    with target.temporary_path() as folder:
        Path(folder, "part-0").write_text("zero")
        Path(folder, "more").mkdir()
        Path(folder, "more", "part-1").write_text("one")
        assert not target.exists()
    assert target.exists()
    assert target.listdir() == [f"{place}/day/more/part-1", f"{place}/day/part-0"]
    assert read(target.file("part-0")) == "zero"
    with target.temporary_path() as folder:
        Path(folder, "part-0").write_text("new")
    assert target.listdir() == [f"{place}/day/part-0"]  # the other one is of the old version
    assert read(target.file("part-0")) == "new"
    with pytest.raises(IsADirectoryError):
        target.open("w")
    target.remove()
    assert not target.exists()
    assert list(target.fs.listdir(place)) == []
    assert list(temporary.iterdir()) == []


def test_folder_that_could_not_be_made_stays_as_it_was(place: str) -> None:
    target = StoreFolderTarget(f"{place}/day", flag="done")
    for name in ("link", "done"):
        with pytest.raises(StoreError), target.temporary_path() as folder:
            Path(folder, "part").write_text("x")
            os.symlink("part", Path(folder, "link")) if name == "link" else Path(folder, name).touch()
    with pytest.raises(RuntimeError), target.temporary_path() as folder:
        Path(folder, "part").write_text("x")
        raise RuntimeError
    assert not target.exists()
    assert target.listdir() == []


def test_folder_written_by_other_means_is_marked(place: str) -> None:
    target = StoreFolderTarget(f"{place}/day")
    write(target.file("part"))
    assert not target.exists()
    target.mark()
    assert target.exists()


@pytest.mark.parametrize("many", [3, 12])
def test_many_are_asked_for_at_once_and_the_answer_is_the_same(place: str, many: int) -> None:
    targets = [StoreTarget(f"{place}/{number % 3}/{number:02d}") for number in range(many)]
    targets += [StoreTarget(f"{place}/{number % 2}/") for number in range(many)]
    folders = [StoreFolderTarget(f"{place}/folders/{number}") for number in range(many)]
    for target in targets[1:many:2]:
        write(target)
    for folder in folders[::2]:
        folder.mark()
    asked = [*targets, *folders]
    assert targets_exist(asked) == [target.exists() for target in asked]
    assert targets_exist(folders) == [number % 2 == 0 for number in range(many)]


# --- in S3


def test_dated_targets_of_one_folder_are_asked_for_by_one_listing(bucket: Bucket) -> None:
    targets = [StoreTarget(f"{bucket.url}/day/{number:03d}") for number in range(365)]
    for number in range(0, 100, 2):
        bucket.put(f"day/{number:03d}")
    bucket.take_requests()
    assert targets_exist(targets) == [number in range(0, 100, 2) for number in range(365)]
    requests = bucket.take_requests()
    assert len(requests) == 1 and requests[0].startswith(f"GET /{bucket.name}?list-type=2&prefix=day/&delimiter=/")


@pytest.mark.parametrize("name", ["../../out", "a//b", "./a"])
def test_names_that_lead_out_of_a_folder_are_not_followed(bucket: Bucket, tmp_path: Path, name: str) -> None:
    bucket.put(f"day/{name}", b"x")
    bucket.put("day/_SUCCESS")
    (tmp_path / "in").mkdir()
    with pytest.raises(StoreError, match="cannot be the name of a file"):
        StoreFolderTarget(f"{bucket.url}/day").fetch(str(tmp_path / "in" / "copy"))
    assert os.listdir(tmp_path) == ["in"]


def test_answers_are_of_now(bucket: Bucket) -> None:
    target = StoreTarget(f"{bucket.url}/a")
    others = [StoreTarget(f"{bucket.url}/{number}") for number in range(10)]
    assert not any(targets_exist([target, *others]))
    bucket.put("a")
    assert target.exists()
    assert targets_exist([target, *others]) == [True] + [False] * 10


def test_big_file_is_sent_in_parts_and_appears_whole(bucket: Bucket, tmp_path: Path) -> None:
    content = os.urandom(PART) * 2 + b"end"
    (tmp_path / "big").write_bytes(content)
    target = StoreTarget(f"{bucket.url}/big", format=Nop)
    upload = begin_upload(target.fs, str(tmp_path / "big"), target.path, {"part_bytes": PART})
    assert (bucket.list_keys(), bucket.unfinished()) == ([], ["big"])  # all bytes are there, and nobody sees them
    upload.commit()
    assert (bucket.contents(), bucket.unfinished()) == ({"big": content}, [])
    assert read(target) == content
    with target.open() as file:
        assert (file.seek(PART), file.read(3)) == (PART, content[:3])
    upload = begin_upload(target.fs, str(tmp_path / "big"), f"{bucket.url}/other", {"part_bytes": PART})
    upload.discard()
    assert (bucket.list_keys(), bucket.unfinished()) == (["big"], [])


def test_files_of_a_folder_are_sent_before_its_flag_and_one_that_is_refused_leaves_it_without(
    bucket: Bucket, tmp_path: Path
) -> None:
    target = StoreFolderTarget(f"{bucket.url}/day")
    for number in range(30):
        bucket.put(f"day/{number}", b"old")
    target.mark()
    for number in range(20):
        (tmp_path / f"{number}").write_text("new")
    bucket.take_requests()
    target.send(str(tmp_path))
    requests = [request.split("?")[0] for request in bucket.take_requests() if not request.startswith(("GET", "HEAD"))]
    assert (requests[0], requests[-1]) == (f"DELETE /{bucket.name}/day/_SUCCESS", f"PUT /{bucket.name}/day/_SUCCESS")
    assert bucket.contents() == {**{f"day/{number}": b"new" for number in range(20)}, "day/_SUCCESS": b""}
    bucket.refuse(below="day/7")
    with pytest.raises(StoreError, match=f"^{bucket.url}/day/7: access is refused"):
        target.send(str(tmp_path))
    assert not target.exists()


def test_small_file_is_one_request(bucket: Bucket) -> None:
    write(StoreTarget(f"{bucket.url}/a"))
    assert bucket.take_requests() == [f"PUT /{bucket.name}/a"]


def test_upload_that_somebody_aborts_shows_nothing(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * (PART + 1))
    once = {"config_kwargs": {"retries": {"max_attempts": 1, "mode": "standard"}}}
    fs = StoreTarget(f"{bucket.url}/big", storage_options=once).fs
    upload = begin_upload(fs, str(tmp_path / "big"), f"{bucket.url}/big", {"part_bytes": PART})
    bucket.abort_all()
    with pytest.raises(StoreError, match=f"^{bucket.url}/big: "):
        upload.commit()
    assert bucket.list_keys() == []


def test_upload_whose_file_breaks_off_is_given_up(bucket: Bucket, tmp_path: Path, monkeypatch: Any) -> None:
    def break_off(source: Any, destination: Any, size: int) -> None:
        destination.write(source.read(size))
        raise KeyboardInterrupt

    (tmp_path / "big").write_bytes(b"x" * (PART + 1))
    monkeypatch.setattr("shutil.copyfileobj", break_off)
    with pytest.raises(KeyboardInterrupt):
        begin_upload(
            StoreTarget(f"{bucket.url}/big").fs, str(tmp_path / "big"), f"{bucket.url}/big", {"part_bytes": PART}
        )
    assert f"POST /{bucket.name}/big?uploads" in bucket.take_requests()
    assert (bucket.list_keys(), bucket.unfinished()) == ([], [])


# --- what can be wrong


def test_missing_bucket_is_named(s3_server: object) -> None:
    target = StoreTarget("s3://no-such-bucket/a")
    for ask in (target.exists, target.open, target.remove, lambda: write(target), lambda: targets_exist([target] * 20)):
        with pytest.raises(StoreError) as caught:
            ask()
        assert str(caught.value) == "s3://no-such-bucket/a: there is no bucket 'no-such-bucket'"


def test_refused_access_is_named(bucket: Bucket) -> None:
    bucket.put("a")
    bucket.refuse()
    target = StoreTarget(f"{bucket.url}/a")
    for ask in (target.exists, lambda: read(target), target.remove, lambda: write(target)):
        with pytest.raises(StoreError, match=f"^s3://{bucket.name}/a: access is refused") as caught:
            ask()
        assert caught.value.hint


def test_store_that_nobody_answers_for_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    options = {
        "endpoint_url": f"http://127.0.0.1:{port}",
        "key": "k",
        "secret": "hush",
        "config_kwargs": {"retries": {"max_attempts": 1, "mode": "standard"}},
    }
    target = StoreTarget("s3://bucket/a", storage_options=options)
    for ask in (target.exists, lambda: write(target)):
        with pytest.raises(StorageUnreachable, match=r"^s3://bucket/a: the store cannot be reached: .*127\.0\.0\.1"):
            ask()
    assert "hush" not in repr(target) + str(target) + repr(vars(target.fs))


def test_store_that_does_not_answer_in_time_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        options = {
            "endpoint_url": f"http://127.0.0.1:{mute.getsockname()[1]}",
            "key": "k",
            "secret": "s",
            "config_kwargs": {"read_timeout": 0.05, "retries": {"max_attempts": 1, "mode": "standard"}},
        }
        with pytest.raises(StorageUnreachable, match="Read timeout"):
            StoreTarget("s3://bucket/a", storage_options=options).exists()


def test_store_that_nobody_answers_for_is_asked_once_for_many_tasks() -> None:
    """Here a folder for each target, so that they are asked for one by one."""
    asked = []
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        options = {
            "endpoint_url": f"http://127.0.0.1:{server.getsockname()[1]}",
            "key": "k",
            "secret": "s",
            "config_kwargs": {"retries": {"max_attempts": 1, "mode": "standard"}},
        }

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    server.accept()[0].close()
                    asked.append(1)

        thread = threading.Thread(target=hang_up)
        thread.start()

        class Day(Task):
            number = IntParameter()

            def output(self) -> StoreTarget:
                return StoreTarget(f"s3://bucket/{self.number}/a", storage_options=options)

        days = [Day(number=number) for number in range(40)]
        answers = Standing(targets_exist).look(days)
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert len({str(answer.error) for answer in answers if isinstance(answer, Broken)}) == 1
    assert all(isinstance(answer, Broken) for answer in answers)
    assert len(asked) <= 16 * 8  # questions under way at a time, with all the tries of each; 40 would be 320


def test_missing_credentials_are_named(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    target = StoreTarget("s3://bucket/a", storage_options={"endpoint_url": s3_server.endpoint})
    with pytest.raises(StoreError, match="there are no credentials: Unable to locate credentials") as caught:
        target.exists()
    assert "environment" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("folder/a", "'folder/a' is no address in a store"),
        ("s3://", "names a store and nothing in it"),
        ("zip://a::s3://bucket/b.zip", "chains stores"),
        ("ftp://me:hush@host/a", "has a password in it"),
        ("file://relative/a", "has no absolute path"),
    ],
)
def test_address_that_is_none_is_refused_at_once(url: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        StoreTarget(url)
    assert "hush" not in str(caught.value)


def test_unknown_protocol_is_refused_with_what_is_near() -> None:
    with pytest.raises(InputError, match="no store is known whose addresses begin with s4://") as caught:
        StoreTarget("s4://bucket/a").exists()
    assert "s3://" in caught.value.hint


def test_option_that_the_client_does_not_know_is_named() -> None:
    with pytest.raises(InputError, match="argument 'nonsense'"):
        StoreTarget("s3://bucket/a", storage_options={"nonsense": "hush"}).exists()


def test_package_that_is_not_installed_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="gs:// needs a package that is not installed"):
        _ = Connection("gs", {}).client
    for module, protocol, extra in (("s3fs", "s3", "s3"), ("fsspec", "memory", "stores")):
        monkeypatch.setitem(sys.modules, module, None)
        if module == "s3fs":
            monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)  # type: ignore[attr-defined]
        with pytest.raises(InputError, match=f"^{protocol}:// needs {module}, which is not installed$") as caught:
            _ = Connection(protocol, {}).client
        assert caught.value.hint == f"pip install 'jubako[{extra}]'"


@pytest.mark.parametrize("mode", ["a", "r+", "x"])
def test_other_modes_are_refused(mode: str) -> None:
    with pytest.raises(ValueError, match="mode must be 'r' or 'w'"):
        StoreTarget("memory://a").open(mode)


def test_store_is_neither_emptied_nor_left() -> None:
    write(StoreTarget("memory://bucket/a"))
    fs = StoreTarget("memory://bucket/a").fs
    with pytest.raises(InputError, match="is all there is"):
        fs.remove("memory://bucket")
    with pytest.raises(InputError, match="which is in another store"):
        fs.copy("memory://bucket/a", "file:///tmp/a")
    fs.remove("memory://bucket/a")


# --- forks, and boxes


def test_child_of_a_process_that_is_connected_connects_anew(bucket: Bucket, in_child: Callable[..., Any]) -> None:
    target = StoreTarget(f"{bucket.url}/a")
    assert not target.exists()

    def use() -> str:
        write(target, "of the child")
        found: str = read(target)
        close_connections()
        return found

    assert in_child(use) == "of the child"
    assert read(target) == "of the child"


def test_fork_finds_no_other_thread_and_reading_goes_on_after_it(
    bucket: Bucket, in_child: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(3 << 20)
    bucket.put("a", content)
    with StoreTarget(f"{bucket.url}/a", format=Nop).open() as file:
        begun = file.read(1 << 20)
        assert len(threading.enumerate()) > 1
        rest = in_child(file.read)
        assert len(threading.enumerate()) == 1
        assert begun + rest == begun + file.read() == content


def test_fork_leaves_a_connection_that_another_thread_may_use(bucket: Bucket, in_child: Callable[..., Any]) -> None:
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    target = StoreTarget(f"{bucket.url}/a")
    assert not target.exists()
    client = target.fs.client
    in_child(lambda: None)
    assert target.fs.client is client
    end.set()
    other.join()


def test_in_a_box_what_is_written_is_staged_and_read_from_there(
    bucket: Bucket, tmp_path: Path, in_child: Callable[..., Any]
) -> None:
    file, folder = StoreTarget(f"{bucket.url}/a"), StoreFolderTarget(f"{bucket.url}/day")
    staged = {file.path: str(tmp_path / "0"), folder.path: str(tmp_path / "1")}

    def run() -> list[object]:
        inside.activate(staged, (), -1)
        write(file, "first")
        write(file, "second")
        with folder.temporary_path() as path:
            Path(path, "part").write_text("x")
        found = [file.exists(), read(file), folder.exists()]
        file.remove()
        file.remove() if file.exists() else None
        with file.temporary_path() as path:
            Path(path).write_text("third")
        return [*found, read(file)]

    assert in_child(run) == [True, "second", True, "third"]
    assert (tmp_path / "0").read_text() == "third"
    assert (tmp_path / "1" / "part").read_text() == "x"
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]
    assert bucket.list_keys() == []
