"""Numbers that are none leave an answer unscored, with the reason; they never become an empty answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from emu2eval import evaluate
from emu2eval.adapters.huggingface import reading
from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.errors import ModelError
from emu2eval.types import Output, TextOutput

from ...tiny_models import with_weights
from .prompts import CHOICES, TEXT, built, prompt, request


@pytest.fixture
def loaded(model_file: Callable[..., str]) -> HuggingFaceAdapter:
    adapter = built(model_file("idefics3"))
    adapter.load()
    return adapter


@pytest.fixture(params=[torch.nan, torch.inf], ids=["nan", "inf"])
def damaged(
    request: pytest.FixtureRequest,
    saved: Callable[[str], Path],
    model_file: Callable[..., str],
    tmp_path: Path,
) -> str:
    def change(tensors: dict[str, Any]) -> dict[str, Any]:
        name = next(
            name for name in tensors if name.endswith("connector.modality_projection.proj.weight")
        )
        return {**tensors, name: tensors[name] * request.param}

    folder = with_weights(saved("idefics3"), tmp_path / "damaged", change)
    return model_file("idefics3", checkpoint=str(folder))


@pytest.mark.parametrize("output", [TEXT, TextOutput(5, beams=3), CHOICES])
def test_damaged_weights_give_no_answer(damaged: str, output: Output) -> None:
    adapter = built(damaged)
    adapter.load()
    for found in adapter.answer([request(prompt(1, query), output) for query in range(2)]):
        assert found.text is None and found.log_probs is None
        assert "NaN" in str(found.error)


def test_a_run_of_damaged_weights_is_unscored(
    damaged: str, make_task: Callable[..., Path], tmp_path: Path
) -> None:
    task = str(make_task(queries=5))
    (result,) = evaluate(task, damaged, out=tmp_path / "runs")
    assert (result.rows[0].n, result.rows[0].unscored, result.failed) == (0, 5, 5)
    with pytest.raises(ModelError, match="NaN"):
        evaluate(
            task, damaged, shots=[1], out=tmp_path / "runs",
            changes=["task.demonstrations.chooser=rices",
                     "task.demonstrations.options.encoder=model"],
        )  # fmt: skip


def test_one_image_costs_its_own_answer(
    loaded: HuggingFaceAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an image does whose features overflow in half precision."""
    asked = [request(prompt(1, query, first=query)) for query in range(3)]
    assert loaded._inference is not None
    wanted = [response.text for response in loaded.answer(asked)]
    loaded.close()
    loaded.load()
    encoder = loaded._inference.reader.encoder
    bad = loaded._lay_out(asked[1]).encoded.shown[0].key
    several = encoder.several

    def overflown(shown: Any) -> Any:
        found = several(shown)
        return {
            key: replace(each, pooled=each.pooled * torch.nan) if key == bad else each
            for key, each in found.items()
        }

    monkeypatch.setattr(encoder, "several", overflown)
    found = loaded.answer(asked)
    assert [each.error is None for each in found] == [True, False, True]
    assert [found[0].text, found[2].text] == [wanted[0], wanted[2]]


@pytest.mark.parametrize("output", [TextOutput(6), TextOutput(6, beams=2)])
def test_what_overflows_later_gives_no_answer_either(
    loaded: HuggingFaceAdapter, output: Output
) -> None:
    assert loaded._inference is not None
    calls: list[int] = []

    def late(*given: Any) -> Any:
        calls.append(1)
        return given[-1] * (torch.nan if len(calls) > 3 else 1)

    loaded._inference.reader.model.lm_head.register_forward_hook(late)
    (found,) = loaded.answer([request(prompt(1, 0), output)])
    assert found.text is None and "NaN" in str(found.error)


def test_close_words_do_not_tie_in_bfloat16(
    model_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where choices are ranked nor where an answer is searched for."""
    adapter = built(model_file("idefics3", dtype="bfloat16"))
    adapter.load()
    assert adapter._inference is not None
    reader = adapter._inference.reader
    head = reader.model.lm_head
    read, passes, seen = reader.read, [], []

    def noted(*args: Any, **kwargs: Any) -> torch.Tensor:
        passes.append(read(*args, **kwargs))
        return passes[-1]

    def finite(scores: torch.Tensor) -> torch.Tensor:
        seen.append(scores)
        return torch.tensor(True)

    monkeypatch.setattr(reader, "read", noted)
    monkeypatch.setattr(reading, "best_are_finite", finite)
    assert adapter.answer([request(prompt(1, 0), CHOICES)])[0].log_probs is not None
    assert {logits.dtype for logits in passes} == {torch.float32}
    adapter.answer([request(prompt(1, 0), TEXT)])
    for scores in (passes[0][:, -1], seen[-1]):
        likely = scores[0].topk(100).values
        assert len(set(likely.tolist())) == 100 > len(set(likely.bfloat16().tolist()))
    assert "forward" not in vars(head)


class Reads(TorchDispatchMode):
    """Counts the values that a device would be waited for."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ in ("is_nonzero", "item", "_local_scalar_dense")
        return func(*args, **(kwargs or {}))


def test_a_token_waits_for_the_device_no_oftener_than_transformers_does(
    loaded: HuggingFaceAdapter,
) -> None:
    """To know whether all is seen, and whether all rows have ended, whatever their number."""

    def reads(beams: int, tokens: int, rows: int) -> int:
        asked = [
            request(prompt(1, row), TextOutput(tokens, min_new_tokens=tokens, beams=beams))
            for row in range(rows)
        ]
        with Reads() as found:
            loaded.answer(asked)
        return found.count

    for beams in (1, 3):
        for rows in (2, 3):
            reads(beams, 1, rows)  # what is known of images and beginnings from here on
            assert reads(beams, 7, rows) - reads(beams, 3, rows) == 4 * 2
