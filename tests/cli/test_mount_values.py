"""What --bind, --tmpfs and --env say on a command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from jubako.boxes.mounts import Bind, IdMap, Tmpfs
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


@pytest.mark.parametrize("word", [":/b", "/a:", "/a:/b:ro:rw", "/a:/b:"])
def test_bind_that_is_neither_is_refused_by_name(word: str) -> None:
    with pytest.raises(InputError, match=f"--bind {word} is neither PATH nor SRC:DST nor SRC:DST:OPTION,..."):
        parse_mounts([word], [])


@pytest.mark.parametrize(
    ("options", "read_only", "idmap"),
    [
        ("idmap=uids=0-1000-1", False, IdMap(uids=[(0, 1000, 1)])),
        ("ro,idmap=gids=0-5-1", True, IdMap(gids=[(0, 5, 1)])),
        (
            "idmap=uids=0-1-10#10-11-10;gids=0-100-10,ro",
            True,
            IdMap(uids=[(0, 1, 10), (10, 11, 10)], gids=[(0, 100, 10)]),
        ),
        ("rootidmap", False, "root"),
        ("owneridmap,ro", True, "owner"),
    ],
)
def test_options_of_a_bind_are_those_of_podman_and_nspawn(options: str, read_only: bool, idmap: object) -> None:
    assert parse_mounts([f"/a:/b:{options}"], []) == ((), (Bind("/a", "/b", read_only, idmap),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("xy", "'xy' is no option of a bind"),
        ("idmap", "'idmap' is no option of a bind"),
        ("ro,", "'' is no option of a bind"),
        ("idmap=", "'' maps no ids"),
        ("idmap=0-1-1", "'0-1-1' maps no ids"),
        ("idmap=uids=0-1", "'uids=0-1' maps no ids"),
        ("idmap=uids=a-b-c", "'uids=a-b-c' maps no ids"),
        ("idmap=uids=0-1-1;names=x", "'names=x' maps no ids"),
        ("idmap=uids=@0-1-1", "'uids=@0-1-1' maps no ids"),
        ("ro,idmap=uids=0-1-0", "0-1-0 is no range of uids"),
    ],
)
def test_option_that_is_none_is_named_with_what_there_is(option: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_mounts([f"/a:/b:{option}"], [])
    assert caught.value.message.endswith(said)
    assert caught.value.hint


def test_tmpfs_of_no_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"--tmpfs '/x:12Q': '12Q' is no size"):
        parse_mounts([], ["/x:12Q"])


def test_settings_are_values_or_those_of_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "h")
    assert parse_settings(["A=1", "B=", "HERE", "C=x=y"]) == {"A": "1", "B": "", "HERE": "h", "C": "x=y"}
    for word in ("=1", "", "NOT_SET_HERE"):
        with pytest.raises(InputError, match="sets no variable"):
            parse_settings([word])
