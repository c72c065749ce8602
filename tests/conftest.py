"""What every test starts from: one thread, no network, no window, seeded randomness."""

import atexit
import gc
import os
import random
import signal
from collections.abc import Callable, Generator
from pathlib import Path

# read by libraries while they are imported, and passed on to every command that a test starts
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import hypothesis
import numpy as np
import pytest
import torch

hypothesis.settings.register_profile("vitral", deadline=None, derandomize=True)
hypothesis.settings.load_profile("vitral")


def pytest_configure() -> None:
    """Restores signals that a script's background jobs ignore, as would the processes that tests start and stop."""
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(signum) == signal.SIG_IGN:
            signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keeps the garbage collector from going through what the collection of ten thousand tests makes, which stays.

    It would take a second each time, then and whenever a test calls `gc.collect()`.
    """
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # some libraries report objects that are left at the end
    return result


def call_in_one_chunk(test: Callable[..., object], arguments: dict[str, object]) -> None:
    """Calls a test with memory for the frames of all its calls.

    CPython 3.11 maps 16 KiB for frames at a time, and unmaps them when the first of these frames returns. The shape
    checks make deep stacks, and a loop that calls across such a border spent a fifth of its time in the kernel. A frame
    that is larger itself has memory for the others mapped with it.
    """
    test(**arguments)


call_in_one_chunk.__code__ = call_in_one_chunk.__code__.replace(co_stacksize=1 << 14)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Calls the test as pytest would, but for the memory."""
    names = pyfuncitem._fixtureinfo.argnames
    call_in_one_chunk(pyfuncitem.obj, {name: pyfuncitem.funcargs[name] for name in names})
    return True


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers for a test whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - what other packages draw from
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def fashion_mnist() -> Path:
    """The folder of Fashion-MNIST's four IDX files."""
    folder = Path("/usr/share/datasets/fashion-mnist")
    if not folder.is_dir():
        pytest.skip(f"needs {folder}: apt-get install dataset-fashion-mnist")
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs, one folder per class; shared by all tests, so for reading only."""
    from photographs import write_photographs

    root = tmp_path_factory.mktemp("photographs")
    write_photographs(root, seed=0)
    return root
