"""Data sets as NumPy arrays: images in (images, channels, height, width), words as frames, stories as numbers of words.

Labels are int64.

Nothing is downloaded. scikit-learn's digits come with scikit-learn; everything else is read from the data
folder (:func:`data_folder`), and refused if it is not byte for byte what it should be.
"""

from __future__ import annotations

from xbarsim.data.babi import StoryQuestions, load_babi
from xbarsim.data.cifar10 import CIFAR10_CLASSES, load_cifar10
from xbarsim.data.digits import DigitsSplit, load_digits_split
from xbarsim.data.folder import data_file, data_folder
from xbarsim.data.images import DATA_SETS, load_images, normalise
from xbarsim.data.mnist import load_mnist
from xbarsim.data.nmnist import EventFrames, EventRecordings, event_frames, load_nmnist
from xbarsim.data.sequences import SEQUENCE_SETS, SequenceSet, load_sequences
from xbarsim.data.speech import (
    KEYWORDS,
    SPOKEN_DIGITS_SHAPE,
    Recordings,
    SpokenDigitFeatures,
    load_keywords,
    load_spoken_digits,
    log_mel,
    mel_filters,
    spoken_digit_features,
)
from xbarsim.data.splits import folds, validation_split

__all__ = [
    "CIFAR10_CLASSES",
    "DATA_SETS",
    "KEYWORDS",
    "SEQUENCE_SETS",
    "SPOKEN_DIGITS_SHAPE",
    "DigitsSplit",
    "EventFrames",
    "EventRecordings",
    "Recordings",
    "SequenceSet",
    "SpokenDigitFeatures",
    "StoryQuestions",
    "data_file",
    "data_folder",
    "event_frames",
    "folds",
    "load_babi",
    "load_cifar10",
    "load_digits_split",
    "load_images",
    "load_keywords",
    "load_mnist",
    "load_nmnist",
    "load_sequences",
    "load_spoken_digits",
    "log_mel",
    "mel_filters",
    "normalise",
    "spoken_digit_features",
    "validation_split",
]
