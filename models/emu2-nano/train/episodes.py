"""What the language model is trained on: episodes, each a few-shot prompt with every answer in it.

Their texts are those of the tasks' YAML files, token by token what the adapter makes of a Prompt.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from dataclasses import dataclass

import torch
from gallery import Gallery, Kind
from scenes import COLOUR_NAMES, SHAPES
from torch import Tensor

from emu2eval.adapters.emu2 import tokenizer as tokens
from emu2eval.adapters.emu2.tokenizer import Tokenizer
from emu2eval.data import easy_vqa
from emu2eval.data.easy_vqa import package_folder
from emu2eval.data.names import names
from emu2eval.spec.task import load_task

FIRST = 0.05  # weight of an answer that nothing before it could tell
PUBLISHED = 0.3  # share of real images where there are some


@dataclass(frozen=True)
class Item:
    """One image and its text. weight: of its answer in the loss; end: what stands before the next item.

    drawn: the text is first and the image is the reply; it is the place of the image to learn, which
    need not be the one that stands there.
    """

    scene: int
    ask: str
    answer: str = ""
    weight: float = 1.0
    drawn: int | None = None
    end: str = "."


@dataclass(frozen=True)
class Batch:
    """All (B, L). scene: of the latest image, -1 before the first; slot: visual token, -1 at text.

    target: the token that should come next, -1 where nothing is asked; weight: of it; paint: the
    visual token that should come next, -1 = none, of the image `painted`. first, second: at the tokens of
    an image that is a reply, the last two tokens of what it replies to, else -1.
    """

    ids: Tensor
    valid: Tensor
    scene: Tensor
    slot: Tensor
    target: Tensor
    weight: Tensor
    paint: Tensor
    painted: Tensor
    first: Tensor
    second: Tensor


class Pool:
    """Images by what they show. real, drawn: the places of easy-VQA's images and of drawn ones."""

    def __init__(self, gallery: Gallery, real: range, drawn: range = range(0)):
        self.real: defaultdict[Kind, list[int]] = defaultdict(list)
        self.drawn: defaultdict[Kind, list[int]] = defaultdict(list)
        for places, kind in ((real, self.real), (drawn, self.drawn)):
            for i in places:
                kind[gallery.kind(i)].append(i)
        self.pairs = sorted({*self.real, *self.drawn})
        self.common = [pair for pair in self.pairs if pair in self.real]
        self.unseen = sorted(gallery.ideal.keys() - set(self.pairs))
        self.gallery = gallery

    def scene(self, rng: random.Random, shape: str, colour: str) -> int:
        real, drawn = self.real.get((shape, colour)), self.drawn.get((shape, colour))
        if real and (not drawn or rng.random() < PUBLISHED):
            return rng.choice(real)
        return rng.choice(drawn or [])

    def any(self, rng: random.Random) -> Kind:
        """A shape and a colour; half of the time of easy-VQA's own."""
        return rng.choice(self.common if self.common and rng.random() < 0.6 else self.pairs)


class Author:
    """Writes episodes about a pool. kept: with the names that are kept for tests."""

    def __init__(self, pool: Pool, kept: bool = False):
        self.pool = pool
        self.names = names(kept=kept)
        self.plain = load_task("easy-vqa", protocol="plain").protocol
        self.emu2 = load_task("easy-vqa", protocol="emu2").protocol
        self.binding_ask = load_task("easy-vqa-binding").protocol.ask
        self.operator_ask = load_task("easy-vqa-operator").protocol.ask
        self.questions = question_templates()
        self._by_concept: dict[tuple[str, bool], dict[str, list[Kind]]] = {}

    def binding(
        self,
        rng: random.Random,
        items: int,
        concepts: int,
        aspect: str | None = None,
        published: bool = False,
    ) -> list[Item]:
        """Names for some shapes, colours or both; published: only those of easy-VQA."""
        aspect = aspect or rng.choice(("shape", "color", "shape", "color", "object"))
        by_concept = self._concepts(aspect, published)
        chosen = rng.sample([*by_concept], min(concepts, len(by_concept)))
        called = dict(zip(chosen, rng.sample(self.names, len(chosen)), strict=True))
        seen: set[str] = set()
        episode = []
        ask = self.binding_ask.format(image="", aspect=aspect)
        for number in range(items):
            concept = rng.choice(chosen)
            scene = self.pool.scene(rng, *rng.choice(by_concept[concept]))
            weight = 1.0 if concept in seen else FIRST
            if number + 1 == items and concept not in seen and seen:
                concept = rng.choice(sorted(seen))
                scene, weight = self.pool.scene(rng, *rng.choice(by_concept[concept])), 1.0
            seen.add(concept)
            episode.append(Item(scene, ask, called[concept], weight))
        return episode

    def _concepts(self, aspect: str, published: bool) -> dict[str, list[Kind]]:
        """Every concept of the aspect with the pairs of shape and colour that show it."""
        known = self._by_concept.get((aspect, published))
        if known is None:
            known = {}
            for shape, colour in self.pool.common if published else self.pool.pairs:
                concept = {"shape": shape, "color": colour}.get(aspect, f"{colour} {shape}")
                known.setdefault(concept, []).append((shape, colour))
            self._by_concept[aspect, published] = known
        return known

    def asked(self, rng: random.Random, items: int, negated: float = 0.5) -> list[Item]:
        """Questions in easy-VQA's words, mostly in the paper's protocol.

        negated: how many of those for yes and no hold a "not"; half of easy-VQA's do.
        """
        protocol = self.plain if rng.random() < 0.15 else self.emu2
        ask = protocol.zero_shot.ask if items == 1 and protocol.zero_shot.ask else protocol.ask
        episode = []
        for _ in range(items):
            shape, colour = self.pool.any(rng)
            question, answer = self.question(rng, shape, colour, negated)
            text = ask.format(image="", question=question)
            # White space beside an image is dropped by the tokenizer.
            end = protocol.separator.strip()
            episode.append(Item(self.pool.scene(rng, shape, colour), text, answer, end=end))
        return episode

    def question(
        self, rng: random.Random, shape: str, colour: str, negated: float
    ) -> tuple[str, str]:
        turned = rng.random() < negated
        while True:
            template = rng.choice(self.questions[rng.random() < 0.65])
            words = re.findall("[a-z]+", template)
            no = "no" in words or "not" in words
            if words[0] == "what" or no == turned:
                break
        if words[0] == "what":
            text = template.format(shape=shape, color=colour)
            return text, colour if "color" in words[:4] and "{color}" not in template else shape
        present = rng.random() < 0.5
        shapes, colours = (
            (SHAPES[:3], COLOUR_NAMES[:8]) if rng.random() < 0.7 else (SHAPES, COLOUR_NAMES)
        )
        said_shape = shape if present else rng.choice([s for s in shapes if s != shape])
        said_colour = colour if present else rng.choice([c for c in colours if c != colour])
        text = template.format(shape=said_shape, color=said_colour)
        return text, "yes" if present != no else "no"

    def operator(self, rng: random.Random, items: int) -> list[Item]:
        """One of four rules for all images; the prompt does not say which."""
        rule = rng.choice(RULES)
        ask = self.operator_ask.format(image="")
        episode = []
        for number in range(items):
            shape, colour = self.pool.any(rng)
            answer = rule.format(shape=shape, color=colour)
            scene = self.pool.scene(rng, shape, colour)
            episode.append(Item(scene, ask, answer, 1.0 if number else FIRST))
        return episode

    def drawing(
        self, rng: random.Random, items: int, asked: Kind | None = None, new: float = 0.0
    ) -> list[Item]:
        """Descriptions, each answered by an image. asked: what the last one describes, if it is fixed.

        new: how many of the last ones describe what the pool has no image of.
        """
        episode = []
        for number in range(items):
            last = number + 1 == items
            kind = asked if last and asked else self.pool.any(rng)
            if last and rng.random() < new:
                kind = rng.choice(self.pool.unseen)
            ideal = self.pool.gallery.ideal[kind]
            scene = ideal if last else self.pool.scene(rng, *kind)
            episode.append(Item(scene, f"a {kind[1]} {kind[0]}", drawn=ideal))
        return episode

    def drawing_names(
        self, rng: random.Random, items: int, concepts: int, published: bool = False
    ) -> list[Item]:
        """Names for shape and colour together, each item a name answered by its image."""
        bound = self.binding(rng, items, concepts, "object", published)
        episode = []
        for number, item in enumerate(bound):
            ideal = self.pool.gallery.ideal[self.pool.gallery.kind(item.scene)]
            scene = ideal if number + 1 == items else item.scene
            episode.append(Item(scene, f"a {item.answer}", weight=item.weight, drawn=ideal))
        return episode


RULES = ("{color}", "{shape}", "{color} {shape}", "{shape} {color}")


def question_templates() -> dict[bool, list[str]]:
    """easy-VQA's own questions with {shape} and {color} in place; True: those for yes and no."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for sample in easy_vqa.read(package_folder(), "train"):
        text = sample.fields["question"]
        for names_, field in ((easy_vqa.SHAPES, "{shape}"), (easy_vqa.COLOURS, "{color}")):
            text = re.sub(rf"\b({'|'.join(names_)})\b", field, text)
        found[sample.answer in ("yes", "no")].add(text)
    return {kind: sorted(texts) for kind, texts in found.items()}


_NONE = (-1, -1, -1, -1)
"""No image to paint and no words that it replies to."""


class Writer:
    """Episodes as token ids, laid out as the adapter lays out a Prompt."""

    def __init__(self, tokenizer: Tokenizer, n_query: int):
        self.tokenizer = tokenizer
        self.n_query = n_query
        self._known: dict[str, list[int]] = {}

    def batch(self, episodes: list[list[Item]]) -> Batch:
        rows = [self._row(episode) for episode in episodes]
        longest = max(len(row) for row in rows)
        blank = (0, False, -1, -1, -1, 0.0, -1, -1, -1, -1)
        padded = [row + [blank] * (longest - len(row)) for row in rows]
        count = len(blank)
        columns = [
            torch.tensor([[place[c] for place in row] for row in padded]) for c in range(count)
        ]
        return Batch(*columns)

    def _row(self, episode: list[Item]) -> list[tuple[object, ...]]:
        row: list[tuple[object, ...]] = [(tokens.BOS, True, -1, -1, -1, 0.0, *_NONE)]
        latest = -1
        for number, item in enumerate(episode):
            more = number + 1 < len(episode)
            if item.drawn is not None:
                for i in self._ids(item.ask):
                    row.append((i, True, latest, -1, -1, 0.0, *_NONE))
                row += self._image(item)
                latest = item.scene
                continue
            row += self._image(item)
            latest = item.scene
            full = f"{item.ask} {item.answer}"
            asked, answered = self._ids(item.ask), self._ids(full)
            text = self._ids(full + item.end) if more else answered
            if answered[: len(asked)] != asked or text[: len(answered)] != answered:
                raise ValueError(f"{full!r} is not read word by word")
            for place, i in enumerate(text):
                # Every answer ends, though another item follows: each is trained as if it were the query.
                following = answered[place + 1] if place + 1 < len(answered) else tokens.EOS
                wanted = len(asked) - 1 <= place < len(answered)
                row.append(
                    (
                        *(i, True, latest, -1, following if wanted else -1),
                        *(item.weight if wanted else 0.0, *_NONE),
                    )
                )
        return row

    def _image(self, item: Item) -> list[tuple[object, ...]]:
        ids = self.tokenizer.ids
        painted = item.drawn is not None
        weight, wanted = (item.weight, item.drawn) if painted else (0.0, -1)
        # What follows the first token of another image is not the image to learn.
        most = (self.n_query if item.scene == item.drawn else 1) if painted else 0
        asked = tuple(self._ids(item.ask)[-2:]) if painted else (-1, -1)
        places: list[tuple[object, ...]] = []
        for t in range(-1, self.n_query):
            i = ids[tokens.IMAGE] if t >= 0 else ids[tokens.BOI]
            following = t + 1 if t + 1 < most else -1
            # The image that is being drawn is not to be told by the probe.
            scene, named = (item.scene, asked) if t >= 0 else (-1, (-1, -1))
            places.append((i, True, scene, t, -1, weight, following, wanted, *named))
        places.append((ids[tokens.EOI], True, item.scene, -1, -1, 0.0, -1, -1, *asked))
        return places

    def _ids(self, text: str) -> list[int]:
        text = text.strip()
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = self.tokenizer.encode(text)[1:]
        return found
