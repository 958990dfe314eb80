"""A checkpoint's weights as a model, on the devices and in the precision that were asked for."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch

from emu2eval.adapters.huggingface.checkpoint import TransformersCheckpoint
from emu2eval.adapters.huggingface.lora import PeftFolder
from emu2eval.adapters.huggingface.settings import HuggingFaceSettings
from emu2eval.adapters.local.devices import torch_dtype
from emu2eval.adapters.local.weights import require_all
from emu2eval.adapters.machine import Machine
from emu2eval.adapters.memory import Device
from emu2eval.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from emu2eval.adapters.local.rank import Rank

_DECODERS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Under what name a config.json holds its language model's own."""


def load_model(
    checkpoint: TransformersCheckpoint,
    own: HuggingFaceSettings,
    gpus: Mapping[Device, int] | None = None,
    rank: Rank | None = None,
) -> Any:
    """Ready to answer. Raises ModelError, also for weights that the files lack, or MissingExtra.

    gpus: those that it takes where the settings name no device, and bytes of weights on each; None = all.
    rank: only its shares of the language model's weights are read.
    """
    import transformers

    dtype = torch_dtype(own.dtype, own.device_map)
    options: dict[str, Any] = {"dtype": dtype}
    config = checkpoint.config
    if rank is None:
        options["device_map"] = own.device_map or _all_gpus()
    else:
        from transformers.distributed.configuration_utils import DistributedConfig

        options["distributed_config"] = DistributedConfig(tp_size=rank.count)
        config = decoder_alone(config)
    if own.memory is not None:
        options["max_memory"] = dict(own.memory)
    elif gpus and own.device_map in (None, "auto"):
        only = len(gpus) == 1
        options["device_map"] = {"": next(iter(gpus))} if only else "auto"
        options["max_memory"] = None if only else {**gpus, "cpu": Machine.here().host}
    if own.quantize is not None:
        options["quantization_config"] = _bits(own.quantize, dtype)
    if own.attention is not None:
        options["attn_implementation"] = own.attention
    automatic: Any = transformers.AutoModelForImageTextToText
    try:
        model, info = automatic.from_pretrained(
            checkpoint.path,
            # An omni model's talker is neither read nor kept in memory.
            config=config,
            trust_remote_code=checkpoint.code,
            output_loading_info=True,
            **options,
        )
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"the weights cannot be loaded ({reason})", where=checkpoint.path
        ) from error
    require_all(model, info, checkpoint.path)
    if rank is not None:
        check_split(model, checkpoint)
    if own.adapter is not None:
        model = PeftFolder(own.adapter).applied(model, merge=own.quantize is None)
    # What a search leaves open is filled in from here: sampling, and penalties for words of the
    # demonstrations, are meant for conversations.
    generation: Any = transformers.GenerationConfig
    model.generation_config = generation()
    return model.eval().requires_grad_(False)


def decoder_alone(config: Any) -> Any:
    """A copy of a model's configuration by which its language model alone is split over ranks.

    An encoder that is whole on every rank needs no other, so that ranks may have different images at hand.
    """
    found = copy.deepcopy(config)
    text = found.get_text_config(decoder=True)
    for each in _configs(found):
        if each is not text and each is not found:
            each.base_model_tp_plan = None
    return found


def _configs(config: Any) -> Iterator[Any]:
    """A configuration and those within."""
    yield config
    for name in getattr(config, "sub_configs", ()):
        inner = getattr(config, name, None)
        if inner is not None:
            yield from _configs(inner)


def check_split(model: Any, checkpoint: TransformersCheckpoint) -> None:
    """Raises ModelError where more than the language model is split over ranks, or nothing is."""
    from torch.distributed.tensor import DTensor

    text = model.config.get_text_config(decoder=True)
    split = {name for name, weight in model.named_parameters() if isinstance(weight, DTensor)}
    inner = {
        f"{name}.{weight}" if name else weight
        for name, module in model.named_modules()
        if getattr(module, "config", None) is text
        for weight, _ in module.named_parameters()
    }
    head = {name for name in split if name.rpartition(".")[0].endswith("lm_head")}
    if not split & inner or split - inner - head:
        others = sorted(split - inner - head)[:3]
        raise ModelError(
            f"transformers' plan for {type(model).__name__} does not split its language model alone "
            f"({', '.join(others) if others else 'it splits no layer of it'})",
            where=checkpoint.path,
            hint="remove tensor_parallel",
        )


def _all_gpus() -> str:
    if torch.cuda.device_count() > 1:
        return "auto"
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_kind(kind: Any, checkpoint: TransformersCheckpoint) -> None:
    """Raises ModelError for an architecture that takes images otherwise than in place of tokens."""
    if "mm_encoder_outputs" not in inspect.signature(kind.forward).parameters:
        raise ModelError(
            f"{kind.__name__} does not accept images in place of tokens, which this adapter needs to "
            "show several images in order",
            where=checkpoint.path,
            hint="use a model of another family, or serve it and use the OpenAI-compatible adapter",
        )


def ends(checkpoint: TransformersCheckpoint, tokenizer: Any) -> list[int]:
    """The ids that end an answer: all that generation_config.json, config.json and the tokenizer name.

    Raises ModelError for a file that is not JSON.
    """
    # As the files have them: transformers' defaults for what they leave out may be ordinary words.
    config, *more = checkpoint.said()
    named = [*_decoders(config), *more]
    found: list[Any] = [tokenizer.eos_token_id]
    for settings in named:
        ids = settings.get("eos_token_id") if isinstance(settings, Mapping) else None
        found += ids if isinstance(ids, list) else [ids]
    return sorted({i for i in found if isinstance(i, int) and i >= 0})


def _decoders(config: Any) -> list[Any]:
    """A configuration as it stands in a file, and those of the language models within."""
    parts = [config.get(name) for name in _DECODERS] if isinstance(config, Mapping) else []
    return [config, *(each for part in parts if part is not None for each in _decoders(part))]


def _bits(bits: Literal[8, 4], dtype: torch.dtype) -> Any:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise MissingExtra("bitsandbytes", "quantize", why=f"`quantize: {bits}`") from None
    import transformers

    config: Any = transformers.BitsAndBytesConfig
    if bits == 8:
        return config(load_in_8bit=True)
    return config(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
