"""`jubako doctor` inside containers, as podman makes them: it works there, says what each takes away, and its cures do
what they promise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import podman

pytestmark = [
    pytest.mark.box,
    pytest.mark.skipif(os.geteuid() != 0, reason="podman without root needs ranges of ids"),
]
SOURCE = Path(__file__).parents[2] / "src"
USER_ID = 54323
PLAIN = ("--user", str(USER_ID))
WHOLE_PROC = ("--security-opt", "unmask=ALL")

Examine = Callable[..., dict[str, Any]]


@pytest.fixture
def examine() -> Iterator[Examine]:
    """What doctor finds in a container started with these options, as a document; its exit status is `status`."""
    import click

    assert shutil.which("podman") and shutil.which("runc"), "apt-get install podman runc"
    folder = Path(tempfile.mkdtemp(prefix="jubako-", dir="/var/tmp"))  # podman refuses long names
    folder.chmod(0o755)
    for module in (SOURCE / "jubako", Path(click.__file__).parent):  # where an ordinary user may read them
        shutil.copytree(module, folder / "code" / module.name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "state").mkdir(mode=0o777)
    (folder / "state").chmod(0o777)

    def run(*options: str, python: str = sys.executable) -> dict[str, Any]:
        command = ["podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "run", "--rm", *podman.OPTIONS]
        for name in ("code", "state"):
            command += ["-v", f"{folder}/{name}:{folder}/{name}:rw"]
        command += ["-e", f"PYTHONPATH={folder}/code", "-e", "PYTHONDONTWRITEBYTECODE=1"]
        command += ["-e", f"JUBAKO_STATE={folder}/state", *options, "--rootfs", "/:O", python, "-m", "jubako"]
        done = subprocess.run(
            [*command, "doctor", "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout) | {"status": done.returncode}

    try:
        yield run
    finally:
        podman.remove_groups()
        shutil.rmtree(folder)


def found(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {row["ability"]: row for row in document["abilities"]}


def lost(document: dict[str, Any]) -> str:
    return found(document)["container"]["meaning"]


def test_privileged_container_takes_its_root_alone_and_a_volume_holds_boxes(examine: Examine) -> None:
    document = examine("--privileged")
    assert (document["status"], document["boxes"], document["container"]) == (0, True, "podman")
    assert lost(document).endswith("which takes away: root file system")
    assert found(document)["overlay in the state folder"]["here"] == "yes"


def test_container_by_default_names_what_it_takes_and_the_cure_it_names_is_enough(examine: Examine) -> None:
    document = examine()
    boxes = found(document)["boxes"]
    assert (document["status"], document["boxes"], boxes["here"]) == (3, False, "no")
    assert "a fresh /proc is refused" in boxes["meaning"]
    assert "unmask=ALL" in boxes["cure"]
    assert lost(document).endswith("takes away: capabilities, system call filter, /proc, root file system")
    cured = examine(*WHOLE_PROC)
    assert (cured["status"], cured["boxes"]) == (0, True)
    assert found(cured)["overlay as root"]["here"] == "limited"


def test_container_without_a_filter_does_not_name_one(examine: Examine) -> None:
    document = examine("--security-opt", "seccomp=unconfined")
    assert lost(document).endswith("takes away: capabilities, /proc, root file system")
    assert "system call filter" not in found(document)


def test_container_of_an_ordinary_user_can_make_boxes_where_proc_is_whole(examine: Examine) -> None:
    document = examine(*PLAIN, *WHOLE_PROC, python="/usr/bin/python3")
    assert (document["status"], document["root"], document["boxes"]) == (0, False, True)
    assert found(document)["boxes"]["meaning"] == "tasks run in boxes in a user namespace"
    assert found(document)["overlay in the state folder"]["here"] == "yes"
