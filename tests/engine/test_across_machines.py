"""Plans whose sums are of whole numbers give the same bits on every processor; the others what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from llvmlite.binding import get_host_cpu_features

from tests.engine.across_machines import CASES, MAPS, answers

Answers = dict[str, npt.NDArray[np.float64]]
ROOT = Path(__file__).resolve().parents[2]
# What else than numba chooses its code by the processor: OpenBLAS, NumPy's own loops.
GENERIC = {
    "OPENBLAS_CORETYPE": "Prescott",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX",
}


#: What numba is told to compile for, and the feature of this processor that it takes.
TARGETS = {"generic": ("", None), "haswell": ("avx2", "avx2"), "skylake-avx512": ("avx512bw", "avx512bw")}


def _features(best: str) -> str:
    """This processor's features up to a set of instructions, and without those that came later."""
    later = ("avx512", "avxvnni", "avx10", "amx") if best == "avx2" else ("avx512vnni", "avxvnni", "avx10", "amx")
    held = get_host_cpu_features()
    return ",".join(
        f"{'+' if there and not name.startswith(later) else '-'}{name}" for name, there in sorted(held.items())
    )


@pytest.fixture(scope="module", params=TARGETS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Answers, Answers]:
    """What this processor gives, and what code gives that was made for a lesser one: the least that there is, too."""
    best, needed = TARGETS[request.param]
    if needed is not None and not get_host_cpu_features().get(needed, False):
        pytest.skip(f"this processor has no {needed}")
    file = tmp_path_factory.mktemp("other") / "answers.npz"
    target = {"NUMBA_CPU_NAME": request.param, "NUMBA_CPU_FEATURES": _features(best) if best else ""}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.engine.across_machines", str(file)],
        cwd=ROOT,
        env={**os.environ, **GENERIC, **target, "NUMBA_CACHE_DIR": str(file.parent)},
        check=True,
    )
    with np.load(file) as other:
        found = {name: other[name] for name in other}
    assert found.pop("cpu") == request.param
    return answers(), found


@pytest.mark.parametrize("name", [*(name for name, (_, whole, _, _) in CASES.items() if whole), *MAPS])
def test_whole_numbers_are_the_same_bits_everywhere(name: str, pair: tuple[Answers, Answers]) -> None:
    np.testing.assert_array_equal(pair[0][name], pair[1][name])


@pytest.mark.parametrize("name", [name for name, (_, whole, _, _) in CASES.items() if not whole])
def test_other_sums_differ_by_no_more_than_is_promised(name: str, pair: tuple[Answers, Answers]) -> None:
    """A product by 1e-6 of the largest; with converters one code in a thousand may be another."""
    native, generic = pair[0][name], pair[1][name]
    moved = np.abs(native - generic) > 1e-6 * np.abs(native).max()
    assert moved.mean() <= (0.001 if "adc_bits" in CASES[name][3] else 0.0)
