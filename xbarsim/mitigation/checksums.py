"""Checksum columns: weights that are added to an array so that its own outputs tell when, and where, it is faulty.

Algorithm-based fault tolerance, K.-H. Huang and J. A. Abraham, IEEE Transactions on Computers C-33(6), 518-528 (1984),
doi:10.1109/TC.1984.1676475 (not verified), on an array: a column that holds the negative sum of the others makes the
sum of all outputs 0, whatever the inputs. What is left of it, the residual, is noise, rounding, and the error of
outputs that stuck cells falsify. A second sum, which weighs each output by its place, tells which output it is. Both
work while the array is used; nothing else need be known of its weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer, check_real, shown

__all__ = ["ChecksumReport", "ChecksumSum", "Checksums", "output_sigma"]

FloatArray = npt.NDArray[np.float64]
IntegerArray = npt.NDArray[np.int64]

_MOST_OUTPUTS = 2**15
_MOST_WEIGHT = 2**20


@dataclass(frozen=True, kw_only=True)
class ChecksumSum:
    """In which columns one of the sums is held.

    A sum is larger than a weight can be: it is cut into columns of which one unit counts several. What a column counts
    multiplies its noise too, so that a few columns of large counts are noisier than many of small ones.

    Attributes
    ----------
    counts
        What one unit of each column counts, falling to 1. The first ones are alike, and share the sum; each of the
        others holds what is left.
    """

    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.counts, tuple | list) or not 1 <= len(self.counts) <= 2 * _MOST_OUTPUTS:
            raise InputError(f"counts must be 1 to {2 * _MOST_OUTPUTS} whole numbers, got {shown(self.counts)}")
        object.__setattr__(self, "counts", tuple(self.counts))
        for place, count in enumerate(self.counts):
            check_integer(f"counts[{place}]", count, at_least=1, at_most=2**62)
        if any(after > before for before, after in pairwise(self.counts)) or self.counts[-1] != 1:
            raise InputError(f"counts must fall to 1, got {shown(self.counts)}")

    @classmethod
    @entrance
    def smallest(cls, most: int, largest: int, variance: float) -> ChecksumSum:
        """The fewest columns for a sum whose noise is bounded.

        Parameters
        ----------
        most
            Largest magnitude of the sum.
        largest
            Largest magnitude of a weight.
        variance
            What the columns may add to the variance of the sum, in units of that of an output. Where no columns keep
            to it, those are taken that are least noisy: all count 1, or as little as 32,768 columns can.
        """
        most = max(1, check_integer("most", most, at_least=0, at_most=2**53))
        largest = check_integer("largest", largest, at_least=1, at_most=_MOST_WEIGHT)
        variance = check_real("variance", variance, at_least=0.0, at_most=1e150)
        cap = min(-(-most // largest), _MOST_OUTPUTS)  # from here on all count 1, or as little as so many can
        best: list[int] | None = None
        for alike in range(1, cap + 1):
            if best is not None and alike >= len(best):
                break
            count = -(-most // (alike * largest))
            if alike * count**2 > variance and alike < cap:
                continue
            counts = [count] * alike
            while count > 1:
                count = -(-(count // 2) // largest)
                counts.append(count)
            enough = sum(each**2 for each in counts) <= variance
            if (best is None and alike == cap) or (enough and (best is None or len(counts) < len(best))):
                best = counts
        assert best is not None
        return cls(counts=tuple(best))

    def cut(self, sums: IntegerArray) -> IntegerArray:
        """Weights of its columns, shape ``(inputs, columns)``; `sums` of shape ``(inputs,)``."""
        alike = self.counts.count(self.counts[0])
        whole = np.rint(sums / self.counts[0]).astype(np.int64)
        share, over = np.divmod(whole, alike)
        columns = [share + (place < over) for place in range(alike)]
        rest = sums - self.counts[0] * whole
        for count in self.counts[alike:]:
            columns.append(np.rint(rest / count).astype(np.int64))
            rest = rest - count * columns[-1]
        return np.stack(columns, axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChecksumReport:
    """What the checksums say of some vectors; every array is of shape ``(vectors,)``.

    Attributes
    ----------
    residual
        Sum of the outputs and the checksum columns, in units of the outputs: 0 but for errors.
    flagged
        Whether it is beyond the threshold.
    output
        Which output is faulty, if one alone is; -1 where nothing is flagged or there is no weighted sum.
    """

    residual: FloatArray
    flagged: npt.NDArray[np.bool_]
    output: IntegerArray

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Checksums:
    """Checksum columns of one array.

    Attributes
    ----------
    outputs
        Of the array, without the checksums.
    largest
        Largest magnitude of a weight, in units of the codes.
    plain
        How the sum of the outputs is held.
    weighted
        How the sum is held that weighs output j of n by ``2 j - (n - 1)``; ``None`` for none: faults are then detected
        but not located. Weights around 0 take fewer columns than 1 to n, and halve the noise beside what tells two
        outputs apart.

    Notes
    -----
    With sigma the standard deviation of an output (all alike and independent; a converter of step s adds s^2 / 12 for
    its rounding), that of the residual is ``sigma sqrt(n + sum counts^2)``, counts being those of the checksum columns,
    and an output that is wrong by e shifts it by e. All else follows from the normal law. Where errors of several
    outputs add up to nothing they are not seen; where several outputs are wrong the place that is told is none of them,
    as a rule.

    Vectors that drive one word line each (the rows of an identity matrix, times the largest input) tell the row of a
    fault: the vector that is flagged. The residual over the input is then how far the weight is off.

    Examples
    --------
    >>> import numpy as np
    >>> from xbarsim.mitigation import Checksums
    >>> weights = np.random.default_rng(1).normal(0, 30, (128, 128)).round().astype(int)
    >>> checksums = Checksums.of(weights, 127)
    >>> checksums.columns, checksums.additions
    (6, 260)
    >>> array = checksums.extend(weights)
    >>> inputs = np.ones((1, 128))
    >>> checksums.check(inputs @ array, threshold=0.5).flagged
    array([False])
    >>> array[5, 3] += 4  # a stuck cell
    >>> report = checksums.check(inputs @ array, threshold=0.5)
    >>> report.flagged, report.output, report.residual
    (array([ True]), array([3]), array([4.]))
    """

    outputs: int
    largest: int
    plain: ChecksumSum
    weighted: ChecksumSum | None = None

    def __post_init__(self) -> None:
        check_integer("outputs", self.outputs, at_least=1, at_most=_MOST_OUTPUTS)
        check_integer("largest", self.largest, at_least=1, at_most=_MOST_WEIGHT)
        check_instance("plain", self.plain, ChecksumSum)
        check_instance("weighted", self.weighted, (ChecksumSum, type(None)))

    @classmethod
    @entrance
    def of(
        cls, weights: npt.NDArray[np.int64], largest: int, *, weighted: bool = True, added: float = 0.5
    ) -> Checksums:
        """The fewest columns whose own noise is bounded.

        Parameters
        ----------
        weights
            Codes of the array, integers of shape ``(inputs, outputs)``, at least one of each.
        largest
            Largest magnitude that a code can have.
        weighted
            Whether faults shall be located.
        added
            Variance that the columns may add to a residual, relative to that of the outputs; more lets there be fewer.
            Where no columns keep to it, those are taken that are least noisy.

        Raises
        ------
        InputError
            If `weights` are no such integers, or one is beyond `largest`.
        """
        check_integer("largest", largest, at_least=1, at_most=_MOST_WEIGHT)
        added = check_real("added", added, at_least=0.0, at_most=1e100)
        codes = _checked(weights, largest)
        outputs = codes.shape[1]
        places = _places(outputs)
        plain, located = (int(np.abs(codes @ weight).max()) for weight in (np.ones(outputs, np.int64), places))
        return cls(
            outputs=outputs,
            largest=largest,
            plain=ChecksumSum.smallest(plain, largest, added * outputs),
            weighted=ChecksumSum.smallest(located, largest, added * float((places**2).sum())) if weighted else None,
        )

    @property
    def columns(self) -> int:
        """Outputs that are added to the array."""
        return len(self.plain.counts) + (0 if self.weighted is None else len(self.weighted.counts))

    @property
    def additions(self) -> int:
        """Digital additions for each vector: of the outputs and columns, and with weights for the second sum.

        A multiplication by a place or a count is not counted: shifts and additions of few bits, as hardware would do
        it, or none where it sums as the outputs come in.
        """
        plain = self.outputs + len(self.plain.counts) - 1
        return plain if self.weighted is None else plain + self.outputs + len(self.weighted.counts) - 1

    @cached_property
    def _weights(self) -> FloatArray:
        """What each output and column counts in either sum, shape ``(sums, outputs + columns)``."""
        sums = [self.plain, *([] if self.weighted is None else [self.weighted])]
        weights = np.zeros((len(sums), self.outputs + self.columns))
        weights[:, : self.outputs] = np.stack([np.ones(self.outputs), _places(self.outputs)])[: len(sums)]
        start = self.outputs
        for row, each in zip(weights, sums, strict=True):
            row[start : start + len(each.counts)] = each.counts
            start += len(each.counts)
        return weights

    @entrance
    def extend(self, weights: npt.NDArray[np.int64]) -> IntegerArray:
        """The weights with those of the checksum columns behind them, shape ``(inputs, outputs + columns)``.

        Raises
        ------
        InputError
            If `weights` are not integers of the number of outputs, one is beyond `largest`, or a sum is too large for
            its columns.
        """
        codes = _checked(weights, self.largest)
        if codes.shape[1] != self.outputs:
            raise InputError(f"weights must have {self.outputs} outputs, got {codes.shape[1]}")
        parts = [codes, self.plain.cut(-codes.sum(axis=1))]
        if self.weighted is not None:
            parts.append(self.weighted.cut(-codes @ _places(self.outputs)))
        extended = np.concatenate(parts, axis=1)
        if np.abs(extended).max() > self.largest:
            raise InputError(
                f"weights must have sums that fit columns of weights up to {self.largest}, got one that takes "
                f"{np.abs(extended).max()}"
            )
        return extended

    @entrance
    def check(self, sums: FloatArray, *, threshold: float) -> ChecksumReport:
        """Look at the outputs of an array.

        Parameters
        ----------
        sums
            What the array gave for its outputs and checksum columns, shape ``(vectors, outputs + columns)``.
        threshold
            Residuals beyond it, on either side, are flagged; in units of `sums`. See :meth:`threshold`.
        """
        threshold = check_real("threshold", threshold, at_least=0.0)
        if sums.ndim != 2 or sums.shape[1] != self.outputs + self.columns:
            raise InputError(f"sums must be of shape (vectors, {self.outputs + self.columns}), got {sums.shape}")
        values = sums.astype(np.float64)
        if not np.isfinite(values).all():
            raise InputError("sums must be finite")
        residuals = values @ self._weights.T
        plain = residuals[:, 0]
        flagged = np.abs(plain) > threshold
        output = np.full(len(sums), -1, np.int64)
        if self.weighted is not None and flagged.any():
            place = (residuals[flagged, 1] / plain[flagged] + self.outputs - 1) / 2
            output[flagged] = np.clip(np.rint(place), 0, self.outputs - 1).astype(np.int64)
        return ChecksumReport(residual=plain, flagged=flagged, output=output)

    @entrance
    def residual_sigma(self, sigma: float) -> float:
        """Standard deviation of the residual where that of each output is `sigma`."""
        sigma = check_real("sigma", sigma, at_least=0.0, at_most=1e150)
        return float(sigma * np.sqrt((self._weights[0] ** 2).sum()))

    @entrance
    def threshold(self, sigma: float, *, false_alarm: float) -> float:
        """The threshold beyond which a sound array comes with a probability of `false_alarm`.

        Parameters
        ----------
        sigma
            Standard deviation of an output.
        false_alarm
            For one vector, above 0 and below 1.
        """
        from scipy.stats import norm

        false_alarm = check_real("false_alarm", false_alarm, above=0.0, below=1.0)
        return self.residual_sigma(sigma) * float(norm.isf(false_alarm / 2))

    @entrance
    def worst_rounding(self, step: float) -> float:
        """The largest residual that rounding alone can give, where each output is rounded to multiples of `step`."""
        return check_real("step", step, at_least=0.0, at_most=1e150) / 2 * float(np.abs(self._weights[0]).sum())

    @entrance
    def detection(self, error: float, sigma: float, *, threshold: float) -> float:
        """The chance that one vector is flagged whose outputs are wrong by `error` in sum; 0 for false alarms.

        Parameters
        ----------
        error, sigma
            In units of the outputs; standard deviation of an output.
        threshold
            As for :meth:`check`.
        """
        from scipy.stats import norm

        error = check_real("error", error)
        threshold = check_real("threshold", threshold, at_least=0.0)
        spread = self.residual_sigma(sigma)
        if spread == 0:
            return float(abs(error) > threshold)
        return float(norm.sf((threshold - error) / spread) + norm.cdf((-threshold - error) / spread))

    @entrance
    def location(self, error: float, sigma: float, *, output: int) -> float:
        """The chance that the place told is right where one output alone is wrong by `error`, flagged or not.

        Parameters
        ----------
        error, sigma
            As for :meth:`detection`.
        output
            Which output is wrong.

        Raises
        ------
        InputError
            If there is no such output, or no weighted sum.
        """
        from scipy.special import owens_t

        error = check_real("error", error, at_least=-1e150, at_most=1e150)
        sigma = check_real("sigma", sigma, at_least=0.0, at_most=1e150)
        output = check_integer("output", output, at_least=0, at_most=self.outputs - 1)
        if self.weighted is None:
            raise InputError("weighted must be given for a place to be told, got None")
        if self.outputs == 1:
            return 1.0
        if sigma == 0:  # nothing is in the way of an error, and nothing tells a place without one
            return float(error != 0)
        # With first and second residual x and y the place v is right if y / x lies between v - 1 and v + 1: both of
        # (v + 1) x - y and y - (v - 1) x are above 0, or both below. The outermost places have one bound, and x itself
        # takes the place of the other. x and y are independent, as places add up to 0; all have the mean `error`.
        place = float(_places(self.outputs)[output])
        below = (place + 1, -1.0) if output < self.outputs - 1 else (1.0, 0.0)
        above = (1 - place, 1.0) if output > 0 else (1.0, 0.0)
        both = np.array([below, above]) * np.sqrt((self._weights**2).sum(axis=1))
        spread = np.sqrt((both**2).sum(axis=1))
        correlation = float((both[0] / spread[0]) @ (both[1] / spread[1]))
        # Owen, Annals of Mathematical Statistics 27, 1075 (1956), for two normal variables of means of one sign.
        scale = np.sqrt(1 - correlation**2)
        first, second = error / sigma / spread
        missed = owens_t(first, (spread[0] / spread[1] - correlation) / scale)
        missed += owens_t(second, (spread[1] / spread[0] - correlation) / scale)
        return float(1 - 2 * missed)


@entrance
def output_sigma(*, noise: float, step: float, counts: tuple[float, ...] = (1.0,)) -> float:
    """Standard deviation of an output, for :class:`Checksums`: read noise and rounding of all reads that it sums.

    Rounding is taken to be even over a step and independent of the noise: right where a read varies by a step or more.

    Parameters
    ----------
    noise
        Standard deviation of what comes to a converter in one read.
    step
        Of the converter, in the same unit; 0 for none.
    counts
        What the code of each read counts, such as the powers of two of planes of the inputs and slices of the weights.

    Examples
    --------
    Two slices of two bits, each read with a noise of half a step:

    >>> round(output_sigma(noise=0.5, step=1.0, counts=(1, 4)), 3)
    2.38
    """
    noise = check_real("noise", noise, at_least=0.0, at_most=1e150)
    step = check_real("step", step, at_least=0.0, at_most=1e150)
    if not counts:
        raise InputError("counts must be of at least one read, got none")
    weights = [
        check_real(f"counts[{place}]", count, at_least=-1e150, at_most=1e150) for place, count in enumerate(counts)
    ]
    return float(np.hypot(noise, step / np.sqrt(12)) * np.hypot.reduce(weights))


def _places(outputs: int) -> IntegerArray:
    return 2 * np.arange(outputs, dtype=np.int64) - (outputs - 1)


def _checked(weights: npt.NDArray[np.int64], largest: int) -> IntegerArray:
    if weights.ndim != 2 or 0 in weights.shape or not np.issubdtype(weights.dtype, np.integer):
        raise InputError(
            f"weights must be integers of shape (inputs, outputs), got shape {weights.shape} and type {weights.dtype}"
        )
    if weights.shape[1] > _MOST_OUTPUTS:
        raise InputError(f"weights must have <= {_MOST_OUTPUTS} outputs, got {weights.shape[1]}")
    for extreme in (int(weights.min()), int(weights.max())):
        if abs(extreme) > largest:
            raise InputError(f"weights must be >= {-largest} and <= {largest}, got {extreme}")
    return weights.astype(np.int64)
