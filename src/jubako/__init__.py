"""jubako: dated batch work in which every task is a transaction.

The public names. They are loaded on first use, so that `import jubako` costs nothing and works on any platform.
"""

from __future__ import annotations

from jubako._version import __version__

TYPE_CHECKING = False  # as typing has it, whose import takes longer than all of this
if TYPE_CHECKING:
    from typing import Any

    from jubako.boxes.commands.launch import run_in_box as run_in_box
    from jubako.boxes.limits import Limits as Limits
    from jubako.boxes.secrets import BoxSecret as BoxSecret
    from jubako.boxes.serving.client import BoxServer as BoxServer
    from jubako.boxes.spec import Box as Box
    from jubako.boxes.spec import Host as Host
    from jubako.errors import ConflictError as ConflictError
    from jubako.errors import HostError as HostError
    from jubako.errors import InputError as InputError
    from jubako.errors import JubakoError as JubakoError
    from jubako.errors import WorkError as WorkError
    from jubako.flow.date_interval import Custom as Custom
    from jubako.flow.date_interval import Date as Date
    from jubako.flow.date_interval import DateInterval as DateInterval
    from jubako.flow.date_interval import Month as Month
    from jubako.flow.date_interval import Week as Week
    from jubako.flow.date_interval import Year as Year
    from jubako.flow.lineage.destination import Lineage as Lineage
    from jubako.flow.notices.hooks import CommandHook as CommandHook
    from jubako.flow.notices.hooks import MailHook as MailHook
    from jubako.flow.notices.hooks import Secret as Secret
    from jubako.flow.notices.hooks import WebHook as WebHook
    from jubako.flow.parameters import BoolParameter as BoolParameter
    from jubako.flow.parameters import ChoiceListParameter as ChoiceListParameter
    from jubako.flow.parameters import ChoiceParameter as ChoiceParameter
    from jubako.flow.parameters import DateHourParameter as DateHourParameter
    from jubako.flow.parameters import DateIntervalParameter as DateIntervalParameter
    from jubako.flow.parameters import DateMinuteParameter as DateMinuteParameter
    from jubako.flow.parameters import DateParameter as DateParameter
    from jubako.flow.parameters import DateSecondParameter as DateSecondParameter
    from jubako.flow.parameters import DictParameter as DictParameter
    from jubako.flow.parameters import EnumListParameter as EnumListParameter
    from jubako.flow.parameters import EnumParameter as EnumParameter
    from jubako.flow.parameters import FloatParameter as FloatParameter
    from jubako.flow.parameters import IntParameter as IntParameter
    from jubako.flow.parameters import ListParameter as ListParameter
    from jubako.flow.parameters import MonthParameter as MonthParameter
    from jubako.flow.parameters import NumericalParameter as NumericalParameter
    from jubako.flow.parameters import OptionalBoolParameter as OptionalBoolParameter
    from jubako.flow.parameters import OptionalChoiceParameter as OptionalChoiceParameter
    from jubako.flow.parameters import OptionalDictParameter as OptionalDictParameter
    from jubako.flow.parameters import OptionalFloatParameter as OptionalFloatParameter
    from jubako.flow.parameters import OptionalIntParameter as OptionalIntParameter
    from jubako.flow.parameters import OptionalListParameter as OptionalListParameter
    from jubako.flow.parameters import OptionalNumericalParameter as OptionalNumericalParameter
    from jubako.flow.parameters import OptionalParameter as OptionalParameter
    from jubako.flow.parameters import OptionalPathParameter as OptionalPathParameter
    from jubako.flow.parameters import OptionalStrParameter as OptionalStrParameter
    from jubako.flow.parameters import OptionalTupleParameter as OptionalTupleParameter
    from jubako.flow.parameters import Parameter as Parameter
    from jubako.flow.parameters import ParameterVisibility as ParameterVisibility
    from jubako.flow.parameters import PathParameter as PathParameter
    from jubako.flow.parameters import StrParameter as StrParameter
    from jubako.flow.parameters import TaskParameter as TaskParameter
    from jubako.flow.parameters import TimeDeltaParameter as TimeDeltaParameter
    from jubako.flow.parameters import TupleParameter as TupleParameter
    from jubako.flow.parameters import YearParameter as YearParameter
    from jubako.flow.ranges.range import RangeByMinutes as RangeByMinutes
    from jubako.flow.ranges.range import RangeByMinutesBase as RangeByMinutesBase
    from jubako.flow.ranges.range import RangeDaily as RangeDaily
    from jubako.flow.ranges.range import RangeDailyBase as RangeDailyBase
    from jubako.flow.ranges.range import RangeHourly as RangeHourly
    from jubako.flow.ranges.range import RangeHourlyBase as RangeHourlyBase
    from jubako.flow.ranges.range import RangeMonthly as RangeMonthly
    from jubako.flow.run.runner import run as run
    from jubako.flow.schedules.schedule import schedule as schedule
    from jubako.flow.stores.store_target import StoreFolderTarget as StoreFolderTarget
    from jubako.flow.stores.store_target import StoreTarget as StoreTarget
    from jubako.flow.targets.local_target import DirectoryTarget as DirectoryTarget
    from jubako.flow.targets.local_target import LocalTarget as LocalTarget
    from jubako.flow.targets.target import Target as Target
    from jubako.flow.tasks.dynamic import DynamicRequirements as DynamicRequirements
    from jubako.flow.tasks.event import Event as Event
    from jubako.flow.tasks.task import auto_namespace as auto_namespace
    from jubako.flow.tasks.task import namespace as namespace
    from jubako.flow.tasks.typed import Config as Config
    from jubako.flow.tasks.typed import ExternalTask as ExternalTask
    from jubako.flow.tasks.typed import Task as Task
    from jubako.flow.tasks.typed import WrapperTask as WrapperTask

_NAMES_IN = {
    "jubako.boxes.commands.launch": ("run_in_box",),
    "jubako.boxes.serving.client": ("BoxServer",),
    "jubako.boxes.limits": ("Limits",),
    "jubako.boxes.secrets": ("BoxSecret",),
    "jubako.boxes.spec": (
        "Box",
        "Host",
    ),
    "jubako.errors": (
        "ConflictError",
        "HostError",
        "InputError",
        "JubakoError",
        "WorkError",
    ),
    "jubako.flow.date_interval": (
        "Custom",
        "Date",
        "DateInterval",
        "Month",
        "Week",
        "Year",
    ),
    "jubako.flow.tasks.dynamic": ("DynamicRequirements",),
    "jubako.flow.tasks.event": ("Event",),
    "jubako.flow.lineage.destination": ("Lineage",),
    "jubako.flow.targets.local_target": (
        "DirectoryTarget",
        "LocalTarget",
    ),
    "jubako.flow.notices.hooks": (
        "CommandHook",
        "MailHook",
        "Secret",
        "WebHook",
    ),
    "jubako.flow.parameters": (
        "BoolParameter",
        "ChoiceListParameter",
        "ChoiceParameter",
        "DateHourParameter",
        "DateIntervalParameter",
        "DateMinuteParameter",
        "DateParameter",
        "DateSecondParameter",
        "DictParameter",
        "EnumListParameter",
        "EnumParameter",
        "FloatParameter",
        "IntParameter",
        "ListParameter",
        "MonthParameter",
        "NumericalParameter",
        "OptionalBoolParameter",
        "OptionalChoiceParameter",
        "OptionalDictParameter",
        "OptionalFloatParameter",
        "OptionalIntParameter",
        "OptionalListParameter",
        "OptionalNumericalParameter",
        "OptionalParameter",
        "OptionalPathParameter",
        "OptionalStrParameter",
        "OptionalTupleParameter",
        "Parameter",
        "ParameterVisibility",
        "PathParameter",
        "StrParameter",
        "TaskParameter",
        "TimeDeltaParameter",
        "TupleParameter",
        "YearParameter",
    ),
    "jubako.flow.ranges.range": (
        "RangeByMinutes",
        "RangeByMinutesBase",
        "RangeDaily",
        "RangeDailyBase",
        "RangeHourly",
        "RangeHourlyBase",
        "RangeMonthly",
    ),
    "jubako.flow.run.runner": ("run",),
    "jubako.flow.schedules.schedule": ("schedule",),
    "jubako.flow.stores.store_target": (
        "StoreFolderTarget",
        "StoreTarget",
    ),
    "jubako.flow.targets.target": ("Target",),
    "jubako.flow.tasks.task": (
        "auto_namespace",
        "namespace",
    ),
    "jubako.flow.tasks.typed": (
        "Config",
        "ExternalTask",
        "Task",
        "WrapperTask",
    ),
}

_HOME_OF = {name: home for home, names in _NAMES_IN.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]  # noqa: PLE0604  (names come from the table)


def __getattr__(name: str) -> Any:
    try:
        home = _HOME_OF[name]
    except KeyError:
        raise AttributeError(f"module 'jubako' has no attribute {name!r}") from None
    from importlib import import_module  # the command line, which needs none of these names, starts without it

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
