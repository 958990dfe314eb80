"""Prompts laid out in remembered pieces have the ids of the whole text, rendered and tokenized at once."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from emu2eval.adapters.huggingface import skeleton as skeletons
from emu2eval.adapters.huggingface.form import _CLOSE, _OPEN, _PLACES, TransformersForm
from emu2eval.adapters.huggingface.segments import AWKWARD, Segments
from emu2eval.adapters.huggingface.template import ChatTemplate, message
from emu2eval.types import Prompt, Turn, Video

from .prompts import CHOICES, built, image, prompt, request

WORDS = [
    "what",
    "colour",
    "is",
    "square?",
    "Answer:",
    "12",
    "\n",
    " ",
    "  ",
    "é",
    "🦊",
    "日本",
    "it's",
    "<",
    ">",
]
ODD = [
    "<image>",
    "<eos>",
    "<|im_end|>",
    "</s>",
    "[x]",
    _PLACES,
    _OPEN,
    "\ue003" + "0\ue004",
    "{{ x }}",
    "'type': 'text'",
]


def whole(form: TransformersForm, asked: Prompt, reply: str | None = None) -> tuple[int, ...]:
    """As it was done before there were pieces: the template for every prompt, one text, tokenized at once."""
    gathered, tiles = form._gathered(asked)
    text = form.text(gathered, tiles) + form.expansion.closing
    if reply is not None:
        plain = asked.lead if form.layout == "plain" else form._template.lead
        text += ("" if form.expansion.closing else plain) + form._literal(reply)
    pieces = text.split(form.expansion.placeholder)
    shown = ([tiles] if tiles is not None else []) + list(gathered.images())
    alone = "alone" if len(shown) == 1 and form.expansion.minds_company else ""
    full = pieces[0]
    for number, (one, piece) in enumerate(zip(shown, pieces[1:], strict=True)):
        frame, _ = form._placed(one, alone, spelled=True)
        full += form.expansion.numbered(frame.text, number) + piece
    full = form.expansion.finish(full)
    words = form.processor.tokenizer
    special = words.bos_token is None or not full.startswith(words.bos_token)
    found: list[int] = []
    for place, piece in enumerate(re.split(f"{_OPEN}([0-9]+){_CLOSE}", full)):
        if place % 2:
            found += form._characters(form._controls[int(piece)])
        else:
            found += words(piece, add_special_tokens=special and not place)["input_ids"]
    return tuple(found)


def texts(drawn: random.Random, odd: bool) -> str:
    some = [drawn.choice(WORDS) for _ in range(drawn.randrange(1, 6))]
    some += [drawn.choice(ODD)] * odd
    drawn.shuffle(some)
    return drawn.choice(["", " "]).join(some)


def any_prompt(drawn: random.Random) -> Prompt:
    """Any texts and images in any order, of few kinds, so that most are seen again."""
    kind, shots = drawn.randrange(3), drawn.randrange(3)

    def ask() -> tuple[Any, ...]:
        text, more = (texts(drawn, drawn.random() < 0.15) for _ in range(2))
        seen = image(drawn.randrange(6), drawn.choice([(64, 48), (30, 90)]))
        return [(seen, text), (text, seen, more), (text,)][kind]

    turns = tuple(Turn(ask(), (texts(drawn, False),)) for _ in range(shots))
    system = drawn.choice([None, None, "Be brief. ", ""])
    return Prompt(ask(), turns, system, opening=drawn.choice([None, None, "Look: "]))


@pytest.mark.parametrize(
    "family", ["gemma3", "idefics2", "idefics3", "kosmos2", "paligemma", "pixtral", "qwen2_5_vl"]
)
def test_any_prompt_has_the_ids_of_the_whole(model_file: Callable[..., str], family: str) -> None:
    form = built(model_file(family)).opened.form
    drawn = random.Random(family)
    # KOSMOS-2's own tokens take the space before them.
    assert form._segments.apart == (family != "kosmos2")
    for _ in range(25):
        asked = any_prompt(drawn)
        encoded = form.encode(asked)
        assert encoded.ids == whole(form, asked)
        assert encoded.slots == tuple(i == form.slot for i in encoded.ids)
        assert [shown.image for shown in encoded.shown] == list(asked.images())
        reply = texts(drawn, drawn.random() < 0.2)
        (replied,) = form.with_replies(asked, [reply])
        assert replied.encoded.ids == whole(form, asked, reply)


def test_a_grid_and_a_video_have_the_ids_of_the_whole(model_file: Callable[..., str]) -> None:
    gridded = built(model_file("idefics3", grid=True)).opened.form
    asked = prompt(3, 0)
    assert gridded.encode(asked).ids == whole(gridded, asked)
    form = built(model_file("qwen2_5_vl")).opened.form
    seen = Prompt((Video((image(1), image(2), image(3))), "what is it?"))
    assert form.encode(seen).ids == whole(form, seen)


def test_a_second_prompt_of_a_pool_costs_its_query_alone(
    model_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokenized and rendered: each demonstration once, and the template not at all."""
    adapter = built(model_file("qwen2_5_vl"))
    counted: Counter[str] = Counter()
    encode, render = Segments._encoded, ChatTemplate._rendered

    def encoded(self: Any, text: str) -> list[int]:
        counted["tokenized"] += 1
        return encode(self, text)

    def rendered(self: Any, *given: Any, **named: Any) -> str:
        counted["rendered"] += 1
        return render(self, *given, **named)

    monkeypatch.setattr(Segments, "_encoded", encoded)
    monkeypatch.setattr(ChatTemplate, "_rendered", rendered)
    pool = [Turn((image(i), f"what colour is number {i}?"), ("red",)) for i in range(6)]
    for number, turns in enumerate((pool[:4], pool[2:], [pool[i] for i in (5, 0, 3, 1)])):
        counted.clear()
        asked = Prompt((image(10 + number), f"and number {10 + number}?"), tuple(turns))
        adapter.positions(request(asked))
    assert counted == {"tokenized": 1}
    adapter.positions(request(prompt(2, 0), CHOICES))
    counted.clear()
    adapter.positions(request(asked, CHOICES))
    assert not counted
    assert not any("encoded" in vars(laid.pieces) for laid in adapter._laid_out.values())


def byte_level(core: Tokenizer) -> None:
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)


def byte_level_spaced(core: Tokenizer) -> None:
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def llama_legacy(core: Tokenizer) -> None:
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )


def llama_first(core: Tokenizer) -> None:
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)


def stripped(core: Tokenizer) -> None:
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")


def digits(core: Tokenizer) -> None:
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d|\s+(?!\S)|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(False),
        ]
    )


KINDS = [byte_level, byte_level_spaced, llama_legacy, llama_first, stripped, digits]
SPECIAL = ["<s>", "</s>", "<pad>", "<image>", "<|im_start|>", "<|im_end|>"]
OTHERS = [
    AddedToken("<left>", lstrip=True, special=True), AddedToken("<right>", rstrip=True, special=True),
    AddedToken("colour", single_word=True, normalized=False), AddedToken("<norm>", normalized=True),
    AddedToken("\n\n", normalized=False), AddedToken("x<pad>", normalized=False),
]  # fmt: skip


def tokenizer(
    kind: Callable[[Tokenizer], None], bos: bool = True, eos: bool = False
) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<pad>"))
    kind(core)
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([" ".join(WORDS + list(AWKWARD))] * 2, trainer)
    if bos or eos:
        core.post_processor = processors.TemplateProcessing(
            single=" ".join(["<s>"] * bos + ["$A"] + ["</s>"] * eos),
            special_tokens=[("<s>", 0), ("</s>", 1)],
        )
    core.add_tokens(OTHERS)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def runs(drawn: random.Random) -> Iterator[str]:
    for _ in range(60):
        known = [*SPECIAL[1:], *map(str, OTHERS), *WORDS, *WORDS]
        yield drawn.choice(["", " "]).join(drawn.choices(known, k=drawn.randrange(9)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_any_text_put_together_has_the_ids_of_the_whole(kind: Callable[[Tokenizer], None]) -> None:
    words = tokenizer(kind)
    slot = words.convert_tokens_to_ids("<image>")
    segments = Segments(words, slot, "<|im_start|>user<|im_end|><left><right><norm><pad>")
    assert segments.apart
    # What takes from its neighbours, or may be a part of another, is no place to cut at.
    assert segments._ids.keys() == {"<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>"}
    for text in runs(random.Random(kind.__name__)):
        for special in (True, False):
            wanted = words(text, add_special_tokens=special)["input_ids"]
            assert list(segments.piece(text, special).ids) == wanted
        behind = f"<image>{text}"
        wanted = words(f"a<image>{behind}", add_special_tokens=False)["input_ids"]
        begun = segments.piece("a<image>", False).ids
        assert [*begun, *segments.piece(behind, None).ids] == wanted


def test_a_tokenizer_that_is_not_so_is_given_whole_texts() -> None:
    ends = tokenizer(byte_level, eos=True)
    slot = ends.convert_tokens_to_ids("<image>")
    segments = Segments(ends, slot)
    assert not segments.apart
    assert list(segments.piece("a <image> b", True).ids) == ends("a <image> b")["input_ids"]
    takes = tokenizer(byte_level)
    takes.add_tokens([AddedToken("<left>", lstrip=True, special=True)])
    assert not Segments(takes, takes.convert_tokens_to_ids("<left>")).apart


LOOKS = [
    "{{ c['text'] | upper }}", "{{ c['text'].split('x')[-1] }}", "{{ c['text'] | replace('a', 'b') }}",
    "{% if '</think>' in c['text'] %}no{% endif %}{{ c['text'] }}", "{{ c['text'] ~ '' }}",
    "{% if c['text'] in 'what colour' %}no{% endif %}{{ c['text'] }}", "{{ '%s' % c['text'] }}",
    "{% macro m(t) %}{{ t }}{% endmacro %}{{ m(c['text']) }}", "{{ c['text'] | tojson }}",
    "{% if c['text'] | length > 9 %}{{ c['text'] }}{% else %}{{ c['text'] }} {% endif %}",
    "{% if c['text'] == 'a' %}b{% else %}{{ c['text'] }}{% endif %}", "{{ c['text'] | e }}",
    "{{ ['', c['text']] | join('') }}", "{% set t %}{{ c['text'] }}{% endset %}{{ t }}",
    "{{ c['text'] }}{{ strftime_now('%Y') }}", "{% if c['text'] < 'm' %} {% endif %}{{ c['text'] }}",
    "{{ c['text'][:1] }}{{ c['text'][1:] }}", "{{ c['text'].strip('?') }}", "{{ ''.join(c['text']) }}",
    "{% for x in c['text'] %}{{ x }}{% endfor %}", "{{ {c['text']: 1} and c['text'] }}",
]  # fmt: skip
WRITES = [
    "{{ c['text'] }}", "{{ c['text'] | trim }}", "{{ '\n' + c['text'] + '\n' }}", "{{ c['text'].rstrip() }}",
    "{% set t = c['text'] %}{% if t is string and t %}{{ t | trim + '.' }}{% endif %}",
    "{% if loop.last %}{{ c['text'] | trim }}{% else %}{{ c['text'] }}{% endif %}",
    "{{ (c | items | list)[1][1] }}",
    "{% if c['text'] is defined and c['text'] != none %}{{ c['text'] }}{% endif %}",
]  # fmt: skip


@pytest.fixture
def rendering(model_file: Callable[..., str]) -> Callable[[str], ChatTemplate]:
    processor = built(model_file("qwen2_5_vl")).opened.processor

    def template(text: str) -> ChatTemplate:
        processor.chat_template = (
            "{% for m in messages %}[{{ m['role'] | upper }}]{% for c in m['content'] %}"
            "{% if c['type'] == 'image' %}<image>{% else %}" + text + "{% endif %}{% endfor %}"
            "{% if loop.index0 % 2 == 0 %};{% endif %}{% endfor %}{{ bos_token }}"
        )
        return ChatTemplate(processor, "<image>")

    return template


def conversation(*said: str) -> list[Any]:
    parts = [[{"type": "image"}, {"type": "text", "text": text}] for text in said]
    return [
        message("assistant" if i % 2 else "user", part[i % 2 :]) for i, part in enumerate(parts)
    ]


def test_a_template_that_writes_texts_is_rendered_for_two_prompts_alone(
    rendering: Callable[[str], ChatTemplate],
) -> None:
    drawn = random.Random(1)
    for text in WRITES:
        template = rendering(text)
        for _ in range(6):
            said = [f"a{texts(drawn, True)}" for _ in range(3)]
            said = [drawn.choice(["", " ", "\n"]) + one + drawn.choice(["", " \n"]) for one in said]
            messages = conversation(*said)
            assert template.filled(messages) == template.shown(messages), text
        (made,) = template._skeletons.values()
        assert isinstance(made, skeletons.Skeleton), text


def test_a_template_that_looks_at_texts_is_rendered_for_each(
    rendering: Callable[[str], ChatTemplate],
) -> None:
    for text in LOOKS:
        template = rendering(text)
        for said in (["A 1", "2", "3"], ["A 0", "4", "5"], ["A 7", "8", "9"]):
            messages = conversation(*said)
            assert template.filled(messages) == template.shown(messages), text
        assert [*template._skeletons.values()] == [None], text


def test_what_was_found_out_may_be_forgotten_by_another_thread(
    rendering: Callable[[str], ChatTemplate],
) -> None:
    class Forgotten(dict[Any, Any]):
        def __contains__(self, make: object) -> bool:
            known = super().__contains__(make)
            self.clear()
            return known

    template = rendering("{{ c['text'] }}")
    object.__setattr__(template, "_tried", Forgotten())
    messages = conversation("a", "b", "c")
    assert template.shown(messages) == template.shown(messages)
