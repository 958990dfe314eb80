"""Drawn answers of a tiny Emu2: the same for any batch, order, reuse and restart; distributed as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emu2eval import Watcher, evaluate
from emu2eval.adapters.conformance import check
from emu2eval.adapters.local.sampling import shares as shares_of
from emu2eval.adapters.local.search import Sampling
from emu2eval.errors import PlanError
from emu2eval.identity import request_key
from emu2eval.runs.store import RunStore
from emu2eval.testing import small_task
from emu2eval.types import Prompt, Request, TextOutput

from .conftest import built
from .test_end_to_end import model_file

HOT = {"temperature": 3.0, "top_p": 0.95, "beams": 1}
Said = dict[tuple[str, int], str | None]


def said(folder: Path) -> Said:
    answers = RunStore(folder).answers()
    return {(each.id, each.trial): each.raw or each.text for each in answers}


def asked(model: str, out: Path, shots: int = 0, **options: Any) -> Said:
    task = small_task(
        out,
        demonstrations={"split": "train", "chooser": "fixed"},
        output={"kind": "text", "max_new_tokens": 4},
    )
    (result,) = evaluate(task, model, shots=shots, out=out, **{"trials": 3, **options})
    assert result.rows[0].unscored == 0
    return said(result.folder)


def test_batch_order_reuse_and_restart_change_no_draw(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    plain = model_file(folders["base"], tmp_path, reuse=False, **HOT)
    alone = asked(plain, tmp_path / "1", batch=1)
    quick = model_file(folders["base"], tmp_path, **HOT)
    assert asked(quick, tmp_path / "reuse", batch=4) == alone
    asked(quick, tmp_path / "resumed", limit=2, trials=2, batch=2)
    assert asked(quick, tmp_path / "resumed", batch=5) == alone
    # Without demonstrations the trials still differ, and so do the samples.
    assert {trial for _, trial in alone} == {0, 1, 2}
    assert len(alone) == 15 and len(set(alone.values())) > 10
    # With demonstrations that are the same in every trial, too.
    shown = asked(quick, tmp_path / "shots", 2, batch=4)
    assert len(shown) == 15 and len(set(shown.values())) > 10
    assert asked(plain, tmp_path / "shots alone", 2, batch=1) == shown


def test_another_seed_draws_others_and_greedy_needs_one_trial(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    first, again, other = (
        asked(model_file(folders["base"], tmp_path, **HOT, **seed), tmp_path / str(n), limit=2)
        for n, seed in enumerate(({}, {}, {"seed": 1}))
    )
    assert first == again and len(set(first.values()) - set(other.values())) > 3
    run_seed = asked(
        model_file(folders["base"], tmp_path, **HOT), tmp_path / "run", seed=1, limit=2
    )
    assert len(set(first.values()) - set(run_seed.values())) > 3
    greedy = asked(model_file(folders["base"], tmp_path, beams=1), tmp_path / "greedy", limit=2)
    assert {trial for _, trial in greedy} == {0}
    cold = asked(
        model_file(folders["base"], tmp_path, do_sample=True, top_k=1, beams=1), tmp_path / "cold",
        limit=2,
    )  # fmt: skip
    assert [cold[name, 2] for name, _ in greedy] == list(greedy.values())


def test_the_first_token_has_the_models_own_probabilities(folders: dict[str, Path]) -> None:
    adapter = built(folders["base"], temperature=2.0, top_p=0.7, beams=1, dtype="float32")
    adapter.load()
    prompt, out, count = Prompt(query=("What colour is the square?",)), TextOutput(1), 1000
    inference = adapter._inference
    assert inference is not None
    asked = [Request(request_key(prompt, out, "", (n,)), prompt, out) for n in range(count)]
    encoded = adapter._lay_out(asked[0]).encoded
    with torch.inference_mode():
        rows = inference.reader.rows([encoded])
        logits = inference.reader.read(
            rows, [encoded], inference.reader.cache(), 0, rows.length
        )[0, -1]  # fmt: skip
    shares = shares_of(logits.numpy().astype(np.float64), Sampling(2.0, 0.7))
    shares /= shares.sum()
    search, keys = adapter._search(out), [request.key for request in asked]
    found = inference.texts([encoded] * count, search, keys)
    counts = np.zeros(len(shares))
    for each in found:
        counts[each.ids[0] if each.ids else 2] += 1
    assert not counts[shares == 0].any()
    # Pearson's test; rare words together, as its approximation wants five of each.
    often = shares * count >= 5
    seen = np.append(counts[often], counts[~often].sum())
    wanted = np.append(shares[often], shares[~often].sum()) * count
    degrees = int(often.sum())
    assert degrees > 3
    statistic = float(((seen - wanted) ** 2 / np.maximum(wanted, 1e-9)).sum())
    assert statistic < degrees + 3.1 * (2 * degrees) ** 0.5 + 4


def test_the_models_own_bound_replaces_the_tasks(folders: dict[str, Path]) -> None:
    adapter = built(folders["base"], beams=1, max_new_tokens=3, dtype="float32")
    adapter.load()
    prompt = Prompt(query=("What colour is the square?",))
    task = TextOutput(20, min_new_tokens=9)
    (response,) = adapter.answer([request := Request("key", prompt, task)])
    assert response.tokens_out == 3
    assert adapter.positions(request) == (response.tokens_in or 0) + 3


def test_what_cannot_be_drawn_is_refused_or_told(folders: dict[str, Path], tmp_path: Path) -> None:
    model = model_file(folders["base"], tmp_path, **HOT)
    beams = small_task(tmp_path, output={"kind": "text", "beams": 3})
    with pytest.raises(PlanError, match="the task asks for beam search with 3 beams"):
        evaluate(beams, model, out=tmp_path)
    heard: list[str] = []
    listener = Watcher()
    listener.note = heard.append  # type: ignore[method-assign]
    ranked = small_task(
        tmp_path, output={"kind": "choice", "choices": ["red", "green"]}, score={"scorer": "choice"}
    )
    (result,) = evaluate(ranked, model, limit=2, trials=3, out=tmp_path, watcher=listener)
    assert result.rows[0].trials == 1
    assert any("nothing is drawn at random, so one trial replaces 3" in line for line in heard)
    assert any("temperature, top_p and do_sample only affect text" in line for line in heard)


def test_it_keeps_the_rules_of_adapters(folders: dict[str, Path]) -> None:
    adapter = built(folders["base"], dtype="float32", **HOT)
    assert [finding for finding in check(adapter) if not finding.holds] == []
