"""Luigi's S3: a program run by Luigi 3.8.1 and by jubako against the same server prints the same.

Exempt, by name; each is in the migration guide with its reason:
  S3 client        S3Client.s3, and the kind of what get_key and listings give
  S3 in bulk       requests are not compared, what comes of them is
  S3 in boxes      Luigi has none
  lines of bytes   reading bytes line by line is an error in Luigi
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from jubako.errors import InputError
from jubako.flow.fingerprints.fingerprint import take_fingerprint
from jubako.flow.graph.completeness import targets_exist
from jubako.flow.ranges.range import infer_bulk_complete_from_fs
from jubako.flow.tasks.task import Task
from jubako.luigi.s3 import S3Client, S3FlagTarget, S3Target
from jubako.luigi.s3_options import translate_options
from s3_server import Bucket, S3Server

Python = Callable[..., subprocess.CompletedProcess[str]]
SCRIPT = Path(__file__).parent / "pipelines" / "s3_program.py"


def test_program_prints_the_same(python: Python, s3_server: S3Server, tmp_path: Path) -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("Luigi 3.8.1 is not made for this Python")

    def run(words: list[str]) -> tuple[list[str], dict[str, bytes]]:
        bucket = Bucket(s3_server)
        folder = tmp_path / bucket.name
        folder.mkdir()
        (folder / "luigi.cfg").write_text(
            f"[DEFAULT]\nother = x\n[s3]\nendpoint_url = {s3_server.endpoint}\nregion_name = us-east-1\n"
        )
        printed = python(
            ["-W", "ignore", *words, str(SCRIPT), bucket.name],
            cwd=folder,
            JUBAKO_STATE=str(folder),
            AWS_ENDPOINT_URL_S3="http://127.0.0.1:9",  # the settings count more
        )
        lines = printed.stdout.replace(bucket.name, "BUCKET").splitlines()
        return lines, {key: body for key, body in bucket.contents().items() if not key.endswith(".gz")}

    with ThreadPoolExecutor() as pool:
        theirs, ours = pool.map(run, ([], ["-m", "jubako.luigi"]))
    assert ours[0] == theirs[0]
    assert ours[1] == theirs[1]
    assert theirs[0][-1] == "3.8.1"


def test_targets_of_one_directory_are_asked_for_by_one_listing(bucket: Bucket) -> None:
    numbers: Any = range(40)
    targets = [S3Target(f"{bucket.url}/day/{number:02d}") for number in numbers]
    flags = [S3FlagTarget(f"{bucket.url}/day/{number:02d}/") for number in range(3)]
    for key in ("day/01", "day/02_$folder$", "day/03/part", "day/00/_SUCCESS"):
        bucket.put(key)
    bucket.take_requests()
    found = targets_exist(targets)
    requests = bucket.take_requests()
    assert len(requests) == 1 and requests[0].startswith(f"GET /{bucket.name}?prefix=day/&delimiter=/")
    assert found == [target.exists() for target in targets] == [number < 4 for number in range(40)]
    assert targets_exist(flags) == [True, False, False]
    assert infer_bulk_complete_from_fs(numbers, lambda number: Having(targets[number])) == [*range(4, 40)]


class Having:
    """What has an output, as far as ranges look at it."""

    def __init__(self, target: S3Target) -> None:
        self.target = target

    def output(self) -> S3Target:
        return self.target


def test_client_of_a_pipelines_own_is_asked_itself(bucket: Bucket) -> None:
    class Sure(S3Client):
        def exists(self, path: str) -> bool:
            return True

    client = Sure()
    assert all(targets_exist([S3Target(f"{bucket.url}/{number}", client=client) for number in range(20)]))


def test_input_in_s3_has_changed_when_its_content_has(bucket: Bucket) -> None:
    class Reads(Task):
        def input(self) -> Any:
            return [S3Target(f"{bucket.url}/a"), S3FlagTarget(f"{bucket.url}/day/")]

    def inputs() -> Any:
        return take_fingerprint(Reads(), take_digest=str).inputs

    nothing = {f"{bucket.url}/a": "", f"{bucket.url}/day/": None}
    assert inputs() == nothing
    bucket.put("a", b"one")
    one = inputs()
    bucket.put("a", b"one")
    assert nothing != inputs() == one
    bucket.put("a", b"two")
    assert inputs() not in (nothing, one)


def test_resource_of_boto3_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="s3 is not part of jubako"):
        _ = S3Client().s3


def test_options_are_told_to_the_client_in_use_by_its_names() -> None:
    class Config:
        _user_provided_options: ClassVar = {"read_timeout": 1}

    given = {"aws_session_token": "t", "use_ssl": False, "region_name": "r", "verify": False, "config": Config()}
    assert translate_options(given) == {
        "token": "t",
        "use_ssl": False,
        "client_kwargs": {"region_name": "r", "verify": False},
        "config_kwargs": {"read_timeout": 1},
    }
