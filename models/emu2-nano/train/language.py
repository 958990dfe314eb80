"""Stages 2 to 4: the decoder learns to match images in context, to answer questions and to draw."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import torch
from episodes import Author, Batch, Item, Writer
from gallery import Gallery, Kind
from loop import Stage, Workspace, run
from scenes import COLOUR_NAMES, HELD_OUT, SHAPES
from torch import Tensor, nn
from torch.nn import functional as F

from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.tokenizer import Tokenizer

BATCH = 32
PROBE = 0.5
PAINT = 2.0

Episodes = Callable[[random.Random], list[Item]]


class Reader(nn.Module):
    """The decoder and its bridges, with a probe that is thrown away after training.

    The probe reads shape and colour of the latest image from the output of the first decoder layer,
    linearly, at every text token. It is what makes matching appear: with what an image shows at hand
    beside every name, the second layer has only to compare. Without it training stays on a plateau.
    A second one reads, from the second layer at each word for a shape or colour, whether the latest
    image shows it: yes and no stay at even odds without. A third one reads, from the second layer where
    an image is to be drawn, its shape and colour: the name has to be looked up by then. For that a fourth
    one reads, from the first layer at an image that is a reply, the words that it replies to.
    """

    def __init__(self, model: Emu2, gallery: Gallery, shift: float, tokenizer: Tokenizer):
        super().__init__()
        self.decoder = model.decoder
        self.project_up, self.project_down = model.project_up, model.project_down
        self.sizes = (len(SHAPES), len(COLOUR_NAMES))
        self.probe = nn.Linear(model.config.decoder.hidden_size, sum(self.sizes))
        self.match = nn.Linear(model.config.decoder.hidden_size, 1)
        self.asked = nn.ModuleList(
            nn.Linear(model.config.decoder.hidden_size, tokenizer.size) for _ in range(2)
        )
        self.plan = nn.Linear(model.config.decoder.hidden_size, sum(self.sizes))
        self._model = [model]  # in a list, so that the vision tower is not among the parameters
        self.gallery = gallery
        self.shift = shift
        self.words = [
            torch.tensor([tokenizer.encode(word)[1] for word in words])
            for words in (SHAPES, COLOUR_NAMES)
        ]
        self._outputs: list[Tensor] = []
        for layer in self.decoder.lm.model.layers[:2]:
            layer.register_forward_hook(lambda module, inputs, output: self._outputs.append(output))

    def forward(self, batch: Batch, shown: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states (B, L, hidden) at the end, after the first layer and after the second.

        shown: (B, L, width), the visual embeddings in place of the gallery's.
        """
        model = self._model[0]
        slots = batch.slot >= 0
        visual = self._shown(batch)[slots] if shown is None else shown[slots]
        if self.training and self.shift:
            # Unseen images are never encoded as sharply as those that the tower was trained on.
            visual = visual + self.shift * torch.randn_like(visual)
        embeds = model.embed(batch.ids, slots, visual)
        self._outputs.clear()
        hidden = model.read(embeds, batch.valid)
        first, second = self._outputs
        return hidden, first, second

    def _shown(self, batch: Batch) -> Tensor:
        return self.gallery.features[batch.scene.clamp(min=0), batch.slot.clamp(min=0)]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """answer: weighted cross-entropy; probe: of shape and colour; paint: MSE over the variance."""
        hidden, first, second = self(batch)
        found: dict[str, Tensor] = {}
        asked = batch.target >= 0
        if asked.any():
            logits = self.decoder.lm.lm_head(hidden[asked])
            each = F.cross_entropy(logits, batch.target[asked], reduction="none")
            weight = batch.weight[asked]
            found["answer"] = (each * weight).sum() / weight.sum()
        told = batch.valid & (batch.scene >= 0) & (batch.slot < 0)
        shape, colour = self.probe(first[told]).split(self.sizes, -1)
        scene = batch.scene[told]
        found["probe"] = F.cross_entropy(shape, self.gallery.shape[scene]) + F.cross_entropy(
            colour, self.gallery.colour[scene]
        )
        for words, shown in zip(self.words, (self.gallery.shape, self.gallery.colour), strict=True):
            said = (batch.ids[..., None] == words) & (batch.valid & (batch.scene >= 0))[..., None]
            row, place, word = said.nonzero(as_tuple=True)
            if len(row):
                read = self.match(second[row, place])[:, 0]
                true = (shown[batch.scene[row, place]] == word).float()
                loss = F.binary_cross_entropy_with_logits(read, true)
                found["match"] = found.get("match", torch.zeros(())) + loss
        drawn = batch.paint >= 0
        if drawn.any():
            wanted = self.gallery.features[batch.painted[drawn], batch.paint[drawn]]
            each = (self.project_down(hidden[drawn]) - wanted).square().mean(-1)
            weight = batch.weight[drawn]
            found["paint"] = (each * weight).sum() / weight.sum()
            starts = batch.paint == 0
            shape, colour = self.plan(second[starts]).split(self.sizes, -1)
            wanted = batch.painted[starts]
            each = F.cross_entropy(shape, self.gallery.shape[wanted], reduction="none")
            each = each + F.cross_entropy(colour, self.gallery.colour[wanted], reduction="none")
            weight = batch.weight[starts]
            found["plan"] = (each * weight).sum() / weight.sum()
            replied = batch.first >= 0
            found["asked"] = torch.zeros(())
            for read, word in zip(self.asked, (batch.first, batch.second), strict=True):
                loss = F.cross_entropy(read(first[replied]), word[replied])
                found["asked"] = found["asked"] + loss
        return found

    @torch.no_grad()
    def right(self, batch: Batch) -> Tensor:
        """(B,): whether every token of the last answer is the likeliest one, its end included."""
        self.eval()
        hidden, _, _ = self(batch)
        self.train()
        correct = torch.ones(len(batch.ids), dtype=torch.bool)
        best = self.decoder.lm.lm_head(hidden).argmax(-1)
        for row in range(len(correct)):
            places = (batch.target[row] >= 0).nonzero()[:, 0]
            # The tokens of the last answer follow each other without a gap.
            start = len(places) - 1
            while start and places[start - 1] == places[start] - 1:
                start -= 1
            last = places[start:]
            correct[row] = (best[row, last] == batch.target[row, last]).all()
        return correct

    @torch.no_grad()
    def drawn(self, batch: Batch) -> Tensor:
        """(B,): whether the last image of each row, regressed token by token, is nearest to the ideal of
        its own kind of all kinds."""
        self.eval()
        rows = torch.arange(len(batch.ids))[:, None]
        count = self._model[0].config.n_query
        before = torch.stack([(row >= 0).nonzero()[-count:, 0] for row in batch.paint])
        shown = self._shown(batch)
        for t in range(count):
            hidden, _, _ = self(batch, shown)
            place = before[:, t : t + 1]
            shown[rows, place + 1] = self.project_down(hidden[rows, place])
        self.train()
        ideals = torch.tensor(sorted(self.gallery.ideal.values()))
        told = shown[rows, before + 1].flatten(1)
        off = torch.cdist(told, self.gallery.features[ideals].flatten(1))
        return ideals[off.argmin(1)] == batch.painted[rows[:, 0], before[:, 0]]


def focus(author: Author) -> Callable[[int], Episodes]:
    """Binding alone, two or three concepts among seven items."""

    def at(step: int) -> Episodes:
        return lambda rng: author.binding(
            rng, 7, rng.choice((2, 3)), rng.choice(("shape", "color"))
        )

    return at


def mixture(
    author: Author, turns: str, negated: Callable[[int], float], new: float = 0.0
) -> Callable[[int], Episodes]:
    """Kinds of episodes in turn, one a step: b binding, q questions, o operators, g drawing from words,
    n drawing from names. negated: step -> how many of the questions for yes and no hold a "not"; new: see
    `Author.drawing`.
    """

    def binding(rng: random.Random, items: int) -> list[Item]:
        return author.binding(
            rng, items, rng.choice((2, 3, 3, 4, 5, 6)), published=rng.random() < 0.4
        )

    def at(step: int) -> Episodes:
        # One length a batch, so that little is lost to padding.
        own = random.Random(step)
        few = own.choice((1, 1, 3, 5, 5, 9, 9, 13, 17))
        many = own.choice((6, 9, 9, 13, 17))
        if own.random() < 0.1:
            many = own.choice((2, 3, 4, 5))
        match turns[step % len(turns)]:
            case "b":
                return lambda rng: binding(rng, many)
            case "q":
                return lambda rng: author.asked(rng, few, negated(step))
            case "o":
                return lambda rng: author.operator(rng, own.choice((5, 9)))
            case "g":
                items = own.choice((1, 1, 1, 3, 5))
                return lambda rng: author.drawing(rng, items, new=new)
            case _:
                items, concepts = own.choice((3, 5, 7, 9)), own.choice((1, 2, 3, 3))
                return lambda rng: author.drawing_names(rng, items, concepts, rng.random() < 0.5)

    return at


def train(
    reader: Reader,
    writer: Writer,
    stage: Stage,
    episodes: Callable[[int], Episodes],
    check: Mapping[str, Batch],
    work: Workspace,
    probe: float = PROBE,
) -> None:
    """One stage. check: named episodes about images that are not trained on."""

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        rng = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
        write = episodes(step)
        batch = writer.batch([write(rng) for _ in range(BATCH)])
        torch.manual_seed(rng.randrange(2**62))
        found = reader.losses(batch)
        none = torch.zeros(())
        probes = [found.get(name, none) for name in ("probe", "match", "plan", "asked")]
        total = probe * torch.stack(probes).sum() + found.get("answer", none)
        total = total + PAINT * found.get("paint", none)
        return total, {name: value.item() for name, value in found.items()}

    def look(step: int) -> Mapping[str, float]:
        return {
            name: (reader.drawn if name.startswith("draw") else reader.right)(batch)
            .float()
            .mean()
            .item()
            for name, batch in check.items()
        }

    run(stage, reader, loss, work, look)


def checks(author: Author, writer: Writer, count: int) -> dict[str, Batch]:
    """Episodes of a fixed seed for `Reader.right`: kept names and images of the validation part."""
    rng = random.Random("checks")

    def many(write: Episodes, number: int = count) -> Batch:
        return writer.batch([write(rng) for _ in range(number)])

    def words(kinds: list[Kind]) -> Batch:
        return writer.batch([author.drawing(rng, 1, kind) for kind in kinds])

    seen = [kind for kind in author.pool.common if kind[0] in SHAPES[:3]]
    return {
        "questions_0": many(lambda r: author.asked(r, 1), 2 * count),
        "questions_4": many(lambda r: author.asked(r, 5)),
        "colours_8": many(lambda r: author.binding(r, 9, 3, "color", published=True)),
        "shapes_8": many(lambda r: author.binding(r, 9, 3, "shape", published=True)),
        "shapes_16": many(lambda r: author.binding(r, 17, 3, "shape", published=True)),
        "operator_4": many(lambda r: author.operator(r, 5)),
        "draw_words": words(seen),
        "draw_held_out": words(sorted(HELD_OUT)),
        "draw_name_4": many(lambda r: author.drawing_names(r, 5, 1, published=True)),
        "draw_names_6": many(lambda r: author.drawing_names(r, 7, 3, published=True)),
    }
