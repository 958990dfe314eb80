"""SEED-Bench, version 1 (Li et al., 2023): four choices about images (CC3M) and videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from emu2eval.data.damaged import spared
from emu2eval.data.jsonfile import parse
from emu2eval.data.names import occurrence
from emu2eval.data.options import check_letter, option_fields
from emu2eval.data.paths import inside
from emu2eval.errors import DataError
from emu2eval.spec.settings import Count
from emu2eval.types import Image, Sample, Segment, Video


class _Question(msgspec.Struct, gc=False):
    answer: str
    choice_a: str
    choice_b: str
    choice_c: str
    choice_d: str
    data_id: str
    data_type: str
    question: str
    question_id: str | int
    question_type_id: int
    segment: list[float] | None = None


class _File(msgspec.Struct):
    questions: list[_Question]
    question_type: dict[str, int] = {}


# In dimension 11 segments are in seconds, in 12 in frames: Breakfast has 15 a second.
_IN_FRAMES = {11: False, 12: True}


def read(
    root: Path,
    file: str,
    images: str,
    videos: Mapping[int | str, str],
    frames: Count = 16,
    only: Literal["image", "video"] | None = None,
    repeated: Sequence[str | int] = (),
) -> Iterator[Sample]:
    """The questions of SEED-Bench, those of type `only` (image or video) where it is given.

    repeated: ids that the published file is known to hold more than once; the second is named 49914#2.

    images: a folder whose files are named by `data_id`, without an ending. videos: dimension ->
    folder. A video is `frames` frames evenly spread over it, or over its segment: seconds in
    dimension 11, frames in dimension 12. Choices are the contents of the options, references their
    letter. Groups: data_type and dimension.
    file: the questions; frames: of each video; only: image or video, absent = both.
    """
    path = inside(root, file, where="file")
    listed = parse(path, _File)
    names = {number: name for name, number in listed.question_type.items()}
    folders = {
        int(number): inside(root, folder, where="videos") for number, folder in videos.items()
    }
    shown_from = inside(root, images, where="images")
    known = {sample_id(each) for each in repeated}
    met: Counter[str] = Counter()

    def shown(question: _Question, where: str) -> Image | Video:
        if question.data_type == "image":
            return Image(str(inside(shown_from, question.data_id, where=where)))
        if question.data_type != "video":
            raise DataError(f"the data type is {question.data_type!r}", where=where)
        if question.question_type_id not in folders:
            raise DataError(
                f"no folder is given for the videos of dimension {question.question_type_id}",
                where=where,
                hint="name it in the task file under data.options.videos",
            )
        video = inside(folders[question.question_type_id], question.data_id, where=where)
        return Video.sampled(str(video), frames, _segment(question, where))

    def sample(question: _Question, name: str) -> Sample:
        where = f"{path}, question {question.question_id}"
        dimension = names.get(question.question_type_id, str(question.question_type_id))
        return _sample(question, name, shown(question, where), dimension, where)

    for question in listed.questions:
        name = sample_id(question.question_id)
        if name in known:
            met[name] += 1
            name = occurrence(name, met[name])
        # Repeats are counted before anything is left out, so that a name is the same in every split.
        if only is None or question.data_type == only:
            yield spared(name, partial(sample, question, name))


def _sample(
    question: _Question, name: str, shown: Image | Video, dimension: str, where: str
) -> Sample:
    options = (question.choice_a, question.choice_b, question.choice_c, question.choice_d)
    check_letter(question.answer, options, where=where)
    return Sample(
        id=name,
        fields={"question": question.question, **option_fields(options)},
        images=(shown,),
        answer=question.answer,
        references=(question.answer,),
        choices=options,
        cluster=question.data_id,
        groups={"data_type": question.data_type, "dimension": dimension},
    )


def _segment(question: _Question, where: str) -> Segment | None:
    """The part of the video that is asked about; None = all of it, as in dimension 10."""
    if question.segment is None:
        return None
    if len(question.segment) != 2 or not 0 <= question.segment[0] < question.segment[1]:
        raise DataError(f"the segment {question.segment} is not a start and an end", where=where)
    in_frames = _IN_FRAMES.get(question.question_type_id)
    if in_frames is None:
        raise DataError(
            f"dimension {question.question_type_id} should not have segments, but this question does",
            where=where,
        )
    start, end = question.segment
    return Segment(start, end, in_frames)


def sample_id(question_id: str | int) -> str:
    """One name for an id, whether a file writes it as a number or as text; videos' are like `v1738`.

    >>> sample_id("101669") == sample_id(101669), sample_id("v1738")
    (True, 'v1738')
    """
    try:
        return str(int(question_id))
    except ValueError:
        return str(question_id)
