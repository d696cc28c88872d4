"""Networks of the literature, with torchvision's names and layouts of parameters, so that its checkpoints fit.

Declared anew from the papers: torchvision is not needed, and each network is an ordinary module of torch. At 1,000
classes the numbers of parameters are torchvision's. For images of 32 x 32 the strides stay as they are, which makes
the networks cheap there, not good.

Left out is what acts in training alone and has no parameters: EfficientNet's stochastic depth.
"""

from __future__ import annotations

from xbarsim.models.torchvision.efficientnet import EfficientNet, efficientnet_b0
from xbarsim.models.torchvision.mobilenet import MobileNetV2, mobilenet_v2
from xbarsim.models.torchvision.resnet import ResNet, resnet18
from xbarsim.models.torchvision.shufflenet import ShuffleNetV2, shufflenet_v2_x1_0
from xbarsim.models.torchvision.vision_transformer import VisionTransformer, vision_transformer

__all__ = [
    "EfficientNet",
    "MobileNetV2",
    "ResNet",
    "ShuffleNetV2",
    "VisionTransformer",
    "efficientnet_b0",
    "mobilenet_v2",
    "resnet18",
    "shufflenet_v2_x1_0",
    "vision_transformer",
]
