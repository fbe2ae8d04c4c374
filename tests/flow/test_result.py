"""What a run came to, as text and as JSON."""

from __future__ import annotations

import json
import os
from typing import Any

import jubako.flow.result
from jubako.flow.accounting import RangeAccount
from jubako.flow.result import RunResult, TaskError
from jubako.flow.summary import Groups, RunStatus
from jubako.layers.change import Change


class Stub:
    task_family = "Stub"

    def get_params(self) -> list[Any]:
        return []


def make(**fields: Any) -> RunResult:
    return RunResult(run_id="r1", mode="host", **{"groups": Groups(), "everything_there": True, **fields})


def test_result_is_true_when_everything_is_there() -> None:
    assert make()
    assert not make(everything_there=False)


def test_report_says_all_there_is_to_say() -> None:
    errors = [
        TaskError("a", "A()", "it broke", "T", "/logs/1.log", "0123abcd"),
        TaskError("b", "B()", "somebody changed it", is_conflict=True),
    ]
    stray = [Change("/x", "added", "file")]
    result = make(
        groups=Groups(completed=[Stub()], ever_failed=[Stub(), Stub()], failed=[Stub(), Stub()]),
        everything_there=False,
        interrupted=True,
        accounts=[RangeAccount("R of T", 2, run=1, failed=1)],
        undeclared={"A()": stray},
        unmade={"D()": ["/out/d", "/out/e"]},
        errors=errors,
        recovered=["C(): recovered"],
        wall_s=1.25,
    )
    report = "\n".join(result.format_report())
    for text in (
        "R of T: 2 wanted = 1 run + 1 failed", "A() wrote 1 undeclared path (dropped):", "    added /x",
        "A(): it broke", "/logs/1.log", "jubako box enter 0123abcd", "B(): somebody changed it",
        "D() ran and did not make /out/d, /out/e",
        "C(): recovered", "interrupted; the same command carries on", "1 task run, 2 failed, each in a box, 1.2 s",
    ):  # fmt: skip
        assert text in report
    assert (result.status, result.kept) == (RunStatus.FAILED, {"A()": "0123abcd"})
    assert [error.label for error in result.conflicts] == ["B()"]


def test_report_of_an_interrupted_run_names_what_was_stopped() -> None:
    waiting = [Stub() for _ in range(6)]

    def report(stopped: list[str]) -> list[str]:
        groups = Groups(still_pending_not_ext=waiting, not_run=waiting)
        return make(groups=groups, everything_there=False, interrupted=True, stopped=stopped).format_report()

    assert report(["A()"]) == [
        "interrupted: A() was stopped, 5 tasks were not begun; the same command carries on",
        "1 task stopped, each in a box, 0 ms",
    ]
    assert report(["A()", "B()", "C()", "D()", "E()"])[0].startswith(
        "interrupted: A(), B(), C() and 2 more were stopped, 1 task was not begun;"
    )
    assert report([]) == ["interrupted: 6 tasks were not begun; the same command carries on", "nothing was run, 0 ms"]


def test_place_of_an_error_is_a_line_of_the_pipeline_and_of_nothing_else() -> None:
    ours, python = jubako.flow.result.__file__, os.__file__
    theirs, library, installed = "/data/pipeline.py", "/v/site-packages/pandas/io.py", "/v/site-packages/company/day.py"

    def place(*files: str) -> str:
        text = "".join(f'  File "{file}", line {n}, in f\n' for n, file in enumerate(files, 1))
        return TaskError("a", "A()", "it broke", text).place

    assert place(ours, theirs, library, python) == "/data/pipeline.py:2, in f"
    assert place(ours, installed, library, python) == f"{installed}:2, in f"
    assert place(ours, python, ours) == ""
    assert place(ours, "/v/site-packages/s3fs/core.py", python) == ""
    caused = "\nThe above exception was the direct cause of the following exception:\n\n"
    text = f'  File "{ours}", line 1, in f\n  File "{library}", line 2, in f\n{caused}  File "{ours}", line 3, in f\n'
    assert TaskError("a", "A()", "it broke", text).place == ""  # jubako asked that library, no pipeline did
    assert place() == ""


def test_json_holds_the_same_and_survives_a_round_trip() -> None:
    result = make(
        errors=[TaskError("a", "A()", "it broke")],
        undeclared_published={"A()": [Change("/x", "deleted", "file")]},
        unmade={"D()": ["/out/d"]},
        notes=("n",),
    )
    document = json.loads(json.dumps(result.to_json()))
    assert document["errors"][0]["error"] == "it broke"
    assert document["undeclared"] == [{"task": "A()", "path": "/x", "change": "deleted", "published": True}]
    assert document["unmade"] == [{"task": "D()", "outputs": ["/out/d"]}]
    assert (document["version"], document["run"], document["status"]) == (1, "r1", "SUCCESS")


def test_counts_name_every_task_once() -> None:
    groups = Groups(
        already_done=[Stub()], completed=[Stub()], failed=[Stub()], scheduling_error=[Stub()],
        still_pending_ext=[Stub()], still_pending_not_ext=[Stub()], upstream_failure=[Stub()], not_run=[Stub()],
    )  # fmt: skip
    assert set(make(groups=groups).counts.values()) == {1}
