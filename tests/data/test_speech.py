"""Spoken digits, keywords, and the front end."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from xbarsim.data import (
    KEYWORDS,
    SPOKEN_DIGITS_SHAPE,
    data_file,
    load_keywords,
    load_spoken_digits,
    log_mel,
    mel_filters,
    spoken_digit_features,
)
from xbarsim.foundation.validation import FileFormatError, InputError


def file_or_skip(*parts: str) -> Path:
    try:
        return data_file(*parts)
    except FileNotFoundError as error:
        pytest.skip(str(error))


# --- the front end


def test_mel_filters_rise_to_one_between_their_neighbours() -> None:
    filters = mel_filters(20, 4096, 8000.0)
    mel = 2595 * np.log10(1 + np.fft.rfftfreq(4096, 1 / 8000) / 700)
    step = 2595 * np.log10(1 + 4000 / 700) / 21
    for band, filter_ in enumerate(filters):
        assert mel[filter_.argmax()] == pytest.approx((band + 1) * step, abs=5.0)
        assert filter_.max() == pytest.approx(1.0, abs=0.05)
        assert (filter_[(mel < band * step - 1e-9) | (mel > (band + 2) * step + 1e-9)] == 0).all()
    # Between the middles of the first and the last filter, neighbours add up to 1: nothing of the power is lost.
    inside = (mel >= step) & (mel <= 20 * step)
    np.testing.assert_allclose(filters.sum(axis=0)[inside], 1.0, atol=1e-9)


def test_log_mel_is_the_spectrogram_of_an_independent_library_in_decibels() -> None:
    rng = np.random.default_rng(3)
    audio = rng.standard_normal(3000) * np.linspace(0.01, 1, 3000)
    _, _, spectrum = scipy.signal.stft(
        audio, 8000, window="hann", nperseg=256, noverlap=128, boundary=None, padded=False, return_onesided=True
    )
    power = (np.abs(spectrum.T) ** 2) @ mel_filters(24, 256, 8000.0).T
    expected = 1 + np.maximum(10 * np.log10(power / power.max()), -60.0) / 60
    np.testing.assert_allclose(log_mel(audio, 8000), expected, atol=1e-5)


@given(st.integers(1, 2000), st.integers(0, 2**32), st.floats(0.01, 100))
def test_log_mel_depends_on_ratios_only(samples: int, seed: int, scale: float) -> None:
    audio = np.random.default_rng(seed).standard_normal(samples)
    found = log_mel(audio, 8000)
    assert found.shape == (1 + max(0, samples - 256) // 128, 24)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() == (1 if np.abs(audio[1:]).any() else 0)  # the Hann window begins at zero
    np.testing.assert_allclose(log_mel(scale * audio, 8000), found, atol=1e-5)


def test_log_mel_of_silence_is_zero() -> None:
    assert not log_mel(np.zeros(1000, np.int16), 8000).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": 0}, "bands must be an integer >= 1, got 0"),
        ({"bands": 200}, "bands must be so few that each has a line of the spectrum of 256 samples, got 200"),
        ({"window": 1}, "window must be an integer >= 2, got 1"),
        ({"hop": 0}, "hop must be an integer >= 1, got 0"),
        ({"floor": 0.0}, "floor must be"),
        ({"rate": -1.0}, "rate must be"),
        ({"audio": np.zeros((2, 2))}, "audio must be"),
        ({"audio": np.zeros(0)}, "audio must be"),
        ({"audio": np.array([1.0, np.nan])}, "audio must be"),
    ],
)
def test_log_mel_bounds(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        log_mel(**({"audio": np.ones(300), "rate": 8000.0} | change))  # type: ignore[arg-type]


# --- spoken digits


@pytest.mark.data
def test_spoken_digits_are_split_as_their_makers_say() -> None:
    file_or_skip("fsdd", "fsdd_audio.npz")
    train, test = load_spoken_digits("train"), load_spoken_digits("test")
    assert (len(train.audio), len(test.audio)) == (2700, 300)
    for part, each in ((train, 45), (test, 5)):
        assert part.rate == 8000
        assert part.labels.dtype == np.int64
        pairs = np.stack([part.labels, part.speakers])
        assert (np.unique(pairs, axis=1, return_counts=True)[1] == each).all()
        assert {audio.dtype for audio in part.audio} == {np.dtype(np.int16)}
    assert sum(len(audio) for audio in (*train.audio, *test.audio)) == 10_498_424
    assert test.labels[:8].tolist() == [0] * 6 + [1, 1]  # each speaker, then the next digit
    assert len(test.audio[0]) == 2384  # 0_george_0.wav, the first of the file


@pytest.mark.data
def test_spoken_digit_features_are_frames_of_one_length() -> None:
    file_or_skip("fsdd", "fsdd_audio.npz")
    found = spoken_digit_features("test", count=60)
    assert found.features.shape == (60, *SPOKEN_DIGITS_SHAPE)
    assert found.features.dtype == np.float32
    recordings = load_spoken_digits("test")
    for audio, features, cut in zip(recordings.audio, found.features, found.cut, strict=False):
        own = log_mel(audio, 8000)
        if cut:
            assert any((own[start : start + 64] == features).all() for start in range(len(own) - 63))
        else:
            np.testing.assert_array_equal(features[: len(own)], own)
            assert not features[len(own) :].any()
    assert spoken_digit_features("test").cut.sum() == 2
    with pytest.raises(InputError, match="count must be an integer >= 1 and <= 300"):
        spoken_digit_features("test", count=301)


def test_split_of_spoken_digits_is_checked() -> None:
    with pytest.raises(InputError, match="split must be one of 'train', 'test', got 'all'"):
        load_spoken_digits("all")


def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *parts: str) -> Path:
    """A place for a file in a data folder of the test's own."""
    path = tmp_path.joinpath(*parts)
    path.parent.mkdir()
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path))
    return path


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 100])
def test_what_is_no_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    put(tmp_path, monkeypatch, "fsdd", "fsdd_audio.npz").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"cannot read spoken digits from .*fsdd_audio"):
        load_spoken_digits("test")


def test_other_arrays_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, monkeypatch, "kws_mlperf_tiny", "kws01_test.npz")
    arrays: dict[str, npt.NDArray[np.generic]] = {"features": np.zeros((1000, 49, 10), np.int8)}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(FileFormatError, match="cannot read keywords"):
        load_keywords()
    arrays |= {"labels": np.zeros(1000, np.uint8), "scale": np.array(1, np.float32), "zero_point": np.array(0)}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(FileFormatError, match="features is not that of keywords: its sha256 must begin c2e5f02d"):
        load_keywords()


def test_arrays_of_objects_are_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, monkeypatch, "kws_mlperf_tiny", "kws01_test.npz")
    np.savez(path, features=np.array([Path()], dtype=object))
    with pytest.raises(FileFormatError, match="cannot read keywords"):
        load_keywords()


def test_absent_speech_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"fsdd/fsdd_audio\.npz"):
        load_spoken_digits("test")
    with pytest.raises(FileNotFoundError, match=r"kws_mlperf_tiny/kws01_test\.npz"):
        load_keywords()


@pytest.mark.data
def test_a_flipped_byte_of_the_keywords_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = file_or_skip("kws_mlperf_tiny", "kws01_test.npz")
    path = put(tmp_path, monkeypatch, "kws_mlperf_tiny", "kws01_test.npz")
    shutil.copyfile(source, path)
    load_keywords()
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x55
    path.chmod(0o644)
    path.write_bytes(raw)
    with pytest.raises(FileFormatError, match="keywords"):
        load_keywords()


# --- keywords


@pytest.mark.data
def test_keywords_are_the_benchmark_s_codes_times_their_step() -> None:
    path = file_or_skip("kws_mlperf_tiny", "kws01_test.npz")
    features, labels = load_keywords()
    assert features.shape == (1000, 49, 10)
    assert labels.dtype == np.int64
    with np.load(path) as file:
        codes = np.rint(features / file["scale"] + file["zero_point"])
        np.testing.assert_array_equal(codes, file["features"])
        assert [str(name).lower() for name in file["classes"]] == list(KEYWORDS)
    assert np.bincount(labels, minlength=12).tolist() == [92, 92, 81, 89, 70, 84, 75, 78, 84, 89, 80, 86]
