"""A checkpoint's weights as a model, on the devices and in the precision that were asked for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import torch

from emu2eval.adapters.huggingface.checkpoint import TransformersCheckpoint
from emu2eval.adapters.huggingface.lora import PeftFolder
from emu2eval.adapters.huggingface.settings import HuggingFaceSettings
from emu2eval.adapters.local.devices import torch_dtype
from emu2eval.adapters.local.weights import require_all
from emu2eval.adapters.machine import Machine
from emu2eval.adapters.memory import Device
from emu2eval.errors import MissingExtra, ModelError

_DECODERS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Under what name a config.json holds its language model's own."""


def load_model(
    checkpoint: TransformersCheckpoint,
    own: HuggingFaceSettings,
    gpus: Mapping[Device, int] | None = None,
) -> Any:
    """Ready to answer. gpus: those that it takes where the settings name no device, and bytes of weights on
    each; None = all. Raises ModelError, also for weights that the files lack, or MissingExtra."""
    import transformers

    dtype = torch_dtype(own.dtype, own.device_map)
    options: dict[str, Any] = {"dtype": dtype, "device_map": own.device_map or _all_gpus()}
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
            config=checkpoint.config,
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
    if own.adapter is not None:
        model = PeftFolder(own.adapter).applied(model, merge=own.quantize is None)
    # What a search leaves open is filled in from here: sampling, and penalties for words of the
    # demonstrations, are meant for conversations.
    config: Any = transformers.GenerationConfig
    model.generation_config = config()
    return model.eval().requires_grad_(False)


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
