"""Networks under torchvision's names: as many parameters as published, and names at which its checkpoints have them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from xbarsim.foundation.validation import InputError
from xbarsim.models.torchvision import (
    VisionTransformer,
    efficientnet_b0,
    mobilenet_v2,
    resnet18,
    shufflenet_v2_x1_0,
    vision_transformer,
)
from xbarsim.models.torchvision.efficientnet import SqueezeExcitation
from xbarsim.models.torchvision.shufflenet import InvertedResidual

BUILDERS = [resnet18, mobilenet_v2, shufflenet_v2_x1_0, efficientnet_b0]


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


def vit_b_16() -> nn.Module:
    return VisionTransformer(
        image_size=224, patch_size=16, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072, num_classes=1000
    )


# Parameters, and multiply-accumulates of convolutions and linear layers for an image of 224 x 224, in millions, as
# torchvision's documentation of its weights states them (their "GFLOPS" counts the squeeze and excitation too).
PUBLISHED = {
    resnet18: (11_689_512, 1814),
    mobilenet_v2: (3_504_872, 301),
    shufflenet_v2_x1_0: (2_278_604, 145),
    efficientnet_b0: (5_288_548, 386),
    vit_b_16: (86_567_656, None),
}


@pytest.mark.parametrize("build", PUBLISHED, ids=lambda build: build.__name__)
def test_networks_have_the_published_number_of_parameters(build: Callable[[], nn.Module]) -> None:
    assert sum(item.numel() for item in on_meta(build).parameters()) == PUBLISHED[build][0]


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_networks_have_the_published_number_of_multiplications(build: Callable[[], nn.Module]) -> None:
    network = on_meta(build).eval()
    counted: list[int] = []

    def count(layer: nn.Module, arguments: tuple[torch.Tensor], output: torch.Tensor) -> None:
        assert isinstance(layer.weight, torch.Tensor)
        counted.append(output[0].numel() * layer.weight[0].numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 224, 224, device="meta")).shape == (1, 1000)
    published = PUBLISHED[build][1]
    assert published is not None
    assert sum(counted) / 1e6 == pytest.approx(published, rel=0.01)


# Shapes at which torchvision's checkpoints have some of their tensors, the deepest of each kind.
NAMES = {
    resnet18: {
        "conv1.weight": (64, 3, 7, 7),
        "layer3.0.downsample.1.running_var": (256,),
        "layer4.1.bn2.num_batches_tracked": (),
        "layer4.1.conv2.weight": (512, 512, 3, 3),
        "fc.bias": (1000,),
    },
    mobilenet_v2: {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.17.conv.1.0.weight": (960, 1, 3, 3),
        "features.17.conv.2.weight": (320, 960, 1, 1),
        "features.17.conv.3.running_mean": (320,),
        "features.18.1.weight": (1280,),
        "classifier.1.weight": (1000, 1280),
    },
    shufflenet_v2_x1_0: {
        "conv1.0.weight": (24, 3, 3, 3),
        "stage2.0.branch1.0.weight": (24, 1, 3, 3),
        "stage2.0.branch1.3.weight": (58,),
        "stage3.7.branch2.3.weight": (116, 1, 3, 3),
        "stage4.0.branch1.2.weight": (232, 232, 1, 1),
        "stage4.3.branch2.5.weight": (232, 232, 1, 1),
        "conv5.1.running_mean": (1024,),
        "fc.weight": (1000, 1024),
    },
    efficientnet_b0: {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.0.block.1.fc1.weight": (8, 32, 1, 1),
        "features.1.0.block.2.0.weight": (16, 32, 1, 1),
        "features.6.3.block.1.0.weight": (1152, 1, 5, 5),
        "features.7.0.block.2.fc2.bias": (1152,),
        "features.7.0.block.3.1.weight": (320,),
        "features.8.0.weight": (1280, 320, 1, 1),
        "classifier.1.bias": (1000,),
    },
    vit_b_16: {
        "class_token": (1, 1, 768),
        "conv_proj.weight": (768, 3, 16, 16),
        "encoder.pos_embedding": (1, 197, 768),
        "encoder.layers.encoder_layer_11.ln_2.weight": (768,),
        "encoder.layers.encoder_layer_11.self_attention.in_proj_weight": (2304, 768),
        "encoder.layers.encoder_layer_11.self_attention.out_proj.bias": (768,),
        "encoder.layers.encoder_layer_0.mlp.0.weight": (3072, 768),
        "encoder.layers.encoder_layer_0.mlp.3.weight": (768, 3072),
        "encoder.ln.bias": (768,),
        "heads.head.weight": (1000, 768),
    },
}


@pytest.mark.parametrize("build", NAMES, ids=lambda build: build.__name__)
def test_names_and_layouts_are_torchvision_s(build: Callable[[], nn.Module]) -> None:
    state = on_meta(build).state_dict()
    assert {name: tuple(state[name].shape) for name in NAMES[build]} == NAMES[build]
    # A convolution with its batch norm has 1 + 5 entries; a layer with a bias 2.
    counts = {resnet18: 122, mobilenet_v2: 314, efficientnet_b0: 360, vit_b_16: 152}
    assert len(state) == counts.get(build, len(state))


@pytest.mark.parametrize("build", [*BUILDERS, vision_transformer], ids=lambda build: build.__name__)
def test_small_images_and_an_image_alone(build: Callable[[int], nn.Module]) -> None:
    before = torch.get_rng_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = build(7).eval()
        images = torch.randn(3, 3, 32, 32)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.inference_mode():
        together = network(images)
        assert together.shape == (3, 7)
        assert together.std() > 0
        for image, logits in zip(images, together, strict=True):
            torch.testing.assert_close(network(image[None])[0], logits, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="num_classes must be an integer >= 1, got 0"):
        build(0)


def test_channels_of_the_two_branches_take_turns() -> None:
    block = InvertedResidual(8, 8, 1).eval()
    x = torch.arange(8.0).reshape(1, 8, 1, 1)
    block.branch2 = nn.Sequential()  # what passes through is then only shuffled
    assert block(x).flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


def test_squeeze_and_excitation_scales_channels_by_what_their_means_say() -> None:
    layer = SqueezeExcitation(3, 2)
    x = torch.randn(2, 3, 4, 5)
    means = x.numpy().mean(axis=(2, 3), dtype=np.float64)
    weights = [item.detach().double().numpy() for item in layer.parameters()]
    hidden = means @ weights[0][:, :, 0, 0].T + weights[1]
    hidden = hidden / (1 + np.exp(-hidden))
    scale = 1 / (1 + np.exp(-(hidden @ weights[2][:, :, 0, 0].T + weights[3])))
    np.testing.assert_allclose(layer(x).detach().numpy(), x.numpy() * scale[:, :, None, None], rtol=1e-5, atol=1e-6)


def test_attention_is_softmax_of_products_in_a_vision_transformer() -> None:
    """The whole network against the paper's equations 1 to 4, written out in NumPy."""
    torch.manual_seed(5)
    network = VisionTransformer(
        image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=6, mlp_dim=10, num_classes=3
    ).eval()
    nn.init.normal_(network.class_token)
    state = {name: item.double().numpy() for name, item in network.state_dict().items()}
    images = np.random.default_rng(1).standard_normal((2, 3, 8, 8))

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return np.asarray(scaled * state[f"{name}.weight"] + state[f"{name}.bias"])

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return np.asarray(x @ state[f"{name}.weight"].T + state[f"{name}.bias"])

    patches = [images[:, :, i : i + 4, j : j + 4].reshape(2, -1) for i in (0, 4) for j in (0, 4)]
    tokens = np.stack(patches, 1) @ state["conv_proj.weight"].reshape(6, -1).T + state["conv_proj.bias"]
    x = np.concatenate([np.broadcast_to(state["class_token"], (2, 1, 6)), tokens], 1) + state["encoder.pos_embedding"]
    erf = np.vectorize(math.erf)
    for number in range(2):
        layer = f"encoder.layers.encoder_layer_{number}"
        y = norm(x, f"{layer}.ln_1")
        attention = f"{layer}.self_attention"
        q, k, v = np.split(y @ state[f"{attention}.in_proj_weight"].T + state[f"{attention}.in_proj_bias"], 3, -1)
        heads = []
        for head in (slice(0, 3), slice(3, 6)):
            scores = np.exp(q[..., head] @ k[..., head].transpose(0, 2, 1) / math.sqrt(3))
            heads.append(scores / scores.sum(-1, keepdims=True) @ v[..., head])
        x = x + dense(np.concatenate(heads, -1), f"{attention}.out_proj")
        hidden = dense(norm(x, f"{layer}.ln_2"), f"{layer}.mlp.0")
        x = x + dense(hidden * (1 + erf(hidden / math.sqrt(2))) / 2, f"{layer}.mlp.3")
    expected = dense(norm(x, "encoder.ln")[:, 0], "heads.head")
    with torch.inference_mode():
        found = network(torch.from_numpy(images).float()).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 3}, "image_size must be a multiple of patch_size 3, got 8"),
        ({"num_heads": 4}, "hidden_dim must be a multiple of num_heads 4, got 6"),
        ({"num_layers": 0}, "num_layers must be an integer >= 1, got 0"),
        ({"dropout": 1.0}, "dropout must be"),
    ],
)
def test_vision_transformer_bounds(change: dict[str, int], message: str) -> None:
    sizes = {"image_size": 8, "patch_size": 4, "num_layers": 1, "num_heads": 2, "hidden_dim": 6, "mlp_dim": 4}
    with pytest.raises(InputError, match=message):
        VisionTransformer(**(sizes | change))
