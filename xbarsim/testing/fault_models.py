"""What a fault model promises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.devices import FaultKind, FaultMap, FaultModel
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer
from xbarsim.testing.promises import call, check_value, for_all, load_hypothesis, promise, refuses

__all__ = ["FALSE_ALARM", "check_fault_model"]

#: Probability that a check fails a fault model that keeps all its promises, over the choice of seeds.
FALSE_ALARM = 1e-6


@entrance
def check_fault_model(
    model: FaultModel, *, shape: tuple[int, int, int] = (2, 6, 8), dies: int = 2000, seed: int = 0
) -> None:
    """Check that a fault model keeps the promises of :class:`xbarsim.devices.FaultModel`.

    It must be a frozen dataclass with an exact TOML round trip; give valid maps of any shape, the same from the same
    generator and nothing else; and break the share of cells of each kind, and each cell as often, as it states.

    Parameters
    ----------
    model
        The model, with the parameters it shall be tested with. The rates are also tested at a total of 0.2, where
        ``with_total`` can give it.
    shape
        (tiles, rows, columns) of the dies that the rates are tested on.
    dies
        How many, 100 or more; with more, smaller errors are found: with the standard deviation s of the share of broken
        cells of a die, an error of some 8 s / sqrt(dies).
    seed
        Of these dies.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    ImportError
        If hypothesis is not installed.

    Notes
    -----
    Cells may break together, so that only dies are independent. The mean of the shares is tested by betting against
    it [1]_, which is exact for whatever law they follow, and each cell against its binomial law. A model that keeps its
    promises fails for a share of less than `FALSE_ALARM` of all seeds.

    References
    ----------
    .. [1] I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting", Journal of the
       Royal Statistical Society B 86(1), 1-27 (2024), doi:10.1093/jrsssb/qkad009.
    """
    check_instance("model", model, FaultModel)
    check_integer("dies", dies, at_least=100)
    st = load_hypothesis().strategies

    check_value(model, FaultModel)
    _check_stated_rates(model)

    def draws(tiles: int, rows: int, columns: int, seed: int) -> None:
        size = (tiles, rows, columns)
        try:
            probability = np.asarray(model.probability(size))
        except InputError:
            refuses(
                f"sampling {size} cells, whose probabilities are refused,",
                model.sample, size, np.random.default_rng(seed),
            )  # fmt: skip
            return
        promise(
            probability.shape == (rows, columns) and (probability >= 0).all() and (probability <= 1).all(),
            "probability(shape) must be in [0, 1] for each of (rows, columns)",
            f"for {size} it has the shape {probability.shape} and goes from {probability.min()} to {probability.max()}",
        )
        promise(
            math.isclose(probability.mean(), model.total, rel_tol=1e-9, abs_tol=1e-12),
            "the mean of probability(shape) must be total in arrays of any shape",
            f"for {size} it is {probability.mean()}, total is {model.total}",
        )
        promise(
            not model.even or np.ptp(probability) <= 1e-12,
            "probability(shape) must be the same for all cells of a model that is even",
            f"for {size} it goes from {probability.min()} to {probability.max()}",
        )
        state: Any = np.random.get_state(legacy=True)  # noqa: NPY002  whether somebody uses it
        drawn = call(f"sampling {size} cells", model.sample, size, np.random.default_rng(seed))
        promise(isinstance(drawn, FaultMap), "sample must give a FaultMap", f"it gave {type(drawn).__name__}")
        promise(drawn.shape == size, "the map must be of the shape asked for", f"{drawn.shape} instead of {size}")
        after: Any = np.random.get_state(legacy=True)  # noqa: NPY002
        same = all(np.array_equal(one, other) for one, other in zip(state, after, strict=True))
        promise(same, "sample must draw from the generator it is given alone", "it drew from NumPy's global one")

    one, other = (call("sample", model.sample, shape, np.random.default_rng(seed)) for _ in range(2))
    promise(
        one == other,
        "the same generator must give the same map",
        f"two of seed {seed} gave maps of {shape} that differ",
    )
    for_all(
        draws,
        tiles=st.integers(0, 4),
        rows=st.integers(1, 12),
        columns=st.integers(1, 12),
        seed=st.integers(0, 2**32 - 1),
    )
    refuses("a shape of two numbers", model.sample, (4, 4), np.random.default_rng(seed))
    refuses("a seed instead of a generator", model.sample, shape, 7)

    variants = [model]
    for rate in (0.2, 0.0):
        try:
            other = model.with_total(rate)
        except InputError:
            continue
        promise(
            math.isclose(other.total, rate, rel_tol=1e-9, abs_tol=1e-12),
            "with_total(rate) must give a model whose total is rate",
            f"with_total({rate}) has a total of {other.total}",
        )
        check_value(other, FaultModel)
        _check_stated_rates(other)
        variants.append(other)
    refuses("with_total(1.5)", model.with_total, 1.5)
    sequence = np.random.SeedSequence(seed)
    for variant, child in zip(variants, sequence.spawn(len(variants)), strict=True):
        try:
            variant.probability(shape)
        except InputError:
            continue
        draws_needed = dies if variant.total else 10
        _check_sampled_rates(variant, shape, draws_needed, np.random.default_rng(child), FALSE_ALARM / len(variants))


def _check_stated_rates(model: FaultModel) -> None:
    rates = model.rates
    promise(
        set(rates) == set(FaultKind) and all(0 <= rate <= 1 for rate in rates.values()),
        "rates must state a share in [0, 1] for every FaultKind",
        f"it is {rates}",
    )
    promise(
        math.isclose(sum(rates.values()), model.total, rel_tol=1e-9, abs_tol=1e-15),
        "total must be the sum of rates",
        f"it is {model.total}, and the sum {sum(rates.values())}",
    )


def _check_sampled_rates(
    model: FaultModel, shape: tuple[int, int, int], dies: int, rng: np.random.Generator, false_alarm: float
) -> None:
    cells = math.prod(shape)
    shares = np.empty((dies, len(FaultKind)))
    broken = np.zeros(cells, np.int64)
    for die in range(dies):
        drawn = model.sample(shape, rng)
        shares[die] = np.bincount(drawn.kind, minlength=len(FaultKind) + 1)[1:] / cells
        broken[drawn.index] += 1
    named = [(kind.name, shares[:, i], model.rates[kind]) for i, kind in enumerate(FaultKind)]
    named.append(("any kind", shares.sum(axis=1), model.total))
    for name, sample, stated in named:  # half of the false alarms for the shares, half for the cells
        promise(
            _may_have_mean(sample, stated, false_alarm / 2 / len(named)),
            "the share of broken cells must be the stated one in expectation",
            f"over {dies} dies {sample.mean():.5f} of the cells were broken ({name}), {stated:.5f} expected, "
            f"by {model!r}",
        )
    from scipy.stats import binom

    stated_cells = np.broadcast_to(model.probability(shape), shape).reshape(-1)
    tail = 2 * np.minimum(binom.cdf(broken, dies, stated_cells), binom.sf(broken - 1, dies, stated_cells))
    worst = int(np.argmin(tail))
    promise(
        tail[worst] > false_alarm / 2 / cells,
        "every cell must be broken as often as probability(shape) states",
        f"the cell at {tuple(int(i) for i in np.unravel_index(worst, shape))} was broken on {broken[worst]} of {dies} "
        f"dies, with a stated probability of {stated_cells[worst]:.5f} of {model!r}",
    )


def _may_have_mean(sample: npt.NDArray[np.float64], mean: float, false_alarm: float) -> bool:
    """Whether independent numbers in [0, 1] can have the mean `mean`, whatever their law.

    Two gamblers start with 1 each and bet that the numbers are higher, or lower, than `mean`. If it is the mean,
    neither comes to own 1 / p with a probability above p. Stakes follow the spread seen so far.
    """
    if mean in (0.0, 1.0):
        return bool((sample == mean).all())
    log = math.log(2 / false_alarm)
    seen = np.arange(1, sample.size + 1)
    average = (0.5 + np.cumsum(sample)) / (seen + 1)
    variance = (0.25 + np.cumsum((sample - average) ** 2)) / (seen + 1)
    stake = np.sqrt(2 * log / (sample.size * np.concatenate([[0.25], variance[:-1]])))
    above = np.cumsum(np.log1p(np.minimum(stake, 0.75 / mean) * (sample - mean)))
    below = np.cumsum(np.log1p(-np.minimum(stake, 0.75 / (1 - mean)) * (sample - mean)))
    return bool(max(above.max(), below.max()) < log)
