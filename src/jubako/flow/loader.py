"""Finds a pipeline (a file, a folder or a module), imports it, and knows the tasks in it by name.

    weather/pipeline.py     a file: imported under its own name, and so can its neighbours be
    weather                 a folder: a package (with __init__.py), or its pipeline.py, or its only .py file
    company.weather         a module, found from the current directory and from what is installed

A file that belongs to a package is imported as the part of the package it is, so that its relative imports work.

The pipeline's folder is searched first, as with `python FILE`, but for the modules of Python that jubako needs: its own
imports, some of which come late, must not depend on what the files beside a pipeline are called. A neighbour with such
a name is out of reach under it (`boxes.workers.search_path`).

A `PipelineSource` is enough to import the pipeline again in a fresh process. Importing is running someone's code: what
goes wrong in it becomes one sentence that names the file and the line.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Mapping
from types import ModuleType

from jubako.boxes.workers.search_path import is_reserved, reserve_standard_names
from jubako.errors import InputError, JubakoError
from jubako.flow.parameters import AnnotationException
from jubako.flow.ranges.range import RangeByMinutes, RangeDaily, RangeHourly, RangeMonthly
from jubako.flow.tasks.task import Task
from jubako.home import PACKAGE
from jubako.records import record

__all__ = [
    "Pipeline",
    "PipelineSource",
    "find_pipeline",
    "find_pipeline_file",
    "import_source",
    "load_pipeline",
    "reload",
]

# Tasks that every pipeline has without importing them.
_RANGES: Mapping[str, type[Task]] = {
    family.__name__: family for family in (RangeDaily, RangeHourly, RangeByMinutes, RangeMonthly)
}


@record
class PipelineSource:
    """Where a pipeline is. Picklable; means the same in any process on this machine."""

    name: str  # as people call it: the absolute path of its file or folder, or a module's name
    module: str  # the name it is imported under
    search: str  # the folder that has to be on the path for that
    file: str = ""  # the file to import, where `search` alone doesn't decide it


@record
class Pipeline:
    """An imported pipeline. `tasks` has the classes it defines or imports by name, in the order of the file.

    `file` is what was imported in the end: however a pipeline is named, it is the same pipeline.
    """

    source: PipelineSource
    file: str
    tasks: Mapping[str, type[Task]]

    def get_task(self, name: str) -> type[Task]:
        """The task called `name`, or the range called so; InputError, with the nearest names, if there is none."""
        if name in self.tasks:
            return self.tasks[name]
        if name in _RANGES:
            return _RANGES[name]
        for task in self.tasks.values():
            if name == task.get_task_family():
                return task
        raise InputError(
            f"there is no task {name!r} in {self.source.name}",
            hint=_suggest(name, [*self.tasks, *_RANGES]) or f"it has {', '.join(self.tasks)}",
        )


def load_pipeline(text: str) -> Pipeline:
    """Import the pipeline that `text` names; InputError says what is wrong with the name, the file or its contents."""
    return reload(find_pipeline(text))


def reload(source: PipelineSource) -> Pipeline:
    """Import the pipeline a source stands for, or answer with what this process has imported of it already."""
    module = import_source(source)
    tasks = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Task)
        and not name.startswith("_")
        and value.__module__.partition(".")[0] not in ("jubako", "luigi")
    }
    if not tasks:
        raise InputError(
            f"there is no task in {source.file or source.name}",
            hint="a task is a class that derives from jubako.Task",
        )
    return Pipeline(source=source, file=os.path.realpath(module.__file__ or source.name), tasks=tasks)


def find_pipeline(text: str) -> PipelineSource:
    """What `text` names, without importing it."""
    if not text:
        raise InputError(
            "the pipeline is given as an empty text",
            hint="is a shell variable not set? The working directory is '.'",
        )
    path = os.path.abspath(os.path.expanduser(text))
    if os.path.isdir(path):
        return _find_in_folder(path)
    if os.path.isfile(path):
        if not path.endswith(".py"):
            raise InputError(f"{text} is not a Python file", hint="a pipeline is a .py file, a folder or a module")
        return _find_file(path)
    if os.sep in text or text.endswith(".py"):
        raise InputError(f"there is no pipeline {text}", hint=_suggest_path(path))
    return _find_module(text)


def find_pipeline_file(text: str) -> str:
    """The file that loading the pipeline `text` would import, `Pipeline.file`, without importing it."""
    source = find_pipeline(text)
    if source.file:
        return os.path.realpath(source.file)
    name, path = "", [source.search, *sys.path]
    origin = None
    for part in source.module.split("."):
        name = f"{name}.{part}" if name else part
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None:
            raise InputError(f"there is no module {source.module!r}", hint=_suggest_path(os.path.abspath(text)))
        origin, path = spec.origin, list(spec.submodule_search_locations or ())
    return os.path.realpath(origin or source.name)


def _find_in_folder(folder: str) -> PipelineSource:
    names = sorted(name for name in os.listdir(folder) if name.endswith(".py"))
    for name in ("__init__.py", "pipeline.py"):
        if name in names:
            return _find_file(os.path.join(folder, name), name=folder)
    if len(names) == 1:
        return _find_file(os.path.join(folder, names[0]), name=folder)
    if not names:
        raise InputError(f"there is no Python file in {folder}", hint="a pipeline's tasks are in pipeline.py")
    raise InputError(
        f"{folder} has {len(names)} Python files and none is called pipeline.py",
        hint=f"name the one with the tasks: {', '.join(names[:5])}",
    )


def _find_file(path: str, *, name: str = "") -> PipelineSource:
    """The source of a file, as part of its package if the folder is one."""
    folder, file = os.path.split(path)
    parts = [] if file == "__init__.py" else [file.removesuffix(".py")]
    in_package = os.path.isfile(os.path.join(folder, "__init__.py"))
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    module = ".".join(parts) if in_package else parts[0].replace(".", "_")
    top = module.partition(".")[0]
    if is_reserved(top):
        what, which = ("folder", os.path.join(folder, top)) if in_package else ("file", path)
        raise InputError(
            f"{which} has the name of Python's own module {top!r}, which jubako needs",
            hint=f"call the {what} differently",
        )
    return PipelineSource(name=name or path, module=module, search=folder, file="" if in_package else path)


def _find_module(text: str) -> PipelineSource:
    here = os.getcwd()
    with_here = sys.path if here in sys.path else [here, *sys.path]
    top, _, rest = text.partition(".")
    if not all(part.isidentifier() for part in text.split(".")) or not _is_importable(top, with_here):
        raise InputError(f"there is no file, folder or module {text!r}", hint=_suggest_path(os.path.abspath(text)))
    return PipelineSource(name=text, module=f"{top}.{rest}" if rest else top, search=here)


def _is_importable(top: str, path: list[str]) -> bool:
    importlib.invalidate_caches()
    return top in sys.modules or importlib.machinery.PathFinder.find_spec(top, path) is not None


def import_source(source: PipelineSource) -> ModuleType:
    """The imported module of a source; InputError names the file and the line where that fails."""
    reserve_standard_names()
    if source.search not in sys.path:
        sys.path.insert(0, source.search)
    importlib.invalidate_caches()  # the file may be younger than what Python remembers of its folder
    try:
        return _import_file(source) if source.file else importlib.import_module(source.module)
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}"
        line = f": {error.text.strip()}" if error.text else ""
        raise InputError(f"{place}: {error.msg}{line}", hint="nothing was run; mend the line") from error
    except ModuleNotFoundError as error:
        raise InputError(_missing_module(source, error), hint=_how_to_install(source, error)) from error
    except AnnotationException:  # says where it is
        raise
    except (Exception, SystemExit) as error:  # the pipeline's own code ran: anything can come out
        what = str(error) if isinstance(error, (JubakoError, ImportError)) else f"{type(error).__name__}: {error}"
        hint = error.hint if isinstance(error, JubakoError) else _out_of_reach(source, error)
        raise InputError(
            f"{_place_of(error, source)}: importing the pipeline failed: {what}",
            hint=hint or "nothing was run; --debug shows the traceback",
        ) from error


def _import_file(source: PipelineSource) -> ModuleType:
    """Import a file that is in no package under its plain name, so that its neighbours can import it too."""
    known = sys.modules.get(source.module)
    if known is not None and getattr(known, "__file__", None) == source.file:
        return known
    spec = importlib.util.spec_from_file_location(source.module, source.file)
    assert spec is not None and spec.loader is not None  # the file was there and ends with .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[source.module] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[source.module]
        raise
    return module


def _missing_module(source: PipelineSource, error: ModuleNotFoundError) -> str:
    if error.name and (source.module == error.name or source.module.startswith(f"{error.name}.")):
        return f"there is no module {error.name!r}"
    return f"{_place_of(error, source)}: imports {error.name}, which is not installed"


def _how_to_install(source: PipelineSource, error: ModuleNotFoundError) -> str:
    top = (error.name or "").partition(".")[0]
    is_pythons = top in sys.stdlib_module_names and not _find_beside(source, top)
    if is_pythons or is_reserved(top):  # "email.recipes"; "json.recipes", and it is not the "json" beside it
        return _out_of_reach(source, ImportError(name=top)) or f"{top} is Python's own module, and has no such part"
    if error.name and source.module.startswith(error.name):
        return _suggest_path(os.path.abspath(source.module.replace(".", os.sep)))
    if top == "luigi":
        return "'jubako luigi' runs pipelines that import luigi, as they stand; with 'import jubako' every command does"
    return f"'{sys.executable} -m pip install ...' installs into the Python that runs jubako"


def _out_of_reach(source: PipelineSource, error: BaseException) -> str:
    """What to do if a module that jubako needs was found where one beside the pipeline may have been meant."""
    name = ""
    if isinstance(error, ImportError):
        name = error.name or ""
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        name = error.obj.__name__
    path = _find_beside(source, name) if is_reserved(name) else ""
    return f"{name} is Python's own module, which jubako needs, not {path}: call that differently" if path else ""


def _find_beside(source: PipelineSource, name: str) -> str:
    """The file or folder beside the pipeline that is called like the module `name`, "" if there is none."""
    paths = [os.path.join(source.search, found) for found in (f"{name}.py", name)]
    return next((path for path in paths if os.path.exists(path)), "")


def _place_of(error: BaseException, source: PipelineSource) -> str:
    """file:line of the innermost frame that isn't the import machinery's or ours."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(("<frozen importlib", PACKAGE)):
            return f"{frame.filename}:{frame.lineno}"
    return source.file or source.name


def _suggest_path(path: str) -> str:
    """What is beside `path` and looks like what was meant."""
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        return f"there is no folder {folder}"
    candidates = [
        entry.name
        for entry in os.scandir(folder)
        if entry.name.endswith(".py") or (entry.is_dir() and not entry.name.startswith("."))
    ]
    return _suggest(name, candidates) or "a pipeline is a .py file, a folder or a module"


def _suggest(name: str, known: list[str]) -> str:
    by_folded = {other.casefold(): other for other in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(by_folded[other] for other in close)}?" if close else ""
