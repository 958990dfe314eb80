"""Each kind of cache layer of the installed transformers: copied for many rows, or refused by its name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, StaticCache, cache_utils
from transformers.cache_utils import DYNAMIC_LAYER_TYPE_MAPPING, DynamicLayer

from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.adapters.huggingface.settings import HuggingFaceSettings
from emu2eval.adapters.local.cache import above, held_bytes, new_cache, widened
from emu2eval.adapters.local.layers import KINDS, changed, kind_of, layers_of
from emu2eval.errors import ModelError
from emu2eval.types import Prompt, Turn

from .prompts import CHOICES, QUESTION, built, image, plain_inputs, plain_logits, prompt, request

DYNAMIC = sorted(
    {
        kind.__name__
        for kind in DYNAMIC_LAYER_TYPE_MAPPING.values()
        # A model's own kind is known only once its file is imported; its family's line shows it.
        if kind.__module__ == DynamicLayer.__module__
    }
    & KINDS.keys()
)
NEVER = {
    "CacheLayerMixin": "abstract",
    "LinearAttentionCacheLayerMixin": "abstract",
    "BaseQuantizedLayer": "abstract",
    "QuantizedLayer": "abstract",
    "StaticLayer": "of a size set beforehand",
    "StaticSlidingWindowLayer": "of a size set beforehand",
    "StaticIndexedLayer": "of a size set beforehand",
    "LinearAttentionAndStaticFullAttentionLayer": "of a size set beforehand",
    "LinearAttentionAndStaticSlidingWindowAttentionLayer": "of a size set beforehand",
    "QuantoQuantizedLayer": "rounded",
    "HQQQuantizedLayer": "rounded",
    "Fp8QuantizedLayer": "rounded",
}
"""Kinds of layers that no cache made here holds."""


def classes() -> dict[str, Any]:
    return {name: kind for name, kind in vars(cache_utils).items() if name.endswith("Layer")}


def filled(name: str, positions: int, rows: int = 2) -> Any:
    """A layer that has read so many positions, no two rows alike."""
    kind = next(k for k in DYNAMIC_LAYER_TYPE_MAPPING.values() if k.__name__ == name)
    layer = kind(sliding_window=4, number_of_states=2)
    for place in range(positions):
        read(layer, rows, place)
    return layer


def read(layer: Any, rows: int, place: int) -> None:
    """One more position; a row's number is in all that it adds."""
    row = torch.arange(rows, dtype=torch.float32) + 10 * place
    held = kind_of(layer).rows
    if "keys" in held:
        layer.update(row.view(-1, 1, 1, 1).expand(-1, 2, 1, 3), row.view(-1, 1, 1, 1))
    if "conv_states" in held:
        layer.update_conv_state(row.view(-1, 1, 1).expand(-1, 3, 1), 0, conv_kernel_size=3)
        layer.update_recurrent_state(row.view(-1, 1, 1, 1).expand(-1, 2, 3, 3), 0)
    if "indexer_keys" in held:
        layer.update_indexer(row.view(-1, 1, 1).expand(-1, 1, 5))
        layer.indexer_position_ids = row.long().view(1, -1, 1).expand(3, -1, 4)


def parts(layer: Any) -> dict[str, Any]:
    """Each tensor that it holds, with rows first."""
    found = {}
    for name, dim in kind_of(layer).rows.items():
        value = getattr(layer, name)
        for key, part in (value if isinstance(value, dict) else {"": value}).items():
            found[f"{name}{key}"] = None if part is None else part.movedim(dim, 0)
    return found


def cache_of(*layers: Any) -> DynamicCache:
    cache: Any = DynamicCache()
    cache.layers = list(layers)
    return cache  # type: ignore[no-any-return]


def test_every_layer_of_the_release_is_known_or_never_used() -> None:
    """What a newer release adds fails here first, by its name."""
    assert classes().keys() - KINDS.keys() == NEVER.keys() & classes().keys()
    for name in NEVER.keys() & classes().keys():
        with pytest.raises(ModelError, match=name):
            kind_of(object.__new__(type(name, (), {})))


@pytest.mark.parametrize("name", DYNAMIC)
def test_each_row_of_a_layer_is_copied_for_many(name: str) -> None:
    """And goes on by itself: what a copy reads does not change the first."""
    layer = filled(name, 6)
    before = {key: None if part is None else part.clone() for key, part in parts(layer).items()}
    _, copied = widened(cache_of(filled("DynamicLayer", 6), layer), 3, 6).layers
    assert type(copied) is type(layer)
    for key, part in parts(copied).items():
        if before[key] is None:
            assert part is None
        else:
            assert torch.equal(part, before[key].repeat_interleave(3, 0))
    if before:
        read(copied, 6, 7)
        for key, part in parts(layer).items():
            assert part is before[key] is None or torch.equal(part, before[key])
        assert {p.shape[0] for p in parts(copied).values() if p is not None} == {6}


@pytest.mark.parametrize("name", [n for n in DYNAMIC if KINDS[n].cuts and KINDS[n].rows])
def test_a_beginning_is_cut_where_the_kind_says_so(name: str) -> None:
    if name == "DynamicSlidingWindowLayer":
        pytest.skip("a layer that keeps every position stands for it")
    _, cut = widened(cache_of(filled("DynamicLayer", 6), filled(name, 6)), 2, 4).layers
    for key, part in parts(filled(name, 4)).items():
        if key != "indexer_position_ids":
            assert torch.equal(parts(cut)[key], part.repeat_interleave(2, 0))


def test_a_tensor_without_a_width_has_rows() -> None:
    """Latent attention without rotary positions keeps values of width 0."""
    layer = DynamicLayer()
    layer.update(torch.ones(2, 1, 3, 4), torch.ones(2, 1, 3, 0))
    copied = changed([layer], lambda parts, rows: parts[0].repeat_interleave(3, rows))
    assert copied.keys.shape == (6, 1, 3, 4) and copied.values.shape == (6, 1, 3, 0)


@pytest.mark.parametrize("name", [n for n in DYNAMIC if not KINDS[n].cuts])
def test_a_state_is_never_cut(name: str) -> None:
    cache = cache_of(filled("DynamicLayer", 6), filled(name, 6))
    for copy in (widened, above):
        with pytest.raises(AssertionError):
            copy(cache, 2, 4)


@pytest.mark.parametrize("name", DYNAMIC)
def test_rows_that_were_read_one_by_one_are_put_together(name: str) -> None:
    whole = filled(name, 5, rows=3)
    rows = [changed([whole], lambda p, dim, n=n: p[0].narrow(dim, n, 1).clone()) for n in range(3)]
    together = changed(rows, torch.cat)
    for key, part in parts(whole).items():
        found = parts(together)[key]
        assert part is found is None or torch.equal(found, part)


def test_caches_that_are_more_than_layers_are_refused_by_name(saved: Callable[[str], Path]) -> None:
    config = built_config(saved)
    own = DynamicCache(config=config)
    for cache in (EncoderDecoderCache(own, own), StaticCache(config=config, max_cache_len=8)):
        with pytest.raises(ModelError, match=type(cache).__name__):
            widened(cache, 2, 0)  # type: ignore[arg-type]
    config.is_encoder_decoder = True
    with pytest.raises(ModelError, match="EncoderDecoderCache"):
        layers_of(config)


def built_config(saved: Callable[[str], Path]) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(saved("llava")).get_text_config(decoder=True)


def test_a_layer_of_a_newer_release_is_named_and_not_miscomputed(
    model_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new kind at load; a known kind that holds something new, when it is copied."""

    class GatedDynamicLayer(DynamicLayer):
        """Keeps more than keys and values."""

    layer = filled("DynamicLayer", 3)
    layer.gates = torch.ones(2, 3)
    with pytest.raises(ModelError, match=r"DynamicLayer\.gates"):
        widened(cache_of(layer), 2, 3)
    layer.gates = {"first": [torch.ones(2, 3)]}
    with pytest.raises(ModelError, match=r"DynamicLayer\.gates"):
        widened(cache_of(layer), 2, 3)
    monkeypatch.setitem(DYNAMIC_LAYER_TYPE_MAPPING, "full_attention", GatedDynamicLayer)
    with pytest.raises(ModelError, match="GatedDynamicLayer") as caught:
        built(model_file("llava")).load()
    assert len(str(caught.value).splitlines()) == 2


def test_what_a_cache_takes_counts_its_states(saved: Callable[[str], Path]) -> None:
    cache = new_cache(built_config(saved))
    assert held_bytes(cache) == 0
    state = filled("LinearAttentionLayer", 2)
    assert held_bytes(cache_of(state)) == 4 * (2 * 3 * 3 + 2 * 2 * 3 * 3)


def two_questions(number: int, which: int) -> Prompt:
    """The same demonstrations, an image of its own, and one of two questions about it."""
    turns = tuple(Turn((image(i), QUESTION), ("red",)) for i in range(3))
    asked = ("what shape? " * 8, "is there a circle?")[which]
    return Prompt(query=(image(100 + number), asked), turns=turns)


@pytest.mark.parametrize("name", ["qwen3_5", "internvl_mla"])
def test_demonstrations_are_read_once_under_images_with_several_questions(
    model_file: Callable[..., str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state cannot be cut back to the end of the demonstrations, so it is kept there, too."""
    adapter = loaded(model_file(name))
    assert adapter._inference is not None
    read: list[tuple[int, int]] = []
    own = adapter._inference.reader.read
    monkeypatch.setattr(
        adapter._inference.reader, "read", lambda *a, **k: read.append((a[3], a[4])) or own(*a, **k)
    )
    for numbers in ((0, 1), (2, 3)):
        prompts = [two_questions(number, which) for number in numbers for which in (0, 1)]
        adapter.answer([request(one, CHOICES) for one in prompts])
    # The demonstrations that all of a batch have, which the next one has, too.
    assert [start for start, _ in read].count(0) == 1
    kept = adapter._inference.prefix.kept if adapter._inference.prefix is not None else []
    assert [len(one.signature) for one in kept] == [one.cache.get_seq_length() for one in kept]
    assert len(kept) == 2


def test_padding_never_runs_through_a_state(
    model_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = loaded(model_file("qwen3_5"))
    assert adapter._inference is not None
    reader, masks = adapter._inference.reader, []
    own = reader.read

    def noted(rows: Any, sequences: Any, cache: Any, start: int, stop: int, **more: Any) -> Any:
        masks.append(rows.mask[:, start:stop])
        return own(rows, sequences, cache, start, stop, **more)

    monkeypatch.setattr(reader, "read", noted)
    asked = [request(prompt(shots, query)) for query, shots in enumerate((2, 2, 0, 1))]
    texts = [response.text for response in adapter.answer(asked)]
    assert masks and all(bool((mask == 1).all()) for mask in masks)
    assert texts == [adapter.answer([one])[0].text for one in asked]


def loaded(path: str) -> HuggingFaceAdapter:
    adapter = built(path)
    adapter.load()
    return adapter


@pytest.mark.parametrize("name", ["llava_longrope", "qwen2_5_omni", "lfm3_vl"])
def test_batches_and_reuse_change_nothing(model_file: Callable[..., str], name: str) -> None:
    """Positions that turn with the length, that want the whole prompt, and a state under a window."""
    path = model_file(name)
    plain, quick = built(path, reuse=False), built(path)
    plain.load()
    quick.load()
    prompts = [prompt(2, 0), prompt(2, 1), prompt(0, 2), prompt(4, 0), prompt(4, 1)]
    asked = [request(one) for one in prompts]
    alone = [response.text for one in asked for response in plain.answer([one])]
    assert len(set(alone)) > 2
    for adapter in (plain, quick, quick):
        assert [response.text for response in adapter.answer(asked)] == alone
    for one in prompts[:4]:
        found, own = (a.answer([request(one, CHOICES)])[0].log_probs for a in (quick, plain))
        assert found == pytest.approx(own, abs=2e-3)


@pytest.mark.parametrize("name", ["qwen2_5_omni", "qwen3_omni_moe"])
def test_an_omni_checkpoint_as_released_loads_its_thinker_alone(
    model_file: Callable[..., str], saved: Callable[[str], Path], name: str
) -> None:
    adapter = loaded(model_file(name))
    assert adapter._inference is not None
    model = adapter._inference.reader.model
    assert type(model).__name__.endswith("ThinkerForConditionalGeneration")
    assert not [key for key in model.state_dict() if "talker" in key]
    assert adapter.limits.positions == 2048
    thinker = loaded(model_file(f"{name}_thinker"))
    asked = request(prompt(2, 0), CHOICES)
    for one in (adapter, thinker):
        (response,) = one.answer([asked])
        plain = plain_inputs(one, asked.prompt)
        question = one._lay_out(asked).question
        assert response.log_probs is not None and question is not None
        for reply, value in zip(question.replies, response.log_probs, strict=True):
            scores = plain_logits(one._inference.reader.model, plain, reply).log_softmax(-1)
            total = sum(scores[i, token].item() for i, token in enumerate(reply))
            assert value == pytest.approx(total, abs=2e-3)
    (released,), (own,) = adapter.answer([asked]), thinker.answer([asked])
    assert released.log_probs == pytest.approx(own.log_probs, abs=1e-4)


def test_a_thinker_that_lacks_a_weight_is_refused(
    saved: Callable[[str], Path], tmp_path: Path, model_file: Callable[..., str]
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "omni"
    shutil.copytree(saved("qwen2_5_omni"), folder)
    weights = load_file(folder / "model.safetensors")
    del weights["thinker.lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"1 are missing \(lm_head.weight\)"):
        built(model_file("qwen2_5_omni"), checkpoint=str(folder)).load()


def test_phi_4_is_refused_for_what_it_does(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "phi4_multimodal"}')
    adapter = HuggingFaceAdapter(HuggingFaceSettings(checkpoint=str(tmp_path)))
    with pytest.raises(ModelError, match="encodes images only in the pass that reads them"):
        adapter.load()
