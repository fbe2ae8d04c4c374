"""What is printed after a run, and the exit code it is given."""

from __future__ import annotations

import json

import pytest

from jubako.cli.report import echo_report, get_exit_code
from jubako.flow.accounting import RangeAccount
from jubako.flow.parameters import IntParameter, Parameter
from jubako.flow.result import RunResult, TaskError
from jubako.flow.summary import Groups
from jubako.flow.tasks.task import Task
from jubako.layers.change import Change


class Part(Task):
    number = IntParameter()


DONE, FAILED = Part(number=1), Part(number=2)
ERROR = TaskError(FAILED.task_id, str(FAILED), "it broke", "Traceback ...", "/logs/2.log", "b7")
CONFLICT = TaskError(FAILED.task_id, str(FAILED), "a file changed meanwhile", is_conflict=True)
NO_ROOM = TaskError(FAILED.task_id, str(FAILED), "/data is on a read-only file system", is_host=True)
STRAY = Change("/data/a\nb", "added", "file", 3)


def result(*, there: bool, errors: tuple[TaskError, ...] = (), interrupted: bool = False) -> RunResult:
    groups = Groups(completed=[DONE], failed=[FAILED] if errors else [], ever_failed=[FAILED] if errors else [])
    return RunResult(
        "r1",
        "host",
        groups,
        everything_there=there,
        errors=errors,
        interrupted=interrupted,
        undeclared={str(DONE): [STRAY]},
        wall_s=1.25,
    )


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (result(there=True), 0),
        (result(there=False), 1),
        (result(there=False, errors=(ERROR,)), 1),
        (result(there=False, errors=(CONFLICT,)), 4),
        (result(there=False, errors=(CONFLICT, ERROR)), 1),
        (result(there=False, errors=(NO_ROOM,)), 3),
        (result(there=False, errors=(NO_ROOM, ERROR)), 1),
        (result(there=False, interrupted=True), 130),
    ],
)
def test_exit_code_of_a_run_is_0_only_if_all_is_there(outcome: RunResult, code: int) -> None:
    assert get_exit_code(outcome) == code


def test_report_for_people_has_the_summary_and_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    account = RangeAccount("Part 1...2", wanted=2, run=1, failed=1)
    echo_report(result(there=False, errors=(ERROR,)), "table", backfill=account)
    text = capsys.readouterr().out
    assert "===== Luigi Execution Summary =====" in text
    after = text.rpartition("===== Luigi Execution Summary =====\n")[2].split("\n")
    assert after[:2] == ["", "Part 1...2: 2 wanted = 1 run + 1 failed"]
    assert r"    added /data/a\nb" in after
    assert "Part(number=2): it broke" in after
    assert "    log: /logs/2.log" in after
    assert "    jubako box enter b7" in after


def test_report_for_programs_has_every_task_and_the_whole_result(capsys: pytest.CaptureFixture[str]) -> None:
    account = RangeAccount("Part 1...2", wanted=2, run=1, failed=1)
    echo_report(result(there=False, errors=(ERROR,)), "json", backfill=account)
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "jubako.run/1"
    assert document["everything_there"] is False
    assert document["backfill"]["wanted"] == 2
    assert document["undeclared"][0]["path"] == "/data/a\nb"
    assert [(task["task"], task["status"], task["error"], task["kept_box"]) for task in document["tasks"]] == [
        ("Part(number=1)", "done", None, None),
        ("Part(number=2)", "failed", "it broke", "b7"),
    ]


def test_report_as_csv_is_one_line_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    echo_report(result(there=True), "csv")
    assert capsys.readouterr().out.splitlines() == [
        "task,task_id,status,error,log,kept_box",
        f"Part(number=1),{DONE.task_id},done,,,",
    ]


def hints(outcome: RunResult, capsys: pytest.CaptureFixture[str]) -> list[str]:
    echo_report(outcome, "table")
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("hint: ")]


def test_hint_to_keep_the_box_is_given_only_where_a_box_has_failed(capsys: pytest.CaptureFixture[str]) -> None:
    in_box = TaskError(FAILED.task_id, str(FAILED), "it broke")
    unscheduled = TaskError("Part_3", "Part(number=3)", "output() raised")
    assert "--keep" in hints(result(there=False, errors=(in_box,)), capsys)[0]
    assert hints(result(there=False, errors=(ERROR,)), capsys) == []  # kept already
    assert hints(result(there=False, errors=(NO_ROOM,)), capsys) == []
    assert hints(RunResult("r1", "host", Groups(), everything_there=False, errors=(unscheduled,)), capsys) == []
    assert (
        hints(RunResult("r1", "none", Groups(failed=[FAILED]), everything_there=False, errors=(in_box,)), capsys) == []
    )


def test_missing_inputs_are_named_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = RunResult("r1", "host", Groups(), everything_there=False, missing=["Rates(): /data/r.csv is not there"])
    echo_report(outcome, "table")
    said = capsys.readouterr()
    assert "Rates(): /data/r.csv is not there" in said.out.splitlines()
    assert "hint: put what is missing in place" in said.err


def test_summary_shows_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    class Named(Task):
        name = Parameter()

    groups = Groups(completed=[Named(name="\x1b[2Jcleared\nand more")])
    echo_report(RunResult("r1", "host", groups, everything_there=True), "table")
    assert r"    - 1 Named(name=\x1b[2Jcleared\nand more)" in capsys.readouterr().out.splitlines()
