"""Tests of a pipeline, as people write them: targets in memory, luigi.build, the result looked at."""

from __future__ import annotations

import unittest

import luigi
from luigi.mock import MockFileSystem, MockTarget


class Numbers(luigi.Task):
    count = luigi.IntParameter()

    def output(self):
        return MockTarget(f"numbers/{self.count}")

    def run(self):
        with self.output().open("w") as file:
            file.writelines(f"{n}\n" for n in range(self.count))


class Total(luigi.Task):
    count = luigi.IntParameter()

    def requires(self):
        return Numbers(self.count)

    def output(self):
        return MockTarget(f"total/{self.count}")

    def run(self):
        if self.count > 100:
            raise ValueError("too many")
        with self.input().open() as source, self.output().open("w") as target:
            target.write(str(sum(map(int, source))))


class TotalTest(unittest.TestCase):
    def setUp(self):
        MockFileSystem().clear()

    def test_total_is_built(self):
        self.assertTrue(luigi.build([Total(5)], local_scheduler=True))
        self.assertEqual(MockFileSystem().get_data("total/5"), b"10")
        self.assertEqual(sorted(MockFileSystem().get_all_data()), ["numbers/5", "total/5"])

    def test_failure_is_told(self):
        result = luigi.build([Total(101), Total(2)], local_scheduler=True, detailed_summary=True)
        self.assertEqual(result.status, luigi.LuigiStatusCode.FAILED)
        self.assertFalse(result.scheduling_succeeded)
        self.assertIn("* 1 failed:\n    - 1 Total(count=101)", result.summary_text)
        self.assertTrue(Total(2).complete())

    def test_run_takes_arguments(self):
        result = luigi.run(["--count", "3"], main_task_cls=Total, local_scheduler=True, detailed_summary=True)
        self.assertEqual(result.one_line_summary.split()[3], ":)")
        self.assertTrue(MockFileSystem().exists("total/3"))
