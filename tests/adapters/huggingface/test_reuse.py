"""The same answers for any batch, with and without what is reused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Gemma4TextConfig, LlamaConfig

from emu2eval.adapters.conformance import check
from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.adapters.local.prefix import Prefix
from emu2eval.adapters.local.search import Sampling, Search
from emu2eval.types import Prompt, Request, TextOutput

from .prompts import CHOICES, TEXT, built, image, prompt, request


@pytest.fixture(scope="module")
def kept() -> dict[str, HuggingFaceAdapter]:
    return {}


@pytest.fixture
def inference(
    kept: dict[str, HuggingFaceAdapter],
    model_file: Callable[..., str],
    family: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Of a model that is loaded once for the tests that leave it as it is, but for its `ends` and `pad`."""
    if family not in kept:
        kept[family] = built(model_file(family))
        kept[family].load()
    found = kept[family]._inference
    assert found is not None
    for name in ("ends", "pad"):
        monkeypatch.setattr(found.reader, name, getattr(found.reader, name))
    return found


def answers(adapter: HuggingFaceAdapter, asked: list[Request], batch: int) -> list[Any]:
    found = []
    for start in range(0, len(asked), batch):
        found += adapter.answer(asked[start : start + batch])
    assert not [response.error for response in found if response.error]
    return [response.text for response in found]


def test_batches_and_reuse_change_nothing(model_file: Callable[..., str], family: str) -> None:
    """Fixed demonstrations, other ones, none: one by one without reuse, and eight at a time with it."""
    asked = [request(prompt(4, query)) for query in range(4)]
    asked += [
        request(prompt(shots, query, first=query)) for query, shots in enumerate((0, 2, 4, 3))
    ]
    plain, quick = built(model_file(family), reuse=False), built(model_file(family))
    plain.load()
    quick.load()
    wanted = answers(plain, asked, 1)
    assert len(set(wanted)) > 3
    assert answers(quick, asked, 8) == wanted
    assert answers(quick, asked, 1) == wanted
    assert answers(quick, asked[::-1], 5)[::-1] == wanted
    assert answers(plain, asked, 8) == wanted
    beams = [request(one.prompt, TextOutput(5, beams=3)) for one in asked[4:]]
    assert answers(quick, beams, 8) == answers(plain, beams, 1)
    ranked = [request(one.prompt, CHOICES) for one in asked[4:]]
    for left, right in zip(quick.answer(ranked), plain.answer(ranked), strict=True):
        assert left.log_probs == pytest.approx(right.log_probs, abs=2e-3)


def test_batches_and_reuse_change_no_draw(model_file: Callable[..., str]) -> None:
    """Drawn answers, each by its request's key; the same prompt three times among them."""
    hot = {"temperature": 2.0, "top_k": 40, "repetition_penalty": 1.3, "seed": 4}
    asked = [request(prompt(2, query)) for query in range(4)]
    asked += [request(prompt(shots, 9, first=shots)) for shots in (0, 3)]
    asked += [replace(asked[1], key=f"another draw {number}") for number in range(3)]
    plain = built(model_file("llava"), reuse=False, **hot)
    quick = built(model_file("llava"), **hot)
    plain.load()
    quick.load()
    wanted = answers(plain, asked, 1)
    assert len(set(wanted)) > 6
    assert answers(quick, asked, 9) == wanted
    assert answers(quick, asked[::-1], 4)[::-1] == wanted


def test_images_and_beginnings_are_computed_once(
    model_file: Callable[..., str], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = built(model_file(family))
    adapter.load()
    inference = adapter._inference
    assert inference is not None
    encoded: list[str] = []
    read: list[tuple[int, int]] = []
    together, cells = inference.reader.encoder.together, inference.reader.read
    monkeypatch.setattr(
        inference.reader.encoder,
        "together",
        lambda some: encoded.extend(shown.key for shown, _ in some) or together(some),
    )
    monkeypatch.setattr(
        inference.reader,
        "read",
        lambda *args, **kwargs: read.append((args[3], args[4])) or cells(*args, **kwargs),
    )
    adapter.answer([request(prompt(4, query)) for query in range(4)])
    assert len(encoded) == 4 + 4
    start, known = read[0]
    assert start == 0 and known > 60
    assert all(begin == known for begin, _ in read[1:])
    read.clear()
    adapter.answer([request(prompt(4, query)) for query in range(2, 8)])
    assert len(encoded) == 4 + 8 == len(set(encoded))
    assert {begin for begin, _ in read} == {known}


@pytest.mark.parametrize(
    "search",
    [Search(4, 4), Search(4, 4, beams=3), Search(4, 4, sampling=Sampling(temperature=2.0))],
    ids=["greedy", "beams", "drawn"],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_pass_over_a_prompt_gives_the_first_token(
    model_file: Callable[..., str], search: Search, batch: int
) -> None:
    """So a text of n tokens takes n passes; and nothing of that is left in the model."""
    adapter = built(model_file("llava"), reuse=False)
    adapter.load()
    inference = adapter._inference
    assert inference is not None
    model, passes = inference.reader.model, []
    before = set(vars(model))
    hook = model.register_forward_pre_hook(lambda *_: passes.append(1))
    prompts = [adapter.opened.form.encode(prompt(2, query)) for query in range(batch)]
    keys = [f"key {query}" for query in range(batch)]
    said = inference.texts(prompts, search, keys)
    hook.remove()
    assert [len(found.ids) for found in said] == [4] * batch and len(passes) == 4
    assert set(vars(model)) == before


def test_images_encoded_together_are_those_alone(
    model_file: Callable[..., str], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one size and of several, more than are encoded at a time; each keeps its own memory alone."""
    adapter = built(model_file(family))
    adapter.load()
    assert adapter._inference is not None
    encoder = adapter._inference.reader.encoder
    sizes = [(64, 48)] * 6 + [(40, 64), (64, 48), (80, 40), (80, 40), (64, 48)]
    shown = [
        adapter.opened.form.encode(Prompt((image(i, size), ""))).shown[0]
        for i, size in enumerate(sizes)
    ]
    calls = []
    encode = encoder._encode
    monkeypatch.setattr(encoder, "_encode", lambda **given: calls.append(1) or encode(**given))
    found = encoder.several(shown)
    assert len(calls) < len(shown) / 2
    assert list(found) == [one.key for one in shown]
    for one in shown:
        alone = encoder.encode(encoder.decode(one), one)
        together = found[one.key]
        assert torch.allclose(together.pooled, alone.pooled, atol=1e-5)
        assert together.grids.keys() == alone.grids.keys()
        assert together.form == alone.form
        assert together.pooled.untyped_storage().nbytes() == together.pooled.nbytes
    calls.clear()
    encoder.several(shown)
    assert calls == []


def test_the_rules_of_adapters(model_file: Callable[..., str], family: str) -> None:
    findings = list(check(built(model_file(family))))
    assert [finding for finding in findings if not finding.holds] == []
    assert len(findings) > 10


def test_images_are_prepared_ahead(
    model_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = built(model_file("idefics3"))
    adapter.load()
    assert adapter._inference is not None
    encoder = adapter._inference.reader.encoder
    asked = request(prompt(2, 0))
    adapter.positions(asked)
    adapter.prepare(asked)
    assert encoder.ahead.nbytes > 0
    loaded: list[int] = []
    own = encoder.expansion.arrays
    monkeypatch.setattr(encoder.expansion, "arrays", lambda *a: loaded.append(1) or own(*a))
    (response,) = adapter.answer([asked])
    assert loaded == [] and response.text is not None
    assert encoder.ahead.nbytes == 0
    adapter.close()
    assert built(model_file("idefics3")).positions(asked) == adapter.positions(asked)
    assert TEXT.max_new_tokens == 5


def test_a_repeat_decodes_nothing_where_images_are_kept(
    model_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor does another number of shots; other options of the image processor are other images."""
    monkeypatch.setenv("EMU2EVAL_CACHE", str(tmp_path))
    options = {"image_options": {"do_rescale": False}}
    made: list[int] = []
    answers = []
    for shots, settings, wanted in ((2, {}, 3), (2, {}, 0), (1, {}, 0), (2, options, 3)):
        made.clear()
        adapter = built(model_file("llava"), keep_images=0.01, **settings)
        adapter.load()
        assert adapter._inference is not None
        expansion = adapter._inference.reader.encoder.expansion
        own = expansion.arrays
        monkeypatch.setattr(expansion, "arrays", lambda *a, own=own: made.append(1) or own(*a))
        answers.append(adapter.answer([request(prompt(shots, 0))])[0])
        adapter.close()
        assert len(made) == wanted
    assert answers[0] == answers[1]
    assert "keep_images" in adapter.neutral


@pytest.mark.parametrize("family", ["llava"])
@pytest.mark.parametrize("output", [CHOICES, TEXT], ids=["choices", "text"])
def test_a_batch_has_the_bits_that_it_has_without_those_before_it(
    inference: Any,
    kept: dict[str, HuggingFaceAdapter],
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    output: Any,
) -> None:
    """As a replica sees some of them, and a run that is continued the rest; what they share is kept."""
    batches = [
        [request(prompt(2, query, first=first), output) for query, first in enumerate(firsts)]
        for firsts in ((0, 0, 1), (0, 0, 0), (0, 2, 0))
    ]
    bits: list[Any] = []
    own = inference.reader.read

    def read(*given: Any, **named: Any) -> Any:
        found = own(*given, **named)
        bits.append((given[3:], found))
        return found

    monkeypatch.setattr(inference.reader, "read", read)
    known: dict[int, Any] = {}
    for order in ((0, 1, 2), (2, 1), (1, 0)):
        monkeypatch.setattr(inference, "prefix", Prefix(inference.reader))
        for number in order:
            bits.clear()
            answers = kept[family].answer(batches[number])
            # A beginning that an earlier batch read is not read again.
            rows = [each for each in bits if each[0][0] or each[0][1] > 100]
            before, seen = known.setdefault(number, (answers, rows))
            assert answers == before
            assert [places for places, _ in rows] == [places for places, _ in seen]
            assert all(torch.equal(a, b) for (_, a), (_, b) in zip(rows, seen, strict=True))


@pytest.mark.parametrize("family", ["qwen3_vl", "mllama"])
def test_an_image_on_the_disk_is_not_encoded_again(
    model_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, family: str
) -> None:
    """Deep layers and grids too, the same bits whichever images it is asked beside."""
    monkeypatch.setenv("EMU2EVAL_CACHE", str(tmp_path))
    adapter = built(model_file(family), keep_features=0.01)
    adapter.load()
    assert adapter._inference is not None
    encoder = adapter._inference.reader.encoder
    calls: list[int] = []
    encode = encoder._encode
    monkeypatch.setattr(encoder, "_encode", lambda **given: calls.append(1) or encode(**given))
    found, answered = [], []
    for shots, wanted in ((3, 4), (2, 0)):
        encoder.kept = type(encoder.kept)(encoder.kept.max_bytes)
        encoder.store = adapter._kept_features(0.01, encoder.device)
        asked = request(prompt(shots, 0))
        adapter.prepare(asked)
        answered.append(adapter.answer([asked])[0])
        found.append(encoder._held)
        assert len(calls) == wanted
        calls.clear()
    encoder.store = None
    encoder.kept = type(encoder.kept)(encoder.kept.max_bytes)
    assert adapter.answer([asked])[0] == answered[1] and answered[1].error is None
    for key, one in found[1].items():
        other = found[0][key]
        assert torch.equal(one.pooled, other.pooled) and one.form == other.form
        assert all(map(torch.equal, one.deep, other.deep)) and len(one.deep) == len(other.deep)
        assert one.grids.keys() == other.grids.keys()
        assert all(torch.equal(one.grids[name], other.grids[name]) for name in one.grids)


@pytest.mark.parametrize(
    "search",
    [
        Search(12),
        Search(12, repetition_penalty=1.5),
        Search(12, min_new_tokens=3),
        Search(12, beams=3),
        Search(12, beams=3, length_penalty=2.0, repetition_penalty=1.5, min_new_tokens=2),
    ],
    ids=["greedy", "repetition", "least", "beams", "all"],
)
def test_rows_that_end_at_different_steps_are_those_alone(
    kept: dict[str, HuggingFaceAdapter], inference: Any, family: str, search: Search
) -> None:
    prompts = [
        kept[family].opened.form.encode(prompt(shots, query, first=query))
        for query, shots in enumerate((2, 0, 1, 2, 3, 0))
    ]
    # Random weights hardly ever end an answer, so words that they do say stand for its end.
    said = [found.ids for found in inference.texts(prompts, replace(search, min_new_tokens=12))]
    inference.reader.ends = [ids[2 + 2 * row] for row, ids in enumerate(said[:4])]
    together = inference.texts(prompts, search)
    assert together == [inference.texts([one], search)[0] for one in prompts]
    assert search.beams > 1 or len({len(found.ids) for found in together}) > 1
    assert search.beams > 1 or any(found.ended for found in together)


def test_a_repetition_is_of_words_and_not_of_padding(
    kept: dict[str, HuggingFaceAdapter], inference: Any, family: str
) -> None:
    """Many models pad with a word that they say, such as the one that ends an answer."""
    prompts = [
        kept[family].opened.form.encode(prompt(shots, query))
        for query, shots in enumerate((0, 2, 1, 0))
    ]
    search = Search(6, repetition_penalty=3.0)
    alone = [inference.texts([one], search)[0] for one in prompts]
    for said in {found.ids[0] for found in alone}:
        inference.reader.pad = said
        assert inference.texts(prompts, search) == alone


def test_a_prompt_is_laid_out_once(
    model_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, sorted, prepared and asked: its ids are remembered by the request's key."""
    adapter = built(model_file("llava"))
    adapter.load()
    laid_out: list[Prompt] = []
    form = type(adapter.opened.form)
    own = form.lay_out
    monkeypatch.setattr(form, "lay_out", lambda *a: laid_out.append(a[1]) or own(*a))
    asked = [request(prompt(2, query)) for query in range(3)]
    for one in asked:
        assert adapter.positions(one) == adapter.positions(one)
        adapter.prepare(one)
    adapter.answer(asked)
    assert laid_out == [one.prompt for one in asked]


@pytest.mark.parametrize(
    ("config", "numbers"),
    [
        (LlamaConfig(num_hidden_layers=3, hidden_size=32, num_attention_heads=4), 3 * 2 * 32),
        (
            Gemma4TextConfig(
                num_hidden_layers=3, num_key_value_heads=2, head_dim=8, global_head_dim=16,
                layer_types=["sliding_attention", "sliding_attention", "full_attention"],
            ),
            2 * 2 * (8 + 8 + 16),
        ),
    ],
)  # fmt: skip
def test_what_a_beginning_takes_is_known_from_the_sizes_of_every_layer(
    config: Any, numbers: int
) -> None:
    model = SimpleNamespace(dtype=torch.float32)
    reader: Any = SimpleNamespace(config=config, model=model, cuts=True)
    assert Prefix(reader, max_bytes=10 * numbers * 4 + 1)._most == 10
