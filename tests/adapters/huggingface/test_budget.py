"""What a model of transformers takes, by its files' headers, its configuration, and as it is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode

from emu2eval.adapters.base import BatchRange
from emu2eval.adapters.huggingface.budget import decoding, known, measured, weights_of
from emu2eval.adapters.huggingface.settings import HuggingFaceSettings
from emu2eval.adapters.local.cache import held_bytes
from emu2eval.adapters.local.headers import Weight
from emu2eval.adapters.local.placement import Demand, place, placed
from emu2eval.adapters.machine import Machine
from emu2eval.adapters.memory import GIB, MIB, Workload
from emu2eval.errors import DoesNotFit

from ...alive import Peak
from .prompts import TEXT, built, prompt, request

BF16 = torch.bfloat16
WORDS, HIDDEN, INNER, LAYERS, HEADS, KEYS = 152064, 3584, 18944, 28, 28, 4


def qwen(**text: Any) -> Any:
    """Of Qwen2.5-VL-7B's sizes."""
    sizes = {
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEYS,
        "vocab_size": WORDS,
        **text,
    }
    vision = {"hidden_size": 1280, "intermediate_size": 3420, "depth": 32, "patch_size": 14}
    return transformers.Qwen2_5_VLConfig(text_config=sizes, vision_config=vision)


def weights() -> list[Weight]:
    """Of its matrices, which are all but 0.1 % of it."""
    width = HIDDEN // HEADS * KEYS
    layer = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (width, HIDDEN),
        "self_attn.v_proj": (width, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
    }
    block = {
        "attn.qkv": (3840, 1280),
        "attn.proj": (1280, 1280),
        "mlp.gate_proj": (3420, 1280),
        "mlp.up_proj": (3420, 1280),
        "mlp.down_proj": (1280, 3420),
    }
    found = {f"visual.blocks.{i}.{n}": shape for i in range(32) for n, shape in block.items()}
    found |= {f"model.layers.{i}.{n}": shape for i in range(LAYERS) for n, shape in layer.items()}
    found |= dict.fromkeys(("model.embed_tokens", "lm_head"), (WORDS, HIDDEN))
    found |= {"visual.merger.mlp.0": (5120, 5120), "visual.merger.mlp.2": (HIDDEN, 5120)}
    return [Weight(f"{n}.weight", s, 2 * math.prod(s), True) for n, s in found.items()]


def test_a_model_of_seven_billion() -> None:
    need = measured(qwen(), weights(), BF16)(Demand(2000, 8, 1, 10))
    # As published: 8,292,166,656 parameters.
    assert need.weights == pytest.approx(2 * 8_292_166_656, rel=1e-3)
    # 2 x 4 heads of 128 in 28 layers; eight prompts with room, their answers, and one that is remembered.
    assert need.cache == (8 * (1990 + 64) + 1990 + 8 * 10) * 28 * 2 * 4 * 128 * 2
    assert 1.0 < need.activations(True, False) / GIB < 2.0
    fits = placed(measured(qwen(), weights(), BF16), Demand(2000, 8, 1, 10), {0: 24 * GIB})
    assert {name: fits.device_of(name) for name in ("lm_head", "model.layers.27")} == {
        "lm_head": 0,
        "model.layers.27": 0,
    }


@pytest.mark.parametrize(
    "demand, size, cards",
    [
        (Demand(2000, 8), 24, 1),
        (Demand(2000, 64), 24, 2),
        (Demand(2000, 8), 16, 2),
        (Demand(2000, 8, quantize=8), 16, 1),
        (Demand(2000, 8, quantize=4), 12, 1),
        (Demand(400, 64), 24, 1),
    ],
)
def test_cards_by_batch_and_length(demand: Demand, size: int, cards: int) -> None:
    need = measured(qwen(), weights(), BF16)(demand)
    enough = [n for n in (1, 2, 3) if place(need, dict.fromkeys(range(n), size * GIB))]
    assert enough[0] == cards


def test_it_grows_with_shots_batch_and_beams() -> None:
    model = measured(qwen(), weights(), BF16)
    one = Demand(500, 4, 1, 10)

    def total(**other: Any) -> int:
        need = model(replace(one, **other))
        return need.cache + need.activations(True, False)

    assert total() < total(positions=1000) < total(positions=2000)
    assert total() < total(beams=5) < total(batch=20)
    # Beams share their prompt's keys, unless its attention takes all of them at once.
    apart = measured(qwen(), weights(), BF16, shares=False)(replace(one, beams=5))
    assert apart.cache > 3 * model(replace(one, beams=5)).cache


def test_layers_of_other_kinds() -> None:
    latent = transformers.DeepseekV3Config(
        num_hidden_layers=2, num_attention_heads=4, kv_lora_rank=8
    )
    need = measured(latent, [], BF16)(Demand(10))
    # Its attention takes all keys at once, so that rows share none: more than is planned.
    assert not known(latent) and need.units == ()
    one = Weight("model.layers.0.q", (1,), 2, True)
    held = measured(latent, [one], BF16, reuse=False)(Demand(10)).cache
    # Keys of 128 + 64 and values of 128 for each head, whatever head_dim says.
    assert held == (10 + 64) * 4 * (192 + 128) * 2
    states = transformers.Qwen3NextConfig(num_hidden_layers=4)
    assert not known(states)


def test_what_is_alive_at_once_stays_below_its_estimate() -> None:
    """In a decoder as wide as a 7B's, on tensors that are only counted: keys and values, then what else lives
    in its widest step."""
    text = transformers.LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=2, num_attention_heads=32
    )
    text.dtype = BF16
    with FakeTensorMode(), torch.no_grad():
        model: Any = transformers.AutoModel.from_config(text)
        for batch, length in ((1, 2000), (8, 500)):
            with Peak([*model.parameters(), *model.buffers()]) as seen:
                given = torch.zeros(batch, length, text.hidden_size, dtype=BF16)
                cache = model(inputs_embeds=given, use_cache=True).past_key_values
            held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
            lived = seen.peak["cpu"] - held
            estimate = decoding([text] * 2, Demand(length, batch), BF16, False)
            assert lived <= estimate <= 1.6 * lived


def test_what_does_not_fit_says_what_would() -> None:
    with pytest.raises(DoesNotFit) as caught:
        placed(measured(qwen(), weights(), BF16), Demand(2000, 8), {0: 12 * GIB})
    assert "2 x 12.0 GiB would fit; 4-bit would fit" in str(caught.value)


@pytest.mark.parametrize("family", ["gemma3", "qwen2_5_vl"])
def test_headers_say_what_is_loaded(model_file: Callable[..., str], family: str) -> None:
    adapter = built(model_file(family))
    adapter.load()
    model: Any = adapter._loaded().reader.model
    tied = {id(weight): weight.nbytes for weight in model.parameters()}
    need = adapter._memory.measured(torch.float32)(Demand(64))
    assert need.weights == sum(tied.values())
    config = adapter.opened.checkpoint.config
    assert sum(w.nbytes for w in weights_of(Path("nowhere"), config, config, False)) == need.weights
    # What the cache of a prompt holds is what is planned for it, room and what is remembered aside.
    reader, encoded = (
        adapter._loaded().reader,
        adapter._lay_out(request(prompt(1, 0), TEXT)).encoded,
    )
    reader.encoder.hold([encoded])
    cache = reader.cache()
    reader.read(reader.rows([encoded]), [encoded], cache, 0, len(encoded))
    per_position = held_bytes(cache) / len(encoded)
    without = adapter._memory.measured(torch.float32)(Demand(len(encoded)))
    more = adapter._memory.measured(torch.float32)(Demand(len(encoded) + 10))
    assert (more.cache - without.cache) / 20 == per_position


def test_a_plan_of_a_checkpoint(model_file: Callable[..., str]) -> None:
    adapter = built(model_file("qwen2_5_vl", dtype=None))
    plan = adapter.plan_memory(Workload(shots=2, batch=4), {0: 4 * GIB})
    asked = adapter.plan_memory(Workload(shots=4, batch=4), {0: 4 * GIB})
    assert plan is not None and asked is not None and plan.positions and asked.positions
    assert plan.precision == "bfloat16" and plan.image and plan.positions > 3 * plan.image
    assert asked.positions - plan.positions >= 2 * plan.image
    assert plan.devices[0].parts == ("embeddings, lm_head", "vision 0–1", "layers 0–1")
    fit = adapter.fit_replicas([4 * GIB, 5 * GIB])
    assert fit is not None and (fit.gpus, fit.replicas, fit.batch) == (1, 2, 256)


def test_the_batch_is_planned_for_what_is_expected(model_file: Callable[..., str]) -> None:
    adapter = built(model_file("qwen2_5_vl"))
    adapter.machine = Machine((1500 * MIB, 2600 * MIB))
    assert adapter.fit_batch() == BatchRange(adapter.limits.batch, 256)  # nothing is known
    adapter = built(model_file("qwen2_5_vl"))
    adapter.machine = Machine((1500 * MIB, 2600 * MIB))
    adapter.workload = adapter.expected([request(prompt(2, 0), TEXT)])
    assert adapter.workload is not None and adapter.workload.positions is not None
    assert adapter._gpus is not None and list(adapter._gpus) == [1]
    found = adapter.fit_batch()
    assert found.most is None and found.first == adapter.fit_batch().first > 8
    longer = replace(adapter.workload, positions=64 * adapter.workload.positions)
    adapter.workload = longer
    assert adapter.fit_batch().first < found.first


def test_settings_that_place_are_left_alone(model_file: Callable[..., str]) -> None:
    adapter = built(model_file("qwen2_5_vl", device_map="cpu"))
    adapter.machine = Machine((2600 * MIB,))
    assert adapter._gpus is None
    assert HuggingFaceSettings(checkpoint="x").device_map is None
