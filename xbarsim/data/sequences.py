"""Labelled sequences of the UCR and UEA archives."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.data.folder import data_file
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import FileFormatError, check_choice, read_bytes
from xbarsim.sequences import Sequences

__all__ = ["SEQUENCE_SETS", "SequenceSet", "load_sequences"]

_SHA256 = {
    "JapaneseVowels": "48d9c6b37b1ca9269b7ffc4541cf63050f7ea0c1c4ba8f858917a32fff2703d8",
    "BasicMotions": "40aae263637d6621b7d7eabfbaffaa88d83791e773bddd86c3fb76f0c9ceedc5",
    "GunPoint": "77383c3122aa4db463f7d990da050728b165f6d0e453da18a897292aacbb2def",
    "ArrowHead": "aa9fc0655e20ac26077847f3794768fe9fa8e9a355ccae1191589179e1b197fe",
    "ItalyPowerDemand": "2978cf56e3c6f7a0f03e7841f384ce197df6d37a31816ce5a61046184121c64a",
    "ACSF1": "0500a84b217cfe467d88ab78843ccfcd997f57c80bea3866606db40814a90d4a",
    "PickupGestureWiimoteZ": "03e99e6f62d9da99c2986011f2076308be434d3188a41653f5daad6f453fd497",
}

SEQUENCE_SETS = tuple(_SHA256)
"""The sets of :func:`load_sequences`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceSet:
    """Sequences with labels, in two parts.

    Attributes
    ----------
    gallery, probes
        The archive's training and test part.
    gallery_labels, probe_labels
        int64 (sequences,): positions in `classes`.
    classes
        Names.
    """

    gallery: Sequences
    gallery_labels: npt.NDArray[np.int64]
    probes: Sequences
    probe_labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]


@entrance
def load_sequences(name: str, *, standardise: bool = False) -> SequenceSet:
    """Load one of the sets, in the archive's order and split.

    - ``"JapaneseVowels"``: 9 speakers say a vowel pair; 12 cepstral coefficients, 7 to 29 frames; 270 and 370.
    - ``"BasicMotions"``: 4 motions, 6 channels, 100 frames; 40 and 40.
    - ``"GunPoint"``, ``"ArrowHead"``, ``"ItalyPowerDemand"``, ``"ACSF1"``: one channel, sequences of one length.
    - ``"PickupGestureWiimoteZ"``: 10 gestures, one channel, lengths that differ; 50 and 50.

    Parameters
    ----------
    name
        One of :data:`SEQUENCE_SETS`.
    standardise
        Whether channels are shifted and scaled so that the frames of the gallery have mean 0 and standard deviation 1.

    Returns
    -------
    SequenceSet
        Values are float64, of the archive's float32.

    Raises
    ------
    FileNotFoundError
        If the data folder or the set's file is absent.
    FileFormatError
        If the file is not byte for byte what it should be.
    InputError
        If there is no such set.

    References
    ----------
    H. A. Dau et al., The UCR time series archive, IEEE/CAA J. Automatica Sinica 6, 1293 (2019),
    https://doi.org/10.1109/JAS.2019.1911747; A. Bagnall et al., The UEA multivariate time series classification
    archive, 2018, https://arxiv.org/abs/1811.00075. JapaneseVowels: M. Kudo et al., Pattern Recognition Letters 20,
    1103 (1999), https://doi.org/10.1016/S0167-8655(99)00077-X. Files: sktime/sktime at 7bd7d162 and
    aeon-toolkit/aeon at a101ddc8.
    """
    check_choice("name", name, SEQUENCE_SETS)
    path = data_file("sequences", f"{name}.npz")
    raw = read_bytes(path, "sequences")
    if hashlib.sha256(raw).hexdigest() != _SHA256[name]:
        raise FileFormatError(f"{path} is not the file of {name}: its sha256 must begin {_SHA256[name][:8]}")
    with np.load(io.BytesIO(raw), allow_pickle=False) as file:
        parts = {
            part: Sequences(values=file[f"{part}_values"].astype(np.float64), offsets=file[f"{part}_offsets"])
            for part in ("train", "test")
        }
        labels = {part: file[f"{part}_labels"].astype(np.int64) for part in parts}
        classes = tuple(map(str, file["classes"]))
    gallery, probes = parts["train"], parts["test"]
    if standardise:
        gallery, probes = gallery.standardised(gallery), probes.standardised(gallery)
    return SequenceSet(
        gallery=gallery,
        gallery_labels=labels["train"],
        probes=probes,
        probe_labels=labels["test"],
        classes=classes,
    )
