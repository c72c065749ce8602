"""Ctrl-C, SIGTERM and SIGUSR1 are noted, once; later ones act as always."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from vitral.train.interrupts import Interrupted, Interrupts


@pytest.fixture(autouse=True)
def handlers():
    """Every handler is the old one again afterwards."""
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    yield
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_noted(signum):
    with Interrupts() as interrupts:
        assert interrupts.signum is None
        os.kill(os.getpid(), signum)
        assert interrupts.signum == signum


def test_outside_the_main_thread_nothing_is_caught():
    """Where a cluster's launcher trains, signals are its own."""

    def active() -> tuple[object, object]:
        with Interrupts() as interrupts:
            return signal.getsignal(signal.SIGTERM), interrupts.signum

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(active).result() == (signal.getsignal(signal.SIGTERM), None)


def test_says_at_once_that_it_saves(capfd):
    with Interrupts():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert capfd.readouterr().err == "saving...\n"


def test_two_at_once_are_one():
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert interrupts.signum == signal.SIGTERM


@pytest.fixture
def usual_interrupt():
    """Ctrl-C raises KeyboardInterrupt, even where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("usual_interrupt")
def test_a_later_one_acts_as_always(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        clock[0] += 5
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.signum == signal.SIGINT


def test_says_by_what():
    assert str(Interrupted(signal.SIGTERM)) == "stopped by SIGTERM"
