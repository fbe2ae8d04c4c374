"""Events, as OpenLineage's own library reads them."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import Any

import pytest
from openlineage.client import event_v2
from openlineage.client.facet_v2 import (
    error_message_run,
    job_type_job,
    nominal_time_run,
    parent_run,
    processing_engine_run,
)
from openlineage.client.generated.base import RunFacet
from openlineage.client.naming.dataset import LocalFileSystem

from jubako.flow.lineage.datasets import MOST, Dataset, find_datasets
from jubako.flow.lineage.events import describe_attempt, describe_run, make_event, with_error
from jubako.flow.parameters import DateHourParameter, DateParameter, MonthParameter, Parameter, YearParameter
from jubako.flow.stores.store_target import StoreTarget
from jubako.flow.targets.local_target import DirectoryTarget, LocalTarget, set_start_directory
from jubako.flow.targets.mock import MockTarget
from jubako.flow.targets.target import Target
from jubako.flow.tasks.task import Task

FACETS = {
    "parent": parent_run.ParentRunFacet,
    "nominalTime": nominal_time_run.NominalTimeRunFacet,
    "errorMessage": error_message_run.ErrorMessageRunFacet,
    "processing_engine": processing_engine_run.ProcessingEngineRunFacet,
    "jobType": job_type_job.JobTypeJobFacet,
}
RUN = describe_run("prod", "/data/weather/pipeline.py", "R-1")


class Daily(Task):
    date = DateParameter()
    city = Parameter(default="Seattle")


class Hourly(Task):
    hour = DateHourParameter()


class Monthly(Task):
    month = MonthParameter()


class Yearly(Task):
    year = YearParameter()


class Plain(Task):
    pass


def read(event: dict[str, Any]) -> event_v2.RunEvent:
    """The event, taken apart and put together by OpenLineage's library, which refuses what it does not know."""
    assert event.keys() == {"eventType", "eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs"}
    assert event["schemaURL"] == event_v2.RunEvent._get_schema()
    uuid.UUID(event["run"]["runId"])
    assert datetime.datetime.fromisoformat(event["eventTime"]).tzinfo is datetime.UTC
    facets = {}
    for name, values in {**event["run"]["facets"], **event["job"]["facets"]}.items():
        assert values["_producer"] == event["producer"]
        if name == "jubako_task":  # our own
            assert values["_schemaURL"] == RunFacet._get_schema()
            continue
        assert values["_schemaURL"] == FACETS[name]._get_schema(), name
        own = {key: value for key, value in values.items() if not key.startswith("_")}
        if name == "parent":
            parent_run.Root(parent_run.RootRun(**own["root"]["run"]), parent_run.RootJob(**own["root"]["job"]))
            own |= {"run": parent_run.Run(**own["run"]), "job": parent_run.Job(**own["job"])}
            own.pop("root")
        facets[name] = FACETS[name](**own)
    job_facets = {name: facets.pop(name) for name in event["job"]["facets"]}
    return event_v2.RunEvent(
        eventTime=event["eventTime"],
        producer=event["producer"],
        eventType=event_v2.RunState(event["eventType"]),
        run=event_v2.Run(event["run"]["runId"], facets),
        job=event_v2.Job(event["job"]["namespace"], event["job"]["name"], job_facets),
        inputs=[event_v2.InputDataset(**each) for each in event["inputs"]],
        outputs=[event_v2.OutputDataset(**each) for each in event["outputs"]],
    )


def attempt(task: Task, number: int = 1) -> Any:
    return describe_attempt(RUN, task, number, [Dataset("file", "/in")], [Dataset("s3://bucket", "out")])


@pytest.mark.parametrize("kind", ["START", "RUNNING", "COMPLETE", "FAIL", "ABORT"])
@pytest.mark.parametrize("run", [RUN, attempt(Daily(datetime.date(2026, 3, 14))), attempt(Plain())])
def test_event_is_one_that_openlineage_knows(run: Any, kind: Any) -> None:
    event = read(make_event(kind, run, 1_700_000_000.25))
    assert event.eventTime == "2023-11-14T22:13:20.250Z"
    assert (event.job.namespace, event.job.name) == ("prod", run.name)
    made = [] if kind in ("FAIL", "ABORT") or run is RUN else ["out"]  # what failed has made nothing
    assert [each.name for each in event.outputs or ()] == made


def test_attempt_is_a_job_of_its_family_below_the_run() -> None:
    task = Daily(datetime.date(2026, 3, 14))
    event = make_event("START", attempt(task), 0.0)
    assert event["job"]["name"] == "weather.Daily"
    assert event["run"]["facets"]["parent"]["run"] == {"runId": RUN.run_id}
    assert event["run"]["facets"]["parent"]["job"] == {"namespace": "prod", "name": "weather"}
    assert event["run"]["facets"]["jubako_task"]["taskId"] == task.task_id
    assert event["run"]["facets"]["jubako_task"]["task"] == "Daily(date=2026-03-14, city=Seattle)"


def test_ids_are_made_of_ours_and_differ_for_every_attempt() -> None:
    one, other = Daily(datetime.date(2026, 3, 14)), Daily(datetime.date(2026, 3, 15))
    assert attempt(one).run_id == attempt(one).run_id == "240217df-f1f3-5a00-81e6-0234491348ee"
    assert len({RUN.run_id, attempt(one).run_id, attempt(one, 2).run_id, attempt(other).run_id}) == 4


@pytest.mark.parametrize(
    ("task", "start", "end"),
    [
        (Daily(datetime.date(2026, 3, 14)), "2026-03-14T00:00:00.000Z", "2026-03-15T00:00:00.000Z"),
        (Hourly(datetime.datetime(2026, 3, 14, 23)), "2026-03-14T23:00:00.000Z", "2026-03-15T00:00:00.000Z"),
        (Monthly(datetime.date(2026, 12, 1)), "2026-12-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z"),
        (Yearly(datetime.date(2026, 1, 1)), "2026-01-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z"),
    ],
)
def test_dated_task_says_which_time_it_is_for(task: Task, start: str, end: str) -> None:
    facet = attempt(task).run_facets["nominalTime"]
    assert (facet["nominalStartTime"], facet["nominalEndTime"]) == (start, end)


def test_task_of_no_date_or_of_the_last_day_says_none() -> None:
    assert "nominalTime" not in attempt(Plain()).run_facets
    assert "nominalTime" not in attempt(Daily(datetime.date.max)).run_facets


def test_error_is_said_in_its_facet() -> None:
    event = read(with_error(make_event("FAIL", attempt(Plain()), 0.0), "ValueError: no rows"))
    facets: Any = event.run.facets
    assert facets["errorMessage"].message == "ValueError: no rows"
    assert "errorMessage" not in attempt(Plain()).run_facets


@pytest.mark.parametrize(
    ("pipeline", "name"),
    [
        ("/data/weather/pipeline.py", "weather"),
        ("/data/weather/__init__.py", "weather"),
        ("/data/daily_sums.py", "daily_sums"),
        ("company.weather", "company.weather"),
        ("/data/w\udcff.py", "w?"),
    ],
)
def test_job_of_a_run_is_called_as_its_pipeline(pipeline: str, name: str) -> None:
    run = describe_run("prod", pipeline, "R-1")
    assert run.name == name
    json.dumps(make_event("START", run, 0.0)).encode()


class Elsewhere(Target):
    def __init__(self, path: str) -> None:
        self.path = path

    def exists(self) -> bool:
        return True


def test_targets_are_named_as_openlineage_names_them() -> None:
    set_start_directory("/home/me")
    try:
        found = find_datasets(
            {
                "local": LocalTarget("out/a.csv"),
                "folder": [DirectoryTarget("/data/b")],
                "store": [StoreTarget("s3://bucket/some/key"), Elsewhere("gs://bucket"), Elsewhere("file:///data/c")],
                "again": LocalTarget("/home/me/out/a.csv"),
                "memory": [MockTarget("/in/memory"), StoreTarget("memory://x/y")],
                "no path": [Elsewhere(""), "text"],
            }
        )
    finally:
        set_start_directory(None)
    local = LocalFileSystem("/home/me/out/a.csv")
    assert found == [
        (local.get_namespace(), local.get_name()),
        ("file", "/data/b"),
        ("s3://bucket", "some/key"),
        ("gs://bucket", "/"),
        ("file", "/data/c"),
    ]


def test_number_of_datasets_is_bounded() -> None:
    assert len(find_datasets([Elsewhere(f"/data/{n}") for n in range(5_000)])) == MOST
