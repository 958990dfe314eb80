"""Molmo2, whose image processor wants torchvision: its two calls of it are made by torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Molmo2Config, Molmo2ForConditionalGeneration, Molmo2Processor
from transformers.models.molmo2.image_processing_molmo2 import Molmo2ImageProcessor

from emu2eval.adapters.huggingface import processor as module
from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
from emu2eval.adapters.huggingface.settings import HuggingFaceSettings

from .families import CHATML, TEXT, tokenizer
from .prompts import CHOICES, image, plain_inputs, plain_logits, prompt, request, without_image

MARKS = [
    *("<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>", "<frame_start>"),
    *("<im_end>", "<frame_end>", "<im_low>"),
]


class Images(Molmo2ImageProcessor):
    def resize(self, image: torch.Tensor, size: Any, **_: Any) -> torch.Tensor:
        wanted = (size.height, size.width)
        return torch.nn.functional.interpolate(image, wanted, mode="bilinear")

    def rescale_and_normalize(self, images: torch.Tensor, *_: Any) -> torch.Tensor:
        return images.float() / 127.5 - 1


class Processor(Molmo2Processor):
    def check_argument_for_proper_class(self, name: str, value: Any) -> Any:
        return type(value)


@pytest.fixture
def processor() -> Any:
    words = tokenizer([*MARKS, "<|image|>", "<|video|>", "<|im_start|>", "<|im_end|>"])
    images = Images(
        size={"height": 32, "width": 32}, patch_size=8, overlap_margins=[1, 1], max_crops=2
    )
    # As that of the family: it begins without <bos>, which the processor adds.
    template = CHATML.replace("IMAGE", "<|image|>")
    return Processor(images, None, words, chat_template=template)


@pytest.fixture
def folder(processor: Any, tmp_path: Path) -> Path:
    words = processor.tokenizer
    ids = dict(zip(MARKS, words.convert_tokens_to_ids(MARKS), strict=True))
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    torch.manual_seed(0)
    config = Molmo2Config(
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
                       "image_size": [32, 32], "patch_size": 8, **heads},
        adapter_config={"vision_feature_layer": [1, 0], "hidden_size": 16, "intermediate_size": 32,
                        "text_hidden_size": 32, **heads},
        text_config={**TEXT, "vocab_size": len(words), "additional_vocab_size": 8, "head_dim": 8},
        image_start_token_id=ids["<im_start>"],
        low_res_image_start_token_id=ids["<low_res_im_start>"],
        image_end_token_id=ids["<im_end>"],
        image_patch_id=ids["<im_patch>"],
        frame_start_token_id=ids["<frame_start>"],
        frame_end_token_id=ids["<frame_end>"],
    )  # fmt: skip
    model = Molmo2ForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0.0, 1.0 / weight.shape[-1] ** 0.5)
    model.save_pretrained(tmp_path / "molmo2")
    words.save_pretrained(tmp_path / "molmo2")
    return tmp_path / "molmo2"


@pytest.fixture
def asked_with(folder: Path, processor: Any, monkeypatch: pytest.MonkeyPatch) -> HuggingFaceAdapter:
    monkeypatch.setattr(module, "load_processor", lambda checkpoint, backend: processor)
    adapter = HuggingFaceAdapter(HuggingFaceSettings(checkpoint=str(folder), dtype="float32"))
    adapter.load()
    return adapter


def test_images_see_one_another_as_the_model_was_trained(
    asked_with: HuggingFaceAdapter,
) -> None:
    """What frames an image is marked as a part of it, and no beginning is read without what follows."""
    adapter = asked_with
    assert adapter._inference is not None
    # Twice, so that a beginning would be known.
    for query in (1, 1, 2):
        asked = prompt(3, query)
        plain = plain_inputs(adapter, asked)
        encoded = adapter.opened.form.encode(asked)
        assert list(encoded.ids) == plain["input_ids"][0].tolist()
        assert int(plain["mm_token_type_ids"].sum()) > sum(encoded.slots)
        question = adapter._lay_out(request(asked, CHOICES)).question
        (response,) = adapter.answer([request(asked, CHOICES)])
        assert question is not None and response.log_probs
        for reply, value in zip(question.replies, response.log_probs, strict=True):
            scores = plain_logits(adapter._inference.reader.model, plain, reply).log_softmax(-1)
            total = sum(scores[i, token].item() for i, token in enumerate(reply))
            assert value == pytest.approx(total, abs=2e-3)


def test_images_may_cost_less(asked_with: HuggingFaceAdapter, folder: Path) -> None:
    asked = request(prompt(1, 0))
    own = HuggingFaceSettings(checkpoint=str(folder), image_options={"max_crops": 1})
    small = HuggingFaceAdapter(own)
    assert small.positions(asked) < asked_with.positions(asked)


def test_batches_change_nothing_and_every_image_counts(asked_with: HuggingFaceAdapter) -> None:
    asked = [request(prompt(shots, query=shots)) for shots in (3, 0, 2, 3)]
    alone = [response.text for one in asked for response in asked_with.answer([one])]
    assert [response.text for response in asked_with.answer(asked)] == alone
    given = prompt(3, query=0)
    others = [without_image(given, number, image(77)) for number in range(3)]
    found = asked_with.answer([request(one, CHOICES) for one in (given, *others)])
    assert len({response.log_probs for response in found}) == 4
