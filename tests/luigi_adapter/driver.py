"""Runs command lines through whatever `import luigi` is in this process, and says what came of each, as JSON.

    python driver.py < cases.json                     Luigi itself
    python -m jubako.luigi driver.py < cases.json     jubako

A case is a folder, files in it, and command lines that are run there one after another. For each: exit code, summary,
files, what happened to tasks. Nothing in here knows which of the two it talks to.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import json
import logging
import os
import sys
import time
import unittest
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import luigi  # noqa: E402
import luigi.configuration  # noqa: E402
import luigi.retcodes  # noqa: E402
import luigi.tools.range  # noqa: E402

EVENTS = [name for name in vars(luigi.Event) if name.isupper()]


class Summaries(logging.Handler):
    """Keeps what the log says of a run as a whole, and what it says after that."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.after: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "Execution Summary" in text:
            self.found.append(text)
        elif self.found:
            self.after.append(f"{record.levelname} {text}")


happened: Counter[str] = Counter()


def listen() -> None:
    for name in EVENTS:
        if name == "PROGRESS":
            continue

        def note(task: Any, *more: Any, name: str = name) -> None:
            detail = [str(item) for item in more if isinstance(item, luigi.Task)]
            happened[" ".join([name, str(task), *detail])] += 1

        luigi.Task.event_handler(getattr(luigi.Event, name))(note)


def files_below(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): (gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()).decode()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".py", ".pyc", ".cfg", ".toml")
    }


def run(arguments: list[str], summaries: Summaries, folder: Path) -> dict[str, Any]:
    luigi.task.Register.clear_instance_cache()
    luigi.configuration.LuigiConfigParser._instance = None
    summaries.found.clear()
    summaries.after.clear()
    happened.clear()
    printed = io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        try:
            luigi.retcodes.run_with_retcodes(arguments)
        except SystemExit as error:
            code = error.code
        except Exception as error:  # noqa: BLE001  (which one is what is compared)
            code = f"{type(error).__name__}: {error}"
    here = str(folder)
    return {
        "code": code,
        "summaries": [text.replace(here, "HERE") for text in summaries.found],
        "after": [text.replace(here, "HERE") for text in summaries.after],
        "files": files_below(folder),
        "events": sorted(text.replace(here, "HERE") for text in happened.elements()),
        "printed": printed.getvalue(),
    }


def test(module: str) -> dict[str, Any]:
    suite = unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(module))
    outcome = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    wrong = [text for _, text in outcome.failures + outcome.errors]
    return {"code": [outcome.testsRun, wrong], "summaries": [], "after": [], "files": {}, "events": [], "printed": ""}


def main() -> None:
    os.environ["TZ"] = "UTC"
    time.tzset()
    summaries = Summaries()
    logger = logging.getLogger("luigi-interface")
    logger.addHandler(summaries)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    cases = json.load(sys.stdin)
    root = Path(cases["folder"])
    listen()
    answers: dict[str, list[Any]] = {}
    luigi.cmdline_parser.CmdlineParser, luigi.retcodes.retcode  # noqa: B018  (makes the settings' sections known)
    register = luigi.task.Register
    classes = list(register._reg)
    for name, case in cases["cases"].items():
        lines = [step["arguments"] for step in case["steps"] if "arguments" in step]
        # No other case's tasks, and of the rest what the lines name: Luigi makes nine parsers for each, with all flags.
        words = " ".join(["core", *(word for line in lines for word in line)])
        register._reg[:] = [cls for cls in classes if cls.get_task_family() in words]
        for module in {line[1] for line in lines}:
            sys.modules.pop(module, None)
        folder = root / name
        folder.mkdir(parents=True)
        os.chdir(folder)
        sys.path[0] = str(folder)
        for path, text in {"luigi.cfg": "", **case.get("files", {})}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        answers[name] = []
        for step in case["steps"]:
            if "unittest" in step:
                answers[name].append(test(step["unittest"]))
                continue
            for pattern in step.get("remove", ()):
                for path in folder.glob(pattern):
                    path.unlink()
            answers[name].append(run(["--no-lock", "--local-scheduler", *step["arguments"]], summaries, folder))
    Path(root / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
