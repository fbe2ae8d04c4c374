"""What a jubako.toml may say, and what it is told when it says something else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jubako.errors import InputError
from jubako.flow.lineage.destination import Lineage
from jubako.flow.notices.hooks import CommandHook, MailHook, Secret, WebHook
from jubako.flow.settings import Settings, read_settings
from jubako.flow.settings_file import find_settings_file


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "jubako.toml"
    file.write_text(text)
    return read_settings(str(file))


def refuse(tmp_path: Path, text: str) -> str:
    with pytest.raises(InputError) as refused:
        read(tmp_path, text)
    assert refused.value.message.startswith(str(tmp_path / "jubako.toml"))
    return refused.value.message


def test_hooks_of_every_kind_are_read(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """
        [[notify]]
        name = "page"
        command = ["./page-me", "--loud"]
        on = ["failure", "interrupted"]
        timeout_s = 2.5
        each_failed_task = 3

        [[notify]]
        webhook = "https://hooks.example.org/jubako"
        secret = { file = "webhook-secret" }

        [[notify]]
        webhook = { env = "CHAT_URL" }
        format = "text"

        [[notify]]
        mail = ["ops@example.org"]
        sender = "jubako@example.org"
        server = "smtp.example.org:465"
        security = "ssl"
        user = "jubako"
        password = { env = "SMTP_PASSWORD" }
        ca_file = "ca.pem"
        """,
    )
    assert list(settings.notify) == [
        CommandHook(["./page-me", "--loud"], "page", ["failure", "interrupted"], 2.5, 3, folder=str(tmp_path)),
        WebHook("https://hooks.example.org/jubako", secret=Secret(file=str(tmp_path / "webhook-secret"))),
        WebHook(Secret(env="CHAT_URL"), format="text"),
        MailHook(
            ["ops@example.org"],
            "jubako@example.org",
            server="smtp.example.org:465",
            security="ssl",
            user="jubako",
            password=Secret(env="SMTP_PASSWORD"),
            ca_file=str(tmp_path / "ca.pem"),
        ),
    ]


def test_metrics_and_lineage_have_a_section_each(tmp_path: Path) -> None:
    settings = read(tmp_path, "[metrics]\nfile = 'jubako.prom'\n[lineage]\nto = 'events.jsonl'\nnamespace = 'prod'")
    assert settings.metrics_file == str(tmp_path / "jubako.prom")
    assert settings.lineage == Lineage(str(tmp_path / "events.jsonl"), "prod")
    posted = read(tmp_path, "[lineage]\nto = 'https://collector'\napi_key = { file = 'key' }")
    assert posted.lineage == Lineage("https://collector", api_key=Secret(file=str(tmp_path / "key")))


@pytest.mark.parametrize(("page", "hooks"), [("notifications", 3), ("metrics", 0), ("lineage", 0)])
def test_settings_that_the_pages_show_can_be_read(tmp_path: Path, page: str, hooks: int) -> None:
    text = (Path(__file__).parents[2] / "docs" / f"{page}.md").read_text()
    (shown,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    settings = read(tmp_path, shown)
    assert len(settings.notify) == hooks
    assert (bool(settings.metrics_file), bool(settings.lineage)) == (page == "metrics", page == "lineage")


def test_empty_file_tells_nobody(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[notify", "is not TOML: "),
        ("[notfy]", "there is no [notfy]; did you mean 'notify'?"),
        ("notify = 3", "notify is written as [[notify]], once for each hook"),
        ("[notify]\ncommand = ['x']", "notify is written as [[notify]], once for each hook"),
        ("metrics = 3", "metrics is written as [metrics]"),
        ("[metrics]\nfiel = 'x'", "[metrics] has no 'fiel'; did you mean 'file'?"),
        ("[metrics]\nfile = 3", "file of [metrics] is 3, not a text"),
        ("[lineage]\nnamespace = 'x'", "[lineage]: lineage goes to a path, file:///PATH or https://HOST, not ''"),
        ("[lineage]\nto = 'https://x'\napi_key = 'k'", "api_key of [lineage] is 'k', not { env = "),
        ("[[notify]]", "number 1: it has none of command, webhook, mail, where one is needed"),
        ("[[notify]]\ncommand = ['x']\nmail = []", "number 1: it has command and mail of command, webhook, mail"),
        ("[[notify]]\ncommand = 'x'", "number 1: command is 'x', not a list"),
        ("[[notify]]\ncommand = ['x']\ntimeout = 3", "a command hook has no 'timeout'; did you mean 'timeout_s'?"),
        ("[[notify]]\ncommand = ['x']\ntimeout_s = true", "timeout_s is True, not a number"),
        ("[[notify]]\ncommand = ['x']\non = 'failure'", "on is 'failure', not a list"),
        ("[[notify]]\ncommand = ['x']\non = ['never']", "on = ['never'] is no list of success"),
        ("[[notify]]\nmail = ['a@b']", "a mail hook needs a sender"),
        ("[[notify]]\nwebhook = 'https://x'\nsecret = 'hunter2'", "secret is 'hunter2', not { env = \"...\" }"),
        ("[[notify]]\nwebhook = 'https://x'\nsecret = { text = 'x' }", 'secret is { env = "..." } or { file'),
        (
            "[[notify]]\nname = 'a'\ncommand = ['x']\n[[notify]]\nname = 'a'\ncommand = ['y']",
            "two hooks are called 'a'",
        ),
    ],
)
def test_file_that_makes_no_sense_is_refused_by_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    assert words in refuse(tmp_path, text)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    said = refuse(tmp_path, "[x]\n[[notify]]\ncommand = 1\nfoo = 2\n[[notify]]\ncommand = ['x']\ntimeout_s = -1")
    for words in ("there is no [x]", "command is 1", "no 'foo'", "number 2: timeout_s -1"):
        assert words in said


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.toml cannot be read: No such file"):
        read_settings(str(tmp_path / "nowhere.toml"))


def test_file_lies_beside_the_pipeline_and_nowhere_above(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "jubako.toml").touch()
    assert find_settings_file(str(tmp_path / "pipeline.py"), {}) == str(tmp_path / "jubako.toml")
    assert find_settings_file(str(tmp_path / "inner/pipeline.py"), {}) == ""
    assert find_settings_file("", {}) == ""


def test_file_is_named_by_the_environment_and_by_whoever_asks(tmp_path: Path) -> None:
    (tmp_path / "jubako.toml").touch()
    beside = str(tmp_path / "pipeline.py")
    assert find_settings_file(beside, {"JUBAKO_CONFIG": "/etc/jubako.toml"}) == "/etc/jubako.toml"
    assert find_settings_file(beside, {"JUBAKO_CONFIG": ""}) == ""
    assert find_settings_file(beside, {"JUBAKO_CONFIG": "/etc/jubako.toml"}, given="/my.toml") == "/my.toml"
    assert find_settings_file(beside, {}, given="none") == ""
