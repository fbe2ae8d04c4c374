"""What mypy makes of tasks: it knows the arguments of typed ones, and asks nothing of classic ones.

The file below is checked as a user's would be. A line that is wrong says which words of mypy's it deserves.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PIPELINE = """
import datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from jubako import Config, DateParameter, ExternalTask, IntParameter, LocalTarget, MonthParameter, Task, WrapperTask

DAY = datetime.date(2010, 1, 2)


class Daily(Task):
    date: Annotated[datetime.date, "the day"]
    month: Annotated[datetime.date, MonthParameter(significant=False)] = DAY
    how: Literal["sum", "mean"] = "sum"
    limit: int | None = None
    unit: ClassVar[str] = "C"
    priority = 3

    def output(self) -> LocalTarget:
        return LocalTarget(f"{self.date.isoformat()}/{self.how.upper()}")


class Further(Daily, kw_only=True):
    path: Path


class Mixed(Task):
    date: DateParameter = DateParameter()
    number: int = 3


class Classic(Task):
    date = DateParameter()
    number = IntParameter(default=3)


class Raw(ExternalTask):
    name: str


class All(WrapperTask):
    days: tuple[datetime.date, ...]


class server(Config):
    port: int = 80


Daily(DAY)
Daily(DAY, DAY, "mean", limit=3)
Daily(date=DAY, limit=None)
Daily()  # Missing positional argument "date" in call to "Daily"
Daily("2010-01-02")  # Argument 1 to "Daily" has incompatible type "str"; expected "date"
Daily(DAY, how="max")  # Argument "how" to "Daily" has incompatible type "Literal['max']"
Daily(DAY, limit="3")  # Argument "limit" to "Daily" has incompatible type "str"; expected "int | None"
Daily(DAY, unit="F")  # Unexpected keyword argument "unit" for "Daily"
Daily(DAY).date.isoformat()
Daily(DAY).date.hour  # "date" has no attribute "hour"
Further(DAY, path=Path("x"))
Further(DAY)  # Missing named argument "path" for "Further"
Further(DAY, path="x")  # Argument "path" to "Further" has incompatible type "str"; expected "Path"
Mixed(DAY, 4)
Mixed(date=DAY).date.isoformat()
Mixed(date="x")  # Argument "date" to "Mixed" has incompatible type "str"; expected "date"
Classic(DAY, number=4).date.isoformat()
Classic(DAY).date.hour  # "date" has no attribute "hour"
Raw("x").name.upper()
Raw(5)  # Argument 1 to "Raw" has incompatible type "int"; expected "str"
All(days=(DAY,))
All(days=("x",))  # Argument "days" to "All" has incompatible type "tuple[str]"; expected "tuple[date, ...]"
server(port="x")  # Argument "port" to "server" has incompatible type "str"; expected "int"
{Daily(DAY): Daily(DAY) == Daily(DAY)}
"""


def test_mypy_knows_the_arguments_of_typed_tasks(tmp_path: Path) -> None:
    file = tmp_path / "typed_pipeline.py"
    file.write_text(PIPELINE)
    # The settings and the cache of the repository: what jubako consists of need not be checked once more.
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary", str(file)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.stderr == ""
    printed = checked.stdout
    found = {int(line): words for line, words in re.findall(r"^[^:]+:(\d+): error: (.*)$", printed, re.MULTILINE)}
    for number, line in enumerate(PIPELINE.split("\n"), start=1):
        expected = line.partition("  # ")[2]
        assert found.pop(number, "").startswith(expected) if expected else number not in found, (line, printed)
    assert not found, printed
