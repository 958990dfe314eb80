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
from emu2eval.errors import ConfigError, StoreError
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


@dataclass(frozen=True, slots=True)
class _Item:
    """A text, or an image in a frame of a colour with lines below it. space: width and height taken."""

    content: str | PILImage.Image
    space: tuple[int, int]
    colour: str = _INK
    caption: str = ""


def draw(folder: Path, file: Path, most: int = MOST) -> int:
    """Writes the sheet of a run that gave images; returns how many queries it shows.

    most: queries, evenly spread over the run; of each, all its images. Where answers are right or wrong, a
    frame is green at a full score and red at less; else the numbers stand below the image. Raises
    ConfigError for a run without images or another ending.
    """
    if file.suffix not in FORMATS:
        raise ConfigError(f"a sheet is written as {', '.join(FORMATS)}", where=file)
    reopened = reopen(folder, demonstrations=True)
    record, store, prompts = reopened.record, reopened.store, reopened.prompts
    assert prompts is not None
    with store:
        answers = {_key(answer): answer for answer in store.answers() if answer.images}
        if not answers:
            raise ConfigError(
                "this run holds no images, and a sheet shows images",
                where=folder,
                hint="runs with images come from tasks such as easy-vqa-draw",
            )
        cards = [_card(items) for items in _entries(prompts, store, answers, most)]
    title = (
        f"{record.task.name} ({record.task.split}, {record.protocol_label}) · {record.model.name} · "
        f"{record.setting} shots · {len(cards)} of {len(reopened.questions.positions)} queries"
    )
    page = _page(cards, title)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        page.save(file)
    except OSError as error:
        raise StoreError(f"the sheet cannot be written ({error.strerror})", where=file) from None
    return len(cards)


def _entries(
    prompts: Prompts, store: RunStore, answers: Mapping[Key, Answer], most: int
) -> Iterator[list[_Item]]:
    """One list of items a query: the prompt, a line break (empty text), references, results."""
    questions = prompts.questions
    scores = _scores(store.folder)
    positions = questions.asked
    if len(positions) > most:
        positions = [positions[i * len(positions) // most] for i in range(most)]
    for position in positions:
        prompted = prompts.at(Place(position))
        items = [item for part in prompted.prompt.flat() for item in _shown(part)]
        items.append(_text(""))
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
        yield items


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
        for word in part.split():
            yield _text(word)
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


def _card(items: Sequence[_Item]) -> PILImage.Image:
    """The items from left to right, in as many lines as they take."""
    placed: list[tuple[int, int, _Item]] = []
    x = y = tall = 0
    for item in items:
        width, height = item.space
        if item.content == "" or (x and x + width > _CARD):
            x, y, tall = 0, y + tall + (_GAP if tall else 0), 0
        if item.content != "":
            placed.append((x, y, item))
            x, tall = x + width + 4, max(tall, height)
    card = PILImage.new("RGB", (_CARD, y + tall), "white")
    pen = ImageDraw.Draw(card)
    for left, top, item in placed:
        if isinstance(item.content, str):
            pen.text((left, top), item.content, fill=item.colour, font=_font())
            continue
        image = item.content
        edge = (left, top, left + image.width + 3, top + image.height + 3)
        pen.rectangle(edge, outline=item.colour, width=2)
        card.paste(image, (left + 2, top + 2))
        for number, line in enumerate(item.caption.splitlines()):
            at = (left, edge[3] + 1 + number * _LINE)
            pen.text(at, line[:24], fill=item.colour, font=_font())
    return card


def _page(cards: Sequence[PILImage.Image], title: str) -> PILImage.Image:
    across = _WIDTH // (_CARD + 2 * _GAP)
    rows = [cards[i : i + across] for i in range(0, len(cards), across)]
    heights = [max(card.height for card in row) + 3 * _GAP for row in rows]
    page = PILImage.new("RGB", (_WIDTH, sum(heights) + 2 * _LINE + _GAP), "white")
    pen = ImageDraw.Draw(page)
    pen.text((_GAP, _GAP), title, fill=_INK, font=_font())
    y = 2 * _LINE
    for row, height in zip(rows, heights, strict=True):
        pen.line((_GAP, y - _GAP, _WIDTH - _GAP, y - _GAP), fill="#e8eaed")
        for column, card in enumerate(row):
            page.paste(card, (_GAP + column * (_CARD + 2 * _GAP), y))
        y += height
    return page
