"""What a model of transformers takes of a device's memory, by its files' headers and its configuration.

Weights, keys and values are counted; activations are upper estimates of what is alive at once in the widest
step, and a factor says what it counts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from emu2eval.adapters.huggingface.features import TOGETHER_BYTES
from emu2eval.adapters.local.bits import quantized_bytes
from emu2eval.adapters.local.cache import ROOM
from emu2eval.adapters.local.features import CACHE_BYTES as FEATURE_BYTES
from emu2eval.adapters.local.headers import Weight, weights_in
from emu2eval.adapters.local.inference import ALONE
from emu2eval.adapters.local.layers import kind_of, layers_of
from emu2eval.adapters.local.placement import Demand, Measured, Need, Unit, cached_positions
from emu2eval.adapters.local.prefix import CACHE_BYTES
from emu2eval.errors import ModelError

_PLAIN = frozenset({"DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer"})
"""Layers that hold keys and values alone, so that what they take is known."""
_WHOLE = re.compile(r"(^|\.)(lm_head|embed_tokens|wte|shared)\.")
"""What bitsandbytes leaves whole, embeddings and the head, whatever their names stand in."""
_PATCH = 14
"""Pixels of a patch's side where the configuration names none."""
_LARGEST = 1 << 14
"""Patches of an image that is encoded alone: Qwen2-VL's largest is 12.8 million pixels of 28 x 28 a token."""


def weights_of(path: Path, config: Any, released: Any, code: bool) -> tuple[Weight, ...]:
    """By the headers of the files of weights; where there are none, by the modules on the meta device.

    config: of the part that is read; released: of the whole checkpoint. Raises ModelError.
    """
    found = weights_in(path)
    if not found:
        return tuple(_of_modules(config, code))
    if config is not released:
        # An omni model's talker is not read.
        found = [weight for weight in found if weight.name.startswith("thinker.")]
    return tuple(found)


def _of_modules(config: Any, code: bool) -> Iterator[Weight]:
    import transformers

    automatic: Any = transformers.AutoModelForImageTextToText
    try:
        with torch.device("meta"):
            model = automatic.from_config(config, trust_remote_code=code)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(f"the model cannot be made from its configuration ({reason})") from None
    for name, weight in model.named_parameters():
        yield Weight(name, tuple(weight.shape), weight.nbytes, weight.is_floating_point())


def known(config: Any) -> bool:
    """Whether all that grows with a batch can be counted: layers hold nothing but keys and values, and rows
    share those of a beginning."""
    decoder = decoder_of(config)
    rope = str(getattr(decoder, "rope_parameters", None) or "")
    latent = any(_number(layer, "kv_lora_rank") for layer in _layer_configs(decoder))
    shares = not (latent or _number(decoder, "num_kv_shared_layers"))
    plain = {type(layer).__name__ for layer in layers_of(decoder)} <= _PLAIN
    return plain and shares and not ("longrope" in rope or "dynamic" in rope)


def measured(
    config: Any,
    weights: Sequence[Weight],
    dtype: torch.dtype,
    *,
    reuse: bool = True,
    shares: bool = True,
) -> Measured:
    """What it needs. shares: rows and beams share the keys of a beginning, as they do with "sdpa".

    Raises ModelError for a decoder whose cache is not known.
    """
    decoder = decoder_of(config)
    layers = layers_of(decoder)
    configs = _layer_configs(decoder)
    widths = [
        _kept_numbers(own) if type(layer).__name__ != "DummyLayer" else 0
        for own, layer in zip(configs, layers, strict=False)
    ]
    apart = all(kind_of(layer).apart for layer in layers)
    blocks, own = _blocks(weights)

    def need(demand: Demand) -> Need:
        def size(weight: Weight) -> int:
            bits = demand.quantize
            if (
                bits
                and weight.floating
                and len(weight.shape) == 2
                and not _WHOLE.search(weight.name)
            ):
                return quantized_bytes(weight.shape, bits)
            return weight.bytes_in(dtype)

        per_position = sum(widths) * dtype.itemsize
        remembered = CACHE_BYTES // max(1, per_position) if reuse else 0
        cached = cached_positions(demand, remembered)
        if demand.beams > 1 and not shares:
            # A copy of the prompt for each beam.
            prompt = demand.positions - demand.new_tokens + ROOM
            cached += demand.batch * (demand.beams - 1) * prompt
        units = [
            Unit(
                f"{prefix}.{number}",
                sum(map(size, inside)),
                cached * widths[number] * dtype.itemsize
                if prefix == own and number < len(widths)
                else 0,
            )
            for (prefix, number), inside in blocks.items()
            if prefix is not None
        ]
        rest = blocks.get((None, 0), [])
        return Need(
            tuple(dict.fromkeys(weight.name.rpartition(".")[0] for weight in rest)),
            sum(map(size, rest)),
            tuple(units),
            max(
                decoding(configs, demand, dtype, apart and shares),
                _encoding(config, dtype),
            ),
            _main(config, decoder, demand, dtype, reuse),
        )

    return need


Blocks = Mapping[tuple[str | None, int], list[Weight]]


def _blocks(weights: Iterable[Weight]) -> tuple[Blocks, str]:
    """Weights by the numbered module that they are in, in the order in which these run, those in none under
    None; and what the decoder's are called, the largest ones."""
    found: dict[tuple[str | None, int], list[Weight]] = {}
    sizes: Counter[str] = Counter()
    for weight in weights:
        prefix, number = weight.block or (None, 0)
        found.setdefault((prefix, number), []).append(weight)
        if prefix is not None:
            sizes[prefix] += math.prod(weight.shape)
    own = max(sizes, key=lambda prefix: sizes[prefix], default="")
    order = sorted(found, key=lambda key: (key[0] == own, key[0] or "", key[1]))
    return {key: found[key] for key in order}, own


def decoder_of(config: Any) -> Any:
    return config.get_text_config(decoder=True)


def _layer_configs(decoder: Any) -> list[Any]:
    """A configuration for each layer: the decoder's own, unless its layers are not of one size."""
    each = getattr(decoder, "per_layer_config", None)
    count = decoder.num_hidden_layers
    return [decoder] * count if each is None else [each[number] for number in range(count)]


def _number(config: Any, *names: str) -> int:
    """The first of these that a configuration has, the largest where it is a list; 0 = it has none."""
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, (list, tuple)):
            value = max((each for each in value if isinstance(each, int)), default=0)
        if value:
            return int(value)
    return 0


def _head_width(layer: Any) -> int:
    return _number(layer, "head_dim") or layer.hidden_size // layer.num_attention_heads


def _kept_numbers(layer: Any) -> int:
    """Numbers that a layer keeps of a position: its keys and its values."""
    heads = layer.num_attention_heads
    if _number(layer, "kv_lora_rank") and _number(layer, "qk_nope_head_dim"):
        # transformers caches what multi-head latent attention makes of its latents.
        return int(heads * (layer.qk_nope_head_dim + layer.qk_rope_head_dim + layer.v_head_dim))
    return 2 * (_number(layer, "num_key_value_heads") or heads) * _head_width(layer)


def decoding(layers: Sequence[Any], demand: Demand, dtype: torch.dtype, one_by_one: bool) -> int:
    """Of reading a batch, in the widest of a layer's steps."""
    mask = demand.positions * (1 + dtype.itemsize)
    # Long prompts are read one after the other (`inference`), short ones together.
    positions = demand.batch * demand.positions
    if one_by_one:
        positions = max(demand.positions, demand.batch * min(demand.positions, ALONE))
    return positions * (max(_of_a_position(layer, dtype) for layer in layers) + mask)


def _of_a_position(layer: Any, dtype: torch.dtype) -> int:
    hidden = layer.hidden_size
    # Attention: the residual, the normed input, q, k and v before and after rotation (at most as wide as
    # q), the output. MLP: the residual, the normed input and the output, with gate, up and their product,
    # for each expert that a token goes to.
    wide = 2 * hidden + 7 * max(hidden, layer.num_attention_heads * _head_width(layer))
    wide = max(wide, 3 * hidden + 3 * _inner(layer))
    norm = 2 * 4 * hidden  # in float32
    # Keys and values of a shared prefix are joined with those of each row, one layer at a time.
    return int((wide + _kept_numbers(layer)) * dtype.itemsize + norm)


def _inner(layer: Any) -> int:
    """Width of the MLP's hidden layer, of all experts of a token together."""
    dense = _number(layer, "intermediate_size") or 4 * layer.hidden_size
    each = _number(layer, "moe_intermediate_size") or (
        dense if _number(layer, "num_local_experts") else 0
    )
    count = _number(layer, "num_experts_per_tok", "moe_k", "top_k_experts")
    return max(dense, each * count + _number(layer, "shared_expert_intermediate_size"))


def _encoding(config: Any, dtype: torch.dtype) -> int:
    """Of encoding images: as many as go together, or a large one alone."""
    vision = getattr(config, "vision_config", None) or decoder_of(config)
    hidden = _number(vision, "hidden_size", "embed_dim", "width") or 1024
    inner = _number(vision, "intermediate_size") or 4 * hidden
    side = _number(vision, "patch_size") or _PATCH
    patches = max(_LARGEST, TOGETHER_BYTES // (4 * 3 * side**2))
    # As in a decoder's layer; the MLP holds its hidden layer before and after the activation.
    return int(patches * max(9 * hidden, 3 * hidden + 3 * inner) * dtype.itemsize)


def _main(config: Any, decoder: Any, demand: Demand, dtype: torch.dtype, reuse: bool) -> int:
    # Logits in the working dtype, in float32, and their log-softmax.
    logits = demand.batch * demand.beams * decoder.vocab_size * (dtype.itemsize + 2 * 4)
    # Features of the batch's images, at most all of its positions, and those that are remembered.
    features = demand.batch * demand.positions * decoder.hidden_size * dtype.itemsize
    return int(logits + features + (FEATURE_BYTES if reuse else 0))
