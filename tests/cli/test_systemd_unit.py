"""The unit: whatever a path is made of, systemd reads it back."""

from __future__ import annotations

import shlex

from hypothesis import given
from hypothesis import strategies as st

from jubako.cli.systemd_unit import format_unit

PATHS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)


def setting(unit: str, name: str) -> str:
    (line,) = [line for line in unit.splitlines() if line.startswith(f"{name}=")]
    return line.partition("=")[2].replace("%%", "%")


@given(PATHS, PATHS)
def test_unit_of_any_paths_names_exactly_them(pipeline: str, folder: str) -> None:
    unit = format_unit(["/usr/bin/python", "--", pipeline], folder, folder, is_root=False)
    words = shlex.split(setting(unit, "ExecStart"))
    assert [word.replace("$$", "$") for word in words] == ["/usr/bin/python", "--", pipeline]
    assert shlex.split(setting(unit, "Environment")) == [f"JUBAKO_STATE={folder}"]
    assert setting(unit, "WorkingDirectory") == folder


def test_unit_lets_runs_end_and_starts_with_the_user() -> None:
    unit = format_unit(["python"], "/", "/state", is_root=False)
    assert "KillMode=mixed\n" in unit
    assert unit.endswith("WantedBy=default.target")
    assert format_unit(["python"], "/", "/state", is_root=True).endswith("WantedBy=multi-user.target")
