"""The options that `run` and `backfill` share: what they make of the words of a line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from jubako.cli.run_options import format_run_options, make_run_options, run_options
from jubako.flow.lineage.destination import Lineage
from jubako.flow.notices.hooks import Secret
from jubako.flow.options import RunOptions


def read(*words: str) -> RunOptions:
    """The options of a run with these words."""
    found: list[RunOptions] = []

    @click.command()
    @run_options
    def command(**given: Any) -> None:
        found.append(make_run_options(None, given))

    result = CliRunner().invoke(command, [*words])
    if result.exit_code:
        raise ValueError(result.output)
    return found[0]


def test_words_for_another_line_mean_the_same() -> None:
    found: list[list[str]] = []

    @click.command()
    @run_options
    @click.pass_context
    def command(ctx: click.Context, **given: Any) -> None:
        found.append(format_run_options(ctx))

    words = ["--workers", "3", "--strict", "--retries", "2", "--retry-delay", "0.5,2,60", "--disable-after", "3,600"]
    words += ["--resource", "gpu=2", "--resource", "a=b=0", "--shared-resource", "db=9", "--undeclared", "fail"]
    words += ["--config", "none", "--metrics-file", "jubako.prom", "--lineage", "events.jsonl"]
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0, result.output
    assert read(*found[0]) == read(*words)


def test_no_words_are_the_defaults() -> None:
    assert read() == RunOptions(box="host")


def test_line_says_more_than_the_settings_and_sends_no_key_elsewhere(tmp_path: Path) -> None:
    settings = tmp_path / "jubako.toml"
    settings.write_text(
        "[metrics]\nfile = 'a.prom'\n"
        "[lineage]\nto = 'https://collector'\nnamespace = 'prod'\napi_key = { env = 'KEY' }\n"
    )
    config = ["--config", str(settings)]
    meant = Lineage("https://collector", "prod", Secret(env="KEY"))
    assert (read(*config).lineage, read(*config).metrics_file) == (meant, str(tmp_path / "a.prom"))
    assert read(*config, "--lineage", "https://collector").lineage == meant
    assert read(*config, "--lineage", "https://other").lineage == Lineage("https://other", "prod")
    assert read(*config, "--metrics-file", "b.prom").metrics_file == "b.prom"
    assert read("--lineage", "events.jsonl").lineage == Lineage("events.jsonl")


def test_workers_are_a_number_or_one_for_each_processor() -> None:
    assert read("--workers", "3").workers == 3
    assert 1 <= read("--workers", "auto").workers <= len(os.sched_getaffinity(0))


def test_retries_are_tries_after_the_first_with_growing_delays() -> None:
    once = read("--retries", "3", "--retry-delay", "10")
    assert (once.attempts, once.retry_delay_s, once.retry_backoff, once.retry_delay_max_s) == (4, 10, 1, 3600)
    growing = read("--retry-delay", "0.5,2,60")
    assert (growing.attempts, growing.retry_delay_s, growing.retry_backoff) == (1, 0.5, 2)
    assert growing.retry_delay_max_s == 60


def test_resources_have_capacities_for_the_run_or_for_all_runs() -> None:
    options = read(
        "--resource", "gpu=2", "--resource", "a=b=0", "--shared-resource", "gpu=1", "--shared-resource", "db=9"
    )
    assert options.resources == {"gpu": 2, "a=b": 0}
    assert options.shared_resources == {"gpu": 1, "db": 9}
    assert options.capacities == {"gpu": 1, "a=b": 0, "db": 9}


def test_tasks_are_disabled_after_failures_within_a_window_for_a_while() -> None:
    options = read("--disable-after", "3,600,7200")
    assert (options.disable_after, options.disable_window_s, options.disable_for_s) == (3, 600, 7200)
    options = read("--disable-after", "0")
    assert (options.disable_after, options.disable_window_s, options.disable_for_s) == (0, 3600, 86_400)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--workers 0", "'0' is not a whole number of 1 or more, nor 'auto'"),
        ("--retry-delay soon", "'soon' is not of the form SECONDS, SECONDS,FACTOR or SECONDS,FACTOR,MOST"),
        ("--retry-delay 1,2,3,4", "'1,2,3,4' is not of the form"),
        ("--retries -1", "'-1' is not a number from 0"),
        ("--resource gpu", "'gpu' is not of the form NAME=N"),
        ("--shared-resource =3", "'=3' is not of the form NAME=N"),
        ("--shared-resource gpu=-1", "'gpu=-1' is not of the form NAME=N"),
        ("--disable-after often", "'often' is not of the form N, N,SECONDS or N,SECONDS,SECONDS"),
        ("--disable-after 1,-2", "'1,-2' is not of the form"),
        ("--workers many", "'many' is not a whole number of 1 or more, nor 'auto'"),
    ],
)
def test_words_that_cannot_be_read_are_refused(words: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read(*words.split())
