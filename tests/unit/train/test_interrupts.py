"""Ctrl-C, SIGTERM and SIGUSR1 are recorded once; later signals act as usual."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from vitral.train.interrupts import Interrupted, Interrupts


@pytest.fixture(autouse=True)
def handlers():
    """Checks that all handlers are restored."""
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    yield
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_recorded(signum):
    with Interrupts() as interrupts:
        assert interrupts.signum is None
        os.kill(os.getpid(), signum)
        assert interrupts.signum == signum


def test_no_handlers_outside_the_main_thread():
    """A launcher that trains in another thread handles signals itself."""

    def active() -> tuple[object, object]:
        with Interrupts() as interrupts:
            return signal.getsignal(signal.SIGTERM), interrupts.signum

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(active).result() == (signal.getsignal(signal.SIGTERM), None)


def test_saving_is_announced_at_once(capfd):
    with Interrupts():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert capfd.readouterr().err == "saving...\n"


def test_on_a_terminal_the_line_of_the_bar_is_erased(capfd, monkeypatch):
    monkeypatch.setattr("vitral.train.interrupts.os.isatty", lambda _: True)
    with Interrupts():
        signal.raise_signal(signal.SIGTERM)
        assert capfd.readouterr().err == "\r\x1b[2Ksaving...\n"


def test_signals_in_quick_succession_count_once():
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert interrupts.signum == signal.SIGTERM


def test_what_is_ignored_from_the_start_stays_ignored():
    """As in a script's background jobs, which a Ctrl-C in the terminal is not meant to stop, and under `nohup`."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            assert interrupts.signum is None
            signal.raise_signal(signal.SIGTERM)
            assert interrupts.signum == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_later_signal_acts_as_usual(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        clock[0] += 5
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.signum == signal.SIGINT


def test_the_message_names_the_signal():
    assert str(Interrupted(signal.SIGTERM)) == "stopped by SIGTERM"
