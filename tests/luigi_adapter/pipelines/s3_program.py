"""A program that uses S3 through Luigi: its client, its files, its targets and tasks. Prints what came of each step."""

from __future__ import annotations

import datetime
import os
import re
import sys
import warnings
from typing import Any

import luigi
from luigi.contrib import s3
from luigi.contrib.opener import OpenerTarget
from luigi.format import UTF8, Gzip, MixedUnicodeBytes, Nop
from luigi.target import FileSystemException

BUCKET = sys.argv[1]
ROOT = f"s3://{BUCKET}"
SETTINGS = [
    ("endpoint_url", os.environ["AWS_ENDPOINT_URL"]),
    ("region_name", "us-east-1"),
]
client = s3.S3Client()


def show(name: str, ask: Any) -> Any:
    """Prints what `ask` comes to; what it raises by its type, its kind and its words."""
    try:
        found = ask()
    except Exception as error:
        kind = "FileSystemException" if isinstance(error, FileSystemException) else ""
        print(name, "raises", type(error).__name__, kind, re.sub(r"\s+", " ", str(error)).replace(BUCKET, "BUCKET"))
        return None
    shown = sorted(found) if isinstance(found, (set, dict)) else found
    print(name, repr(shown).replace(BUCKET, "BUCKET"))
    return found


def listed(path: str = ROOT, **more: Any) -> list[str]:
    return sorted(client.listdir(path, **more))


def write(target: Any, content: Any) -> None:
    with target.open("w") as file:
        file.write(content)


def read(target: Any) -> Any:
    with target.open("r") as file:
        return file.read()


def half(target: Any) -> None:
    with target.open("w") as file:
        file.write("half")
        raise RuntimeError("half way")


def use_client(folder: str) -> None:
    local = os.path.join(folder, "local")
    with open(local, "wb") as file:
        file.write(b"x" * (6 << 20))
    show("put string", lambda: client.put_string("text", f"{ROOT}/a/text"))
    show("put bytes", lambda: client.put_string(b"bytes", f"{ROOT}/a/bytes", ContentType="text/x"))
    show("put", lambda: client.put(local, f"{ROOT}/a/local"))
    show("put in parts", lambda: client.put_multipart(local, f"{ROOT}/big", part_size=5 << 20))
    show("put nothing", lambda: client.put(local + "-none", f"{ROOT}/none"))
    show("put elsewhere", lambda: client.put(local, "s3://no-such-bucket/a"))
    show("put string elsewhere", lambda: client.put_string("x", "s3://no-such-bucket/a"))
    show("put old", lambda: client.put(local, f"{ROOT}/a", encrypt_key=True))
    show("strange key", lambda: client.put_string("s", f"{ROOT}/strange/a?b=c&d#e ü"))
    for path in ("", "/", "/a", "/a/", "/a/text", "/none", "/big", "/bi", "/strange/a?b=c&d#e ü"):
        show(f"exists {path}", lambda path=path: client.exists(ROOT + path))
        show(f"isdir {path}", lambda path=path: client.isdir(ROOT + path))
    for ask in (client.exists, client.isdir, client.get_key, client.get_as_bytes, client.remove):
        show(f"{ask.__name__} elsewhere", lambda ask=ask: ask("s3://no-such-bucket/a"))
    show("list elsewhere", lambda: listed("s3://no-such-bucket/a"))
    show("listdir", listed)
    show("listdir a", lambda: listed(f"{ROOT}/a"))
    show("list", lambda: sorted(client.list(f"{ROOT}/a/")))
    show("list none", lambda: sorted(client.list(f"{ROOT}/none")))
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    for start, end in (
        (now - day, None),
        (now + day, None),
        (None, now - day),
        (None, now + day),
        (now - day, now + day),
    ):
        show("list within", lambda start=start, end=end: len(listed(start_time=start, end_time=end)))
    show("list keys", lambda: [(item.key, item.size) for item in client.list(f"{ROOT}/a", return_key=True)])
    key = show("get no key", lambda: client.get_key(f"{ROOT}/none")) or client.get_key(f"{ROOT}/a/text")
    show("get key", lambda: (key.bucket_name == BUCKET, key.key, key.size, key.e_tag, key.last_modified < now + day))
    show("read key", key.get()["Body"].read)
    show("get bytes", lambda: client.get_as_bytes(f"{ROOT}/a/bytes"))
    show("get string", lambda: client.get_as_string(f"{ROOT}/a/text"))
    show("get nothing", lambda: client.get_as_bytes(f"{ROOT}/none"))
    show("get", lambda: client.get(f"{ROOT}/big", local + "-2"))
    show("got", lambda: os.path.getsize(local + "-2"))
    show("get nothing to a file", lambda: client.get(f"{ROOT}/none", local + "-3"))
    show("copy", lambda: client.copy(f"{ROOT}/a/text", f"{ROOT}/copy"))
    show("copy directory", lambda: client.copy(f"{ROOT}/a", f"{ROOT}/b/c"))
    show("copy nothing", lambda: client.copy(f"{ROOT}/none", f"{ROOT}/b"))
    show("copy elsewhere", lambda: client.copy(f"{ROOT}/a/text", "s3://no-such-bucket/b"))
    show("move", lambda: client.move(f"{ROOT}/copy", f"{ROOT}/moved"))
    show("mkdir", lambda: client.mkdir(f"{ROOT}/dir"))
    show("mkdir again", lambda: client.mkdir(f"{ROOT}/dir", raise_if_exists=True))
    show("mkdir deep", lambda: client.mkdir(f"{ROOT}/x/y", parents=False))
    show("mkdir root", lambda: client.mkdir(ROOT))
    show("marker", lambda: client.put_string("", f"{ROOT}/marked_$folder$"))
    for path in ("/dir", "/dir/", "/marked", "/x"):
        show(f"directory {path}", lambda path=path: (client.exists(ROOT + path), client.isdir(ROOT + path)))
    show("listdir", listed)
    show("remove not recursive", lambda: client.remove(f"{ROOT}/b", recursive=False))
    for path in ("/b", "/marked", "/dir", "/moved", "/none", "", "/"):
        show(f"remove {path}", lambda path=path: client.remove(ROOT + path))
    show("listdir", listed)
    role = {"aws_role_arn": "arn:aws:iam::123456789012:role/reader", "aws_role_session_name": "test"}
    show("role", lambda: s3.S3Client(**role).exists(f"{ROOT}/big"))
    show("settings", lambda: sorted(s3.S3Client._get_s3_config().items()) == SETTINGS)
    show("wrong argument", lambda: s3.S3Client(nonsense=1).exists(f"{ROOT}/a"))


def use_targets() -> None:
    for name, format, content in (
        ("text", None, "zażółć\nline\n"),
        ("nop", Nop, b"\0\xff\n"),
        ("gzip", UTF8 >> Gzip, "zażółć\n" * 10),
        ("mixed", MixedUnicodeBytes, b"x\ny"),
    ):
        target = s3.S3Target(f"{ROOT}/target/{name}", format=format)
        show(f"{name} exists", target.exists)
        show(f"{name} write", lambda target=target, content=content: write(target, content))
        show(f"{name} exists", target.exists)
        show(f"{name} read", lambda target=target: read(target))
        if isinstance(content, str):
            show(f"{name} lines", lambda target=target: list(target.open("r")))
    target = s3.S3Target(f"{ROOT}/target/other", ContentType="text/x")
    show("no file", target.open)
    show("no mode", lambda: target.open("a"))
    show("half", lambda: half(target))
    show("half exists", target.exists)
    show("options", lambda: write(target, "x"))
    show("read", lambda: read(target))
    show("path", lambda: (target.path, str(s3.S3Target(path=f"{ROOT}/x", client=client).fs is client)))
    show("remove", target.remove)
    show("exists", target.exists)
    show("temporary", lambda: tempfile_of(s3.S3Target(f"{ROOT}/target/temporary")))
    show("elsewhere", lambda: write(s3.S3Target("s3://no-such-bucket/a"), "x"))
    file = s3.AtomicS3File(f"{ROOT}/atomic", client)
    file.write(b"atomic")
    show("before", lambda: client.exists(f"{ROOT}/atomic"))
    file.close()
    show("after", lambda: client.get_as_string(f"{ROOT}/atomic"))
    with s3.ReadableS3File(client.get_key(f"{ROOT}/atomic")) as reader:
        show("reader", lambda: (reader.readable(), reader.writable(), reader.seekable(), reader.read(3), reader.read()))
    show("closed", lambda: reader.closed)
    flag = s3.S3FlagTarget(f"{ROOT}/flagged/")
    show("flag", lambda: (flag.flag, flag.exists()))
    client.put_string("", f"{ROOT}/flagged/_SUCCESS")
    show("flag", flag.exists)
    show("other flag", s3.S3FlagTarget(f"{ROOT}/flagged/", flag="done").exists)
    show("no directory", lambda: s3.S3FlagTarget(f"{ROOT}/flagged"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        show("emr", s3.S3EmrTarget(f"{ROOT}/flagged/").exists)
        show("warns", lambda: [str(one.message) for one in caught if "Emr" in str(one.message)])
    show("path task", s3.S3PathTask(path=f"{ROOT}/atomic").complete)
    show("flag task", s3.S3FlagTask(path=f"{ROOT}/flagged/", flag="_SUCCESS").complete)
    show("flag task without", s3.S3FlagTask(path=f"{ROOT}/flagged/").complete)
    opened = OpenerTarget(f"{ROOT}/atomic?client=null&ContentType=x")
    show("opener", lambda: (type(opened).__name__, opened.path, opened.s3_options, opened.exists()))


def tempfile_of(target: Any) -> list[str]:
    with target.temporary_path() as path:
        client.put_string("x", path)
    return sorted(client.list(f"{ROOT}/target"))


class Raw(luigi.Task):
    date = luigi.DateParameter()

    def output(self) -> Any:
        return s3.S3Target(f"{ROOT}/raw/{self.date:%Y/%m-%d}.csv")

    def run(self) -> None:
        write(self.output(), f"{self.date}\n")


class Summary(luigi.Task):
    date = luigi.DateParameter()

    def requires(self) -> Any:
        return {"raw": Raw(self.date), "outside": s3.S3PathTask(path=f"{ROOT}/atomic")}

    def output(self) -> Any:
        return s3.S3Target(f"{ROOT}/summary/{self.date}.gz", format=UTF8 >> Gzip)

    def run(self) -> None:
        write(self.output(), read(self.input()["raw"]) + read(self.input()["outside"]))
        if self.date.day == 3:
            raise RuntimeError("not on the third")


def use_tasks() -> None:
    import luigi.tools.range

    days = luigi.tools.range.RangeDaily(
        of=Summary,
        start=datetime.date(2021, 9, 1),
        stop=datetime.date(2021, 9, 5),
        now=1632052800,
    )
    for _ in range(2):
        result = luigi.build([days], local_scheduler=True, log_level="CRITICAL", detailed_summary=True)
        print(result.status.name, result.scheduling_succeeded, result.summary_text)
    show("made", lambda: listed(f"{ROOT}/summary"))
    show("read", lambda: read(Summary(datetime.date(2021, 9, 2)).output()))


def main() -> None:
    os.mkdir("folder")
    use_client("folder")
    use_targets()
    use_tasks()
    print(luigi.__version__)


main()
