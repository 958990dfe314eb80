"""MSVD-QA and MSRVTT-QA (Xu et al., 2017): questions made from captions of short videos."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import msgspec

from emu2eval.data.damaged import spared
from emu2eval.data.jsonfile import parse
from emu2eval.data.paths import folder, inside
from emu2eval.data.textfile import read_text
from emu2eval.errors import DataError
from emu2eval.spec.settings import Count
from emu2eval.types import Sample, Video

_TYPES = ("what", "who", "how", "when", "where")


class _Row(msgspec.Struct, gc=False):
    id: int
    question: str
    answer: str
    video_id: int
    category_id: int | None = None


def read(
    root: Path,
    file: str,
    videos: str,
    video_name: str,
    frames: Count = 16,
    names: str | None = None,
    references: bool = True,
) -> Iterator[Sample]:
    """The official rows of MSVD-QA and MSRVTT-QA, each with `frames` frames evenly spread over its video.

    No video is opened here. video_name: such as `video{video_id}.mp4`, below the folder `videos`.
    names: a text file with lines `NAME vidN`, for videos that still have the names of their first source,
    {name} in video_name. Groups: question_type (its first word) and, where there is one, category.
    file: the questions; videos: the folder of the videos; frames: of each video; references: False keeps
    only the answers shown.
    """
    shown_from = folder(root, videos, where="videos")
    path = inside(root, file, where="file")
    first = _first_names(inside(root, names, where="names")) if names is not None else {}

    @cache
    def video(number: int) -> Video:
        if names is not None and number not in first:
            raise DataError(f"no line for vid{number}", where=root / names)
        name = video_name.format(video_id=number, name=first.get(number))
        return Video.sampled(str(inside(shown_from, name, where=str(path))), frames)

    def sample(row: _Row) -> Sample:
        word = row.question.split(maxsplit=1)[0].lower() if row.question.strip() else ""
        groups = {"question_type": word if word in _TYPES else "other"}
        if row.category_id is not None:
            groups["category"] = str(row.category_id)
        return Sample(
            id=str(row.id),
            fields={"question": row.question},
            images=(video(row.video_id),),
            answer=row.answer,
            references=(row.answer,) if references else (),
            cluster=str(row.video_id),
            groups=groups if references else {},
        )

    for row in parse(path, list[_Row]):
        yield spared(str(row.id), partial(sample, row))


def _first_names(path: Path) -> dict[int, str]:
    """Number -> name, of lines such as `-4wsuPCjDBc_5_15 vid1`."""
    found = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        digits = words[-1].removeprefix("vid") if words else ""
        if words and not (len(words) == 2 and digits.isdecimal()):
            raise DataError(f"the line {line!r} is not `NAME vidN`", where=f"{path}:{number}")
        if words:
            found[int(digits)] = words[0]
    return found
