"""Questions about little stories: the bAbI tasks."""

from __future__ import annotations

import hashlib
import io
import lzma
import re
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xbarsim.data.folder import data_file
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import FileFormatError, InputError, check_choice, check_integer, read_bytes

__all__ = ["StoryQuestions", "load_babi", "parse_stories"]

_FILE = ("babi", "babi_tasks_1-20_v1-2.tar.xz")
_SHA256 = "85ba03b1dd33f4b54992dbd18ae09f303466348eebd719b66bd8362c54014b74"
_FOLDER = "tasks_1-20_v1-2/en-10k"  # 10,000 training questions a task; 1,000 test questions
_MISSING = 3  # its training questions are not in the archive
_LARGEST = 32 * 2**20  # bytes of one text
_WORD = re.compile(r"[a-z]+|[.?]")

PADDING = ""
_MARKS = (".", "?")  # that end a sentence


@dataclass(frozen=True, kw_only=True, eq=False)
class StoryQuestions:
    """Questions, each behind the story so far, as numbers of words.

    Attributes
    ----------
    tokens
        int64 (questions, length): positions in `vocabulary`. A question ends at the end; before the story there is
        padding, number 0.
    labels
        int64 (questions,): positions in `answers`.
    vocabulary
        Words and the marks ``.`` and ``?``, lower case; the first is the padding.
    answers
        What can be answered.
    """

    tokens: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    vocabulary: tuple[str, ...]
    answers: tuple[str, ...]

    @entrance
    def sentences(self, words: int | None = None) -> npt.NDArray[np.int64]:
        """The words sentence by sentence, the question last.

        Parameters
        ----------
        words
            Of a sentence, its mark included; ``None`` for those of the longest one here.

        Returns
        -------
        numpy.ndarray
            int64 (questions, sentences, `words`): positions in `vocabulary`. A sentence begins at the beginning; before
            a story that is shorter than the longest one there are empty sentences.

        Raises
        ------
        InputError
            If `words` is less than the longest sentence has.

        Examples
        --------
        >>> stories = StoryQuestions(
        ...     tokens=np.array([[4, 1, 5, 1, 3, 2], [0, 0, 5, 1, 3, 2]]),
        ...     labels=np.array([0, 0]),
        ...     vocabulary=("", ".", "?", "who", "ann", "bob"),
        ...     answers=("bob",),
        ... )
        >>> stories.sentences().tolist()
        [[[4, 1], [5, 1], [3, 2]], [[0, 0], [5, 1], [3, 2]]]
        """
        there = self.tokens != 0
        last = np.isin(self.tokens, [number for number, word in enumerate(self.vocabulary) if word in _MARKS]) & there
        last[:, -1:] = True
        before = last.cumsum(axis=1) - last  # sentences that have ended
        first = there & (np.diff(np.where(there, before, -1), axis=1, prepend=-1) > 0)
        columns = np.arange(self.tokens.shape[1])
        place = columns - np.maximum.accumulate(np.where(first, columns, 0), axis=1)
        longest = int(place.max(where=there, initial=0)) + 1
        words = longest if words is None else check_integer("words", words, at_least=longest)
        count = last.sum(axis=1, keepdims=True)
        found = np.zeros((len(self.tokens), int(count.max(initial=0)), words), np.int64)
        step = found.shape[1] - count + before
        rows = np.broadcast_to(np.arange(len(self.tokens))[:, None], there.shape)
        found[rows[there], step[there], place[there]] = self.tokens[there]
        return found


def parse_stories(text: str) -> list[tuple[tuple[str, ...], str]]:
    r"""Words and answer of every question in a text of the bAbI tasks, in order.

    A line is its number in the story, a space, and a sentence, or a question, a tab, the answer, a tab and the numbers
    of the sentences that support it (not used). A story begins at line 1. Earlier questions are no part of the story.

    Raises
    ------
    FileFormatError
        Naming the line that is not so.

    Examples
    --------
    >>> words, answer = parse_stories("1 Mary is here.\n2 Where is Mary? \there\t1\n")[0]
    >>> " ".join(words), answer
    ('mary is here . where is mary ?', 'here')
    """
    questions = []
    story: list[str] = []
    for count, line in enumerate(text.splitlines(), start=1):
        number, space, rest = line.partition(" ")
        sentence, *others = rest.split("\t")
        words = _WORD.findall(sentence.lower())
        if not space or not number.isdecimal() or not words or len(others) not in (0, 2):
            raise FileFormatError(f"line {count} must be a sentence or a question of a story, got {line[:60]!r}")
        if int(number) == 1:
            story = []
        if others:
            questions.append(((*story, *words), others[0].strip().lower()))
        else:
            story += words
    return questions


@lru_cache(maxsize=4)
def _texts(path: Path, task: int) -> dict[str, str]:
    """The texts of a task by split; nothing is unpacked to a disc."""
    raw = read_bytes(path, "bAbI tasks")
    if hashlib.sha256(raw).hexdigest() != _SHA256:
        raise FileFormatError(f"{path} is not the archive of the bAbI tasks: its sha256 must begin {_SHA256[:8]}")
    wanted = re.compile(rf"{re.escape(_FOLDER)}/qa{task}_[a-z-]+_(train|test)\.txt")
    texts = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:xz") as archive:
            for member in archive:
                match = wanted.fullmatch(member.name)
                if match and member.isfile() and member.size <= _LARGEST:
                    stream = archive.extractfile(member)
                    assert stream is not None
                    texts[match[1]] = stream.read().decode("ascii")
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError, OSError) as error:
        raise FileFormatError(f"cannot read the bAbI tasks from {path}: {error}") from error
    return texts


def load_babi(split: str, *, task: int = 1, length: int | None = None) -> StoryQuestions:
    """Load one of the bAbI tasks in English, with 10,000 questions to train on.

    Parameters
    ----------
    split
        ``"train"`` (10,000 questions) or ``"test"`` (1,000).
    task
        1 to 20; not 3, whose training questions are missing.
    length
        Words of a story with its question; ``None`` for the longest one of the task, in both splits.

    Returns
    -------
    StoryQuestions
        Both splits of a task have the same vocabulary and answers.

    Raises
    ------
    FileNotFoundError
        If the data folder or its ``babi`` file is absent.
    FileFormatError
        If the file is truncated or corrupt.
    InputError
        If an argument is out of bounds, or `length` is less than the longest story has.

    References
    ----------
    J. Weston et al., Towards AI-complete question answering: A set of prerequisite toy tasks, 2015,
    https://arxiv.org/abs/1502.05698 (CC BY 3.0). Archive: siddk/entity-network at b18fbb7c, tasks.
    """
    check_choice("split", split, ("train", "test"))
    task = check_integer("task", task, at_least=1, at_most=20)
    if task == _MISSING:
        raise InputError(f"task must not be {_MISSING}, whose training questions are not in the archive")
    path = data_file(*_FILE)
    texts = _texts(path, task)
    if set(texts) != {"train", "test"}:
        raise FileFormatError(f"{path} must hold both splits of task {task}, got {sorted(texts)}")
    questions = {name: parse_stories(text) for name, text in texts.items()}
    both = [*questions["train"], *questions["test"]]
    longest = max(len(words) for words, _ in both)
    length = longest if length is None else check_integer("length", length, at_least=longest)
    vocabulary = (PADDING, *sorted({word for words, _ in both for word in words}))
    answers = tuple(sorted({answer for _, answer in both}))
    numbers = {word: number for number, word in enumerate(vocabulary)}
    tokens = np.zeros((len(questions[split]), length), np.int64)
    for row, (words, _) in zip(tokens, questions[split], strict=True):
        row[length - len(words) :] = [numbers[word] for word in words]
    labels = np.array([answers.index(answer) for _, answer in questions[split]], np.int64)
    return StoryQuestions(tokens=tokens, labels=labels, vocabulary=vocabulary, answers=answers)
