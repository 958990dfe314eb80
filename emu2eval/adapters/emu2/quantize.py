"""8- and 4-bit weights for the language layers, by bitsandbytes (arXiv 2208.07339 and 2305.14314).

Only the linear layers inside the decoder's blocks change. The vision tower, the bridges, the embeddings
and lm_head stay whole: they are an eighth of the weights and all that an image goes through.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from emu2eval.adapters.local.bits import BLOCK, Bits
from emu2eval.errors import MissingExtra

# Columns with activations above this stay in 16 bits: LLM.int8's outliers.
_OUTLIER = 6.0


def is_quantizable(name: str) -> bool:
    """Whether the parameter of this name is a linear weight inside a block of the decoder."""
    return name.startswith("decoder.lm.model.layers.") and name.endswith("_proj.weight")


def quantizable(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The modules that would be replaced, by name."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and is_quantizable(f"{name}.weight"):
            yield name, module


def quantize_decoder(model: nn.Module, bits: Bits, dtype: torch.dtype) -> None:
    """Replaces those modules of a model on the meta device; `place` then quantises what it puts there.

    dtype: what they compute in. Raises MissingExtra without bitsandbytes.
    """
    bnb = _bitsandbytes()
    # At every single product it logs that inputs are cast to float16: thousands of lines a token.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    for name, linear in list(quantizable(model)):
        sizes = (linear.in_features, linear.out_features)
        if bits == 8:
            replacement = bnb.nn.Linear8bitLt(
                *sizes, bias=False, has_fp16_weights=False, threshold=_OUTLIER, device="meta"
            )
        else:
            replacement = bnb.nn.Linear4bit(
                *sizes, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta"
            )
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, replacement)


def quantized_weight(
    module: nn.Module, leaf: str, tensor: torch.Tensor, dtype: torch.dtype, device: torch.device
) -> nn.Parameter | None:
    """The tensor as this module's quantised weight on the device; None for an ordinary module."""
    if leaf != "weight" or not type(module).__module__.startswith("bitsandbytes."):
        return None
    bnb = _bitsandbytes()
    tensor = tensor.to(dtype, copy=True)
    parameter: Any
    if isinstance(module, bnb.nn.Linear8bitLt):
        parameter = bnb.nn.Int8Params(tensor, requires_grad=False, has_fp16_weights=False)
    else:
        parameter = bnb.nn.Params4bit(
            tensor, requires_grad=False, quant_type="nf4", blocksize=BLOCK, module=module
        )
    # Moving it is what quantises it.
    moved: nn.Parameter = parameter.to(device)
    return moved


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise MissingExtra(
            "bitsandbytes", "quantize", why="`quantize: 8` or `quantize: 4`"
        ) from None
    return bitsandbytes
