"""The benchmark of warping: checked against the package, and plain about its absence."""

from __future__ import annotations

import numpy as np
import pytest

from xbarsim.experiments.benchmarks import sequences as script
from xbarsim.sequences import Sequences


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    probes, gallery = (Sequences.of([rng.normal(size=(length, 12)) for length in (3, 5, 4)]) for _ in range(2))
    monkeypatch.setattr(script, "_sequences", lambda: (probes, gallery, "few"))


def test_distances_are_checked_before_they_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dtaidistance", reason="dtaidistance is not installed")
    ours, theirs, against, check = script.all_pairs()
    assert ours().shape == (3, 3)
    np.testing.assert_allclose(theirs()[:3, 3:] ** 2, ours(), rtol=1e-12)
    assert against.startswith("dtaidistance ")
    assert "few: 3 x 3 pairs" in check
    monkeypatch.setattr(script, "pair_distances", lambda probes, gallery: np.ones((3, 3)))
    with pytest.raises(AssertionError, match="distances differ from dtaidistance"):
        script.all_pairs()


def test_without_the_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "_PACKAGE", "no_such_package")
    ours, theirs, against, check = script.all_pairs()
    assert theirs is ours
    assert against == "itself: no package"
    assert "is NOT installed: nothing was compared" in check
