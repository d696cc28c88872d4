"""Spoken words: the Free Spoken Digit Dataset, a log-mel front end, and keywords as features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xbarsim.data.folder import data_file
from xbarsim.foundation.archives import read_npz
from xbarsim.foundation.validation import (
    InputError,
    check_array,
    check_choice,
    check_integer,
    check_real,
)

__all__ = [
    "KEYWORDS",
    "SPOKEN_DIGITS_SHAPE",
    "Recordings",
    "SpokenDigitFeatures",
    "load_keywords",
    "load_spoken_digits",
    "log_mel",
    "mel_filters",
    "spoken_digit_features",
]

# --- recordings

_DIGITS_FILE = ("fsdd", "fsdd_audio.npz")
_DIGITS_SHA256 = {
    "audio": "801bcecb25fa3bfb54fb3c0b1d94732d8456ce5b0c1f036667852a341a3aacd4",
    "offsets": "95c7ee1b78f21637",
    "label": "46344ee0505619dd",
    "speaker": "583e267be7000d95",
    "index": "57841e77a40daa1b",
}
_TEST_INDICES = 5  # of every speaker and digit, recordings 0 to 4 are for testing: the data set's own split
_DIGITS_RATE = 8000


@dataclass(frozen=True, kw_only=True, eq=False)
class Recordings:
    """Recorded words.

    Attributes
    ----------
    audio
        Samples of each recording, int16 (samples,), of its own length.
    labels
        The word of each, int64 (recordings,).
    speakers
        Number of the speaker of each, int64 (recordings,).
    rate
        Samples a second, Hz.
    """

    audio: tuple[npt.NDArray[np.int16], ...]
    labels: npt.NDArray[np.int64]
    speakers: npt.NDArray[np.int64]
    rate: int


def load_spoken_digits(split: str) -> Recordings:
    """Load the Free Spoken Digit Dataset: six speakers say each digit fifty times.

    Parameters
    ----------
    split
        ``"train"`` (2,700 recordings) or ``"test"`` (300): the data set's own split, in which every speaker is in both.

    Returns
    -------
    Recordings
        At 8 kHz, in an order in which any first few are a fair sample: a recording's number, then digit, then speaker.

    Raises
    ------
    FileNotFoundError
        If the data folder or its ``fsdd`` file is absent.
    FileFormatError
        If the file is truncated or corrupt.
    InputError
        If `split` is neither.

    References
    ----------
    Z. Jackson et al., Free Spoken Digit Dataset, https://github.com/Jakobovski/free-spoken-digit-dataset (CC BY-SA
    4.0).
    """
    check_choice("split", split, ("train", "test"))
    arrays = read_npz(data_file(*_DIGITS_FILE), "spoken digits", digests=_DIGITS_SHA256)
    labels, speakers, index = (arrays[name].astype(np.int64) for name in ("label", "speaker", "index"))
    order = np.lexsort((speakers, labels, index))
    chosen = order[(index[order] < _TEST_INDICES) == (split == "test")]
    offsets = arrays["offsets"].astype(np.int64)
    audio = arrays["audio"].astype(np.int16, copy=False)
    return Recordings(
        audio=tuple(audio[offsets[item] : offsets[item + 1]] for item in chosen),
        labels=labels[chosen],
        speakers=speakers[chosen],
        rate=_DIGITS_RATE,
    )


# --- the front end


def mel_filters(
    bands: int, window: int, rate: float, *, lowest: float = 0.0, highest: float | None = None
) -> npt.NDArray[np.float64]:
    """Triangular filters, evenly spaced on the mel scale m = 2595 log10(1 + f / 700 Hz).

    Parameters
    ----------
    bands
        Filters.
    window
        Samples of a frame.
    rate
        Samples a second, Hz.
    lowest, highest
        Where the first filter begins and the last one ends, Hz; ``None`` for half the rate.

    Returns
    -------
    numpy.ndarray
        float64 (bands, window // 2 + 1): the share of each line of the spectrum in each band, 1 at a filter's middle.

    Raises
    ------
    InputError
        If a number is out of its bound, or a band is so narrow that no line of the spectrum falls into it.

    References
    ----------
    D. O'Shaughnessy, Speech Communication: Human and Machine, Addison-Wesley, 1987, for the scale; S. Davis and P.
    Mermelstein, IEEE Trans. Acoustics, Speech, and Signal Processing 28, 357 (1980),
    https://doi.org/10.1109/TASSP.1980.1163420, for the filters.
    """
    check_integer("bands", bands, at_least=1)
    check_integer("window", window, at_least=2)
    rate = check_real("rate", rate, above=0.0)
    lowest = check_real("lowest", lowest, at_least=0.0, below=rate / 2)
    highest = check_real("highest", rate / 2 if highest is None else highest, above=lowest, at_most=rate / 2)
    mel = np.linspace(2595 * np.log10(1 + lowest / 700), 2595 * np.log10(1 + highest / 700), bands + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    lines = np.fft.rfftfreq(window, 1 / rate)
    rising = (lines - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - lines) / (edges[2:] - edges[1:-1])[:, None]
    filters: npt.NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0.0, None)
    if not filters.any(axis=1).all():
        narrow = int(np.argmin(filters.any(axis=1)))
        raise InputError(
            f"bands must be so few that each has a line of the spectrum of {window} samples, got {bands}: none in "
            f"band {narrow}"
        )
    return filters


def log_mel(
    audio: npt.NDArray[np.integer] | npt.NDArray[np.floating],
    rate: float,
    *,
    bands: int = 24,
    window: int = 256,
    hop: int = 128,
    floor: float = 60.0,
) -> npt.NDArray[np.float32]:
    """Power of a recording in mel bands, frame by frame, in decibels below its loudest value, scaled to [0, 1].

    Frames are weighted by a Hann window; a recording shorter than one is filled up with silence, and samples that do
    not fill the last frame are left out.

    Parameters
    ----------
    audio
        Samples, (samples,), on any scale: only ratios count.
    rate
        Samples a second, Hz.
    bands
        Mel bands from 0 Hz to half the rate, see :func:`mel_filters`.
    window, hop
        Samples of a frame, and from one frame to the next.
    floor
        Decibels below the loudest value that are 0, as is everything below; the loudest value is 1.

    Returns
    -------
    numpy.ndarray
        float32 (frames, bands) in [0, 1]; all zeros for silence.

    Raises
    ------
    InputError
        If `audio` is no non-empty vector of finite numbers, or a number is out of its bound.

    Examples
    --------
    A tone of 1 kHz is loudest in the band around it:

    >>> import numpy as np
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(800) / 8000)
    >>> features = log_mel(tone, 8000, bands=10)
    >>> features.shape, features.argmax(axis=1).tolist()
    ((5, 10), [4, 4, 4, 4, 4])
    """
    kind = "integer" if np.asarray(audio).dtype.kind in "iu" else "floating"
    samples = check_array("audio", audio, dimensions=1, kind=kind).astype(np.float64)
    check_integer("hop", hop, at_least=1)
    floor = check_real("floor", floor, above=0.0)
    filters = mel_filters(bands, window, rate)
    samples = np.pad(samples, (0, max(0, window - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    power = np.abs(np.fft.rfft(frames * hann)) ** 2 @ filters.T
    loudest = power.max()
    if loudest == 0.0:
        return np.zeros(power.shape, np.float32)
    decibels = 10 * np.log10(np.maximum(power / loudest, 10 ** (-floor / 10)))
    features: npt.NDArray[np.float32] = (1 + decibels / floor).astype(np.float32)
    return features


SPOKEN_DIGITS_SHAPE = (64, 24)
"""Frames and bands of :func:`spoken_digit_features`: 1.04 s in frames of 32 ms, one every 16 ms."""


class SpokenDigitFeatures(NamedTuple):
    """Spoken digits as a network takes them.

    Attributes
    ----------
    features
        float32 (recordings, 64, 24) in [0, 1]: frames and mel bands.
    labels
        The digits, int64 (recordings,).
    cut
        Whether a recording was longer than 64 frames and lost the rest, bool (recordings,).
    """

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    cut: npt.NDArray[np.bool_]


def spoken_digit_features(split: str, *, count: int | None = None) -> SpokenDigitFeatures:
    """Spoken digits as frames of :func:`log_mel`, all of one length.

    Shorter recordings are followed by silence (zeros); of longer ones (14 of all 3,000) the loudest stretch is kept,
    the one with the greatest sum of features.

    Parameters
    ----------
    split
        ``"train"`` or ``"test"``, see :func:`load_spoken_digits`, which also says what is raised.
    count
        How many recordings, from the first; ``None`` for all.
    """
    recordings = load_spoken_digits(split)
    if count is not None:
        count = check_integer("count", count, at_least=1, at_most=len(recordings.labels))
    frames, bands = SPOKEN_DIGITS_SHAPE
    chosen = recordings.audio[:count]
    features = np.zeros((len(chosen), frames, bands), np.float32)
    cut = np.zeros(len(chosen), np.bool_)
    for number, audio in enumerate(chosen):
        found = log_mel(audio, recordings.rate, bands=bands)
        if len(found) > frames:
            sums = np.lib.stride_tricks.sliding_window_view(found.sum(axis=1, dtype=np.float64), frames).sum(axis=1)
            start = int(sums.argmax())
            found, cut[number] = found[start : start + frames], True
        features[number, : len(found)] = found
    return SpokenDigitFeatures(features, recordings.labels[:count], cut)


# --- keywords

KEYWORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unknown")
"""The classes of :func:`load_keywords`, in the order of the labels."""

_KEYWORDS_FILE = ("kws_mlperf_tiny", "kws01_test.npz")
_KEYWORDS_SHA256 = {
    "features": "c2e5f02def82726f5c49dfe85c311c52f295ad68561f6bae89931fdadaaedc73",
    "labels": "5ac94dbdf436c844edf433b207d8d61f0e10e0a86335f1b12beb3b2fdc212111",
    "scale": "",
    "zero_point": "",
}


def load_keywords() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Load the 1,000 utterances of MLPerf Tiny's keyword benchmark (kws01): a test set, without a training set.

    Returns
    -------
    features
        Mel-frequency cepstral coefficients, float32 (1000, 49, 10): frames and coefficients. They are the benchmark's
        int8 codes times their step, so a network sees what a microcontroller would.
    labels
        int64 (1000,), positions in `KEYWORDS`.

    Raises
    ------
    FileNotFoundError
        If the data folder or its ``kws_mlperf_tiny`` file is absent.
    FileFormatError
        If the file is truncated or corrupt.

    References
    ----------
    C. Banbury et al., MLPerf Tiny benchmark, 2021, https://arxiv.org/abs/2106.07597; P. Warden, Speech Commands, 2018,
    https://arxiv.org/abs/1804.03209 (CC BY 4.0). File: eembc/energyrunner at cf7c2f26, datasets/kws01.
    """
    arrays = read_npz(data_file(*_KEYWORDS_FILE), "keywords", digests=_KEYWORDS_SHA256)
    scale, zero = np.float32(arrays["scale"]), np.float32(arrays["zero_point"])
    return (arrays["features"].astype(np.float32) - zero) * scale, arrays["labels"].astype(np.int64)
