"""The adapter from a checkpoint folder to its answers, at tiny size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from emu2eval.adapters.conformance import check
from emu2eval.adapters.emu2.adapter import Emu2Adapter
from emu2eval.adapters.emu2.tokenizer import ADDED, Tokenizer
from emu2eval.errors import ConfigError, ModelError, UnknownName
from emu2eval.identity import request_key
from emu2eval.media.images import from_pil, load
from emu2eval.types import (
    ChoiceOutput,
    Image,
    ImageOutput,
    Output,
    Prompt,
    Request,
    Response,
    TextOutput,
    Turn,
)

from .conftest import built

# diffusers' own, about numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RED, BLUE, GREY = (from_pil(PILImage.new("RGB", (64, 48), c)) for c in ("red", "blue", "grey"))


def prompt(*names: Image, query: Image = GREY, question: str = "What colour?") -> Prompt:
    turns = tuple(Turn((name, question), ("yes",)) for name in names)
    return Prompt(query=(query, question), turns=turns)


def request(asked: Prompt, output: Output) -> Request:
    return Request(request_key(asked, output, "test"), asked, output)


def loaded(folder: Path, **settings: Any) -> Emu2Adapter:
    adapter = built(folder, dtype="float32", **settings)
    adapter.load()
    return adapter


def test_what_guidance_contrasts_with_is_computed_once(folders: dict[str, Path]) -> None:
    """Passes of the language model and of the vision tower over several images, counted."""
    adapter = loaded(folders["gen"])
    inference = adapter._inference
    assert inference is not None
    read: list[int] = []
    seen: list[int] = []
    inference.model.decoder.register_forward_hook(lambda *_: read.append(1))
    inference.model.visual.register_forward_hook(lambda *_: seen.append(1))
    small = ImageOutput(steps=1, width=64, height=64)
    asked = [Prompt(query=("a cat",)), Prompt(query=("a dog",))]
    drawn = [request(p, replace(small, seed=seed)) for p in asked for seed in (1, 2, 3)]
    responses = adapter.answer(drawn)
    assert len({r.image.data for r in responses if r.image}) == 6
    # Each regression takes a pass an embedding: of two prompts, and of nothing once for all.
    assert len(read) == 3 * embeddings(adapter)
    again = [
        request(Prompt(query=(p,)), replace(small, seed=s)) for p in (RED, BLUE) for s in (1, 2)
    ]
    assert all(r.image for r in adapter.answer(again))
    assert (len(read), len(seen)) == (3 * embeddings(adapter), 2 + 1)


def embeddings(adapter: Emu2Adapter) -> int:
    return adapter.opened.config.n_query


TEXTS = [
    request(prompt(), TextOutput(6)),
    request(prompt(RED, BLUE), TextOutput(6, length_penalty=0.0)),
    request(prompt(RED, question="a cat?"), TextOutput(6, beams=1)),
    request(Prompt(query=("The cat",)), TextOutput(6)),
]
CHOICES = [
    request(prompt(), ChoiceOutput(("yes", "no", "a cat and a dog"))),
    request(prompt(RED, BLUE), ChoiceOutput(("yes", "no"), per_token=True)),
    request(Prompt(query=("The cat",)), ChoiceOutput(("is here", "a dog"))),
]


@pytest.mark.parametrize("variant", ["base", "chat", pytest.param("gen", marks=pytest.mark.slow)])
def test_the_contract_of_adapters(folders: dict[str, Path], variant: str) -> None:
    findings = list(check(built(folders[variant], dtype="float32")))
    broken = [f"{f.rule}: {f.seen}" for f in findings if not f.holds]
    assert not broken
    # 3 rules before, 6 for each output, 1 after.
    assert len(findings) == 4 + 6 * (3 if variant == "gen" else 2)


@pytest.mark.parametrize("variant", ["base", "chat"])
def test_boxes_stay_in_the_answer_where_they_are_asked_for(
    folders: dict[str, Path], variant: str
) -> None:
    adapter = loaded(folders[variant], beams=1)
    question = "<phrase>a cat</phrase>"
    asks = [Prompt(query=(GREY, question + mark)) for mark in ("", "<grounding>")]
    plain, boxes = adapter.answer([request(ask, TextOutput(24)) for ask in asks])
    assert not any(token in (plain.text or "") for token in ADDED)
    assert any(token in (boxes.text or "") for token in ADDED)
    always = loaded(folders[variant], beams=1, grounding=True)
    (same_answer,) = always.answer([request(asks[0], TextOutput(24))])
    assert same_answer.text == boxes.text


def same(left: list[Response], right: list[Response]) -> None:
    for one, other in zip(left, right, strict=True):
        assert one.text == other.text
        assert one.log_probs == pytest.approx(other.log_probs, abs=2e-5)
        assert (one.ended, one.tokens_in) == (other.ended, other.tokens_in)


@pytest.mark.parametrize("variant", ["base", "chat"])
@pytest.mark.parametrize("requests", [TEXTS, CHOICES], ids=["text", "choice"])
def test_reuse_and_batches_change_no_answer(
    folders: dict[str, Path], variant: str, requests: list[Request]
) -> None:
    with_reuse, without = (loaded(folders[variant], reuse=r) for r in (True, False))
    together = with_reuse.answer(requests)
    same(together, without.answer(requests))
    same(together, [with_reuse.answer([r])[0] for r in requests])
    same(together, with_reuse.answer(requests[::-1])[::-1])
    same(together, with_reuse.answer(requests + requests)[len(requests) :])


def test_positions_are_counted_exactly(folders: dict[str, Path]) -> None:
    adapter = loaded(folders["base"])
    for asked in TEXTS:
        response = adapter.answer([asked])[0]
        assert (response.tokens_in or 0) + 6 == adapter.positions(asked)
    words = Tokenizer(folders["base"] / "tokenizer.model").encode("What colour?")
    # <s> and the words, the image between its two marks, the answer.
    assert adapter.positions(TEXTS[0]) == len(words) + 4 + 2 + 6
    image = request(Prompt(query=("The cat",)), ImageOutput())
    assert adapter.positions(image) == adapter.positions(TEXTS[3]) - 6 + 1 + 4


def test_a_prompt_that_does_not_fit(folders: dict[str, Path]) -> None:
    asked = request(prompt(RED, BLUE, RED), TextOutput(6))
    shown = request(prompt(RED), TextOutput(6))
    room = built(folders["base"]).positions(shown)
    strict = loaded(folders["base"], max_positions=room)
    assert strict.limits.positions == room
    refused, answered = strict.answer([asked, shown])
    assert refused.error is not None
    assert "positions" in refused.error
    assert answered.error is None


def test_an_answer_says_how_it_ended(folders: dict[str, Path]) -> None:
    adapter = loaded(folders["base"])
    cut, whole = adapter.answer(
        [
            request(prompt(), TextOutput(5, min_new_tokens=5)),
            request(prompt(), TextOutput(200, length_penalty=-9.0)),
        ]
    )
    assert (cut.ended, cut.tokens_out) == ("length", 5)
    assert whole.ended == "stop"
    assert whole.tokens_out is not None and whole.tokens_out < 200


def test_what_cannot_be_asked_is_an_error_of_its_own(folders: dict[str, Path]) -> None:
    adapter = loaded(folders["base"])
    wrong = [
        request(Prompt(query=("[<IMG_PLH>]",)), TextOutput()),
        request(prompt(), ImageOutput()),
        request(prompt(), ChoiceOutput(("yes", ""), per_token=True)),
        Request("none", Prompt(query=(Image(path="none.png"),)), TextOutput()),
    ]
    responses = adapter.answer([*wrong, TEXTS[0]])
    said = [str(response.error).splitlines()[0] for response in responses[:3]]
    for part, text in zip(("IMG_PLH", "not produce image", "adds no word"), said, strict=True):
        assert part in text
    assert "does not exist" in str(responses[3].error)
    assert responses[4].text == adapter.answer(TEXTS[:1])[0].text


def test_images_are_painted(folders: dict[str, Path]) -> None:
    adapter = loaded(folders["gen"])
    output = ImageOutput(seed=3, width=64, height=64, steps=2)
    asked = [
        request(Prompt(query=("a cat",)), output),
        request(Prompt(query=(RED, "a dog")), replace(output, seed=4)),
        request(Prompt(query=("a cat",)), replace(output, width=32, guidance=1.0)),
        request(Prompt(query=(RED,)), output),  # alone: painted again
        request(Prompt(query=("", RED)), output),
    ]
    together = adapter.answer(asked)
    images = [load(r.image) for r in together if r.image is not None]
    assert [p.size for p in images] == [(64, 64), (64, 64), (32, 64), (64, 64), (64, 64)]
    assert images[3].tobytes() != images[4].tobytes()
    for one, response in zip(asked, together, strict=True):
        assert adapter.answer([one])[0].image == response.image


def test_images_are_regressed_and_drawn_in_groups(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups are cut from the batch, each prompt once; on the CPU only where they are asked for."""
    output = ImageOutput(seed=3, width=64, height=64, steps=2)
    words = ("a cat", "a dog here", "a cat", "a bird", "a fish over there", "a cow")
    asked = [
        request(Prompt(query=(word,)), replace(output, seed=i)) for i, word in enumerate(words)
    ]
    adapters = [loaded(folders["gen"], together=count) for count in (None, 2)]
    sizes: list[list[int]] = [[], []]
    found = []
    for adapter, own in zip(adapters, sizes, strict=True):
        inference = adapter._inference
        assert inference is not None
        regress = inference.regress
        monkeypatch.setattr(
            inference,
            "regress",
            lambda prompts, own=own, regress=regress: own.append(len(prompts)) or regress(prompts),
        )
        inference._painter = painter = inference._load_painter()
        latents = painter.latents
        monkeypatch.setattr(
            painter,
            "latents",
            lambda cond, *rest, own=own, latents=latents: (
                own.append(10 * len(cond)) or latents(cond, *rest)
            ),
        )
        responses = adapter.answer(asked)
        found.append([np.asarray(load(one.image)) for one in responses if one.image is not None])
    assert sizes == [[1] * 5 + [1] + [10] * 6, [2, 2, 1] + [1] + [20] * 3]
    for alone, grouped in zip(*found, strict=True):
        assert np.abs(alone.astype(int) - grouped).max() <= 2
    assert painter.at_most(None, None) == 4 and painter.at_most(2048, 2048) == 1


@pytest.mark.parametrize(
    ("part", "output", "says"),
    [
        ("visual.blocks.0.norm1.weight", TextOutput(4), "scores"),
        ("visual.blocks.0.norm1.weight", TextOutput(4, beams=1), "scores"),
        ("project_up.weight", ChoiceOutput(("yes", "no")), "scores"),
        ("project_down.weight", ImageOutput(width=64, height=64, steps=1), "visual embeddings"),
        ("vae.decoder.conv_out.bias", ImageOutput(width=64, height=64, steps=1), "pixels"),
    ],
)
def test_numbers_that_are_none_give_no_answer(
    folders: dict[str, Path], part: str, output: Output, says: str
) -> None:
    """Neither an empty text nor a black image."""
    adapter = loaded(folders["gen"])
    inference = adapter._inference
    assert inference is not None
    asked = request(Prompt(query=(RED, "a dog")), output)
    if part.startswith("vae."):
        inference._painter = painter = inference._load_painter()
        damaged = painter.vae.get_parameter(part.removeprefix("vae."))
    else:
        damaged = inference.model.get_parameter(part)
    with torch.no_grad():
        damaged.fill_(torch.nan)
    (found,) = adapter.answer([asked])
    assert f"{says} contain NaN" in str(found.error).replace("of the image ", "")
    assert found.text is None and found.log_probs is None and found.images == ()


@pytest.mark.parametrize("beams", [1, 3])
def test_what_overflows_later_gives_no_answer_either(folders: dict[str, Path], beams: int) -> None:
    adapter = loaded(folders["base"])
    assert adapter._inference is not None
    calls: list[int] = []

    def late(*given: Any) -> Any:
        calls.append(1)
        return given[-1] * (torch.nan if len(calls) > 2 else 1)

    adapter._inference.model.decoder.lm.lm_head.register_forward_hook(late)
    (found,) = adapter.answer([request(prompt(), TextOutput(5, min_new_tokens=5, beams=beams))])
    assert found.text is None and "scores contain NaN" in str(found.error)


def test_steps_and_guidance_are_the_models_where_the_task_leaves_them_open(
    folders: dict[str, Path],
) -> None:
    asked = Prompt(query=("a cat",))
    given = ImageOutput(seed=3, width=64, height=64, steps=2, guidance=1.0)
    (told,) = loaded(folders["gen"]).answer([request(asked, given)])
    adapter = loaded(folders["gen"], steps=2, guidance=1.0)
    (own,) = adapter.answer([request(asked, replace(given, steps=None, guidance=None))])
    assert own.image == told.image is not None
    (other,) = adapter.answer([request(asked, replace(given, steps=3))])
    assert other.image != own.image


def test_the_identity_knows_weights_and_not_places(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    one = built(folders["base"], dtype="float32").identity()
    for file in folders["base"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    moved = built(tmp_path, dtype="float32", batch=2).identity()
    assert one == moved
    assert one["weights"] != built(folders["gen"]).identity()["weights"]
    assert one["dtype"] != built(folders["base"], dtype="bfloat16").identity()["dtype"]


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"variant": "bsae"}, ConfigError, "did you mean 'base'"),
        ({"manner": "natve"}, ConfigError, "did you mean 'native'"),
        ({"dtype": "float16"}, ConfigError, "'bfloat16' or 'float32', or null"),
        ({"quantize": 16}, ConfigError, "4 or 8, or null"),
        ({"quantise": 8}, UnknownName, "did you mean 'quantize'"),
        ({"repetition_penalty": 0}, ConfigError, "above 0"),
        ({"beams": 0}, ConfigError, "at least 1"),
        ({"memory": "1GiB", "device_map": {"": "cpu"}}, ConfigError, "give only one"),
    ],
)
def test_settings_are_checked(
    folders: dict[str, Path], settings: dict[str, Any], error: type, said: str
) -> None:
    with pytest.raises(error, match=said):
        built(folders["base"], **settings)


def test_a_tokenizer_of_another_model_is_refused(
    folders: dict[str, Path], tmp_path: Path, small_tokenizer: Path
) -> None:
    for file in folders["chat"].iterdir():
        if file.name != "tokenizer.model":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert "has no tokenizer.model" in told(built(tmp_path))
    assert built(tmp_path, tokenizer=str(small_tokenizer)).limits.batch == 4
    config = json.loads((tmp_path / "config.json").read_text())
    config["decoder"]["vocab_size"] -= 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "including Emu2's own" in told(built(tmp_path, tokenizer=str(small_tokenizer)))


def told(adapter: Emu2Adapter) -> str:
    """The one thing that it lacks."""
    (error,) = adapter.lacks()
    assert isinstance(error, ModelError)
    return str(error)


def test_nothing_is_lacking(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        assert built(folder).lacks() == []
    assert "has no safety checker" in told(built(folders["gen"], safety=True))


def test_a_repository_that_is_not_here_is_fetched(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The constructor downloads nothing; `lacks` says how it is brought, `fetch` does it."""
    import huggingface_hub

    asked: list[bool] = []

    def snapshot(name: str, **options: Any) -> str:
        asked.append(bool(options.get("local_files_only")))
        if options.get("local_files_only") and asked.count(False) == 0:
            raise FileNotFoundError(name)
        return str(folders["base"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    adapter = built(Path("BAAI/Emu2"), memory="4x80GiB")
    assert "hf download BAAI/Emu2 --local-dir Emu2" in told(adapter)
    assert all(asked)
    with pytest.raises(ModelError, match="not on this machine"):
        _ = adapter.limits
    adapter.fetch()
    assert adapter.lacks() == []
    assert adapter.limits.positions == 2048


def test_a_model_that_can_never_fit_is_told_beforehand(folders: dict[str, Path]) -> None:
    assert "the model does not fit" in told(built(folders["base"], memory="cpu:1MiB"))
    assert built(folders["base"], device_map="cpu").lacks() == []
    both = built(Path("BAAI/Emu2"), memory="24GiB").lacks()
    assert ["not on this machine" in str(error) for error in both] == [True, False]
    assert "the model does not fit" in str(both[1])


def test_threads_are_given_back(folders: dict[str, Path]) -> None:
    import torch

    before = torch.get_num_threads()
    adapter = built(folders["base"], threads=before + 1)
    adapter.load()
    assert torch.get_num_threads() == before + 1
    adapter.close()
    assert torch.get_num_threads() == before
    free = built(folders["base"])
    assert "threads" in free.neutral


def test_answering_needs_a_load(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="not loaded"):
        built(folders["base"]).answer(TEXTS)


def test_the_special_tokens_are_those_of_the_paper() -> None:
    assert len(ADDED) == 272
