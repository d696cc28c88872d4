"""Threads of all libraries are set together, and fewer of them for a while."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import pytest
import torch
from threadpoolctl import threadpool_info

from xbarsim.foundation.threads import fewer_threads, set_threads
from xbarsim.foundation.validation import InputError

MOST = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = numba.get_num_threads()
    yield
    set_threads(before)


def _threads() -> set[int]:
    return {numba.get_num_threads(), torch.get_num_threads(), *(each["num_threads"] for each in threadpool_info())}


def test_fewer_threads_end_with_their_block_even_by_an_error() -> None:
    set_threads(min(2, MOST))
    before = _threads()

    def fail() -> None:
        with fewer_threads(1):
            assert _threads() == {1}
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert _threads() == before


def test_more_threads_than_there_are_change_nothing() -> None:
    set_threads(1)
    with fewer_threads(64):
        assert (numba.get_num_threads(), torch.get_num_threads()) == (1, 1)
    with pytest.raises(InputError, match=f"threads must be an integer >= 1 and <= {MOST}, got {MOST + 1}"):
        set_threads(MOST + 1)
