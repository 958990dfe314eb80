"""transformers' models over two ranks: the answers of one process, and what is refused while planning."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import transformers

from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.adapters.huggingface.live import LiveTransformers
from emu2eval.adapters.huggingface.settings import HuggingFaceSettings
from emu2eval.adapters.machine import Machine
from emu2eval.errors import ConfigError
from emu2eval.types import Request, TextOutput

from ..forked import forking
from .prompts import CHOICES, built, prompt, request

TEXTS = [request(prompt(2, query), TextOutput(max_new_tokens=6)) for query in range(3)]
BEAMS = [request(prompt(2, query), TextOutput(max_new_tokens=6, beams=3)) for query in range(2)]
RANKED = [request(prompt(1, 1), CHOICES)]


@pytest.fixture
def split(model_file: Callable[..., str]) -> Iterator[Callable[..., HuggingFaceAdapter]]:
    made = []

    def load(family: str, **settings: object) -> HuggingFaceAdapter:
        adapter = built(model_file(family), threads=1, **settings)
        made.append(adapter)
        assert adapter.lacks() == []
        adapter.load()
        return adapter

    with forking():
        yield load
    for adapter in made:
        adapter.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks its ranks")
@pytest.mark.parametrize(
    ("family", "settings", "asked"),
    [
        ("idefics3", {}, [TEXTS, BEAMS]),
        ("qwen2_5_vl", {"temperature": 1.0, "seed": 3}, [TEXTS]),
    ],
)
def test_two_ranks_answer_as_one_process(
    split: Callable[..., HuggingFaceAdapter],
    family: str,
    settings: dict[str, object],
    asked: list[list[Request]],
) -> None:
    """Greedily, by beams, drawn, and a choice; each holds half of the decoder and all of the encoder."""
    one, two = split(family, **settings), split(family, tensor_parallel=2, **settings)
    for batch in asked:
        texts = [response.text for response in two.answer(batch)]
        assert texts == [response.text for response in one.answer(batch)]
    (alone,), (together,) = one.answer(RANKED), two.answer(RANKED)
    assert alone.log_probs is not None
    assert together.log_probs == pytest.approx(alone.log_probs, rel=1e-6, abs=1e-5)
    weights = dict(one._loaded().reader.model.named_parameters())
    halved = sum(
        weight.nbytes
        for name, weight in weights.items()
        if "norm" not in name and any(part in name for part in ("text_model", "language", "head"))
    )
    whole = sum(weight.nbytes for weight in weights.values())
    assert two._team is not None
    assert two._team.weights == (whole - halved // 2,) * 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"device_map": "cpu"}, "tensor_parallel: 2 cannot be combined with device_map"),
        ({"memory": {0: "1GiB"}}, "tensor_parallel: 2 cannot be combined with memory"),
        ({"quantize": 4}, "tensor_parallel: 2 cannot be combined with quantize"),
        ({"adapter": "lora"}, "tensor_parallel: 2 cannot be combined with adapter"),
    ],
)
def test_settings_that_exclude_ranks(
    model_file: Callable[..., str], given: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        built(model_file("llava"), tensor_parallel=2, **given)


def _refusal(adapter: HuggingFaceAdapter) -> str:
    (error,) = adapter.lacks()
    with pytest.raises(ConfigError):
        adapter.load()  # a caller may not have asked what it lacks
    return str(error)


def test_refused_while_planning(
    model_file: Callable[..., str],
    saved: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    file = model_file("qwen2_5_vl")
    error = _refusal(built(file, tensor_parallel=3))
    assert "4 attention heads cannot be split over 3 ranks" in error
    assert "try:   tensor_parallel: 2" in error
    assert "2 heads of keys and values cannot be split over 4 ranks" in _refusal(
        built(file, tensor_parallel=4)
    )
    quantized = tmp_path / "quantized"
    shutil.copytree(saved("qwen2_5_vl"), quantized)
    config = json.loads((quantized / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (quantized / "config.json").write_text(json.dumps(config))
    error = _refusal(built(file, tensor_parallel=2, checkpoint=str(quantized)))
    assert "cannot split this checkpoint's quantized weights" in error
    small = built(file, tensor_parallel=2, dtype="float32")
    small.machine = Machine(gpus=(24 << 30,))
    error = _refusal(small)
    assert "tensor_parallel: 2 needs a GPU for each rank, but 1 is visible" in error


def test_a_model_without_a_plan_is_refused(
    model_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = built(model_file("llava"), tensor_parallel=2)
    text = adapter.opened.checkpoint.config.get_text_config(decoder=True)
    monkeypatch.setattr(type(text), "base_model_tp_plan", None)
    assert "transformers has none for" in _refusal(adapter)


def test_a_model_in_memory_is_not_split(saved: Callable[[str], Path]) -> None:
    model = transformers.LlavaForConditionalGeneration.from_pretrained(saved("llava"))
    own = HuggingFaceSettings(checkpoint="in memory", tensor_parallel=2)
    with pytest.raises(ConfigError, match="tensor_parallel: 2 splits the weights of files"):
        LiveTransformers(model, None, own).load()
