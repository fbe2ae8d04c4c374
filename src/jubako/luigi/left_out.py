"""What of Luigi is not here, by name, and what to use instead. Nothing in it works half.

A module that is left out refuses to be imported (ImportError); a class refuses to be made (InputError).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jubako.errors import InputError, JubakoError

__all__ = ["MODULES_LEFT_OUT", "RPCError", "RemoteScheduler", "describe_left_out"]

_SERVER: Final = "jubako has no scheduler server: runs on one machine find each other through their ledger"
_HISTORY: Final = "the ledger keeps the history of every run"
_MAIL: Final = "name a jubako.toml with hooks in $JUBAKO_CONFIG, or use an event handler for Event.FAILURE"
_METRICS: Final = "name a jubako.toml with [metrics] in $JUBAKO_CONFIG, or use event handlers"
_STORE: Final = (
    "use jubako.StoreTarget with its address (gs://bucket/key), or derive from luigi.target.FileSystemTarget"
)
_DATABASE: Final = "derive from luigi.Target, with the client library of that database"
_CLUSTER: Final = "derive from luigi.contrib.external_program.ExternalProgramTask"

MODULES_LEFT_OUT: Final[Mapping[str, str]] = {
    "luigi.server": _SERVER,
    "luigi.process": _SERVER,
    "luigi.tools.luigi_grep": "use `jubako luigi grep`, which asks the ledger",
    "luigi.task_history": _HISTORY,
    "luigi.db_task_history": _HISTORY,
    "luigi.batch_notifier": _MAIL,
    "luigi.notifications": _MAIL,
    "luigi.metrics": _METRICS,
    "luigi.safe_extractor": "use tarfile with filter='data'",
    "luigi.mypy": "none is needed: jubako is typed",
    **{f"luigi.contrib.{name}": _METRICS for name in ("datadog_metric", "prometheus_metric")},
    **{
        f"luigi.contrib.{name}": _STORE
        for name in ("azureblob", "dropbox", "ftp", "gcp", "gcs", "hdfs", "ssh", "target", "webhdfs")
    },
    **{
        f"luigi.contrib.{name}": _DATABASE
        for name in (
            "bigquery", "bigquery_avro", "esindex", "hive", "mongodb", "mssqldb", "mysqldb", "postgres", "presto",
            "rdbms", "redis_store", "redshift", "salesforce", "sparkey", "sqla",
        )
    },
    **{
        f"luigi.contrib.{name}": _CLUSTER
        for name in (
            "batch", "beam_dataflow", "dataproc", "docker_runner", "ecs", "external_daily_snapshot", "hadoop",
            "hadoop_jar", "kubernetes", "lsf", "lsf_runner", "mrrunner", "pai", "pig", "pyspark_runner", "scalding",
            "sge", "sge_runner", "spark",
        )
    },
}  # fmt: skip


def describe_left_out(module: str) -> str | None:
    """Why `module`, or the one it is in, cannot be imported; None for a module that Luigi does not have either."""
    while module:
        if module in MODULES_LEFT_OUT:
            return f"{module} is not part of jubako: {MODULES_LEFT_OUT[module]}"
        module = module.rpartition(".")[0]
    return None


class RPCError(JubakoError):
    """What a remote scheduler would raise. Nothing does here; it can be caught, as existing code does."""


class RemoteScheduler:
    """Refuses to be made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise InputError(f"luigi.RemoteScheduler is not part of jubako: {_SERVER}", hint="use luigi.build([...])")
