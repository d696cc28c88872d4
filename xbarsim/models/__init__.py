"""Networks that come with the project, and networks trained by others that it can read.

:data:`MODELS` says what there is; :func:`load_model` builds one with its weights. :data:`ARCHITECTURES` also holds
those without stored weights; :func:`untrained_model` builds one for its cost.

A network stands in one file, which registers its :class:`Architecture` and, where there are trained weights, their
:class:`ModelCard`. A network of your own does the same in a file of yours.
"""

from __future__ import annotations

from xbarsim.foundation.extras import need_torch

need_torch("xbarsim.models")  # said before what follows loads it

from xbarsim.data import DATA_SETS, load_images, normalise
from xbarsim.models.cards import ARCHITECTURES, Architecture, ModelCard, register_architecture, register_model
from xbarsim.models.coded import load_coded, read_card, save_coded
from xbarsim.models.output_codes import CodedClassifier, exhaustive_code, random_code
from xbarsim.models.registry import MODELS, check_trained, load_model, load_test_set, untrained_model
from xbarsim.models.zoo import ZOO, load_zoo_file

# Lists show networks in this order.
# isort: off
from xbarsim.models.digits import DigitsNet, load_digits_net
from xbarsim.models.resnet import ResNet20, load_resnet20, resnet20
from xbarsim.models.resnet18 import ResNet18, resnet18
from xbarsim.models.vgg import VGG16, vgg16
from xbarsim.models.lenet import LeNet5, lenet5
from xbarsim.models.convnet import ConvNet, convnet
from xbarsim.models.mnist_net import MnistNet, mnist_net
from xbarsim.models.discrete import DiscreteActivation
from xbarsim.models.spoken_digits import RecurrentCell, SpokenDigitsNet, load_spoken_digits_net, spoken_digits_weights
from xbarsim.models.stories import STORY_WEIGHTS, StoryNet, StoryTransformer, load_story_transformer
from xbarsim.models.keywords import KeywordNet, load_keyword_net
from xbarsim.models.neurram import NEURRAM_NETWORKS, NeuRRAMMnistNet, NeuRRAMResNet20, load_neurram_network
from xbarsim.models.liaf import EventNet, Fire, LiafLayer, Neuron, RecurrentLiaf, SequenceNet, Surrogate
# isort: on

__all__ = [
    "ARCHITECTURES",
    "DATA_SETS",
    "MODELS",
    "NEURRAM_NETWORKS",
    "STORY_WEIGHTS",
    "VGG16",
    "ZOO",
    "Architecture",
    "CodedClassifier",
    "ConvNet",
    "DigitsNet",
    "DiscreteActivation",
    "EventNet",
    "Fire",
    "KeywordNet",
    "LeNet5",
    "LiafLayer",
    "MnistNet",
    "ModelCard",
    "NeuRRAMMnistNet",
    "NeuRRAMResNet20",
    "Neuron",
    "RecurrentCell",
    "RecurrentLiaf",
    "ResNet18",
    "ResNet20",
    "SequenceNet",
    "SpokenDigitsNet",
    "StoryNet",
    "StoryTransformer",
    "Surrogate",
    "check_trained",
    "convnet",
    "exhaustive_code",
    "lenet5",
    "load_coded",
    "load_digits_net",
    "load_images",
    "load_keyword_net",
    "load_model",
    "load_neurram_network",
    "load_resnet20",
    "load_spoken_digits_net",
    "load_story_transformer",
    "load_test_set",
    "load_zoo_file",
    "mnist_net",
    "normalise",
    "random_code",
    "read_card",
    "register_architecture",
    "register_model",
    "resnet18",
    "resnet20",
    "save_coded",
    "spoken_digits_weights",
    "untrained_model",
    "vgg16",
]
