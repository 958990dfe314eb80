"""Tasks of drawing: what is asked, what is shown, and that both are right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from emu2eval import registry
from emu2eval.data import shapes_draw
from emu2eval.data.load import load_split
from emu2eval.data.names import names
from emu2eval.errors import ConfigError
from emu2eval.fewshot.episode import Episode
from emu2eval.media import images
from emu2eval.prompts import PromptBuilder
from emu2eval.scorers.drawing import Drawing
from emu2eval.spec.task import load_task
from emu2eval.types import Image, Prompt, Response, Sample

HERE = Path()


def prompt(task_name: str, query: Sample, *demonstrations: Sample) -> Prompt:
    task = load_task(task_name)
    return PromptBuilder(task.protocol, "here").build(query, demonstrations)


def test_every_combination_is_asked_for_in_words() -> None:
    asked = Counter(s.fields["concept"] for s in load_split(load_task("easy-vqa-draw"), "words"))
    assert len(asked) == 24 and set(asked.values()) == {4}


def test_demonstrations_of_drawing_reply_with_real_images() -> None:
    task = load_task("easy-vqa-draw")
    query, shown = load_split(task, "words")[0], load_split(task, "train")[0]
    made = prompt("easy-vqa-draw", query, shown)
    assert made.query == ("a black circle",)
    assert made.turns[0].ask == (f"a {shown.fields['concept']}",)
    assert made.turns[0].reply == (shown.answer,)


def test_real_images_are_drawn_right() -> None:
    samples = list(shapes_draw.read(HERE, "test"))[:50]
    answers = [s.answer for s in samples if isinstance(s.answer, Image)]
    assert len(answers) == 50
    scores = [
        Drawing().score(s, Response(images=(a,))) for s, a in zip(samples, answers, strict=True)
    ]
    assert all(score.value == 1 for score in scores)


@pytest.mark.parametrize("split", ["one", "three"])
def test_a_name_means_one_object_an_episode(split: str) -> None:
    samples = load_split(load_task("easy-vqa-draw-names"), split)
    meant: dict[tuple[str | None, str], str] = {}
    for sample in samples:
        key = (sample.cluster, sample.fields["name"])
        assert meant.setdefault(key, sample.fields["concept"]) == sample.fields["concept"]
        assert sample.fields["name"] in names(kept=True)
    objects = Counter(meant.values())
    assert len(objects) == 24 and len(set(objects.values())) == 1
    # Nothing in the words of a query gives its object away.
    assert prompt("easy-vqa-draw-names", samples[0]).query == (f"a {samples[0].fields['name']}",)


def test_names_are_shown_in_turn() -> None:
    samples = load_split(load_task("easy-vqa-draw-names"), "three")
    chooser = Episode(samples, 0, by="name")
    for query in samples[:20]:
        shown = [d.sample for d in chooser.choose(query, 6, 0)]
        counts = Counter(s.fields["name"] for s in shown)
        assert len(counts) == 3 and set(counts.values()) == {2}
        digests = {images.digest(s.answer) for s in shown if isinstance(s.answer, Image)}
        assert isinstance(query.answer, Image)
        assert len(digests) == 6 and images.digest(query.answer) not in digests


def test_autoencoding_asks_with_the_image_alone() -> None:
    samples = load_split(load_task("easy-vqa-autoencode"), "test")
    assert len(samples) == 888
    assert prompt("easy-vqa-autoencode", samples[0]).query == samples[0].images


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected 'test', 'train' or 'words'"):
        registry.build("reader", "shapes-draw", {"part": "validation"}, given=(HERE,))
    with pytest.raises(ConfigError):
        list(shapes_draw.read_names(HERE, concepts=25))
