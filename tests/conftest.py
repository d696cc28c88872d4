"""What every test shares."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

# Small problems: more threads than one in each process are slower, and two test processes would fight over the cores.
# Tests of threads ask for their number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numba
import pytest
from hypothesis import settings

from xbarsim.data import data_folder
from xbarsim.foundation.threads import set_threads

if "PYTEST_XDIST_WORKER" in os.environ:
    # numba asks the OpenMP library that it shares with torch for a thread a core, whatever OMP_NUM_THREADS says, and
    # torch keeps what it finds when it is imported
    with contextlib.suppress(ImportError):
        import torch  # noqa: F401
    set_threads(1)

settings.register_profile("xbarsim", deadline=None)  # the machine may be busy
settings.load_profile("xbarsim")

# A shell that puts the tests into the background lets them, and the processes they start, ignore Ctrl-C; some test it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``data`` where there is no data folder."""
    try:
        data_folder()
    except FileNotFoundError as error:
        skip = pytest.mark.skip(reason=str(error).partition(":")[0])
        for item in items:
            if item.get_closest_marker("data"):
                item.add_marker(skip)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread in compiled loops, for modules of small layers: threads would wait for each other most of the time."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


@pytest.fixture
def forgotten_networks() -> Iterator[None]:
    """Networks that a test registers are not there for the next."""
    from xbarsim.models import cards

    architectures, trained = dict(cards._architectures), dict(cards._trained)
    yield
    cards._architectures.clear()
    cards._architectures.update(architectures)
    cards._trained.clear()
    cards._trained.update(trained)
