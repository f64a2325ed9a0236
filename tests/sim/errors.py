"""What a simulation fails with when the program in it, not a test's assertion, is wrong."""

from __future__ import annotations


class SimulationError(Exception):
    """The simulated program did what it must not do; the message says what."""


class OutsideWorldError(SimulationError):
    """It reached for a thread, a socket, a signal or a child process."""


class DeadlockError(SimulationError):
    """Nothing is ready, no timer is set, and the main task is not done."""


class EndlessError(SimulationError):
    """The limit on steps was reached."""


class UnhandledError(SimulationError):
    """A callback raised, or a task failed and nobody looked at its exception."""
