"""Where everything must work, a test that skips has failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SKIPPING = {
    "test_by_call": "import pytest\ndef test_it(): pytest.skip('no kernel')\n",
    "test_by_mark": "import pytest\n@pytest.mark.skipif(True, reason='no kernel')\ndef test_it(): pass\n",
    "test_by_file": "import pytest\npytest.skip('no kernel', allow_module_level=True)\n",
}


@pytest.mark.parametrize(("must_work", "summary"), [("0", "3 skipped in"), ("1", "1 failed, 2 errors in")])
def test_skip_is_a_failure_only_where_all_must_work(tmp_path: Path, must_work: str, summary: str) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --continue-on-collection-errors\n")
    for name, text in SKIPPING.items():
        (tmp_path / f"{name}.py").write_text(text)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", str(tmp_path)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(TESTS.parent / "src"), str(TESTS))),
            "JUBAKO_MUST_WORK": must_work,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert summary in result.stdout
    assert result.stdout.count("JUBAKO_MUST_WORK=1 forbids it") >= 3 * int(must_work)
