"""Weights from a formula: the numbers in golden/ were made with them, so that no weight file is needed."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def golden_weight(key: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """The weight of a parameter by its native key name; float32."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()) + seed))
    count = int(np.prod(shape))
    drawn = ((2 * generator.random(count) - 1) * np.sqrt(3)).reshape(shape)
    if len(shape) == 1 and key.endswith("weight"):
        weight = 1 + 0.1 * drawn
    elif key.endswith(("lm_head.weight", "embed_tokens.weight")):
        weight = 0.5 * drawn
    elif len(shape) >= 2:
        weight = drawn * 0.9 / np.sqrt(count / shape[0])
    else:
        weight = 0.08 * drawn
    if key == "decoder.lm.lm_head.weight":
        weight[2] *= 3  # </s>, so that hypotheses end
    return torch.from_numpy(np.asarray(weight, dtype=np.float32))


def fill(module: torch.nn.Module, seed: int, prefix: str = "") -> None:
    """Gives every parameter of a module its golden weight."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(golden_weight(prefix + name, tuple(parameter.shape), seed))
