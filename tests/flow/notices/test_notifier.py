"""Who is told what of a run, and that nobody who is not there changes what it comes to."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import jubako
from jubako.errors import HostError, InputError
from jubako.flow.notices.hooks import CommandHook, MailHook, Secret, WebHook
from jubako.flow.observer import Note
from jubako.flow.parameters import IntParameter, Parameter, ParameterVisibility
from jubako.flow.run.runner import run
from jubako.flow.targets.target import Target
from jubako.flow.tasks.task import ExternalTask, Task, WrapperTask
from jubako.testing import RecordingObserver


class There(Target):
    def __init__(self, is_there: bool) -> None:
        self.is_there = is_there

    def exists(self) -> bool:
        return self.is_there


class Failing(Task):
    n = IntParameter(default=0)
    password = Parameter(default="hunter2!", visibility=ParameterVisibility.PRIVATE)

    def run(self) -> None:
        raise RuntimeError(f"no login with {self.password}")


class Fine(Task):
    def output(self) -> Any:
        return There(True)


class Missing(ExternalTask):
    def output(self) -> Any:
        return There(False)


class Many(WrapperTask):
    def requires(self) -> Any:
        return [Failing(n) for n in range(30)]


@pytest.fixture
def sent(tmp_path: Path) -> Any:
    """Commands that keep what they are told; and how to read it."""

    class Sent:
        words = ("sh", "-c", f"cat > {tmp_path}/message-$$")

        def read(self) -> list[Any]:
            return [json.loads(file.read_text()) for file in tmp_path.glob("message-*")]

    return Sent()


def start(task: Task, tmp_path: Path, *hooks: Any, observer: Any = None) -> Any:
    return run([task], box="none", state=str(tmp_path / "state"), notify=hooks, observer=observer)


@pytest.mark.parametrize(("task", "outcome"), [(Failing(), "failure"), (Fine(), "success"), (Missing(), "missing")])
def test_hook_is_told_of_the_outcomes_it_is_for(task: Task, outcome: str, tmp_path: Path, sent: Any) -> None:
    others = [each for each in ("failure", "success", "missing", "interrupted") if each != outcome]
    result = start(task, tmp_path, CommandHook(sent.words, on=[outcome]), CommandHook(sent.words, on=others))
    (message,) = sent.read()
    assert (message["event"], message["outcome"], message["run"]) == ("run", outcome, result.run_id)
    assert message["pipeline"] == os.path.realpath(__file__)
    assert result.notes == ()


def test_failed_tasks_are_told_of_one_by_one_up_to_a_number_then_the_whole(tmp_path: Path, sent: Any) -> None:
    start(Many(), tmp_path, CommandHook(sent.words, each_failed_task=3))
    messages = sent.read()
    assert sorted(message["event"] for message in messages) == ["run", "task", "task", "task"]
    (whole,) = (message for message in messages if message["event"] == "run")
    assert (whole["counts"]["failed"], len(whole["errors"]), whole["more_errors"]) == (30, 10, 20)


def test_values_of_private_parameters_are_sent_nowhere(tmp_path: Path, sent: Any) -> None:
    start(Failing(), tmp_path, CommandHook(sent.words, each_failed_task=1))
    assert [message["errors"][0]["error"] for message in sent.read()] == ["RuntimeError: no login with ***"] * 2


def test_hooks_that_fail_and_hang_are_named_once_and_change_nothing(tmp_path: Path) -> None:
    observer = RecordingObserver()
    hooks = [
        CommandHook(["sh", "-c", "echo no such channel; exit 5"], "chat", ["success"]),
        CommandHook(["sleep", "1000"], "slow", ["success"], timeout_s=0.2),
        CommandHook(["/no/such/program"], on=["success"]),
        CommandHook(["true"], on=["success"]),
    ]
    result = start(Fine(), tmp_path, *hooks, observer=observer)
    assert result.everything_there
    assert list(result.notes) == [
        "hook chat (sh) was not delivered: exit code 5: no such channel",
        "hook slow (sleep) was not delivered: it was not over within 0.2 s, and was killed",
        "hook command-3 (program) was not delivered: it cannot be started: No such file or directory",
    ]
    assert [note.text for note in observer.of(Note)] == list(result.notes)
    assert "jubako notify test" in observer.of(Note)[0].hint


def test_hook_that_fails_for_every_task_is_said_once(tmp_path: Path) -> None:
    result = start(Many(), tmp_path, CommandHook(["false"], "chat", each_failed_task=5))
    assert result.notes == ("hook chat (false) was not delivered: exit code 1",)


def test_web_server_gets_a_signed_message(web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from standardwebhooks.webhooks import Webhook

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    result = start(Failing(), tmp_path, WebHook(web.url, secret=Secret(text=secret)))
    assert result.notes == ()
    (asked,) = web.asked
    assert Webhook(secret).verify(asked.body, asked.headers)["run"] == result.run_id


def test_run_that_is_refused_is_told_of_and_refused_all_the_same(tmp_path: Path, sent: Any) -> None:
    (tmp_path / "state").write_text("no folder")
    with pytest.raises((InputError, HostError)) as refused:
        start(Fine(), tmp_path, CommandHook(sent.words))
    (message,) = sent.read()
    assert (message["outcome"], message["run"]) == ("failure", None)
    assert message["problem"] == refused.value.message


def test_hook_without_its_secret_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hook mail-1: the environment has no NO_SUCH_SECRET"):
        start(Fine(), tmp_path, MailHook(["a@b"], "c@d", user="me", password=Secret(env="NO_SUCH_SECRET")))
    assert not (tmp_path / "state").exists()


def test_ctrl_c_while_hooks_hang_goes_on_without_them(tmp_path: Path) -> None:
    ready = tmp_path / "ready"

    def interrupt() -> None:
        while not ready.exists():
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    hook = CommandHook(["sh", "-c", f"touch {ready}; sleep 1000"], "slow", ["success"], timeout_s=60)
    result = start(Fine(), tmp_path, hook)
    thread.join()
    assert (result.everything_there, result.interrupted) == (True, False)
    assert result.notes == (
        "hook slow (sh) was not delivered: it was not over when a signal (Ctrl-C) came, and was killed",
    )


def test_run_without_hooks_imports_nothing_for_them(tmp_path: Path) -> None:
    code = (
        "import sys; from jubako import run; run([], box='none'); "
        "print(*(name for name in sys.modules if 'notices' in name or name.endswith(('reporting', 'settings'))))"
    )
    import subprocess

    environ = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(jubako.__file__))}
    environ["JUBAKO_STATE"] = str(tmp_path / "state")
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
