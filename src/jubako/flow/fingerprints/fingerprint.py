"""What a task was made of: its code, settings it read, the contents of its inputs. Values, and what has changed.

    code         piece of code -> digest (`code_digest`), or the task's `code_version`; None: it cannot be read
    parameters   "Class.name" -> text: significant public parameters of the task and of the settings its code uses.
                 Values that are concealed are never recorded, not even as a digest: many could be guessed from it
    inputs       what `requires()` names: path -> digest of its content, "" if it was not there; another kind of
                 target -> what its `content_version()` says, None if it has none

Insignificant parameters don't count: that is what the word means.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from jubako.flow.fingerprints.code_digest import digest_code
from jubako.flow.tasks.nesting import flatten
from jubako.records import record

__all__ = ["Cause", "Fingerprint", "find_causes", "find_lacking", "take_fingerprint"]

_VERSION: Final = 1


@record
class Fingerprint:
    """What a task was made of, or would be now."""

    code: Mapping[str, str] | None
    parameters: Mapping[str, str]
    inputs: Mapping[str, str | None]

    def dump(self) -> str:
        """As text, for the ledger; `load` is the inverse."""
        return json.dumps([_VERSION, self.code, self.parameters, self.inputs], separators=(",", ":"))

    @staticmethod
    def load(text: str) -> Fingerprint | None:
        """What `dump` wrote; None if another version of jubako did, in another way."""
        version, *parts = json.loads(text)
        return Fingerprint(*parts) if version == _VERSION else None


@record
class Cause:
    """One thing that has changed since a task was made."""

    kind: Literal["code", "parameter", "input"]
    name: str
    text: str  # "code of weather.mean changed"


def take_fingerprint(task: Any, take_digest: Callable[[str], str]) -> Fingerprint:
    """What `task` would be made of now. `take_digest` tells what is at a path; what that raises is passed on."""
    cls = type(task)
    if task.code_version is not None:
        code: Mapping[str, str] | None = {"code_version": str(task.code_version)}
        configs: Sequence[Any] = ()
    else:
        found = digest_code(cls)
        code, configs = (None if found.problem else found.pieces), found.configs
    parameters = _spell_parameters(task)
    for config in configs:
        parameters.update(_spell_parameters(config()))
    inputs: dict[str, str | None] = {}
    for target in flatten(task.input()):
        as_output = getattr(target, "as_output", None)
        output = None if as_output is None else as_output()
        if output is not None and output.kind != "elsewhere":
            inputs[output.path] = take_digest(output.path)
        else:
            version = getattr(target, "content_version", None)
            inputs[str(target)] = None if version is None else str(version())
    return Fingerprint(code, parameters, inputs)


def find_causes(was: Fingerprint, now: Fingerprint) -> list[Cause]:
    """What has changed. What is not known of one of them has not."""
    causes = []
    if was.code is not None and now.code is not None:
        causes += [Cause("code", name, text) for name, text in _compare(was.code, now.code, "code of {}")]
    for name, text in _compare(was.parameters, now.parameters, "parameter {}"):
        if name in was.parameters and name in now.parameters:
            text = f"parameter {name} was {was.parameters[name]}, and is {now.parameters[name]}"  # noqa: PLW2901
        causes.append(Cause("parameter", name, text))
    for name, text in _compare(was.inputs, now.inputs, "input {}"):
        if was.inputs.get(name, "") is None or now.inputs.get(name, "") is None:
            continue
        if now.inputs.get(name) == "":  # gone since: whether it would be the same cannot be told
            continue
        causes.append(Cause("input", name, text))
    return causes


def find_lacking(now: Fingerprint) -> list[str]:
    """Inputs that are not there."""
    return [name for name, digest in now.inputs.items() if digest == ""]


def _compare(was: Mapping[str, Any], now: Mapping[str, Any], what: str) -> list[tuple[str, str]]:
    changed = [(name, f"{what.format(name)} changed") for name in was if name in now and was[name] != now[name]]
    gone = [(name, f"{what.format(name)} is used no more") for name in was if name not in now]
    new = [(name, f"{what.format(name)} is new") for name in now if name not in was]
    return [*changed, *new, *gone]


def _spell_parameters(task: Any) -> dict[str, str]:
    texts = task.to_str_params(only_significant=True, only_public=True)
    return {f"{task.get_task_family()}.{name}": text for name, text in texts.items()}
