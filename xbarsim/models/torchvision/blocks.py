"""The block that MobileNet-V2 and EfficientNet are made of, and the initial weights of all convolutional networks."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

__all__ = ["convolution_block", "initialise"]


def convolution_block(
    inputs: int,
    outputs: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[[], nn.Module] | None = None,
) -> nn.Sequential:
    """A convolution without bias that keeps the size but for its stride, a batch norm, and an activation if any.

    Parameters
    ----------
    inputs, outputs
        Channels.
    kernel
        Its width and height, odd.
    stride, groups
        As of :class:`torch.nn.Conv2d`.
    activation
        Makes it; ``None`` for none.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


def initialise(network: nn.Module, *, linear_deviation: float = 0.01) -> None:
    """Convolutions by He's rule for their outputs, linear layers normal; biases are zero. Draws from torch's generator.

    Parameters
    ----------
    network
        Changed in place; its batch norms stay as torch makes them.
    linear_deviation
        Standard deviation of the weights of linear layers.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, linear_deviation)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
