"""Plans whose sums are of whole numbers give the same bits on every processor; the others what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.engine.across_machines import CASES, answers

Answers = dict[str, npt.NDArray[np.float64]]
ROOT = Path(__file__).resolve().parents[2]
# What else chooses its code by the processor: numba's target, OpenBLAS, NumPy's own loops.
GENERIC = {
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
    "OPENBLAS_CORETYPE": "Prescott",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX",
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Answers, Answers]:
    """What this processor gives, and what code gives that was made for the least that there is."""
    file = tmp_path_factory.mktemp("generic") / "answers.npz"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.engine.across_machines", str(file)],
        cwd=ROOT,
        env={**os.environ, **GENERIC, "NUMBA_CACHE_DIR": str(file.parent)},
        check=True,
    )
    with np.load(file) as other:
        found = {name: other[name] for name in other}
    assert found.pop("cpu") == "generic"
    return answers(), found


@pytest.mark.parametrize("name", [name for name, (_, whole, _, _) in CASES.items() if whole])
def test_whole_numbers_are_the_same_bits_everywhere(name: str, pair: tuple[Answers, Answers]) -> None:
    np.testing.assert_array_equal(pair[0][name], pair[1][name])


@pytest.mark.parametrize("name", [name for name, (_, whole, _, _) in CASES.items() if not whole])
def test_other_sums_differ_by_no_more_than_is_promised(name: str, pair: tuple[Answers, Answers]) -> None:
    """A product by 1e-6 of the largest; with converters one code in a thousand may be another."""
    native, generic = pair[0][name], pair[1][name]
    moved = np.abs(native - generic) > 1e-6 * np.abs(native).max()
    assert moved.mean() <= (0.001 if "adc_bits" in CASES[name][3] else 0.0)
