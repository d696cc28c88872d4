from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xbarsim.data import (
    CIFAR10_CLASSES,
    DigitsSplit,
    data_file,
    data_folder,
    load_cifar10,
    load_digits_split,
    load_mnist,
    validation_split,
)
from xbarsim.data import cifar10 as cifar10_module
from xbarsim.data import folder as folder_module
from xbarsim.data.digits import split_indices
from xbarsim.foundation.validation import FileFormatError, InputError

Images = npt.NDArray[np.uint8]


def file_or_skip(*parts: str) -> Path:
    try:
        return data_file(*parts)
    except FileNotFoundError as error:
        pytest.skip(str(error))


# --- the folder


def test_environment_variable_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match=r"XBARSIM_DATA .*absent"):
        data_folder()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in a folder of its own, where xbarsim is imported from; the working folder is another."""
    monkeypatch.delenv("XBARSIM_DATA", raising=False)
    found = tmp_path / "above" / "home" / "checkout"
    (found / "xbarsim").mkdir(parents=True)
    (found / "pyproject.toml").write_text("")
    monkeypatch.setattr(folder_module, "_PACKAGE", found / "xbarsim")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return found


def test_the_folder_is_in_the_checkout_or_beside_it(checkout: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        data_folder()
    beside, inside = checkout.parent / "shared" / "data", checkout / "shared" / "data"
    for words in (str(beside), str(inside), "XBARSIM_DATA"):
        assert words in str(caught.value)
    beside.mkdir(parents=True)
    assert data_folder() == beside
    inside.mkdir(parents=True)
    assert data_folder() == inside


def test_no_other_folder_is_taken(checkout: Path, tmp_path: Path) -> None:
    for other in (checkout.parents[1], tmp_path, Path.cwd(), checkout / "xbarsim"):
        (other / "shared" / "data").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no data folder"):
        data_folder()


def test_an_installed_package_has_no_folder_until_it_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "pyproject.toml").unlink()
    (checkout.parent / "shared" / "data").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="set XBARSIM_DATA to it"):
        data_folder()
    monkeypatch.setenv("XBARSIM_DATA", str(checkout.parent / "shared" / "data"))
    assert data_folder() == checkout.parent / "shared" / "data"


def test_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"cifar10/cifar10_test\.npz"):
        load_cifar10("test")
    with pytest.raises(FileNotFoundError, match=r"mnist/t10k-images"):
        load_mnist("test")


def test_import_is_light() -> None:
    check = "import sys, xbarsim.data; print([m for m in ('torch', 'sklearn', 'pandas') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


# --- digits


@pytest.fixture(scope="module")
def digits() -> DigitsSplit:
    pytest.importorskip("sklearn")
    return load_digits_split()


def test_digits_shapes_and_range(digits: DigitsSplit) -> None:
    assert digits.train_images.shape == (1201, 1, 8, 8)
    assert digits.test_images.shape == (596, 1, 8, 8)
    for images, labels in (
        (digits.train_images, digits.train_labels),
        (digits.test_images, digits.test_labels),
    ):
        assert images.dtype == np.float32
        assert images.min() == 0
        assert images.max() == 1
        assert labels.dtype == np.int64
        assert labels.shape == (len(images),)


def test_digits_split_never_changes(digits: DigitsSplit) -> None:
    raw = digits.test_images.tobytes() + digits.test_labels.astype("<i8").tobytes()
    assert hashlib.sha256(raw).hexdigest()[:16] == "d61795d7bde9997b"


def test_digits_parts_cover_the_set_and_are_stratified() -> None:
    labels = np.asarray(pytest.importorskip("sklearn.datasets").load_digits().target, dtype=np.int64)
    train, test = split_indices(labels)
    assert sorted([*train, *test]) == list(range(1797))
    for digit in range(10):
        assert np.count_nonzero(labels[test] == digit) == np.count_nonzero(labels == digit) // 3


def test_first_digits_are_a_fair_sample(digits: DigitsSplit) -> None:
    # Of the first 100 images of either part, every digit has 1 to 25: false alarm < 1e-3 for a fair order.
    for labels in (digits.train_labels, digits.test_labels):
        counts = np.bincount(labels[:100], minlength=10)
        assert counts.min() >= 1
        assert counts.max() <= 25


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"scikit-learn.*pip install 'xbarsim\[demo\]'"):
        load_digits_split()


# --- CIFAR-10


def encode(images: Images) -> Images:
    """The differences that the packed files hold, written from their description."""
    coded = images.copy()
    coded[:, 0] -= images[:, 1]
    coded[:, 2] -= images[:, 1]
    for axis in (3, 2):
        coded = np.diff(coded, axis=axis, prepend=np.uint8(0)).astype(np.uint8)
    return coded


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(3), st.integers(1, 5), st.integers(1, 5))))
def test_cifar10_decoding_undoes_the_differences(images: Images) -> None:
    np.testing.assert_array_equal(cifar10_module._decode(encode(images)), images)


@pytest.fixture(scope="module")
def packed() -> Path:
    return file_or_skip("cifar10", "cifar10_test.npz")


@pytest.mark.data
def test_cifar10_shapes_and_beginning(packed: Path) -> None:
    images, labels = load_cifar10("test", count=1200)  # all are unpacked and verified
    assert images.shape == (1200, 3, 32, 32)
    assert images.dtype == np.uint8
    assert labels.shape == (1200,)
    assert labels.dtype == np.int64
    assert [CIFAR10_CLASSES[label] for label in labels[:4]] == ["cat", "ship", "ship", "airplane"]
    few_images, few_labels = load_cifar10("test", count=7)
    np.testing.assert_array_equal(few_images, images[:7])
    np.testing.assert_array_equal(few_labels, labels[:7])


@pytest.mark.data
def test_cifar10_train_first_thousand() -> None:
    file_or_skip("cifar10", "cifar10_train_0.npz")
    images, labels = load_cifar10("train", count=1000)
    assert images.shape == (1000, 3, 32, 32)
    assert [CIFAR10_CLASSES[label] for label in labels[:3]] == ["frog", "truck", "truck"]


@pytest.fixture
def copy(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cifar10" / packed.name
    path.parent.mkdir()
    shutil.copyfile(packed, path)
    path.chmod(0o644)
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path))
    return path


@pytest.mark.data
def test_cifar10_copy_is_read(copy: Path) -> None:
    assert load_cifar10("test", count=1)[0].shape == (1, 3, 32, 32)


@pytest.mark.data
@pytest.mark.parametrize("keep", [0, 10, 100, 500_000, -1])
def test_cifar10_truncated(copy: Path, keep: int) -> None:
    raw = copy.read_bytes()
    copy.write_bytes(raw[:keep])
    with pytest.raises(FileFormatError, match=r"cifar10_test\.npz"):
        load_cifar10("test", count=1)


def flip(path: Path, position: int) -> None:
    """Flip four bits of the byte at `position`, counted from the end if negative."""
    with path.open("r+b") as stream:
        stream.seek(position, 0 if position >= 0 else 2)
        byte = stream.read(1)[0]
        stream.seek(-1, 1)
        stream.write(bytes([byte ^ 0x55]))


@pytest.mark.data
@pytest.mark.parametrize("position", [1_000, 10_000, 100_000, 1_000_000])
def test_cifar10_corrupt_images(copy: Path, position: int) -> None:
    flip(copy, position)
    with pytest.raises(FileFormatError, match="cifar10"):
        load_cifar10("test", count=1)


@pytest.mark.data
def test_cifar10_any_flipped_byte_is_refused_or_harmless(packed: Path, copy: Path) -> None:
    right = load_cifar10("test", count=1)
    length = packed.stat().st_size
    refused = 0
    # The beginning (a member's header, LZMA's properties) and the end (labels and the zip directory).
    for position in [*range(0, 90, 18), *range(length - 330, length, 30)]:
        flip(copy, position)
        try:
            found = load_cifar10("test", count=1)
        except FileFormatError:
            refused += 1
        else:
            np.testing.assert_array_equal(found[0], right[0])
            np.testing.assert_array_equal(found[1], right[1])
        flip(copy, position)
    assert refused > 5
    assert copy.read_bytes() == packed.read_bytes()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"coded": np.zeros((10, 3, 32, 32), np.uint8), "labels": np.zeros(10, np.uint8)},
            r"shape \(10000, 3",
        ),
        ({"coded": np.zeros((10_000, 3, 32, 32), np.int8)}, "uint8"),
        ({"labels": np.zeros(10_000, np.uint8)}, "coded"),
        (
            {"coded": np.zeros((10_000, 3, 32, 32), np.uint8), "labels": np.zeros(10_000, np.uint8)},
            "not those",
        ),
    ],
)
def test_cifar10_refuses_other_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrays: dict[str, npt.NDArray[np.integer]], message: str
) -> None:
    (tmp_path / "cifar10").mkdir()
    with (tmp_path / "cifar10" / "cifar10_test.npz").open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path))
    with pytest.raises(FileFormatError, match=message):
        load_cifar10("test", count=1)


@pytest.mark.data
def test_cifar10_refuses_other_images(copy: Path) -> None:
    with np.load(copy) as arrays:
        labels = arrays["labels"]
    coded = np.zeros((10_000, 3, 32, 32), np.uint8)
    with copy.open("wb") as stream:
        np.savez_compressed(stream, coded=coded, labels=labels)
    with pytest.raises(FileFormatError, match=r"first 1000 test images .* f1671499"):
        load_cifar10("test", count=1)


@pytest.mark.parametrize("count", [0, -1, 10_001, 2.0, True])
def test_cifar10_count_bounds(count: int) -> None:
    with pytest.raises(InputError, match=r"count must be an integer >= 1 and <= 10000"):
        load_cifar10("test", count=count)


def test_split_names() -> None:
    for load in (load_cifar10, load_mnist):
        with pytest.raises(InputError, match="split must be one of 'train', 'test', got 'validation'"):
            load("validation")


# --- MNIST


def write_idx(path: Path, header: bytes, values: Images) -> None:
    path.write_bytes(gzip.compress(header + values.tobytes(), compresslevel=1))


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The paths of a made-up test split, as the loader wants it."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path))
    images, labels = folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz"
    values = np.zeros((10_000, 28, 28), np.uint8)
    values[3, 1, 2] = 77
    write_idx(images, struct.pack(">4I", 2051, 10_000, 28, 28), values)
    write_idx(labels, struct.pack(">2I", 2049, 10_000), (np.arange(10_000) % 10).astype(np.uint8))
    return images, labels


def test_mnist_reads_idx(mnist: tuple[Path, Path]) -> None:
    images, labels = load_mnist("test")
    assert images.shape == (10_000, 1, 28, 28)
    assert images.dtype == np.uint8
    assert np.argwhere(images).tolist() == [[3, 0, 1, 2]]
    assert images[3, 0, 1, 2] == 77
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, np.arange(10_000) % 10)


@pytest.mark.parametrize("header", [(2049, 10_000, 28, 28), (2051, 60_000, 28, 28), (2051, 10_000, 28, 27)])
def test_mnist_refuses_another_header(mnist: tuple[Path, Path], header: tuple[int, ...]) -> None:
    write_idx(mnist[0], struct.pack(">4I", *header), np.zeros((10_000, 28, 28), np.uint8))
    with pytest.raises(FileFormatError, match=r"t10k-images.*header 00000803"):
        load_mnist("test")


@pytest.mark.parametrize("values", [9_999, 10_001])
def test_mnist_refuses_another_length(mnist: tuple[Path, Path], values: int) -> None:
    write_idx(mnist[1], struct.pack(">2I", 2049, 10_000), np.zeros(values, np.uint8))
    with pytest.raises(FileFormatError, match="must unpack to 10008 bytes, got "):
        load_mnist("test")


def test_mnist_refuses_other_labels(mnist: tuple[Path, Path]) -> None:
    write_idx(mnist[1], struct.pack(">2I", 2049, 10_000), np.full(10_000, 10, np.uint8))
    with pytest.raises(FileFormatError, match="labels 0 to 9, got 10"):
        load_mnist("test")


@pytest.mark.parametrize("keep", [0, 1, 10, 100, -1])
def test_mnist_truncated(mnist: tuple[Path, Path], keep: int) -> None:
    mnist[0].write_bytes(mnist[0].read_bytes()[:keep])
    with pytest.raises(FileFormatError, match="t10k-images"):
        load_mnist("test")


def test_mnist_corrupt(mnist: tuple[Path, Path]) -> None:
    raw = bytearray(mnist[0].read_bytes())
    raw[len(raw) // 2] ^= 0x55
    mnist[0].write_bytes(raw)
    with pytest.raises(FileFormatError, match="t10k-images"):
        load_mnist("test")


@pytest.mark.data
def test_mnist_itself() -> None:
    file_or_skip("mnist", "t10k-images-idx3-ubyte.gz")
    images, labels = load_mnist("test")
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert images.mean() == pytest.approx(33.79, abs=0.01)


# --- holding images back


@given(
    hnp.arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 4)),
    st.integers(0, 59),
    st.integers(0, 2**70),
)
def test_validation_split_is_stratified(labels: npt.NDArray[np.int64], validation: int, seed: int) -> None:
    validation %= len(labels)
    train, held = validation_split(labels, validation, seed=seed)
    assert sorted([*train, *held]) == list(range(len(labels)))
    assert len(held) == validation
    assert (np.diff(train) > 0).all()
    for label in range(5):
        share = np.count_nonzero(labels == label) * validation / len(labels)
        assert abs(np.count_nonzero(labels[held] == label) - share) < 1
    again = validation_split(labels, validation, seed=seed)
    np.testing.assert_array_equal(again[0], train)
    np.testing.assert_array_equal(again[1], held)


def test_validation_split_never_changes() -> None:
    labels = np.arange(1000) % 10
    _, held = validation_split(labels, 100, seed=0)
    assert hashlib.sha256(held.astype("<i8").tobytes()).hexdigest()[:16] == "32fac846dbf4ac41"
    assert set(held) != set(validation_split(labels, 100, seed=1)[1])
    # More are held back in the same order within a class, so a longer list holds the shorter one.
    assert set(held) < set(validation_split(labels, 200, seed=0)[1])


def test_first_validation_images_are_a_fair_sample() -> None:
    labels = np.repeat(np.arange(10), 600)
    _, held = validation_split(labels, 1000, seed=0)
    counts = np.bincount(labels[held[:200]], minlength=10)  # 20 expected: below 5 or above 40 with probability < 1e-3
    assert counts.min() >= 5
    assert counts.max() <= 40


@pytest.mark.parametrize(
    ("labels", "validation", "seed", "message"),
    [
        (np.zeros(4, np.int64), 4, 0, "validation must be an integer >= 0 and <= 3, got 4"),
        (np.zeros(4, np.int64), -1, 0, "validation must be an integer >= 0"),
        (np.zeros(4, np.int64), 1, -1, "seed must be an integer >= 0, got -1"),
        (np.zeros(4), 1, 0, "labels must be .* of integer numbers"),
        (np.zeros(0, np.int64), 0, 0, "labels must be a non-empty"),
        (np.array([1, -2]), 1, 0, "labels must be >= 0, got -2"),
    ],
)
def test_validation_split_bounds(labels: npt.NDArray[np.int64], validation: int, seed: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        validation_split(labels, validation, seed=seed)
