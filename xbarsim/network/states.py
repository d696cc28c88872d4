"""States: values that a network keeps from one time step to the next, marked so that their accesses are counted."""

from __future__ import annotations

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from xbarsim.foundation.validation import check_instance

__all__ = ["keep_state"]


def keep_state(state: Tensor) -> Tensor:
    """Say that a tensor is kept until the next time step, as a membrane or a hidden state is.

    It changes nothing and gives the tensor itself. Where digital operations are counted, each call counts two state
    accesses for every value: it is written at the end of this step, and read in the next. Call it once a step.

    Recurrent layers and cells of torch (``RNN``, ``LSTM``, ``GRU``), the neurons of :mod:`xbarsim.models` and recurrent
    nodes of ONNX files are counted without it. It is for loops over time that are written by hand, in which nothing
    else tells a state from other values.

    Parameters
    ----------
    state
        What is kept, of any shape, samples among its dimensions.

    Raises
    ------
    InputError
        If it is no tensor.

    Examples
    --------
    >>> import torch
    >>> membrane = torch.zeros(4, 10)
    >>> for current in torch.rand(5, 4, 10):
    ...     membrane = keep_state(0.5 * membrane + current)
    """
    if has_torch_function((state,)):  # also where a mode is active: counting sees the call under its own name
        kept: Tensor = handle_torch_function(keep_state, (state,), state)
        return kept
    check_instance("state", state, Tensor)
    return state
