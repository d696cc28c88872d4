"""What a plan, and what a backend promises: the answers of the reference engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from xbarsim.design import Design, Periphery
from xbarsim.devices import Cell
from xbarsim.engine import PLANS, Backend, Case, Plan, reference_multiply
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Balanced, Differential, Encoding, Mapping, Offset, TwoColumn, Unary, map_matrix
from xbarsim.testing.promises import call, for_all, load_hypothesis, promise

__all__ = ["check_backend", "check_plan"]

_CELL = Cell(g_min=1e-6, g_max=1.2e-5, levels=256)  # its g_min is no whole number of level steps
_ENCODINGS: tuple[Encoding, ...] = (
    TwoColumn(),
    Differential(),
    Balanced(),
    Offset(),
    Offset(reference="digital"),
    Unary(),
)


def _case(seed: int) -> tuple[Case, np.ndarray[Any, Any]]:
    """A layer of a die without noise, and input codes (vectors, inputs)."""
    rng = np.random.default_rng(seed)
    encoding = _ENCODINGS[rng.integers(len(_ENCODINGS))]
    weight_bits, cell_bits = int(rng.integers(2, 7)), int(rng.integers(1, 5))
    each = encoding.slice_count(weight_bits, cell_bits) * encoding.sides
    rows = int(rng.choice([3, 16, 64]))
    mapping = Mapping(
        encoding=encoding,
        rows=rows,
        columns=int(rng.integers(1, 4)) * each + encoding.has_reference,
        weight_bits=weight_bits,
        cell_bits=cell_bits,
        pack=str(rng.choice(["none", "matrix", "block"])),
    )
    bits = int(rng.integers(3, 9))
    converters: tuple[dict[str, Any], ...] = (
        {},
        {"adc_range": "lossless"},
        {"adc_bits": bits, "adc_range": float(2.0**bits * rng.uniform(1.1, 4.0))},
    )
    input_bits = int(rng.integers(2, 9))
    design = Design(
        cell=_CELL,
        mapping=mapping,
        periphery=Periphery(
            input_bits=input_bits,
            dac_bits=int(rng.integers(1, input_bits + 1)),
            signed_inputs="two_pass" if rng.integers(2) else "offset",
            **converters[rng.integers(3)],
        ),
    )
    inputs, outputs = int(rng.integers(1, 2 * rows + 1)), int(rng.integers(1, 2 * mapping.outputs_per_tile + 1))
    codes = rng.integers(-mapping.max_weight, mapping.max_weight, (inputs, outputs), endpoint=True)
    codes[rng.random(codes.shape) < rng.choice([0.3, 1.0], p=[0.8, 0.2])] = 0
    matrix = map_matrix(codes, mapping)
    cells = matrix.levels.astype(np.float32)
    if rng.integers(2):
        cells += (np.rint(rng.normal(0, 0.1, cells.shape) * 2**16) / 2**16).astype(np.float32)
    cells[rng.random(cells.shape) < 0.05] = mapping.max_level
    cells = np.where(matrix.used, cells, 0)
    drive = design.drive(signed=bool(rng.integers(2)))
    given = rng.integers(drive.min_input, drive.max_input, (17, inputs), endpoint=True)
    if rng.random() < 0.25:  # cells whose current is not proportional to the voltage
        inner = np.sort(rng.integers(0, drive.max_plane * 2**8, drive.max_plane - 1, endpoint=True)) / 2**8
        drive = replace(drive, values=(0.0, *inner.tolist(), float(drive.max_plane)))
    case = Case(
        reading=design.reading(matrix),
        drive=drive,
        converter=design.converter(rows=rows),
        cells=cells,
        whole=bool((cells == np.rint(cells)).all()),
        noisy=False,
        precision="double",
    )
    return case, given


def _reference(case: Case, codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return reference_multiply(codes, case.reading, case.cells, case.drive, case.converter)


@entrance
def check_plan(plan: type[Plan], *, examples: int = 200) -> None:
    """Check that a plan keeps the promise of :class:`xbarsim.engine.Plan`.

    It must have a name; fit some of many random layers; say in words why it does not fit the others; and where it fits
    give the answers of the reference engine, bit for bit in double precision, for any grouping of the vectors.

    Parameters
    ----------
    plan
        The class.
    examples
        How many layers are tried.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    ImportError
        If hypothesis is not installed.
    """
    st = load_hypothesis().strategies
    promise(isinstance(plan.name, str) and plan.name, "a plan must have a name", repr(getattr(plan, "name", None)))
    fits = []

    def equal(seed: int) -> None:
        case, codes = _case(seed)
        misfit = call("saying why it does not fit", plan.misfit, case)
        if misfit is not None:
            promise(isinstance(misfit, str) and misfit.strip(), "a misfit must be said in words", repr(misfit))
            return
        fits.append(seed)
        made = call("making the plan", plan, case)
        wanted = _reference(case, codes)
        together = call("multiplying", made.multiply, codes[np.newaxis])[0]
        apart = call("multiplying", made.multiply, codes[:, np.newaxis])[:, 0]
        for product in (together, apart):
            promise(
                np.array_equal(product, wanted),
                "a plan must give the answers of the reference engine",
                f"layer {seed} is off by up to {np.abs(product - wanted).max()}",
            )

    for_all(equal, examples, seed=st.integers(0, 2**32 - 1))
    promise(fits, "a plan must fit some layer", f"none of {examples}")


@entrance
def check_backend(backend: Backend, *, examples: int = 100) -> None:
    """Check that a backend keeps the promise of :class:`xbarsim.engine.Backend`.

    It must have a name; and for every plan of many random layers without noise give the answers of the reference engine
    in double precision, bit for bit where they are whole and to 1e-9 of the largest elsewhere, or refuse the layout by
    `InputError`. It must not refuse all.

    Parameters
    ----------
    backend
        The backend.
    examples
        How many layers are tried.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    ImportError
        If hypothesis is not installed.
    """
    st = load_hypothesis().strategies
    promise(isinstance(backend.name, str) and backend.name, "a backend must have a name", repr(backend.name))
    ran = []

    def equal(seed: int) -> None:
        case, codes = _case(seed)
        wanted = _reference(case, codes)
        for plan in PLANS:
            if plan.misfit(case) is not None:
                continue
            try:
                made = plan(case, backend=backend)
            except InputError:
                continue
            ran.append(plan.name)
            product = call("multiplying", made.multiply, codes[np.newaxis])[0]
            off = np.abs(product - wanted).max(initial=0.0)
            bound = (
                0.0
                if case.whole and case.drive.values is None
                else 1e-9 * max(1.0, float(np.abs(wanted).max(initial=0.0)))
            )
            promise(off <= bound, f"plan {plan.name} must give the answers of the reference", f"layer {seed}: {off}")

    for_all(equal, examples, seed=st.integers(0, 2**32 - 1))
    promise(ran, "a backend must run some layout", "it refused all")
