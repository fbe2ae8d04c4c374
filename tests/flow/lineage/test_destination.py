"""Where lineage may go."""

from __future__ import annotations

import os

import pytest

from jubako.errors import InputError
from jubako.flow.lineage.destination import Lineage
from jubako.flow.notices.hooks import Secret


@pytest.mark.parametrize(
    ("to", "path", "url"),
    [
        ("/var/log/lineage.jsonl", "/var/log/lineage.jsonl", ""),
        ("lineage.jsonl", f"{os.getcwd()}/lineage.jsonl", ""),
        ("file:///var/log/a%20b.jsonl", "/var/log/a b.jsonl", ""),
        ("http://collector:5000", "", "http://collector:5000/api/v1/lineage"),
        ("https://collector/", "", "https://collector/api/v1/lineage"),
        ("https://collector/my/own", "", "https://collector/my/own"),
    ],
)
def test_lineage_goes_to_a_file_or_to_an_address(to: str, path: str, url: str) -> None:
    assert (Lineage(to).path, Lineage(to).url) == (path, url)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"to": ""}, "lineage goes to a path, file:///PATH or https://HOST, not ''"),
        ({"to": "kafka://broker"}, "not 'kafka://broker'"),
        ({"to": "file://host/path"}, "'file://host/path' is not of the form file:///PATH"),
        ({"to": "http:///x"}, "the url is not of the form"),
        ({"to": "x", "namespace": " "}, "the namespace of lineage is empty"),
        ({"to": "x", "api_key": Secret(text="k")}, "an api_key is for a collector, not for a file"),
    ],
)
def test_place_that_makes_no_sense_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as refused:
        Lineage(**values)  # type: ignore[arg-type]
    assert words in refused.value.message
