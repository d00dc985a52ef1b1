"""The Gram-code stylizer's style layer: what of a picture's Gram matrices (Gatys et al. 2016) makes its style code."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def correlations(features: Tensor) -> Tensor:
    """Gram matrix F F^T / (H W): (N, C, H, W) -> (N, C, C), float32 and above.

    Not ``losses.gram``: this one is in plain operators, for the exported style encoder, and is divided before the
    product, so that no sum over a picture is too large for half precision.
    """
    rows = features.flatten(2)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32)) / rows.shape[2] ** 0.5
    return rows @ rows.transpose(1, 2)


def strongest(gram: Tensor, top: int) -> Tensor:
    """Rows and columns of the ``top`` channels whose rows have the largest norms: (N, C, C) -> (N, top, top).

    They keep their order, so that a channel that stays among them keeps its place.
    """
    norms = gram.square().sum(2)
    chosen = norms.topk(top, dim=1).indices.sort(dim=1).values
    rows = gram.gather(1, chosen[:, :, None].expand(-1, -1, gram.shape[2]))
    return rows.gather(2, chosen[:, None, :].expand(-1, top, -1))


class StyleLayer(nn.Module):
    """Gram matrices -> the style code; the code -> the style matrix, a row a channel.

    Args:
        widths: channels of the levels.
        top: channels of a level whose correlations count.
        length: of a level's part of the code.
        columns: of the style matrix.
    """

    def __init__(self, widths: tuple[int, ...], top: int, length: int, columns: int) -> None:
        super().__init__()
        self.top, self.length, self.columns = top, length, columns
        self.shared = nn.Linear(top * top, length)
        self.rows = nn.ParameterList(torch.randn(width, columns, length) / length**0.5 for width in widths)

    def code(self, levels: list[Tensor]) -> Tensor:
        """Features of a style picture, level by level -> its style code (N, levels * length).

        A level's part has mean 0 and variance 1: an exported network computes with codes in half precision.
        """
        grams = [strongest(correlations(level), self.top).flatten(1) for level in levels]
        return torch.cat([F.layer_norm(self.shared(gram), (self.length,)) for gram in grams], 1)

    def matrix(self, code: Tensor) -> list[Tensor]:
        """Style code (N, levels * length) -> the style matrix (N, C, columns), split by level.

        Every channel has a linear map of its own. The matrix is linear in the code: codes mix.
        """
        parts = code.split(self.length, 1)
        maps = list(self.rows)
        # Sums of products: a product of matrices per channel would be as many small kernels.
        return [(rows * part[:, None, None]).sum(3) for rows, part in zip(maps, parts, strict=True)]
