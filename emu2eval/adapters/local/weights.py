"""One rule for all loaders: weights that are not in the files are refused, never filled in.

Libraries fill a tensor that a checkpoint lacks with random numbers and a warning; answers would then depend
on the start of a process, under a digest that promises otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from emu2eval.adapters.local.tensorfile import StoredTensor
from emu2eval.errors import ModelError

UNUSED = r"(^|\.)(pooler|vision_model\.head)\."
"""Heads of encoders that the features do not go through, which checkpoints often lack."""
_ADAPTED = r"(^|\.)(lora_[A-Za-z_]+|base_layer|modules_to_save|ia3_l)(\.|$)"
"""Names that peft gives to what it adds to a model."""
_SHOWN = 4


def require_all(
    module: nn.Module, loading_info: Mapping[str, Any], where: str | Path, unused: str = UNUSED
) -> None:
    """Raises ModelError for weights that transformers or diffusers did not find in the files.

    loading_info: what their `from_pretrained` tells with `output_loading_info`; it leaves tied weights out.
    unused: a pattern of names that may be missing; they become NaN, so that a use of them would show.
    """
    applied = sorted(name for name in loading_info["unexpected_keys"] if re.search(_ADAPTED, name))
    if applied:
        raise ModelError(
            f"the weights contain {len(applied):,} adapter tensors, which would not be applied "
            f"({_some(applied)})",
            where=where,
            hint="merge it into its base model (peft's `merge_and_unload`) and save that",
        )
    missing = sorted(
        {*loading_info["missing_keys"], *(key for key, *_ in loading_info["mismatched_keys"])}
    )
    needed = [name for name in missing if not re.search(unused, name)]
    if needed:
        raise incomplete(module, needed, (), where)
    weights = dict(module.named_parameters())
    with torch.no_grad():
        for name in missing:
            if name in weights and weights[name].is_floating_point():
                weights[name].fill_(torch.nan)


def check_tensors(module: nn.Module, tensors: Mapping[str, StoredTensor], where: Path) -> None:
    """Raises ModelError unless the names and shapes of the tensors are those of the module."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    missing = [name for name in wanted if name not in tensors]
    unknown = [name for name in tensors if name not in wanted]
    if missing or unknown:
        raise incomplete(module, missing, unknown, where)
    wrong = [name for name, shape in wanted.items() if tensors[name].shape != shape]
    if wrong:
        stored, expected = tensors[wrong[0]].shape, wanted[wrong[0]]
        more = f", and {len(wrong) - 1:,} more do not fit" if len(wrong) > 1 else ""
        raise ModelError(
            f"{wrong[0]} has the shape {stored} in the checkpoint, "
            f"{expected} in the configuration{more}",
            where=tensors[wrong[0]].file,
            hint="the config.json does not match these weights",
        )


def incomplete(
    module: nn.Module, missing: Iterable[str], unknown: Iterable[str], where: str | Path
) -> ModelError:
    """Names some of the weights that the files lack, and of those that the module does not have."""
    counted = [("missing", [*missing]), ("unknown", [*unknown])]
    problems = [f"{len(names):,} are {how} ({_some(names)})" for how, names in counted if names]
    total = len(module.state_dict())
    return ModelError(
        f"of the {total:,} weights of {type(module).__name__}, " + " and ".join(problems),
        where=where,
        hint="the checkpoint may be incomplete, for another model, or an adapter (such as LoRA) that was "
        "not merged into its base model",
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
