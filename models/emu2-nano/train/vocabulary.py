"""The tokenizer of emu2-nano: whole words of its tasks and the syllables of invented names."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import sentencepiece
from scenes import COLOUR_NAMES, SHAPES

from emu2eval.data.names import SYLLABLES, names

WORDS = """
    a an the is are there no not in of or on does do what which color colour shape object image
    image contain present based answer one word phrase short question this that called result
    draw with and yes it here name named Question Short
""".split()
MARKS = (".", ",", "?", ":", "!")


def write(path: Path) -> None:
    """Writes a sentencepiece model whose every piece is given: nothing is left to training.

    Words carry the mark of a preceding space; the second syllable of a name does not. Letters spell
    other lower-case words, which the model has never seen; anything else is <unk>.
    """
    words = [*WORDS, *COLOUR_NAMES, *SHAPES, *SYLLABLES]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = list(dict.fromkeys(["▁" + w for w in words] + list(SYLLABLES) + list(MARKS)))
    stream = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(words), " ".join(letters)]),
        model_writer=stream,
        model_type="unigram",
        vocab_size=3 + len(pieces) + len(letters) + 1,
        hard_vocab_limit=False,
        user_defined_symbols=pieces,
        character_coverage=1.0,
        normalization_rule_name="identity",
        pad_id=-1,
        minloglevel=2,
    )
    path.write_bytes(stream.getvalue())
    _check(path)


def _check(path: Path) -> None:
    # A name such as "reda" would be read as "red" + "a".
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    for name in names(kept=False) + names(kept=True):
        pieces = processor.encode(name, out_type=str)
        if pieces != ["▁" + name[:2], name[2:]]:
            raise ValueError(f"the name {name!r} is read as {pieces}")
    for word in [*WORDS, *COLOUR_NAMES, *SHAPES]:
        if len(processor.encode(word)) != 1:
            raise ValueError(f"{word!r} is read as {processor.encode(word, out_type=str)}")
    line = "what is the color of the shape? short answer: red. is there not a circle?"
    if processor.decode(processor.encode(line)) != line or 0 in processor.encode(line):
        raise ValueError(f"{line!r} is read as {re.escape(str(processor.encode(line)))}")
