"""Small mistakes that the other tests of this room did not see: one test for each."""

from __future__ import annotations

import pytest

from tests.cost.uses import use
from xbarsim.cost import Hardware, estimate


def test_cells_of_a_die_conduct_in_the_reads_of_the_design_not_in_those_of_the_hardware() -> None:
    """Hardware that reads 8 rows at once takes 16 times the reads of 128 rows; each row conducts in one of them."""
    forms = Hardware.load("forms2021")
    layer = use(adc_bits=4, rows=128, vectors_per_image=3, cells_power=5e-3)
    assert forms.reads_of_vector(layer) == 16 * layer.reads_per_vector
    work = estimate([layer], forms).workload()
    cells = [cost.energy for cost in work.components if cost.name == "cells"]
    assert cells == [pytest.approx(5e-3 * 3 * 16 * 128 / (4 * 2.1e9))]
    again = estimate([use(adc_bits=4, rows=128, vectors_per_image=6, reads_per_vector=8, cells_power=5e-3)], forms)
    assert [cost.energy for cost in again.workload().components if cost.name == "cells"] == pytest.approx(cells)


def test_a_buffer_of_a_thousand_bytes_is_one_kilobyte() -> None:
    """KB is 1,000 bytes, as SI has it: 8,000 bits moved are 1.000 of them, not 0.977."""
    layer = use(inputs=600, outputs=400, input_bits=8, vectors_per_image=1)
    work = estimate([layer], Hardware.load("isaac2016")).workload()
    assert work.layers[0].actions.buffer_bit == 8_000
    lines = str(work).splitlines()
    header = next(line for line in lines if "buffer (KB)" in line)
    row = lines[lines.index(header) + 2]
    end = header.index("buffer (KB)") + len("buffer (KB)")
    assert row[:end].split()[-1] == "1.000"
    twice = str(
        estimate([use(inputs=600, outputs=400, input_bits=8, vectors_per_image=2)], work.peak.hardware).workload()
    )
    assert twice.splitlines()[lines.index(header) + 2][:end].split()[-1] == "2.000"
