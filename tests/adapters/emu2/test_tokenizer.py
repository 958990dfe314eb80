"""Tokenization: LLaMA's own model where it is at hand, and every rule on a small model trained here."""

from __future__ import annotations

from pathlib import Path

import pytest

from emu2eval.adapters.emu2.prompt import PLACEHOLDERS
from emu2eval.adapters.emu2.tokenizer import ADDED, BOS, EOS, Tokenizer
from emu2eval.errors import ModelError

from .conftest import Golden


def expanded(golden: Golden, text: str) -> str:
    for placeholder, name in zip(PLACEHOLDERS, ("image", "video"), strict=True):
        text = text.replace(placeholder, golden.meta[f"{name}_placeholder"])
    return text


def test_ids_of_the_authors_prompts(golden: Golden, llama_tokenizer: Path) -> None:
    tokenizer = Tokenizer(llama_tokenizer, golden.config.variant)
    assert tokenizer.size == golden.config.decoder.vocab_size
    for name, prompt in golden.meta["prompts"].items():
        want = golden[f"{name}_input_ids"][0].tolist()
        assert tokenizer.encode(expanded(golden, prompt["prompt"])) == want, name
    batch = golden["batch_input_ids"].tolist()
    for text, want in zip(golden.meta["texts"], batch, strict=True):
        assert tokenizer.encode(expanded(golden, text)) == [i for i in want if i != 32000]


def test_decoded_texts_of_the_authors(golden: Golden, llama_tokenizer: Path) -> None:
    tokenizer = Tokenizer(llama_tokenizer, golden.config.variant)
    for name, texts in golden.meta["gen_texts"].items():
        ids = golden[f"gen_{name}"].tolist()
        assert [tokenizer.decode(row) for row in ids] == texts, name


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (
            "[IMG]<image><image>[/IMG]Describe the image in details:",
            [1, 32001, 32003, 32003, 32002, 20355, 915, 278, 1967, 297, 4902, 29901],
        ),
        (
            "hi [ASSISTANT]: ok.</s>[USER]: more [ASSISTANT]:",
            [1, 7251, 32273, 584, 3431, 29889, 2, 32272, 584, 901, 32273, 584],
        ),
        ("", [1]),
    ],
)
def test_ids_of_llama(text: str, want: list[int], llama_tokenizer: Path) -> None:
    assert Tokenizer(llama_tokenizer, "chat").encode(text) == want


def test_numbering_follows_the_model(small_tokenizer: Path) -> None:
    base, chat = Tokenizer(small_tokenizer), Tokenizer(small_tokenizer, "chat")
    first = base.text_size
    assert base.ids["[PAD]"] == first
    assert base.ids["<image>"] == first + 3
    assert base.ids["<patch_index_0256>"] == first + 271
    assert (base.size, chat.size) == (first + 272, first + 274)
    assert chat.ids["[ASSISTANT]"] == first + 273


def test_text_after_a_token_begins_a_word(small_tokenizer: Path) -> None:
    t = Tokenizer(small_tokenizer)
    cat = t.encode("cat")[1:]
    assert t.encode("[/IMG]cat") == [BOS, t.ids["[/IMG]"], *cat]
    assert t.encode("[/IMG]  \n cat\n[IMG]") == [BOS, t.ids["[/IMG]"], *cat, t.ids["[IMG]"]]


def test_white_space_stays_away_from_tokens_only(small_tokenizer: Path) -> None:
    t = Tokenizer(small_tokenizer)
    assert t.encode(" cat ") != t.encode("cat")
    assert t.encode("[IMG] \n [/IMG]") == [BOS, t.ids["[IMG]"], t.ids["[/IMG]"]]
    assert t.encode("cat </s> dog") == [*t.encode("cat"), EOS, *t.encode("dog")[1:]]


def test_the_unknown_token_strips_nothing(small_tokenizer: Path) -> None:
    t = Tokenizer(small_tokenizer)
    assert t.encode("cat <unk> dog") == [*t.encode("cat "), 0, *t.encode(" dog")[1:]]


def test_the_hf_manner_keeps_white_space(small_tokenizer: Path) -> None:
    native, hf = Tokenizer(small_tokenizer), Tokenizer(small_tokenizer, manner="hf")
    text = "a cat [IMG][/IMG] \n a dog"
    want = [*native.encode("a cat "), native.ids["[IMG]"], native.ids["[/IMG]"]]
    assert hf.encode(text) == [*want, *native.encode(" \n a dog")[1:]]
    assert hf.encode("[/IMG]cat") == native.encode("[/IMG]cat")


def test_the_longest_token_wins_and_roles_are_text_in_base(small_tokenizer: Path) -> None:
    base, chat = Tokenizer(small_tokenizer), Tokenizer(small_tokenizer, "chat")
    assert chat.encode("[USER]") == [BOS, chat.ids["[USER]"]]
    assert len(base.encode("[USER]")) > 2
    assert [base.encode(name)[1:] for name in ADDED] == [[base.ids[name]] for name in ADDED]


def test_parts_are_taken_as_they_are(small_tokenizer: Path) -> None:
    t = Tokenizer(small_tokenizer)
    ids = t.encode(["a [IM", "G] cat", t.ids["[IMG]"]])
    assert ids.count(t.ids["[IMG]"]) == 1
    assert t.decode(ids) == "a [IMG] cat"


def test_an_empty_text_is_its_beginning(small_tokenizer: Path) -> None:
    assert Tokenizer(small_tokenizer).encode("") == [BOS]


def test_decoding_with_and_without_tokens(small_tokenizer: Path) -> None:
    text = "<s>The cat is<phrase>a dog</phrase><object><patch_index_0007></object>here.</s>"
    native = Tokenizer(small_tokenizer)
    ids = native.encode(text)[1:]
    assert native.decode(ids) == "The cat isa doghere."
    spaced = (
        "<s>The cat is <phrase> a dog </phrase> <object> <patch_index_0007> </object> here.</s>"
    )
    assert native.decode(ids, special=True) == spaced
    assert Tokenizer(small_tokenizer, manner="hf").decode(ids, special=True) == text


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        Tokenizer(tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="not a sentencepiece model"):
        Tokenizer(tmp_path / "tokenizer.model")
