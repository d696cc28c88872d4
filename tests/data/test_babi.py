"""Stories and questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xbarsim.data import StoryQuestions, data_file, load_babi
from xbarsim.data.babi import parse_stories
from xbarsim.foundation.validation import FileFormatError, InputError


def archive_or_skip() -> Path:
    try:
        return data_file("babi", "babi_tasks_1-20_v1-2.tar.xz")
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_a_question_has_the_story_before_it_without_earlier_questions() -> None:
    text = "1 Ann is in.\n2 Who? \tAnn\t1\n3 Bob left.\n4 Who?\tbob,ann\t1 3\n1 New.\n2 What?\tnew\t1\n"
    assert parse_stories(text) == [
        (("ann", "is", "in", ".", "who", "?"), "ann"),
        (("ann", "is", "in", ".", "bob", "left", ".", "who", "?"), "bob,ann"),
        (("new", ".", "what", "?"), "new"),
    ]


@pytest.mark.parametrize("line", ["no number.", "1", "1 Who?\tann", "1 \tann\t1", "", "1 Who?\ta\t1\t2"])
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(FileFormatError, match="line 2 must be a sentence or a question"):
        parse_stories(f"1 Ann is in.\n{line}\n1 End.\n")


@pytest.mark.data
def test_the_first_task() -> None:
    archive_or_skip()
    train, test = load_babi("train"), load_babi("test")
    assert train.tokens.shape == (10_000, 72)
    assert test.tokens.shape == (1000, 72)
    assert train.vocabulary == test.vocabulary
    assert train.answers == test.answers == ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
    assert len(train.vocabulary) == 22
    words = [train.vocabulary[token] for token in train.tokens[0]]
    assert " ".join(words).strip() == "mary moved to the bathroom . john went to the hallway . where is mary ?"
    assert train.answers[train.labels[0]] == "bathroom"
    for part in (train, test):
        assert part.tokens.dtype == part.labels.dtype == np.int64
        assert (part.tokens[:, -1] == part.vocabulary.index("?")).all()
        padding = part.tokens == 0
        assert (padding[:, :-1] >= padding[:, 1:]).all()  # in front only


@pytest.mark.data
def test_the_answer_of_the_first_task_is_where_a_person_went_last() -> None:
    """What the task means, computed from the words alone: whoever reads it wrongly gets other answers."""
    archive_or_skip()
    stories = load_babi("test")
    for tokens, label in zip(stories.tokens, stories.labels, strict=True):
        words = [stories.vocabulary[token] for token in tokens if token]
        person, sentences = words[-2], " ".join(words).split(" . ")
        last = [sentence.split()[-1] for sentence in sentences[:-1] if sentence.split()[0] == person][-1]
        assert stories.answers[label] == last


def test_sentences_are_the_words_apart() -> None:
    vocabulary = ("", ".", "?", "a", "b", "c")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        stories: list[list[list[int]]] = []
        for _ in range(rng.integers(1, 6)):
            lengths = rng.integers(1, 5, rng.integers(1, 5))
            stories.append([[*rng.integers(3, 6, length).tolist(), 1] for length in lengths[:-1]])
            stories[-1].append([*rng.integers(3, 6, lengths[-1]).tolist(), 2])
        count, words = max(map(len, stories)), max(len(each) for story in stories for each in story)
        length = 3 + max(sum(map(len, story)) for story in stories)
        tokens = np.zeros((len(stories), length), np.int64)
        expected = np.zeros((len(stories), count, words + 2), np.int64)
        for row, story, part in zip(tokens, stories, expected, strict=True):
            flat = [word for each in story for word in each]
            row[length - len(flat) :] = flat
            for place, each in zip(part[count - len(story) :], story, strict=True):
                place[: len(each)] = each
        questions = StoryQuestions(
            tokens=tokens, labels=np.zeros(len(stories), np.int64), vocabulary=vocabulary, answers=("a",)
        )
        np.testing.assert_array_equal(questions.sentences(words + 2), expected)
        np.testing.assert_array_equal(questions.sentences(), expected[:, :, :words])
        with pytest.raises(InputError, match=f"words must be an integer >= {words}, got {words - 1}"):
            questions.sentences(words - 1)


@pytest.mark.data
def test_sentences_of_the_first_task() -> None:
    archive_or_skip()
    stories = load_babi("train")
    sentences = stories.sentences()
    assert sentences.shape == (10_000, 11, 7)
    assert sentences.dtype == np.int64
    read = [" ".join(stories.vocabulary[word] for word in words if word) for words in sentences[0]]
    assert read == [""] * 8 + ["mary moved to the bathroom .", "john went to the hallway .", "where is mary ?"]
    np.testing.assert_array_equal((sentences > 0).sum(axis=(1, 2)), (stories.tokens > 0).sum(axis=1))


@pytest.mark.data
def test_other_tasks_and_lengths() -> None:
    archive_or_skip()
    stories = load_babi("test", task=15, length=60)
    assert stories.tokens.shape == (1000, 60)
    with pytest.raises(InputError, match="length must be an integer >= 72, got 71"):
        load_babi("test", length=71)


@pytest.mark.parametrize(
    ("task", "message"),
    [(0, "task must be an integer >= 1 and <= 20"), (21, "task must be"), (3, "task must not be 3")],
)
def test_task_bounds(task: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_babi("test", task=task)


def test_split_is_checked() -> None:
    with pytest.raises(InputError, match="split must be one of 'train', 'test'"):
        load_babi("validation")


def test_another_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"babi/babi_tasks"):
        load_babi("test")
    (tmp_path / "babi").mkdir()
    (tmp_path / "babi" / "babi_tasks_1-20_v1-2.tar.xz").write_bytes(b"not an archive")
    with pytest.raises(FileFormatError, match="not the archive of the bAbI tasks: its sha256 must begin 85ba03b1"):
        load_babi("test")
