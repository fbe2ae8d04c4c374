"""`jubako attention check`: recomputes each step of attention in double precision, and says where a layer departs."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, nullcontext

import click

from jubako.cli.declare import format_option
from jubako.cli.exits import EXIT_FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from typing import Any, BinaryIO

    from jubako.attention.checking.options import CheckOptions
    from jubako.attention.checking.report import Report
    from jubako.cli.document import Format

__all__ = ["check"]

_MARK = b'<testsuites name="jubako attention check"'

_EPILOG = """\b
Examples:
  jubako attention check model.safetensors --layer encoder.layer.0
  jubako attention check model.safetensors --inputs x.npz --outputs steps.npz
  jubako attention check model.py:make --junit report.xml

Exit code 0: all that was observed agrees. 1: a step departs, a layer is broken, or none was checked.
2: asked wrongly, or the model raises something. 3: it takes more memory than there is."""


@click.command(epilog=_EPILOG)
@click.argument("subject", type=click.Path())
@click.option("--layer", metavar="TEXT", default="", help="Only layers whose name has this in it.")
@click.option(
    "--inputs", metavar="FILE", type=click.Path(), default="", help="Arrays to call it with; else random ones."
)
@click.option("--outputs", metavar="FILE", type=click.Path(), default="", help="What a program made of them, by step.")
@click.option("--against", metavar="FILE", type=click.Path(), default="", help="Other weights for the same layers.")
@click.option(
    "--map", "table", metavar="FILE", type=click.Path(), default="", help="Which tensors are what (TOML, JSON)."
)
@click.option("--config", metavar="FILE", type=click.Path(), default="", help="Its config.json, if not beside it.")
@click.option("--heads", metavar="N", type=click.IntRange(min=1), help="How many heads queries have.")
@click.option("--key-heads", metavar="N", type=click.IntRange(min=1), help="How many heads keys have.")
@click.option(
    "--dtype",
    type=click.Choice(("float64", "float32", "float16", "bfloat16")),
    help="Of what was computed, if not that of the file.",
)
@click.option("--torch", "uses_torch", is_flag=True, help="Have torch's own layer compute the file's layers, too.")
@click.option("--batch", metavar="N", type=click.IntRange(min=1), default=2, help="Sequences of random inputs (2).")
@click.option("--length", metavar="N", type=click.IntRange(min=1), default=16, help="Their length (16).")
@click.option(
    "--seed", metavar="N", type=click.IntRange(0, (1 << 63) - 1), default=0, help="Draw other random inputs (0)."
)
@click.option("--relative", metavar="X", type=click.FloatRange(min=0), help="A tolerance instead of the bounds.")
@click.option("--absolute", metavar="X", type=click.FloatRange(min=0), help="The same as a number; both add up.")
@click.option("--junit", metavar="FILE", type=click.Path(), default="", help="Write a report in JUnit XML there, too.")
@format_option
def check(subject: str, format_: Format, junit: str, **given: Any) -> int:
    """Recompute each step, and say where it departs.

    Attention is recomputed in double precision, apart from whatever computed it. SUBJECT is a file of weights
    (.safetensors, the .index.json of several, or a folder with either), or FILE.py:NAME, where NAME is a module of
    torch's or a function that returns one, with or without inputs.
    """
    from jubako.attention.libraries import load

    path, colon, name = subject.rpartition(":")
    if subject.removesuffix(":").endswith(".py"):
        raise click.UsageError(f"{subject.removesuffix(':')} needs the name of a module in it: FILE.py:NAME")
    if path.endswith(".py"):
        load("jubako.attention.observing.subject")  # first, so that all that is missing is said at once
    elif colon and not os.path.lexists(subject):
        raise click.UsageError(f"{subject} is no file, and a subject with a colon has to be FILE.py:NAME.")
    options: CheckOptions = load("jubako.attention.checking.options").CheckOptions(
        tolerance=_make_tolerance(given["relative"], given["absolute"]),
        seed=given["seed"],
        batch=given["batch"],
        length=given["length"],
        layer=given["layer"],
    )
    if path.endswith(".py"):
        _refuse_for_modules(given)
    if junit == "-":
        raise click.UsageError("--junit needs the name of a file; what goes to stdout --format says.")
    # Before the work, so that a place that can't be written is said at once.
    with _open_junit(junit) if junit else nullcontext() as file:
        if path.endswith(".py"):
            home = load("jubako.attention.observing.subject")
            with _printing_to_stderr() if format_ != "table" or junit else nullcontext():  # stdout is for the report
                report = home.check_subject(path, name, given["inputs"], options)
        else:
            report = _check_file(subject, given, options)
        _echo(report, format_)
        if file is not None:
            file.write(f"{report.to_junit()}\n".encode("utf-8", "backslashreplace"))
    return 0 if report else EXIT_FAILED


@contextmanager
def _printing_to_stderr() -> Iterator[None]:
    """Within it, what other code prints on stdout goes to stderr, also where it writes to the descriptor itself."""
    stdout = sys.stdout
    stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = stdout
        stdout.flush()  # what was written through a name that somebody kept goes to stderr, too
        os.dup2(kept, 1)
        os.close(kept)


def _check_file(path: str, given: dict[str, Any], options: CheckOptions) -> Report:
    from jubako.attention.libraries import load

    home, layers = load("jubako.attention.files.check"), load("jubako.attention.files.layers")
    family = load("jubako.attention.files.families").read_table(given["table"]) if given["table"] else None
    told = layers.Told(family, given["heads"], given["key_heads"], given["config"])
    files = (given["inputs"], given["outputs"], given["against"])
    how = home.FileOptions(told, *files, given["uses_torch"], given["dtype"] or "")
    report: Report = home.check_file(path, how, options)
    return report


def _refuse_for_modules(given: dict[str, Any]) -> None:
    flags = {"outputs": "--outputs", "against": "--against", "table": "--map", "config": "--config"}
    flags |= {"heads": "--heads", "key_heads": "--key-heads", "uses_torch": "--torch", "dtype": "--dtype"}
    wrong = [flag for name, flag in flags.items() if given[name]]
    if wrong:
        raise click.UsageError(f"{', '.join(wrong)} is for files of weights, and a module has all of that itself.")


def _make_tolerance(relative: float | None, absolute: float | None) -> Any:
    if relative is None and absolute is None:
        return None
    from jubako.verify.tolerance import Tolerance

    return Tolerance(absolute or 0, relative or 0)


def _echo(report: Report, format_: Format) -> None:
    from jubako.cli.document import Document
    from jubako.cli.formats import echo_document
    from jubako.cli.terminal import echo, printable

    if format_ == "table":
        for line in report.describe().splitlines():
            echo(printable(line))
        return
    from jubako.attention.checking.data import COLUMNS

    document = Document("jubako.attention.check/1", COLUMNS, report.to_rows(), report.to_json(), "steps")
    echo_document(document, format_)


def _open_junit(path: str) -> AbstractContextManager[BinaryIO]:
    from jubako.verify.publishing import publishing

    return publishing(path, _MARK, "report in JUnit XML of attention")
