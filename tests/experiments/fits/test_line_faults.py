"""The preset of line faults is what the measured list gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from xbarsim.data import data_file, data_folder
from xbarsim.devices import fault_preset
from xbarsim.experiments.fits.line_faults import Lines, fit, preset, read
from xbarsim.foundation.validation import FileFormatError


@pytest.fixture
def measured() -> tuple[Lines, Lines]:
    try:
        data_file("neurram", "bad_lines.json")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return read(data_folder())


@pytest.mark.data
def test_the_shipped_preset_equals_a_fit_done_again(measured: tuple[Lines, Lines]) -> None:
    again, shipped = preset(*measured), fault_preset("wan2022_lines")
    assert (again.description, again.source, again.origin) == (shipped.description, shipped.source, shipped.origin)
    models: Any = zip(again.faults.models, shipped.faults.models, strict=True)  # type: ignore[attr-defined]
    for new, old in models:
        assert (new.on, new.row_share) == (old.on, old.row_share)
        assert new.off == pytest.approx(old.off, rel=1e-3)
        assert new.correlation == pytest.approx(old.correlation, rel=1e-3)


@pytest.mark.data
def test_word_lines_vary_over_cores_and_not_inside_them(measured: tuple[Lines, Lines]) -> None:
    word, bit = measured
    assert (len(word.lines), word.skipped.sum(), word.lines.sum()) == (87, 1798, 17672)
    assert (bit.skipped.sum(), bit.lines.sum()) == (20, 3895)
    assert word.dispersion > 5
    law = fit(word)
    assert (law.mean, law.concentration) == pytest.approx((0.1004, 23.42), rel=1e-3)
    # The independent law is far outside the interval; a core as bad as the worst one is not.
    assert law.interval[1] < 100
    low, high = (
        stats.betabinom(256, law.mean * law.concentration, (1 - law.mean) * law.concentration).ppf([1e-3, 1 - 1e-3])
        / 256
    )
    shares = word.skipped / word.lines
    assert low <= shares.min()
    assert shares.max() <= high
    # Of n lines in random order, pairs of neighbours that are both skipped are nearly a Poisson number.
    assert abs(word.neighbours.sum() - word.expected_neighbours) < 3 * np.sqrt(word.expected_neighbours)
    parts = [word.of_chip(chip).skipped.sum() for chip in set(word.chip.tolist())]
    assert sum(parts) == word.skipped.sum()


def test_a_known_law_is_found_again() -> None:
    """800 cores drawn from the law: mean and concentration within 4 standard errors, by the interval's width."""
    rng = np.random.default_rng(1)
    size = rng.integers(100, 256, 800)
    skipped = rng.binomial(size, rng.beta(0.1 * 25, 0.9 * 25, 800))
    lines = Lines(chip=np.ones(800, int), lines=size, skipped=skipped, neighbours=np.zeros(800, int))
    law = fit(lines)
    low, high = law.interval
    assert low < law.concentration < high
    assert abs(np.log(law.concentration / 25)) < 2 * np.log(high / low) / 2
    assert law.mean == pytest.approx(0.1, abs=4 * np.sqrt(0.09 * law.correlation / 800) + 0.003)
    assert law.correlation == pytest.approx(1 / (1 + law.concentration))
    even = Lines(chip=np.ones(800, int), lines=size, skipped=rng.binomial(size, 0.1), neighbours=np.zeros(800, int))
    assert fit(even).interval[0] > 100
    assert 0.8 < even.dispersion < 1.2


def test_absent_or_wrong_data(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path)
    (tmp_path / "neurram").mkdir()
    path = tmp_path / "neurram" / "bad_lines.json"
    for text in ("{", "[]", '{"cores": [{"chip": 1}]}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(FileFormatError, match="does not hold the lists of lines"):
            read(tmp_path)
    core = {"chip": 1, "rows_spanned": 2, "bad_rows": [1, 2, 3], "columns_spanned": 4, "bad_columns": []}
    for cores in ([core], []):
        path.write_text(json.dumps({"cores": cores}), encoding="utf-8")
        with pytest.raises(FileFormatError, match="at least one core, with no more lines skipped than it has"):
            read(tmp_path)
