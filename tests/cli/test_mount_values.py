"""What --bind, --tmpfs and --env say on a command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from jubako.boxes.mounts import Bind, Tmpfs
from jubako.cli.mount_values import parse_mounts, parse_settings
from jubako.errors import InputError


def test_bind_is_a_path_or_two_with_a_way(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    shared, mounts = parse_mounts(["/etc", str(tmp_path / "a:b"), "/a:/b", "/a:/c:ro", "/a:/d:rw"], ["/x", "/y:64M"])
    assert shared == ("/etc", str(tmp_path / "a:b"))
    assert mounts == (
        Bind("/a", "/b"),
        Bind("/a", "/c", read_only=True),
        Bind("/a", "/d"),
        Tmpfs("/x"),
        Tmpfs("/y", 64 << 20),
    )


@pytest.mark.parametrize("word", [":/b", "/a:", "/a:/b:xy", "/a:/b:ro:rw"])
def test_bind_that_is_neither_is_refused_by_name(word: str) -> None:
    with pytest.raises(InputError, match=f"--bind {word} is neither PATH nor SRC:DST nor SRC:DST:ro"):
        parse_mounts([word], [])


def test_tmpfs_of_no_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"--tmpfs '/x:12Q': '12Q' is no size"):
        parse_mounts([], ["/x:12Q"])


def test_settings_are_values_or_those_of_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "h")
    assert parse_settings(["A=1", "B=", "HERE", "C=x=y"]) == {"A": "1", "B": "", "HERE": "h", "C": "x=y"}
    for word in ("=1", "", "NOT_SET_HERE"):
        with pytest.raises(InputError, match="sets no variable"):
            parse_settings([word])
