"""A contact sheet: for each query of a run its prompt, its references and the images that were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from emu2eval.engine.prompting import Prompts
from emu2eval.engine.questions import Place
from emu2eval.engine.reopen import reopen
from emu2eval.errors import ConfigError, StoreError, printable
from emu2eval.media import images
from emu2eval.runs.answers import Answer
from emu2eval.runs.scored import Key
from emu2eval.runs.scores import SCORES, SampleScore, read_scores
from emu2eval.runs.store import RunStore
from emu2eval.types import Image, Part, Video

FORMATS = (".png", ".jpg", ".webp", ".pdf")
MOST = 48
_SMALL, _LARGE = 40, 96  # pixels of a side: of images in prompts, of results
_MIDDLE = 47  # of references, where there are several
_GAP, _LINE, _WIDTH, _CARD = 6, 16, 1200, 220
_INK, _FAINT, _RIGHT, _WRONG = "#202124", "#80868b", "#188038", "#c5221f"
_SHADE = "#f1f3f4"  # behind prompts
_LONGEST_WORD, _MOST_WORDS = 32, 80  # of a text in a prompt; the rest is an ellipsis


@dataclass(frozen=True, slots=True)
class _Item:
    """A text, or an image in a frame of a colour with lines below it. space: width and height taken."""

    content: str | PILImage.Image
    space: tuple[int, int]
    colour: str = _INK
    caption: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """What a card shows of a query, from top to bottom; made holds references and results."""

    id: str
    prompt: list[_Item]
    made: list[_Item]
    judged: bool


def draw(folder: Path, file: Path, most: int = MOST) -> int:
    """Writes the sheet of a run that gave images; returns how many queries it shows.

    most: queries, evenly spread over the run; of each, all its images. Where answers are right or wrong, a
    frame is green at a full score and red at less; else the numbers stand below the image. Raises
    ConfigError for a run without images or another ending.
    """
    if file.suffix not in FORMATS:
        raise ConfigError(f"a sheet can be written as {', '.join(FORMATS)}", where=file)
    reopened = reopen(folder, demonstrations=True)
    record, store, prompts = reopened.record, reopened.store, reopened.prompts
    assert prompts is not None
    with store:
        answers = {_key(answer): answer for answer in store.answers() if answer.images}
        if not answers:
            raise ConfigError(
                "this run has no generated images to show",
                where=folder,
                hint="tasks such as easy-vqa-draw produce runs with images",
            )
        entries = list(_entries(prompts, store, answers, most))
        cards = [_card(entry) for entry in entries]
    title = (
        f"{record.task.name} ({record.task.split}, {record.protocol_label}) · {record.shown} · "
        f"{record.setting} shots · {len(cards)} of {len(reopened.questions.positions)} queries"
    )
    page = _page(cards, printable(title), judged=any(entry.judged for entry in entries))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        page.save(file)
    except OSError as error:
        raise StoreError(f"cannot write the sheet ({error.strerror})", where=file) from None
    return len(cards)


def _entries(
    prompts: Prompts, store: RunStore, answers: Mapping[Key, Answer], most: int
) -> Iterator[_Entry]:
    """One a query: its prompt; its references and, on a new line (empty text), its results."""
    questions = prompts.questions
    scores = _scores(store.folder)
    positions = questions.asked
    if len(positions) > most:
        positions = [positions[i * len(positions) // most] for i in range(most)]
    for position in positions:
        prompted = prompts.at(Place(position))
        shown = [item for part in prompted.prompt.flat() for item in _shown(part)]
        items: list[_Item] = []
        sample = prompted.sample
        real = [reference for reference in sample.references if isinstance(reference, Image)]
        # Where there are several, they stand small in one line: the results are what is looked at.
        side = _LARGE if len(real) == 1 else _MIDDLE
        items += [
            _image(reference, side, _FAINT, "" if number else "reference")
            for number, reference in enumerate(real)
        ]
        if real:
            items.append(_text(""))
        for trial, take in product(range(questions.trials), range(questions.takes)):
            key = sample.id, trial, take
            if key not in answers:
                items.append(_text("no image"))
                continue
            colour, said = _judgement(scores.get(key))
            made = (store.image(digest) for digest in answers[key].images)
            items += [_image(image, _LARGE, colour, said) for image in made]
        judged = any(item.colour in (_RIGHT, _WRONG) for item in items)
        yield _Entry(sample.id, shown, items, judged)


def _judgement(score: SampleScore | None) -> tuple[str, str]:
    """The colour of a result's frame, and what stands below it."""
    if score is None or score.value is None:
        return _FAINT, (score.prediction if score is not None else None) or ""
    if score.prediction is not None:
        return (_RIGHT if score.value == 1 else _WRONG), score.prediction
    numbers = ((name, value) for name, value in score.details.items() if isinstance(value, float))
    return _INK, "\n".join(f"{name} {value:.2f}" for name, value in numbers)


def _scores(folder: Path) -> dict[Key, SampleScore]:
    """Of a run that was scored; a sheet shows others, too."""
    return (
        {score.key: score for score in read_scores(folder)} if (folder / SCORES).is_file() else {}
    )


def _key(answer: Answer) -> Key:
    return answer.id, answer.trial, answer.take


def _font() -> Any:
    return ImageFont.load_default(12)


def _shown(part: Part) -> Iterator[_Item]:
    if isinstance(part, str):
        # Word by word, so that a line can break anywhere between two.
        words = part.split()
        for word in [*words[:_MOST_WORDS], *(["…"] if len(words) > _MOST_WORDS else [])]:
            yield _text(_short(word, _LONGEST_WORD))
    elif isinstance(part, Video):
        for frame in part.frames:
            yield _image(frame, _SMALL, _FAINT)
    else:
        yield _image(part, _SMALL, _FAINT)


def _text(text: str) -> _Item:
    return _Item(text, (round(_font().getlength(text)), _LINE))


def _image(image: Image, side: int, colour: str, caption: str = "") -> _Item:
    pixels = images.load(image)
    pixels.thumbnail((side, side))
    if pixels.width < side and pixels.height < side:
        # Small images are shown pixel by pixel.
        times = min(side // pixels.width, side // pixels.height) or 1
        pixels = pixels.resize(
            (pixels.width * times, pixels.height * times), PILImage.Resampling.NEAREST
        )
    below = _LINE * len(caption.splitlines())
    return _Item(pixels, (side + 4, pixels.height + 4 + below), colour, caption)


def _short(text: str, most: int) -> str:
    text = printable(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _card(entry: _Entry) -> PILImage.Image:
    """The id, the prompt on a shade, and below it what was made."""
    prompt, made = _flow(entry.prompt, _CARD - 2 * _GAP), _flow(entry.made, _CARD)
    below = _LINE + _height(prompt) + 2 * _GAP
    card = PILImage.new("RGB", (_CARD, below + _GAP + _height(made)), "white")
    pen = ImageDraw.Draw(card)
    pen.text((0, 0), _short(entry.id, 34), fill=_FAINT, font=_font())
    pen.rectangle((0, _LINE, _CARD - 1, below - 1), fill=_SHADE)
    _put(card, pen, prompt, _GAP, _LINE + _GAP)
    _put(card, pen, made, 0, below + _GAP)
    return card


_Placed = list[tuple[int, int, _Item]]


def _flow(items: Sequence[_Item], wide: int) -> _Placed:
    """Where the items stand from left to right, in as many lines as they take; an empty text ends one."""
    placed: _Placed = []
    x = y = tall = 0
    for item in items:
        width, height = item.space
        if item.content == "" or (x and x + width > wide):
            x, y, tall = 0, y + tall + (_GAP if tall else 0), 0
        if item.content != "":
            placed.append((x, y, item))
            x, tall = x + width + 4, max(tall, height)
    return placed


def _height(placed: _Placed) -> int:
    return max((top + item.space[1] for _, top, item in placed), default=0)


def _put(card: PILImage.Image, pen: Any, placed: _Placed, right: int, down: int) -> None:
    for left, top, item in placed:
        x, y = left + right, top + down
        if isinstance(item.content, str):
            pen.text((x, y), item.content, fill=item.colour, font=_font())
            continue
        image = item.content
        edge = (x, y, x + image.width + 3, y + image.height + 3)
        pen.rectangle(edge, outline=item.colour, width=2)
        card.paste(image, (x + 2, y + 2))
        for number, line in enumerate(item.caption.splitlines()):
            at = (x, edge[3] + 1 + number * _LINE)
            pen.text(at, _short(line, 24), fill=item.colour, font=_font())


def _page(cards: Sequence[PILImage.Image], title: str, *, judged: bool) -> PILImage.Image:
    """The cards in rows under the title and a legend of what shade and frames mean."""
    across = _WIDTH // (_CARD + 2 * _GAP)
    rows = [cards[i : i + across] for i in range(0, len(cards), across)]
    heights = [max(card.height for card in row) + 3 * _GAP for row in rows]
    page = PILImage.new("RGB", (_WIDTH, sum(heights) + 3 * _LINE + 2 * _GAP), "white")
    pen = ImageDraw.Draw(page)
    pen.text((_GAP, _GAP), title, fill=_INK, font=_font())
    _legend(pen, judged)
    y = 3 * _LINE + _GAP
    for row, height in zip(rows, heights, strict=True):
        pen.line((_GAP, y - _GAP, _WIDTH - _GAP, y - _GAP), fill="#e8eaed")
        for column, card in enumerate(row):
            page.paste(card, (_GAP + column * (_CARD + 2 * _GAP), y))
        y += height
    return page


def _legend(pen: Any, judged: bool) -> None:
    keys = [("on grey: the prompt; below: references, then generated images", _SHADE, _SHADE)]
    keys += [("right", "white", _RIGHT), ("wrong", "white", _WRONG)] if judged else []
    x, y = _GAP, 2 * _LINE - _GAP // 2
    for text, fill, edge in keys:
        pen.rectangle((x, y + 1, x + 12, y + 13), fill=fill, outline=edge, width=2)
        pen.text((x + 18, y), text, fill=_INK, font=_font())
        x += 18 + round(_font().getlength(text)) + 3 * _GAP
