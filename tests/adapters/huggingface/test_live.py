"""A model in memory is asked as it lies there, and is afterwards as it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from emu2eval import InMemory, evaluate
from emu2eval.adapters.local.tensor_digest import BLOCK, weights_digest
from emu2eval.engine.models import open_model
from emu2eval.errors import UserError
from emu2eval.runs.record import read_record
from emu2eval.spec.changes import Changes
from emu2eval.testing import small_task
from emu2eval.watch import Watcher

from .prompts import CHOICES, built, prompt, request

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning",  # to PEFT
    "ignore:`gradient_checkpointing_enable`:FutureWarning",
)

ASKED = [request(prompt(1, 2)), request(prompt(2, 1)), request(prompt(1, 2), CHOICES)]


@pytest.fixture
def folder(saved: Callable[[str], Path]) -> Path:
    return saved("llava")


@pytest.fixture
def model(folder: Path) -> Any:
    from transformers import AutoModelForImageTextToText

    kind: Any = AutoModelForImageTextToText
    return kind.from_pretrained(folder, dtype=torch.float32)


def live(model: Any, processor: Any = None, **settings: Any) -> Any:
    return open_model(InMemory(model, processor, settings=settings), Changes()).adapter


def said(adapter: Any) -> list[Any]:
    adapter.load()
    try:
        answers = adapter.answer(ASKED)
    finally:
        adapter.close()
    return [(each.text, each.log_probs, each.ended) for each in answers]


@pytest.mark.parametrize("family", ["llava", "idefics3"])
def test_it_answers_as_its_checkpoint(family: str, saved: Callable[[str], Path]) -> None:
    from transformers import AutoModelForImageTextToText

    kind: Any = AutoModelForImageTextToText
    model = kind.from_pretrained(saved(family), dtype=torch.float32).train()
    given = live(model, image_options={})
    of_files = built(str(saved(family)), image_options={}, dtype="float32")
    assert given.lacks() == []
    assert given.limits == of_files.limits
    assert given.opened.ends == of_files.opened.ends
    assert said(given) == said(of_files)


def test_the_weights_are_the_models_own(model: Any) -> None:
    before = {name: weight.data_ptr() for name, weight in model.state_dict().items()}
    adapter = live(model)
    adapter.load()
    used = adapter._inference.reader.model
    assert used is model and adapter._inference.reader.encoder.model is model
    assert {name: weight.data_ptr() for name, weight in used.state_dict().items()} == before
    adapter.close()


def everything(model: Any) -> dict[str, Any]:
    """What training depends on beside the weights."""
    modules = list(model.modules())
    config = model.config
    return {
        "modes": [m.training for m in modules],
        "checkpointing": [getattr(m, "gradient_checkpointing", None) for m in modules],
        "hooks": [len(m._forward_hooks) for m in modules],
        "buffers": [id(buffer) for m in modules for buffer in m.buffers()],
        "grads": [p.requires_grad for p in model.parameters()],
        "caches": [c.use_cache for c in (config, config.text_config) if hasattr(c, "use_cache")],
        "attention": [c._attn_implementation for c in (config, config.text_config)],
        "answers by": id(model.generation_config),
        "python": random.getstate(),
        "numpy": [*map(str, np.random.get_state())],
        "torch": torch.get_rng_state().tolist(),
        "inference": any(p.is_inference() for p in (*model.parameters(), *model.buffers())),
    }


@pytest.fixture
def in_training(model: Any) -> Iterator[Any]:
    """Half frozen, half in eval mode, without a cache, with gradient checkpointing."""
    model.train()
    model.gradient_checkpointing_enable()
    model.config.text_config.use_cache = False
    model.model.vision_tower.eval().requires_grad_(False)
    yield model


class Stops(Watcher):
    """Draws random numbers, looks at the model, and breaks off if it is to."""

    def __init__(self, model: Any, error: BaseException | None = None):
        self.model, self.error, self.seen = model, error, False

    def settled(self, count: int) -> None:
        self.seen = True
        assert not any(m.training for m in self.model.modules())
        torch.rand(1), random.random(), np.random.rand()
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_it_is_given_back_as_it_was(
    in_training: Any, error: BaseException | None, tmp_path: Path
) -> None:
    before, watcher = everything(in_training), Stops(in_training, error)
    try:
        evaluate(small_task(tmp_path), in_training, shots=2, out=tmp_path, watcher=watcher)
    except KeyboardInterrupt as raised:
        assert raised is error
    assert watcher.seen
    assert everything(in_training) == before


def test_a_model_that_cannot_be_asked_is_given_back(in_training: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        in_training.model.multi_modal_projector.linear_1 = nn.Linear(3, 3)
    before = everything(in_training)
    with pytest.raises(UserError, match="fails on an image"):
        evaluate(small_task(tmp_path), in_training, out=tmp_path)
    assert everything(in_training) == before


def test_a_step_of_training_makes_other_runs(model: Any, tmp_path: Path) -> None:
    task = small_task(tmp_path)
    (first,) = evaluate(task, model, out=tmp_path, name="mine")
    (again,) = evaluate(task, InMemory(model, name="mine"), out=tmp_path)
    assert (again.folder, again.tally.asked) == (first.folder, 0)
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1e-3
    (other,) = evaluate(task, model, out=tmp_path, name="mine")
    assert other.folder != first.folder and other.tally.asked == 5
    assert read_record(other.folder).model.name == "mine"


@pytest.mark.parametrize("wrapper", ["DataParallel", "compiled"])
def test_what_trains_it_is_taken_off(model: Any, wrapper: str) -> None:
    plain = said(live(model))
    wrapped = nn.Module()
    wrapped._orig_mod = model
    if wrapper == "DataParallel":
        wrapped = nn.DataParallel(model)
    adapter = live(wrapped)
    assert said(adapter) == plain
    assert adapter.identity() == live(model).identity()


def test_an_adapter_of_peft_acts_and_is_not_merged(model: Any) -> None:
    import peft

    plain, known = said(live(model)), live(model).identity()
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=2, target_modules=r".*language_model.*\.(q_proj|v_proj)", init_lora_weights=False
    )
    tuned: Any = peft.get_peft_model(model, config)
    tuned.train()
    adapter = live(tuned)
    with_it = said(adapter)
    assert with_it != plain
    assert not any(getattr(m, "merged", False) for m in tuned.modules())
    assert tuned.training and adapter.identity()["weights"] != known["weights"]
    with tuned.disable_adapter():
        without = live(tuned)
        assert said(without) == plain
        assert without.identity()["weights"] != adapter.identity()["weights"]
    merged = said(live(tuned.merge_and_unload()))
    assert merged[2][1] == pytest.approx(with_it[2][1], abs=1e-4)


def test_mixed_precision_of_accelerate(model: Any) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # of another test's Trainer
    prepared = Accelerator(mixed_precision="bf16", cpu=True).prepare_model(model)
    assert [text for text, *_ in said(live(prepared))][:2]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda m, p: InMemory(m, p.tokenizer), "cannot process images and text together"),
        (lambda m, p: InMemory(_from_nowhere(m)), "no processor was given"),
        (lambda m, p: InMemory(nn.Linear(1, 1), p), "a Linear is not a transformers model"),
        (lambda m, p: InMemory(_sharded(m), p), "spread over processes"),
        (lambda m, p: InMemory(m, p, settings={"layuot": "chat"}), "layuot"),
        (lambda m, p: InMemory(m.to("meta"), p), "not in memory"),
    ],
)
def test_what_cannot_be_asked_is_one_paragraph(
    model: Any, folder: Path, given: Any, says: str, tmp_path: Path
) -> None:
    from transformers import AutoProcessor

    kind: Any = AutoProcessor
    with pytest.raises(UserError, match=says):
        evaluate(small_task(tmp_path), given(model, kind.from_pretrained(folder)), out=tmp_path)


def _from_nowhere(model: Any) -> Any:
    model.name_or_path = ""
    return model


def _sharded(model: Any) -> Any:
    class FullyShardedDataParallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = model

    return FullyShardedDataParallel()


def test_a_digest_sees_every_change_and_ties() -> None:
    def digest(*weights: torch.Tensor) -> str:
        return weights_digest(nn.ParameterList(weights))

    one = torch.arange(8 * BLOCK + 13, dtype=torch.uint8).float()[: 2 * BLOCK + 13]
    known = digest(one)
    assert digest(one.clone()) == known
    for place in (0, 1, 2 * BLOCK, len(one) - 1):
        other = one.clone()
        other[place] += 1
        assert digest(other) != known
    swapped = one.clone()
    swapped[[0, 5]] = swapped[[5, 0]]
    assert digest(swapped) != known
    assert digest(one.reshape(-1, 1)) != known
    small = torch.ones(3, dtype=torch.bfloat16)
    # Both at the high end of their words.
    pair = torch.zeros(8, dtype=torch.int16).view(torch.bfloat16)
    moved = pair.clone()
    moved.view(torch.int16)[3], moved.view(torch.int16)[7] = 1, 3
    assert digest(pair) != digest(moved)
    tied = nn.ParameterList([nn.Parameter(small)])
    tied.append(tied[0])
    assert weights_digest(tied) != digest(small, small.clone())
