"""What plans say that they are computed by."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import pytest
from llvmlite.binding import get_host_cpu_name

import xbarsim as xb
from xbarsim.engine import CompiledBackend, TorchBackend
from xbarsim.engine.kernels import HAS_BYTE_SHUFFLE
from xbarsim.engine.kernels.processor import compiled_for, has_feature


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    has_feature.cache_clear()
    yield
    has_feature.cache_clear()


def test_the_processor_and_its_vector_instructions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if numba.config.CPU_NAME is None:  # type: ignore[attr-defined]
        assert compiled_for().startswith(f"{get_host_cpu_name()} (")
    assert ("AVX2" in compiled_for()) == HAS_BYTE_SHUFFLE
    monkeypatch.setattr(numba.config, "CPU_NAME", "other")
    monkeypatch.setattr(numba.config, "CPU_FEATURES", "+sse2,-avx2,+avx512f,+avx512vnni")
    has_feature.cache_clear()
    assert compiled_for() == "other (AVX-512, AVX-512 VNNI)"
    monkeypatch.setattr(numba.config, "CPU_FEATURES", "")
    has_feature.cache_clear()
    assert compiled_for() == "other (no vector instructions of more than 128 bits)"


def test_a_table_of_plans_says_what_computes_them() -> None:
    crossbar = xb.Crossbar(np.eye(3), xb.Design(cell=xb.Cell(g_min=1e-6, g_max=1e-4, levels=16)), seed=1)
    table = crossbar.plan()
    assert str(table).splitlines()[-1] == f"by {CompiledBackend()}"
    assert str(CompiledBackend()) == f"compiled kernels for {compiled_for()}"
    assert str(CompiledBackend()) in table._repr_html_()
    assert str(TorchBackend("cpu")) == "torch on cpu"
