"""Fakes for tests of jubako and of pipelines: clock, executor, launcher, observer, ledger in memory, whole runs."""

from jubako.testing.clock import FakeClock as FakeClock
from jubako.testing.executor import FakeExecutor as FakeExecutor
from jubako.testing.launcher import FakeLauncher as FakeLauncher
from jubako.testing.ledger import begin_fake_run as begin_fake_run
from jubako.testing.ledger import open_memory_ledger as open_memory_ledger
from jubako.testing.observer import RecordingObserver as RecordingObserver
from jubako.testing.simulation import Simulation as Simulation
from jubako.testing.simulation import simulate as simulate
