"""The vision transformer."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from xbarsim.foundation.validation import InputError, check_integer, check_real

__all__ = ["VisionTransformer", "vision_transformer"]

_NORM_EPSILON = 1e-6
_POSITION_DEVIATION = 0.02


class EncoderBlock(nn.Module):
    """Self-attention and a feed-forward network, each behind a layer norm and with its input added."""

    def __init__(self, heads: int, width: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=_NORM_EPSILON)
        self.self_attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = nn.LayerNorm(width, eps=_NORM_EPSILON)
        self.mlp = nn.Sequential(
            nn.Linear(width, feed_forward),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(feed_forward, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(images, tokens, width) to the same shape."""
        y = self.ln_1(x)
        attended, _ = self.self_attention(y, y, y, need_weights=False)
        x = x + self.dropout(attended)
        out: torch.Tensor = x + self.mlp(self.ln_2(x))
        return out


class Encoder(nn.Module):
    """Learned positions, blocks, and a last layer norm."""

    def __init__(self, tokens: int, blocks: int, heads: int, width: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, width).normal_(std=_POSITION_DEVIATION))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(
            OrderedDict(
                (f"encoder_layer_{number}", EncoderBlock(heads, width, feed_forward, dropout))
                for number in range(blocks)
            )
        )
        self.ln = nn.LayerNorm(width, eps=_NORM_EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(images, tokens, width) to the same shape."""
        out: torch.Tensor = self.ln(self.layers(self.dropout(x + self.pos_embedding)))
        return out


class VisionTransformer(nn.Module):
    """Patches of an image as tokens, a class token before them, and an encoder; the class token's output is classified.

    Parameters
    ----------
    image_size
        Height and width of an image, a multiple of `patch_size`.
    patch_size
        Height and width of a patch.
    num_layers, num_heads
        Blocks of the encoder, and heads of each attention.
    hidden_dim
        Width of a token, a multiple of `num_heads`.
    mlp_dim
        Width between the two feed-forward layers.
    num_classes
        Outputs.
    dropout
        Of attention, feed-forward network and positions in training, >= 0 and < 1.

    Raises
    ------
    InputError
        If a number is out of its bound.

    References
    ----------
    A. Dosovitskiy et al., An image is worth 16x16 words: Transformers for image recognition at scale, ICLR 2021,
    https://arxiv.org/abs/2010.11929.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        mlp_dim: int,
        num_classes: int = 1000,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {
            "image_size": image_size, "patch_size": patch_size, "num_layers": num_layers, "num_heads": num_heads,
            "hidden_dim": hidden_dim, "mlp_dim": mlp_dim, "num_classes": num_classes,
        }  # fmt: skip
        for name, value in sizes.items():
            check_integer(name, value, at_least=1)
        dropout = check_real("dropout", dropout, at_least=0.0, below=1.0)
        for whole, part in (("image_size", "patch_size"), ("hidden_dim", "num_heads")):
            if sizes[whole] % sizes[part]:
                raise InputError(f"{whole} must be a multiple of {part} {sizes[part]}, got {sizes[whole]}")
        self.image_size, self.patch_size = image_size, patch_size
        tokens = (image_size // patch_size) ** 2 + 1
        self.conv_proj = nn.Conv2d(3, hidden_dim, patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, hidden_dim))
        self.encoder = Encoder(tokens, num_layers, num_heads, hidden_dim, mlp_dim, dropout)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(hidden_dim, num_classes)))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (images, classes) of images (images, 3, image_size, image_size)."""
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.class_token.expand(len(images), -1, -1), patches), dim=1)
        logits: torch.Tensor = self.heads(self.encoder(tokens)[:, 0])
        return logits


def vision_transformer(num_classes: int = 10, *, dropout: float = 0.0) -> VisionTransformer:
    """A small untrained vision transformer for images of 32 x 32; its initial weights come from torch's generator.

    Patches of 4 x 4 (65 tokens), four blocks of two heads, 64 wide, 128 in the feed-forward network.

    Raises
    ------
    InputError
        If a number is out of its bound.
    """
    return VisionTransformer(
        image_size=32, patch_size=4, num_layers=4, num_heads=2, hidden_dim=64, mlp_dim=128, num_classes=num_classes,
        dropout=dropout,
    )  # fmt: skip
