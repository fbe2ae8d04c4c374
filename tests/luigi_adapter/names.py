"""Says, as JSON, what the modules named on the command line hold: for each name its kind, and how it is called.

Runs in a process of its own, once with Luigi and once with jubako in its place.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")


def describe(value: Any) -> dict[str, Any]:
    if isinstance(value, type):
        members = {name for name in dir(value) if not name.startswith("_")}
        try:
            accepts = list(inspect.signature(value).parameters)
        except ValueError:
            accepts = []
        return {"kind": "class", "members": sorted(members), "accepts": accepts}
    if callable(value):
        return {"kind": "function", "members": [], "accepts": list(inspect.signature(value).parameters)}
    return {"kind": "value", "members": [], "accepts": []}


def main() -> None:
    asked: dict[str, list[str]] = json.loads(sys.stdin.read())
    found: dict[str, dict[str, Any]] = {}
    for module_name, names in asked.items():
        module = importlib.import_module(module_name)
        found[module_name] = {name: describe(getattr(module, name)) for name in names if hasattr(module, name)}
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
