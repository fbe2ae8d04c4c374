"""Tasks that run a program: what it is given, what is logged, what a failure says, how it is followed and ended."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from jubako.flow.tasks.register import Register
from jubako.luigi.external_program import (
    ExternalProgramRunContext,
    ExternalProgramRunError,
    ExternalProgramTask,
    ExternalPythonProgramTask,
)
from jubako.luigi.simulate import RunAnywayTarget


@pytest.fixture(autouse=True)
def own_register() -> Iterator[None]:
    classes = list(Register._reg)
    yield
    Register._reg[:] = classes
    Register.clear_instance_cache()


def shell(text: str, **attributes: Any) -> Any:
    body = {"program_args": lambda self: ["sh", "-c", text], **attributes}
    return type(ExternalProgramTask)("Shell", (ExternalProgramTask,), body)


def test_output_is_logged_when_the_program_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "luigi-interface"):
        shell("echo out; echo err >&2")().run()
    assert [record.getMessage() for record in caplog.records] == [
        "Running command: sh -c echo out; echo err >&2",
        "Program stdout:\nout\n",
        "Program stderr:\nerr\n",
    ]


def test_stderr_of_a_success_is_left_out_where_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "luigi-interface"):
        shell("echo err >&2", always_log_stderr=False)().run()
    assert "Program stderr" not in caplog.text


def test_output_passes_through_where_it_is_not_captured(capfd: pytest.CaptureFixture[str]) -> None:
    shell("echo out")(capture_output=False).run()
    assert capfd.readouterr().out == "out\n"


def test_failure_says_what_ran_and_what_it_said_but_no_secret() -> None:
    task = shell(
        "echo out; echo err >&2; exit 3", program_environment=lambda self: {**os.environ, "SECRET": "s3cr3t"}
    )()
    with pytest.raises(ExternalProgramRunError) as caught:
        task.run()
    assert str(caught.value) == (
        "Program failed with return code=3:\nCOMMAND: sh -c echo out; echo err >&2; exit 3"
        "\nSTDOUT: out\n\nSTDERR: err\n"
    )
    assert (caught.value.out, caught.value.err, caught.value.env["SECRET"]) == ("out\n", "err\n", "s3cr3t")  # type: ignore[index]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_tracking_url_is_found_while_the_program_runs(stream: str, caplog: pytest.LogCaptureFixture) -> None:
    found: list[str] = []
    redirect = ">&2" if stream == "stderr" else ""
    cls = shell(
        f"echo first; echo see http://here/42 {redirect}; echo last {redirect}",
        build_tracking_url=lambda self, text: f"{text}#log",
    )
    task = cls(stream_for_searching_tracking_url=stream, tracking_url_pattern=r"see (\S+)")
    task.set_tracking_url = found.append
    with caplog.at_level(logging.INFO, "luigi-interface"):
        task.run()
    assert found == ["http://here/42#log"]
    assert "see http://here/42\nlast\n" in caplog.text  # still in the log


def test_python_program_has_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/before")
    monkeypatch.setenv("PYTHONHOME", "/gone")
    environment = ExternalPythonProgramTask(virtualenv="/venv", extra_pythonpath="/more").program_environment()
    assert environment["PYTHONPATH"] == "/more:/before"
    assert environment["PATH"].startswith("/venv/bin:")
    assert environment["VIRTUAL_ENV"] == "/venv"
    assert "PYTHONHOME" not in environment
    assert ExternalPythonProgramTask().program_environment() == dict(os.environ)


def test_term_ends_the_program_too() -> None:
    before = signal.getsignal(signal.SIGTERM)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(SystemExit) as caught, ExternalProgramRunContext(process):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    assert caught.value.code == 128 + signal.SIGTERM
    assert process.wait() == -signal.SIGKILL
    assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_ends_the_program_too() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(KeyboardInterrupt), ExternalProgramRunContext(process):
        raise KeyboardInterrupt
    assert process.wait() == -signal.SIGKILL


def test_simulated_target_is_there_once_its_task_says_so() -> None:
    task = shell("true")()
    target = RunAnywayTarget(task)
    assert (target.exists(), str(target)) == (False, task.task_id)
    target.done()
    assert RunAnywayTarget(task).exists()
