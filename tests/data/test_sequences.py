"""Labelled sequences of the archives: what is loaded, and files that are not what they should be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from xbarsim import FileFormatError, InputError
from xbarsim.data import SEQUENCE_SETS, data_file, load_sequences

SIZES = {
    "JapaneseVowels": (270, 370, 12, 9),
    "BasicMotions": (40, 40, 6, 4),
    "GunPoint": (50, 150, 1, 2),
    "ArrowHead": (36, 175, 1, 3),
    "ItalyPowerDemand": (67, 1029, 1, 2),
    "ACSF1": (100, 100, 1, 10),
    "PickupGestureWiimoteZ": (50, 50, 1, 10),
}


@pytest.mark.data
@pytest.mark.parametrize("name", SEQUENCE_SETS)
def test_sets_are_what_the_archive_says(name: str) -> None:
    found = load_sequences(name)
    gallery, probes, channels, classes = SIZES[name]
    assert (len(found.gallery), len(found.gallery_labels)) == (gallery, gallery)
    assert (len(found.probes), len(found.probe_labels)) == (probes, probes)
    assert found.gallery.channels == found.probes.channels == channels
    assert len(found.classes) == classes
    for labels in (found.gallery_labels, found.probe_labels):
        assert np.array_equal(np.unique(labels), np.arange(classes))


@pytest.mark.data
def test_channels_are_standardised_by_the_gallery() -> None:
    plain, found = load_sequences("JapaneseVowels"), load_sequences("JapaneseVowels", standardise=True)
    np.testing.assert_allclose(found.gallery.values.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(found.gallery.values.std(axis=0), 1.0)
    mean, deviation = plain.gallery.values.mean(axis=0), plain.gallery.values.std(axis=0)
    np.testing.assert_allclose(found.probes.values, (plain.probes.values - mean) / deviation)
    assert (plain.gallery.lengths.min(), plain.probes.lengths.max()) == (7, 29)


def test_an_unknown_set_is_refused() -> None:
    with pytest.raises(InputError, match="name must be one of 'JapaneseVowels'"):
        load_sequences("Coffee")


def test_a_set_that_is_absent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"the data folder has no file sequences/GunPoint.npz"):
        load_sequences("GunPoint")


@pytest.mark.data
def test_a_flipped_byte_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sequences").mkdir()
    target = tmp_path / "sequences" / "GunPoint.npz"
    shutil.copyfile(data_file("sequences", "GunPoint.npz"), target)
    raw = bytearray(target.read_bytes())
    raw[1000] ^= 1
    target.write_bytes(raw)
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path))
    with pytest.raises(FileFormatError, match="is not the file of GunPoint: its sha256 must begin 77383c31"):
        load_sequences("GunPoint")
