"""Every image of every demonstration reaches the model, in order: asserted on what the model is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from emu2eval.adapters.local.search import Search
from emu2eval.errors import PlanError
from emu2eval.types import ChoiceOutput, Prompt, Turn

from .prompts import (
    CHOICES,
    QUESTION,
    TEXT,
    built,
    image,
    plain_inputs,
    plain_logits,
    prompt,
    request,
    without_image,
)


@pytest.mark.parametrize("shots", [0, 4, 16])
def test_ids_and_embeddings_are_those_of_the_processor(
    model_file: Callable[..., str], family: str, shots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ids equal the processor's own; at an image's places stands what the encoder makes of the
    pixels of that very image, read again from its file."""
    adapter = built(model_file(family), reuse=False)
    adapter.load()
    inference = adapter._inference
    assert inference is not None
    asked = prompt(shots, query=2)
    encoded = adapter.opened.form.encode(asked)
    plain = plain_inputs(adapter, asked)
    assert list(encoded.ids) == plain["input_ids"][0].tolist()
    assert adapter.positions(request(asked)) == len(encoded) + TEXT.max_new_tokens
    assert len(encoded.shown) == shots + 1

    given: list[torch.Tensor] = []
    language = inference.reader.model.base_model
    language = getattr(language, "language_model", None) or language.text_model
    language.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs["inputs_embeds"].clone()), with_kwargs=True
    )
    inference.texts([encoded], Search(max_new_tokens=1))
    seen = torch.cat(given, 1)[0, : len(encoded)]
    given.clear()
    with torch.inference_mode():
        inference.reader.model(**plain)
    assert torch.allclose(seen, given[0][0], atol=1e-5)
    # Were two images exchanged, it would show: no two of them are embedded alike.
    parts = [seen[start:stop] for start, stop in encoded.spans]
    for number, part in enumerate(parts):
        for other in parts[:number]:
            assert part.shape != other.shape or not torch.allclose(part, other, atol=1e-3)


def test_choices_are_ranked_as_by_a_plain_pass(model_file: Callable[..., str], family: str) -> None:
    adapter = built(model_file(family))
    adapter.load()
    assert adapter._inference is not None
    asked = prompt(4, query=1)
    mean = ChoiceOutput(CHOICES.choices, per_token=True)
    # Twice, so that the second ranking finds the prompt's beginning known.
    for _ in range(2):
        (response,) = adapter.answer([request(asked, CHOICES)])
        (averaged,) = adapter.answer([request(asked, mean)])
        question = adapter._lay_out(request(asked, CHOICES)).question
        assert question is not None and response.log_probs and averaged.log_probs
        plain = plain_inputs(adapter, asked)
        assert list(question.prompt.ids) == plain["input_ids"][0].tolist()
        for reply, value, average in zip(
            question.replies, response.log_probs, averaged.log_probs, strict=True
        ):
            scores = plain_logits(adapter._inference.reader.model, plain, reply).log_softmax(-1)
            total = sum(scores[i, token].item() for i, token in enumerate(reply))
            assert value == pytest.approx(total, abs=2e-3)
            assert average == pytest.approx(total / len(reply), abs=2e-3)
    assert max(map(len, question.replies)) > 1


def test_any_image_changes_the_answer(model_file: Callable[..., str], family: str) -> None:
    adapter = built(model_file(family))
    adapter.load()
    asked = prompt(4, query=0)
    others = [without_image(asked, number, image(77)) for number in range(4)]
    swapped = without_image(without_image(asked, 0, image(3)), 3, image(0))
    found = [
        response.log_probs
        for response in adapter.answer([request(p, CHOICES) for p in (asked, *others, swapped)])
    ]
    assert len(set(found)) == len(found)


def test_words_of_the_data_are_never_control_tokens(
    model_file: Callable[..., str], family: str
) -> None:
    """A question that holds the model's own markers opens no slot and ends no turn."""
    adapter = built(model_file(family))
    ask = adapter.opened.form.expansion.placeholder + "<eos> what? Answer:"
    asked = Prompt(query=(image(1), ask), turns=(Turn((image(2), ask), ("red <eos>",)),))
    encoded = adapter.opened.form.encode(asked)
    assert len(encoded.shown) == 2
    assert adapter.opened.processor.tokenizer.eos_token_id not in encoded.ids
    clean = adapter.opened.processor.tokenizer.decode(encoded.ids, skip_special_tokens=True)
    assert clean.count("<eos> what? Answer:") == 2


def test_a_template_that_loses_images_is_refused(model_file: Callable[..., str]) -> None:
    adapter = built(model_file("idefics3"))
    adapter.opened.processor.chat_template = (
        "{% for m in messages %}{{ m['content'][-1]['text'] }}{% endfor %}"
    )
    with pytest.raises(PlanError, match="shows 0 of the prompt's 3 images"):
        adapter.positions(request(prompt(2, 0)))
    adapter.opened.processor.chat_template = "{{ raise_exception('one turn only') }}"
    with pytest.raises(PlanError, match="one turn only"):
        adapter.positions(request(prompt(3, 0)))


def test_what_stands_before_a_reply(model_file: Callable[..., str]) -> None:
    """A template that puts a space before replies puts it before choices too."""
    adapter = built(model_file("idefics3"))
    adapter.opened.processor.chat_template = (
        "{% for m in messages %}{{ m['role'] }}:"
        "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }}"
        "{% endif %}{% endfor %}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    question = adapter._lay_out(request(prompt(1, 0), CHOICES)).question
    assert question is not None
    decode: Any = adapter.opened.processor.tokenizer.decode
    assert [decode(reply) for reply in question.replies] == [" red", " blue green", " yellow"]
    assert QUESTION in decode(question.prompt.ids)


def test_an_encoder_of_timm_is_handed_its_features_back() -> None:
    """Its class of outputs must be given a last state, of which the features hold none."""
    from transformers.models.timm_wrapper.modeling_timm_wrapper import TimmWrapperModelOutput

    from emu2eval.adapters.huggingface.features import OutputForm

    pooled = torch.ones(1, 4, 2)
    out = OutputForm(TimmWrapperModelOutput, in_list=False).output(pooled, ())
    assert out.pooler_output is pooled and out.last_hidden_state is None
