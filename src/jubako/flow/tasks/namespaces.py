"""Namespaces: what stands before the names of task classes, so that two modules may use one name.

A namespace is declared before the classes it is for; a class keeps what was declared when it was defined.
"""

from __future__ import annotations

from typing import Final

from jubako.flow.tasks.register import Register

__all__ = ["SAME_AS_PYTHON_MODULE", "auto_namespace", "namespace"]

SAME_AS_PYTHON_MODULE: Final = "_same_as_python_module"  # stands for each class's own module


def namespace(namespace: str | None = None, scope: str = "") -> None:
    """Task classes defined from now on, in modules below `scope` ("" = all), have families `namespace.Name`."""
    Register._default_namespace_dict[scope] = namespace or ""


def auto_namespace(scope: str = "") -> None:
    """As `namespace`, each class's own module being its namespace."""
    namespace(SAME_AS_PYTHON_MODULE, scope)
