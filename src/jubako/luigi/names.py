"""Where Luigi's public names have their home here: a table, read by the import hook, the tests and the docs.

A module of Luigi is made of names from one or more modules of ours. `name=other` says that it is called `other` there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["HOMES", "MODULES", "VERSION"]

VERSION: Final = "3.8.1"  # of Luigi, whose names and behaviour these are

_PARAMETERS: Final = """
Parameter StrParameter IntParameter FloatParameter BoolParameter NumericalParameter DateParameter MonthParameter
YearParameter DateHourParameter DateMinuteParameter DateSecondParameter DateIntervalParameter TimeDeltaParameter
TaskParameter EnumParameter EnumListParameter DictParameter ListParameter TupleParameter ChoiceParameter
ChoiceListParameter PathParameter OptionalParameter OptionalStrParameter OptionalIntParameter OptionalFloatParameter
OptionalBoolParameter OptionalPathParameter OptionalDictParameter OptionalListParameter OptionalTupleParameter
OptionalChoiceParameter OptionalNumericalParameter
"""

_TABLE: Final[Mapping[str, Mapping[str, str]]] = {
    "luigi": {
        "jubako.flow.tasks.task": "Task ExternalTask WrapperTask Config namespace auto_namespace",
        "jubako.flow.tasks.dynamic": "DynamicRequirements",
        "jubako.flow.tasks.event": "Event",
        "jubako.flow.targets.target": "Target",
        "jubako.flow.targets.local_target": "LocalTarget",
        "jubako.flow.parameters": _PARAMETERS,
        "jubako.luigi.interface": "build run LuigiStatusCode",
        "jubako.luigi.left_out": "RemoteScheduler RPCError",
        "jubako.luigi.names": "__version__=VERSION VERSION",
    },
    "luigi.task": {
        "jubako.flow.tasks.task": "Task ExternalTask WrapperTask Config namespace auto_namespace logger",
        "jubako.flow.tasks.bulk": "BulkCompleteNotImplementedError MixinNaiveBulkComplete",
        "jubako.flow.tasks.dynamic": "DynamicRequirements",
        "jubako.flow.tasks.external": "externalize",
        "jubako.flow.tasks.nesting": "flatten flatten_output getpaths",
        "jubako.flow.parameters": "Parameter",
        "jubako.flow.tasks.register": "Register",
        "jubako.flow.tasks.signature": "task_id_str TASK_ID_INCLUDE_PARAMS TASK_ID_TRUNCATE_PARAMS "
        "TASK_ID_TRUNCATE_HASH TASK_ID_INVALID_CHAR_REGEX",
    },
    "luigi.target": {
        "jubako.flow.targets.target": "Target FileSystem FileSystemTarget FileSystemException FileAlreadyExists "
        "MissingParentDirectory NotADirectory",
        "jubako.flow.targets.local_files": "AtomicLocalFile=atomic_file",
    },
    "luigi.local_target": {"jubako.flow.targets.local_target": "LocalTarget LocalFileSystem atomic_file"},
    "luigi.parameter": {
        "jubako.flow.parameters": _PARAMETERS
        + """ParameterVisibility ParameterException MissingParameterException UnknownParameterException
        DuplicateParameterException OptionalParameterTypeWarning UnconsumedParameterWarning OptionalParameterMixin
        _no_value=no_value""",
        "jubako.flow.parameters.frozen": "_DictParamEncoder=FrozenJSONEncoder",
    },
    "luigi.date_interval": {"jubako.flow.date_interval": "DateInterval Date Week Month Year Custom"},
    "luigi.tools.range": {
        "jubako.flow.ranges.range": "RangeBase RangeDailyBase RangeHourlyBase RangeByMinutesBase RangeDaily "
        "RangeHourly RangeByMinutes RangeMonthly RangeEvent infer_bulk_complete_from_fs",
    },
    "luigi.util": {
        "jubako.flow.tasks.inheriting": "requires inherits copies delegates common_params",
        "jubako.flow.tasks.preceding": "previous get_previous_completed",
    },
    "luigi.mock": {"jubako.flow.targets.mock": "MockTarget MockFileSystem"},
    "luigi.format": {
        "jubako.flow.targets.format": "Format ChainFormat TextFormat NopFormat GzipFormat Bzip2Format "
        "MixedUnicodeBytesFormat=MixedFormat Text UTF8 Nop Gzip Bzip2 MixedUnicodeBytes SysNewLine get_default_format",
        "jubako.flow.targets.pipes": "FileWrapper InputPipeProcessWrapper OutputPipeProcessWrapper",
    },
    "luigi.event": {"jubako.flow.tasks.event": "Event"},
    "luigi.freezing": {
        "jubako.flow.parameters.frozen": "FrozenOrderedDict recursively_freeze=freeze recursively_unfreeze=unfreeze",
    },
    "luigi.task_register": {
        "jubako.flow.tasks.register": "Register load_task TaskClassException TaskClassNotFoundException "
        "TaskClassAmbigiousException",
    },
    "luigi.task_status": {
        "jubako.luigi.task_status": "PENDING FAILED DONE RUNNING BATCH_RUNNING SUSPENDED UNKNOWN DISABLED",
    },
    "luigi.configuration": {
        "jubako.luigi.configuration": "get_config add_config_path LuigiConfigParser LuigiTomlParser",
    },
    "luigi.cmdline_parser": {"jubako.luigi.command_line": "CmdlineParser"},
    "luigi.cmdline": {"jubako.luigi.retcodes": "luigi_run=run_with_retcodes"},
    "luigi.interface": {
        "jubako.luigi.interface": "build run",
        "jubako.luigi.sections": "core",
        "jubako.luigi.pid_lock": "PidLockAlreadyTakenExit",
    },
    "luigi.execution_summary": {
        "jubako.luigi.interface": "LuigiRunResult LuigiStatusCode",
        "jubako.luigi.sections": "execution_summary",
    },
    "luigi.retcodes": {"jubako.luigi.retcodes": "run_with_retcodes retcode"},
    "luigi.lock": {"jubako.luigi.pid_lock": "acquire_for get_info getpcmd"},
    "luigi.setup_logging": {"jubako.luigi.log": "InterfaceLogging"},
    "luigi.worker": {
        "jubako.luigi.worker": "Worker TaskProcess",
        "jubako.luigi.sections": "worker",
    },
    "luigi.scheduler": {"jubako.luigi.worker": "Scheduler", "jubako.luigi.sections": "scheduler"},
    "luigi.rpc": {"jubako.luigi.left_out": "RemoteScheduler RPCError"},
    "luigi.tools": {},
    "luigi.tools.deps": {"jubako.luigi.dependencies": "find_deps upstream"},
    "luigi.tools.deps_tree": {"jubako.luigi.dependencies": "print_tree"},
    "luigi.contrib": {},
    "luigi.contrib.external_program": {
        "jubako.luigi.external_program": "ExternalProgramTask ExternalPythonProgramTask ExternalProgramRunContext "
        "ExternalProgramRunError",
    },
    "luigi.contrib.simulate": {"jubako.luigi.simulate": "RunAnywayTarget"},
    "luigi.contrib.opener": {
        "jubako.luigi.opener": "OpenerError NoOpenerError InvalidQuery OpenerRegistry Opener MockOpener LocalOpener "
        "S3Opener opener OpenerTarget",
    },
    "luigi.contrib.s3": {
        "jubako.luigi.s3": "InvalidDeleteException FileNotFoundException DeprecatedBotoClientException S3Client "
        "AtomicS3File ReadableS3File S3Target S3FlagTarget S3EmrTarget S3PathTask S3EmrTask S3FlagTask",
    },
}


def _read(homes: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    found = {}
    for home, words in homes.items():
        for word in words.split():
            name, _, other = word.partition("=")
            found[name] = (home, other or name)
    return found


# module of Luigi -> name in it -> module of ours, name there
HOMES: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {module: _read(homes) for module, homes in _TABLE.items()}
MODULES: Final = tuple(HOMES)
