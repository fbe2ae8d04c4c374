"""What `jubako.toml` (`settings_file`) says: who is told of runs, and where else they are reported.

    [[notify]]
    mail = ["ops@example.org"]
    sender = "jubako@example.org"
    server = "smtp.example.org:587"

Paths in it start from its own folder. All that is wrong with a file is said at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from jubako.errors import InputError
from jubako.flow.lineage.destination import Lineage
from jubako.flow.notices.hooks import CommandHook, Hook, MailHook, Secret, WebHook
from jubako.records import record

__all__ = ["Settings", "read_settings"]

_SECTIONS: Final = ("notify", "metrics", "lineage")
_KINDS: Final = ("command", "webhook", "mail")
_OF_ALL: Final = ("name", "on", "timeout_s", "each_failed_task")
_KEYS: Final[Mapping[str, Sequence[str]]] = {
    "command": (),
    "webhook": ("secret", "format", "ca_file"),
    "mail": ("sender", "server", "security", "user", "password", "ca_file"),
}
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "command": (list,),
    "webhook": (str, dict),
    "mail": (list,),
    "on": (list,),
    "timeout_s": (int, float),
    "each_failed_task": (int,),
    "secret": (dict,),
    "password": (dict,),
}
_WORDS: Final = {list: "a list", str: "a text", dict: '{ env = "..." } or { file = "..." }', int: "a number"}


@record
class Settings:
    """What a file asks for; what it does not mention is left out."""

    notify: Sequence[Hook] = ()
    metrics_file: str = ""
    lineage: Lineage | None = None


def read_settings(path: str) -> Settings:
    """What the file says. InputError names the file, and all that is wrong with it."""
    import tomllib  # 6 ms, for those who have such a file

    try:
        with open(path, "rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    problems = [f"there is no [{name}]{_suggest(name, _SECTIONS)}" for name in found if name not in _SECTIONS]
    hooks: list[Hook] = []
    tables = found.get("notify", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append("notify is written as [[notify]], once for each hook")
        tables = []
    for number, table in enumerate(tables, start=1):
        try:
            hooks.append(_read_hook(table, os.path.dirname(path)))
        except InputError as error:
            problems.append(f"[[notify]] number {number}: {error.message}")
    names = [hook.name for hook in hooks if hook.name]
    problems += [f"two hooks are called {name!r}" for name in dict.fromkeys(names) if names.count(name) > 1]
    metrics = _read_section(found, "metrics", {"file": str}, problems)
    lineage = _read_lineage(found, os.path.dirname(path), problems)
    if problems:
        raise InputError(f"{path}: {'; '.join(problems)}", hint="docs/notifications.md lists what it may say")
    metrics_file = os.path.join(os.path.dirname(path), metrics["file"]) if metrics.get("file") else ""
    return Settings(tuple(hooks), metrics_file, lineage)


def _read_section(
    found: Mapping[str, Any], name: str, known: Mapping[str, type], problems: list[str]
) -> Mapping[str, Any]:
    """The values of a section; what is wrong with it goes to `problems`, and it has none."""
    section = found.get(name, {})
    if not isinstance(section, dict):
        problems.append(f"{name} is written as [{name}]")
        return {}
    wrong = [f"[{name}] has no {key!r}{_suggest(key, tuple(known))}" for key in section if key not in known]
    wrong += [
        f"{key} of [{name}] is {value!r}, not {_WORDS[known[key]]}"
        for key, value in section.items()
        if key in known and not isinstance(value, known[key])
    ]
    problems += wrong
    return {} if wrong else section


def _read_lineage(found: Mapping[str, Any], folder: str, problems: list[str]) -> Lineage | None:
    section = _read_section(found, "lineage", {"to": str, "namespace": str, "api_key": dict}, problems)
    if not section:
        return None
    values = dict(section)
    to = values.pop("to", "")
    try:
        if "api_key" in values:
            values["api_key"] = _read_value("api_key", values["api_key"], folder)
        return Lineage(os.path.join(folder, to) if to and "://" not in to else to, **values)
    except InputError as error:
        problems.append(f"[lineage]: {error.message}")
        return None


def _read_hook(table: Mapping[str, Any], folder: str) -> Hook:
    kinds = [kind for kind in _KINDS if kind in table]
    if len(kinds) != 1:
        raise InputError(f"it has {' and '.join(kinds) or 'none'} of {', '.join(_KINDS)}, where one is needed")
    kind = kinds[0]
    known = (kind, *_OF_ALL, *_KEYS[kind])
    problems = [f"a {kind} hook has no {key!r}{_suggest(key, known)}" for key in table if key not in known]
    for key, value in table.items():
        types = _TYPES.get(key, (str,))
        if key in known and (not isinstance(value, types) or isinstance(value, bool)):
            problems.append(f"{key} is {value!r}, not {_WORDS[types[0]]}")
    if kind == "mail" and "sender" not in table:
        problems.append("a mail hook needs a sender")
    if problems:
        raise InputError("; ".join(problems))
    values = {key: _read_value(key, value, folder) for key, value in table.items() if key != kind}
    main = _read_value(kind, table[kind], folder)
    if kind == "command":
        return CommandHook(main, folder=folder, **values)
    return WebHook(main, **values) if kind == "webhook" else MailHook(main, **values)


def _read_value(key: str, value: Any, folder: str) -> Any:
    if key == "ca_file":
        return os.path.join(folder, value)
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or next(iter(value)) not in ("env", "file") or not isinstance(next(iter(value.values())), str):
        raise InputError(f"{key} is {_WORDS[dict]}")
    return Secret(file=os.path.join(folder, value["file"])) if "file" in value else Secret(env=value["env"])


def _suggest(word: str, known: Sequence[str]) -> str:
    import difflib  # for the mistaken

    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
