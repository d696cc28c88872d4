"""Models, samples and labels that cannot be what they should: one error names them before anything large is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xbarsim as xb
from tests.sweep.subjects import DESIGN
from xbarsim.foundation.validation import InputError
from xbarsim.network import Chip, Crossbar, MappedNetwork, evaluate, map_model
from xbarsim.network.samples import Samples

SAMPLES = np.linspace(0, 1, 24, dtype=np.float32).reshape(6, 4)
LABELS = np.array([0, 1, 0, 1, 0, 1])


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()


class Gives(nn.Module):
    """A linear layer, and an answer of another kind."""

    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        return self.answer(self.layer(x))


class Sparse(Gives):
    def __init__(self) -> None:
        super().__init__(lambda x: x)
        self.sparse = nn.Parameter(torch.eye(4).to_sparse())


def nested(levels: int) -> nn.Module:
    model: nn.Module = nn.Linear(4, 3)
    for _ in range(levels):
        model = nn.Sequential(model)
    return model


def holding_itself() -> nn.Module:
    model = small()
    model.add_module("itself", model)
    return model


def written_out(size: int) -> nn.Module:
    """A layer whose weights are one number, seen many times."""
    model = nn.Linear(4, 3)
    model.weight = nn.Parameter(torch.zeros(1, 1).expand(size, size))
    return model


def fails(error: Exception) -> Callable[[Tensor], Any]:
    def answer(x: Tensor) -> Any:
        raise error

    return answer


BAD_MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "on meta": (lambda: small().to("meta"), "model must have values in all its parameters, got none in '0.weight'"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), "model must have values in all its parameters, got none in"),
    "sparse": (Sparse, r"model must have dense parameters, got one of torch.sparse_coo in 'sparse'"),
    "complex": (lambda: nn.Linear(4, 3, dtype=torch.complex64), "calibration must fit the model"),
    "None": (lambda: Gives(lambda x: None), "model must give a tensor, got an answer of Gives without one"),
    "text": (lambda: Gives(lambda x: "cat"), "model must give a tensor, got an answer of Gives without one"),
    "infinite": (lambda: small().apply(_fill_with_infinity), "layer '0': weights must be finite"),
    "2,000 levels": (lambda: nested(2000), "model must have modules nested at most 100 deep, got more"),
    "holding itself": (holding_itself, "model must have modules nested at most 100 deep, got more"),
    "10^12 weights": (lambda: written_out(10**6), "model must take at most .*1,000,000,000,003 parameters.*8 TB"),
    "dividing by zero": (lambda: Gives(fails(ZeroDivisionError("by zero"))), "calibration must fit .*: by zero"),
    "recursive": (lambda: Gives(fails(RecursionError())), "calibration must fit .*: RecursionError"),
    "without a file": (lambda: Gives(fails(OSError("no such file"))), "calibration must fit .*: no such file"),
}


def _fill_with_infinity(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.constant_(module.weight, np.inf)


@pytest.mark.parametrize("name", BAD_MODELS)
def test_models_that_cannot_be_mapped_are_refused(name: str) -> None:
    make, message = BAD_MODELS[name]
    with pytest.raises(InputError, match=message):
        map_model(make(), DESIGN, calibration=SAMPLES)


@pytest.mark.parametrize("precision", [torch.float64, torch.float16, torch.bfloat16])
def test_models_of_other_precisions_become_float32(precision: torch.dtype) -> None:
    model = small().to(precision)
    like = small().to(precision).float()
    given = map_model(model, DESIGN, calibration=SAMPLES).fabricate(seed=1)
    assert torch.equal(given(SAMPLES), map_model(like, DESIGN, calibration=SAMPLES).fabricate(seed=1)(SAMPLES))
    assert model[0].weight.dtype == precision


def test_an_answer_in_a_tuple_stays_in_it() -> None:
    model = Gives(lambda x: (x, x.sum())).eval()
    answer = map_model(model, DESIGN, calibration=SAMPLES).fabricate(seed=1)(SAMPLES)
    assert isinstance(answer, tuple)
    assert [tuple(each.shape) for each in answer] == [(6, 2), ()]


def test_one_sample_is_enough_behind_a_batch_norm() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    assert map_model(model, DESIGN, calibration=SAMPLES[:1]).fabricate(seed=1)(SAMPLES[:1]).shape == (1, 3)
    assert model.training


BAD_SAMPLES: dict[str, tuple[Any, str]] = {
    "objects": (np.array([None, 1]), "must be an array of numbers, got type object"),
    "ragged": ([[1.0], [1.0, 2.0]], "must be an array of numbers, got"),
    "masked": (np.ma.masked_array(SAMPLES, SAMPLES > 0.5), "must not be masked"),
    "dates": (np.array([["2020"]], "M8[Y]"), "must be an array of numbers, got type datetime64"),
    "text": ("cat", "must be an array, tensor, data set or data loader, got 'cat'"),
    "complex": (SAMPLES * 1j, "must be real numbers, got type complex64"),
    "complex tensor": (torch.ones(2, 4) * 1j, "must be real numbers, got type complex64"),
    "meta": (torch.ones(2, 4, device="meta"), "must be a dense tensor with values, got one of"),
    "sparse": (torch.eye(4).to_sparse(), "must be a dense tensor with values, got one of torch.sparse_coo"),
    "nested": (torch.nested.nested_tensor([torch.ones(4)]), "must be a dense tensor with values, got one that is nest"),
    "10^12 of a view": (np.broadcast_to(np.arange(4, dtype=np.float32), (10**12, 4)), "must take at most .* 32 TB"),
    "10^12 of a tensor": (torch.arange(4.0).expand(10**12, 4), "must take at most .* 32 TB"),
    "10^12 of a short type": (torch.arange(4.0).bfloat16().expand(10**12, 4), "must take at most .* 32 TB"),
    "beyond float32": (SAMPLES.astype(np.float64) * 1e300, "must be finite"),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", BAD_SAMPLES)
def test_samples_that_are_none_are_refused(name: str) -> None:
    samples, message = BAD_SAMPLES[name]
    with pytest.raises(InputError, match=f"calibration {message}"):
        map_model(small(), DESIGN, calibration=samples)
    with pytest.raises(InputError, match=f"images {message}"):
        evaluate(small(), samples, LABELS)


@pytest.mark.parametrize(
    "samples",
    [
        SAMPLES[::-1, ::-1][::-1, ::-1],
        SAMPLES.astype(">f4"),
        SAMPLES.astype(np.float64),
        SAMPLES.astype(np.longdouble),
        SAMPLES.tolist(),
        torch.from_numpy(SAMPLES).requires_grad_(),
        np.asfortranarray(SAMPLES),
    ],
    ids=["negative strides", "big-endian", "double", "extended", "list", "gradient", "Fortran"],
)
def test_the_same_numbers_are_the_same_samples(samples: Any) -> None:
    array = Samples.of(samples).arrays[0]
    assert array.dtype == np.float32
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, SAMPLES)


def test_short_types_are_exact() -> None:
    values = torch.tensor([[0.5, 1.0, 1.5, 3.0]])
    for precision in (torch.bfloat16, torch.float16):
        np.testing.assert_array_equal(Samples.of(values.to(precision)).arrays[0], values.numpy())


class Many:
    """A data set of more samples than any memory holds."""

    def __len__(self) -> int:
        return 10**12

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return SAMPLES[0], 0


class Endless:
    """Batches that do not end, of views that take no memory."""

    def __iter__(self) -> Any:
        while True:
            yield np.broadcast_to(np.float32(0), (10**8, 4)), np.broadcast_to(0, 10**8)


@pytest.mark.parametrize("source", [Many(), Endless()])
def test_data_sets_beyond_the_memory_are_refused_before_they_are_read(source: Any) -> None:
    with pytest.raises(InputError, match="images must take at most"):
        evaluate(small(), source)


@pytest.fixture
def mapped() -> MappedNetwork:
    return map_model(small(), DESIGN, calibration=SAMPLES)


@pytest.fixture
def chip(mapped: MappedNetwork) -> Chip:
    return mapped.fabricate(seed=1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS + 1, r"classes in \[0, 1\], got 1 to 2"),
        (LABELS - 1, r"classes in \[0, 1\], got -1 to 0"),
        (np.full(6, 2**64 - 1, np.uint64), r"classes in \[0, 1\], got 18446744073709551615"),
        (LABELS[:3], r"as many as images \(6\), got 3"),
        (LABELS.astype(float), "integers, one for each answer, got float64"),
        (LABELS.astype(bool), "integers, one for each answer, got bool"),
        (LABELS.astype(str), "integers, one for each answer, got <U21"),
        (LABELS.astype(object), "an array of numbers, got type object"),
        (np.broadcast_to(0, 10**13), "at most .* 80 TB"),
        (torch.zeros(6, dtype=torch.long, device="meta"), "a dense tensor with values"),
        (np.zeros((6, 1, 1), int), r"shape \(6,\), one for each answer, got \(6, 1, 1\)"),
    ],
)
def test_labels_that_are_no_classes_are_refused(chip: Chip, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"labels must (be|have|take) {message}"):
        evaluate(chip, SAMPLES, labels)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: small().to("meta"), "model must have values in all its parameters"),
        (lambda: nn.LazyLinear(2), "model must have values in all its parameters"),
        (lambda: nested(2000), "model must have modules nested at most 100 deep"),
        (lambda: Gives(lambda x: None), "answers of model must be an array of numbers, got type object of None"),
        (lambda: Gives(lambda x: ()), "model must give logits of shape"),
        (lambda: Gives(lambda x: x * 1j), "answers of model must be real numbers, got type complex64"),
        (lambda: Gives(lambda x: x.to_sparse()), "answers of model must be a dense tensor"),
        (lambda: Gives(fails(ZeroDivisionError("by zero"))), "images must fit the model, .*: by zero"),
    ],
)
def test_models_that_give_no_logits_are_refused(model: Callable[[], nn.Module], message: str) -> None:
    made = model()
    with pytest.raises(InputError, match=message):
        evaluate(made, SAMPLES, LABELS)
    if isinstance(made, nn.LazyLinear):
        assert isinstance(made.weight, nn.UninitializedParameter)  # and was not given random weights


@pytest.mark.parametrize(
    "value", [None, "cat", float("nan"), [1.0, 2.0], 10**400], ids=["none", "text", "NaN", "list", "beyond"]
)
def test_a_metric_must_give_a_number(chip: Chip, value: Any) -> None:
    with pytest.raises(InputError, match="metric must give a number, got"):
        evaluate(chip, SAMPLES, LABELS, metric=lambda logits, labels: value)


@pytest.mark.parametrize("number", [2**41, 2**62])
def test_numbers_of_samples_stay_apart_in_read_noise(chip: Chip, number: int) -> None:
    with pytest.raises(InputError, match=f"first_image must be an integer >= 0 and <= {2**40}, got {number}"):
        chip(SAMPLES, first_image=number)
    crossbar = Crossbar(np.eye(3), DESIGN, seed=1)
    with pytest.raises(InputError, match=f"first_vector must be an integer >= 0 and <= {2**40}, got {number}"):
        crossbar.multiply(np.eye(3), first_vector=number)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.broadcast_to(1.0, (10**6, 10**6)), "weights must take at most .* 8 TB"),
        (torch.ones(1, 1).expand(10**6, 10**6), "weights must take at most .* 8 TB"),
        (torch.eye(3).to_sparse(), "weights must be a dense tensor"),
        (np.full((3, 3), -(2**63)), "codes must be in"),
        (np.full((3, 3), 2**64 - 1, np.uint64), "codes must be in"),
        ([[1.0], [1.0, 2.0]], "weights must be an array of numbers"),
    ],
)
def test_matrices_that_are_none_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Crossbar(weights, DESIGN, seed=1)


@pytest.mark.parametrize("code", [-(2**63), 2**64 - 1])
def test_a_calibration_of_codes_beyond_64_bits_is_refused(code: int) -> None:
    vectors = np.full((3, 3), code, np.int64 if code < 0 else np.uint64)
    with pytest.raises(InputError, match=f"calibration must be input codes .* got {abs(code)}"):
        Crossbar(np.eye(3), DESIGN, seed=1, calibration=vectors)


@pytest.mark.parametrize("value", [5e-324, 1e308])
def test_a_calibration_beyond_float32_is_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"largest magnitude of calibration must be .* got"):
        Crossbar(np.eye(3), DESIGN, seed=1, calibration=np.eye(3) * value)


def test_vectors_of_a_short_type_come_back_in_it() -> None:
    crossbar = xb.Crossbar(np.eye(3), DESIGN.replace(faults=None), seed=1, calibration=np.eye(3))
    product = torch.eye(3, dtype=torch.bfloat16) @ crossbar
    assert product.dtype == torch.bfloat16
    assert torch.equal(product, torch.eye(3, dtype=torch.bfloat16))
