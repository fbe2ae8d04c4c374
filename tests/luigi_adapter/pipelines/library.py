"""Luigi as a library: what a program can do with it, printed. Run as a script by Luigi and by jubako."""

from __future__ import annotations

import logging

import luigi
import luigi.freezing
import luigi.scheduler
import luigi.task_register
import luigi.util
import luigi.worker
from luigi.contrib.opener import OpenerTarget
from luigi.date_interval import Custom, Date, Month, Week, Year
from luigi.mock import MockFileSystem, MockTarget
from luigi.parameter import MissingParameterException, ParameterVisibility
from luigi.task import externalize, flatten, getpaths, task_id_str

logging.disable(logging.CRITICAL)


class Made(luigi.Task):
    """Made of a number."""

    n = luigi.IntParameter(batch_method=max)
    fails = luigi.BoolParameter(default=False, significant=False)

    def output(self):
        return MockTarget(f"made/{self.n}")

    def run(self):
        self.set_status_message("on the way")
        self.set_progress_percentage(50)
        self.trigger_event(luigi.Event.PROGRESS, self, "half")
        if self.fails:
            raise ValueError("asked to")
        with self.output().open("w") as file:
            file.write(str(self.n))


@luigi.util.requires(Made)
class Next(luigi.Task):
    def output(self):
        return {"a": MockTarget(f"next/{self.n}"), "b": [MockTarget(f"b/{self.n}")]}

    def run(self):
        for target in flatten(self.output()):
            with target.open("w") as file:
                file.write(self.input().open().read())


heard = []
for event in (luigi.Event.START, luigi.Event.SUCCESS, luigi.Event.PROGRESS, luigi.Event.DEPENDENCY_MISSING):
    Made.event_handler(event)(lambda task, *more, event=event: heard.append((event, str(task), more)))


@Made.event_handler(luigi.Event.FAILURE)
def failed(task, exception):
    heard.append(("failed", str(task), repr(exception)))


# build
print(luigi.build([Next(n=1)], local_scheduler=True), sorted(MockFileSystem().get_all_data().items()))
print(luigi.build([Next(n=1), Next(n=2)], local_scheduler=True, workers=1))
result = luigi.build([Next(n=3, fails=True)], local_scheduler=True, detailed_summary=True)
print(str(result), result.status, result.status.name, result.status.value, result.one_line_summary)
print(result.scheduling_succeeded, result.summary_text)
print(repr(result).split(",worker=")[0], heard)
print(luigi.run(["Next", "--n", "7", "--no-lock"], local_scheduler=True))
print(luigi.run(["--n", "8", "--no-lock"], main_task_cls=Next, local_scheduler=True, detailed_summary=True).status)

# worker
with luigi.worker.Worker(scheduler=luigi.scheduler.Scheduler(), worker_processes=1) as worker:
    print(worker.add(Next(n=20)), worker.run(), Next(n=20).complete())
with luigi.worker.Worker(keep_alive=False) as worker:
    worker.add(Next(n=21, fails=True))
    print(worker.run())


# tasks
def refusal(function):
    try:
        return function()
    except Exception as error:
        return type(error).__name__, str(error)


print(Made(1) is Made(n=1), Made(1) == Made(1, fails=True), Made(1).task_id, hash(Made(1)) == hash(Made(1).task_id))
print(refusal(Made), refusal(lambda: Made(1, n=2)), refusal(lambda: Made(1, zz=2)), refusal(lambda: Made(1, True, 3)))
print(Made.get_params()[0][0], Made.get_param_names(), Made.batch_param_names(), Made(1).to_str_params())
print(
    Made.from_str_params({"n": "5"}),
    Made.from_str_params({"n": ["5", "7"]}).n,
    Made(4).clone(n=9),
    Next(n=1).clone(Made),
)
print(Next(n=1).deps(), flatten(Next(n=1).input())[0].path, sorted(getpaths(Next(n=1))), Next(n=1).requires())
print(externalize(Made)(n=4).run, externalize(Made(4)).run, Made(4).run is None)
print(task_id_str("F", {"b": "x y", "a": "1"}), luigi.task.Register.get_task_cls("Next").__name__)
print(
    luigi.task_register.load_task(None, "Made", {"n": "12"}), refusal(lambda: luigi.task.Register.get_task_cls("Mode"))
)


class Secret(luigi.Task):
    word = luigi.Parameter(visibility=ParameterVisibility.PRIVATE)
    other = luigi.Parameter(visibility=ParameterVisibility.HIDDEN, default="h")


print(Secret(word="s").to_str_params(), Secret(word="s").to_str_params(only_public=True), Secret(word="s").task_id)


class Settings(luigi.Config):
    path = luigi.Parameter(default="/default")


print(Settings().path, Settings(path="x").path)

luigi.namespace("some.where")


class Inside(luigi.WrapperTask):
    pass


luigi.namespace()
luigi.auto_namespace(scope=__name__)


class Own(luigi.Task):
    pass


luigi.namespace(scope=__name__)
print(Inside.task_family, Own.task_family, Inside().complete(), Inside.get_task_namespace())

# intervals and targets
week = Week(2021, 1)
print(
    type(week), week, week.next(), week.prev(), week.dates()[0], Week.parse("2021-W01") == week, len(list(week.hours()))
)
print(Month(2021, 2), Year(2021).date_b, Date(2021, 9, 1).next(), Custom.parse("2021-09-01-2021-09-07").dates()[-1])
print(refusal(Custom.parse("2021-09-01-2021-09-07").next)[0], refusal(lambda: week < Month(2021, 1)))
target = OpenerTarget("file://folder/file.txt")
with target.open("w") as file:
    file.write("text")
print(
    target.exists(),
    target.path,
    target.open().read(),
    target.fs.exists("folder"),
    repr(target.fs.isdir("folder")),
)
target.remove()
with target.temporary_path() as path:
    print("folder/file.txt-luigi-tmp-" in path, open(path, "w").close())
print(target.exists())
target.remove()
print(target.exists(), refusal(luigi.LocalTarget)[1], luigi.LocalTarget(is_tmp=True).exists())
frozen = luigi.freezing.FrozenOrderedDict([("a", 1)])
print(
    frozen,
    hash(frozen) == hash(luigi.freezing.FrozenOrderedDict(a=1)),
    luigi.freezing.recursively_freeze({"a": [1, {}]}),
)
print(issubclass(MissingParameterException, luigi.parameter.ParameterException), luigi.VERSION)
