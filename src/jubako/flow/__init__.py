"""Dated pipelines: parameters, intervals, tasks, targets, ranges, engine, ledger, executors, runner."""
