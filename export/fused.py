"""Attention as one operator of onnxruntime (domain com.microsoft) instead of a dozen ONNX operators.

Every build of onnxruntime from 1.18 on has MultiHeadAttention, on x86, Arm and WebAssembly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lwasr_edge.training.model.conformer import MASKED

DOMAIN = "com.microsoft"


def attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, valid: Tensor, score_bias: Tensor) -> Tensor:
    """Attention without a factor for the scores, in operators of torch.

    Args:
        query: (1, U, A).
        keys, values: (1, H, S, A / H).
        bias: (3 A,), added to the query; its last 2 A are 0.
        valid: (1, S) int32, 0 for keys that are masked.
        score_bias: (1, H, U, S), added to the scores.

    Returns:
        (1, U, A).
    """
    query = by_head(query + bias[: query.shape[2]], keys.shape[1])
    scores = torch.matmul(query, keys.transpose(2, 3)) + score_bias
    scores = scores + torch.where(valid == 0, MASKED, 0.0)
    return torch.matmul(torch.softmax(scores, 3), values).transpose(1, 2).flatten(2)


def by_head(x: Tensor, n_heads: int) -> Tensor:
    """(1, U, A) -> (1, H, U, A / H)."""
    return x.unflatten(2, (n_heads, -1)).transpose(1, 2)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    valid: Tensor,
    score_bias: Tensor,
    past: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """`attend` to past and present; in an exported graph, MultiHeadAttention.

    Args:
        query, key, value: (1, U, A).
        bias, valid, score_bias: as for `attend`, with S = L + U.
        past: keys and values, (1, H, L, A / H) each.

    Returns:
        (1, U, A), and keys and values of past and present, (1, H, S, A / H).
    """
    _, n_heads, n_past, width = past[0].shape
    if torch.onnx.is_in_onnx_export():
        both = (1, n_heads, n_past + query.shape[1], width)
        attended, keys, values = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::MultiHeadAttention",
            (query, key, value, bias, valid, score_bias, *past),
            {"num_heads": n_heads, "scale": 1.0, "mask_filter_value": MASKED},
            dtypes=[torch.float32] * 3,
            shapes=[query.shape, both, both],
            version=1,
        )
        return attended, keys, values
    keys, values = (torch.cat([old, by_head(new, n_heads)], 2) for old, new in zip(past, (key, value), strict=True))
    return attend(query, keys, values, bias, valid, score_bias), keys, values
