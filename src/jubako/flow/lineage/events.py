"""Events as OpenLineage 2-0-2 has them, as values that JSON can hold. Pure.

A run of ours is a run of a job called as its pipeline; an attempt at a task is a run of a job called PIPELINE.FAMILY,
whose parent is the former. Their ids are made of ours, so they can be found from ours, and are the same whoever asks.
"""

from __future__ import annotations

import datetime
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from jubako._version import __version__
from jubako.flow.ledger.partitions import find_partition
from jubako.flow.lineage.datasets import Dataset
from jubako.flow.tasks.register import find_signature
from jubako.records import field, record

__all__ = ["EventType", "OpenLineageRun", "describe_attempt", "describe_run", "make_event", "with_error"]

EventType = Literal["START", "RUNNING", "COMPLETE", "FAIL", "ABORT"]

_IDS: Final = uuid.UUID("0c6a5c1e-5d0b-5a4f-9d7f-6a2b8f4f7f60")  # the name space that run ids are made in
_PRODUCER: Final = f"pkg:pypi/jubako@{__version__}"  # a package URL
_SPEC: Final = "https://openlineage.io/spec"
_EVENT: Final = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_ANY_RUN_FACET: Final = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunFacet"


@record
class OpenLineageRun:
    """What all events of one run have in common."""

    run_id: str
    namespace: str
    name: str
    run_facets: Mapping[str, Any]
    job_facets: Mapping[str, Any]
    inputs: Sequence[Dataset] = field(default_factory=tuple)
    outputs: Sequence[Dataset] = field(default_factory=tuple)


def describe_run(namespace: str, pipeline: str, run_id: str) -> OpenLineageRun:
    """A run of ours. `pipeline` is the file it is of, or the name of its module."""
    return OpenLineageRun(
        str(uuid.uuid5(_IDS, run_id)),
        namespace,
        _name_of(pipeline),
        {"processing_engine": _engine()},
        {"jobType": _job_type("RUN")},
    )


def describe_attempt(
    of: OpenLineageRun, task: Any, number: int, inputs: Sequence[Dataset], outputs: Sequence[Dataset]
) -> OpenLineageRun:
    """The attempt at `task` with this number, from 1, in a run."""
    facets: dict[str, Any] = {
        "parent": _facet(
            _schema("1-2-0", "ParentRunFacet"),
            run={"runId": of.run_id},
            job={"namespace": of.namespace, "name": of.name},
            root={"run": {"runId": of.run_id}, "job": {"namespace": of.namespace, "name": of.name}},
        ),
        "processing_engine": _engine(),
        "jubako_task": _facet(_ANY_RUN_FACET, taskId=task.task_id, task=_text(str(task)), attempt=number),
    }
    nominal = _find_nominal_time(task)
    if nominal is not None:
        times = dict(zip(("nominalStartTime", "nominalEndTime"), nominal, strict=True))
        facets["nominalTime"] = _facet(_schema("1-0-1", "NominalTimeRunFacet"), **times)
    return OpenLineageRun(
        str(uuid.uuid5(_IDS, f"{of.run_id}/{task.task_id}/{number}")),
        of.namespace,
        f"{of.name}.{task.get_task_family()}",
        facets,
        {"jobType": _job_type("TASK")},
        inputs,
        outputs,
    )


def make_event(kind: EventType, run: OpenLineageRun, moment_s: float) -> dict[str, Any]:
    """An event of a run. What failed, or was stopped, has made nothing."""
    has_outputs = kind not in ("FAIL", "ABORT")
    return {
        "eventType": kind,
        "eventTime": _moment(datetime.datetime.fromtimestamp(moment_s, datetime.UTC)),
        "producer": _PRODUCER,
        "schemaURL": _EVENT,
        "run": {"runId": run.run_id, "facets": dict(run.run_facets)},
        "job": {"namespace": run.namespace, "name": run.name, "facets": dict(run.job_facets)},
        "inputs": _describe_datasets(run.inputs),
        "outputs": _describe_datasets(run.outputs) if has_outputs else [],
    }


def with_error(event: dict[str, Any], message: str) -> dict[str, Any]:
    """The event with why it failed."""
    facet = _facet(_schema("1-0-1", "ErrorMessageRunFacet"), message=message, programmingLanguage="PYTHON")
    event["run"]["facets"]["errorMessage"] = facet
    return event


def _describe_datasets(datasets: Sequence[Dataset]) -> list[dict[str, str]]:
    return [{"namespace": _text(each.namespace), "name": _text(each.name)} for each in datasets]


def _name_of(pipeline: str) -> str:
    """What a pipeline is called among jobs: "weather" for /data/weather/pipeline.py and for /data/weather.py."""
    if not pipeline.endswith(".py"):
        return _text(pipeline) or "pipeline"
    folder, file = os.path.split(pipeline)
    stem = file.removesuffix(".py")
    return _text(os.path.basename(folder) or stem) if stem in ("pipeline", "__init__") else _text(stem)


def _find_nominal_time(task: Any) -> tuple[str, str] | None:
    """From when to when a dated task is for. Hours are UTC, as everywhere in dated parameters, and so are days."""
    partition = find_partition(task)
    if partition is None:
        return None
    parameter: Any = dict(find_signature(type(task)).parameters)[partition.parameter]
    value = getattr(task, partition.parameter)
    try:
        return _moment(_as_moment(value)), _moment(_as_moment(parameter.next_in_enumeration(value)))
    except (OverflowError, ValueError):  # the last day of the calendar
        return None


def _as_moment(value: datetime.date) -> datetime.datetime:
    if isinstance(value, datetime.datetime):
        return value
    return datetime.datetime(value.year, value.month, value.day)


def _moment(moment: datetime.datetime) -> str:
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _engine() -> dict[str, Any]:
    return _facet(_schema("1-1-1", "ProcessingEngineRunFacet"), version=__version__, name="jubako")


def _job_type(kind: str) -> dict[str, Any]:
    schema = _schema("2-0-4", "JobTypeJobFacet")
    return _facet(schema, processingType="BATCH", integration="JUBAKO", jobType=kind)


def _schema(version: str, name: str) -> str:
    return f"{_SPEC}/facets/{version}/{name}.json#/$defs/{name}"


def _facet(schema: str, **values: Any) -> dict[str, Any]:
    return {"_producer": _PRODUCER, "_schemaURL": schema, **values}


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")  # a name of a file may not be UTF-8
