"""The file format of VQA v2 (Goyal et al., 2017) and OK-VQA: questions, annotations, COCO images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from emu2eval.data.jsonfile import parse, part
from emu2eval.data.paths import folder, inside
from emu2eval.errors import DataError
from emu2eval.types import Image, Sample


class _Question(msgspec.Struct, gc=False):
    image_id: int
    question: str
    question_id: int


class _Questions(msgspec.Struct):
    questions: list[_Question]


class _Answer(msgspec.Struct, gc=False):
    answer: str
    raw_answer: str | None = None


class _Annotation(msgspec.Struct, gc=False):
    question_id: int
    image_id: int
    answers: list[_Answer]
    question_type: str = ""
    answer_type: str = ""
    multiple_choice_answer: str | None = None


class _Known(msgspec.Struct, gc=False):
    question_id: int


class _Annotations(msgspec.Struct):
    # Left as the bytes they are until their question comes: ten answers each as objects are 1 GB in VQAv2.
    annotations: list[msgspec.Raw]
    question_types: dict[str, str] = {}


def read(
    root: Path,
    questions: str,
    images: str,
    image_name: str,
    annotations: str | None = None,
    references: bool = True,
) -> Iterator[Sample]:
    """The official files of VQAv2 and OK-VQA; ids are the question ids.

    images: folder of the images; image_name: their names, such as
    `COCO_val2014_{image_id:012d}.jpg`. annotations: absent for a hidden test split.
    references: False keeps only the answer shown as a demonstration, to save memory in a pool.
    The answer shown is `multiple_choice_answer`, the most common of the ten (ties: the first). The field
    first_answer holds the first annotator's as the file's `answer` has it, which in OK-VQA is stemmed; that
    is what OpenFlamingo shows. OK-VQA's answers as they were typed are the alternative references "raw".
    questions: the file of the questions.
    """
    shown_from = folder(root, images, where="images")
    question_path = inside(root, questions, where="questions")
    answers: dict[int, msgspec.Raw] = {}
    annotation_path = None
    types: dict[str, str] = {}
    if annotations is not None:
        annotation_path = inside(root, annotations, where="annotations")
        file = parse(annotation_path, _Annotations)
        types = file.question_types
        for number, raw in enumerate(file.annotations):
            where = partial("$.annotations[{}]".format, number)
            answers[part(raw, _Known, annotation_path, where).question_id] = raw
        del file
    listed = parse(question_path, _Questions).questions
    for question in listed:
        raw_found = answers.pop(question.question_id, None)
        found = None
        if raw_found is not None and annotation_path is not None:
            where = partial(_place, annotation_path, question.question_id)
            found = part(raw_found, _Annotation, annotation_path, where)
        if annotation_path is not None and found is None:
            raise DataError(
                f"question {question.question_id} has no annotation",
                where=annotation_path,
                hint="question and annotation files must be of the same split and version",
            )
        if found is not None and found.image_id != question.image_id:
            raise DataError(
                f"question {question.question_id} is about image {question.image_id}, "
                f"its annotation about {found.image_id}",
                where=annotation_path,
            )
        scored = found if references else None
        yield Sample(
            id=str(question.question_id),
            fields={"question": question.question, **_first(found)},
            images=(Image(f"{shown_from}/{image_name.format(image_id=question.image_id)}"),),
            answer=_shown(found) if found else None,
            references=tuple(a.answer for a in scored.answers) if scored else (),
            cluster=str(question.image_id),
            groups=_groups(scored, types) if scored else {},
            alternatives=_raw(scored) if scored else {},
        )
    if answers:
        raise DataError(
            f"{len(answers)} annotations have no question, the first is {next(iter(answers))}",
            where=annotation_path,
            hint="question and annotation files must be of the same split and version",
        )


def _place(path: Path, question_id: int) -> str:
    """Where the annotation of a question stands in the file."""
    for number, raw in enumerate(parse(path, _Annotations).annotations):
        if msgspec.json.decode(raw, type=_Known).question_id == question_id:
            return f"$.annotations[{number}]"
    return "$.annotations"


def _groups(annotation: _Annotation, types: Mapping[str, str]) -> dict[str, str]:
    groups = {
        "answer_type": annotation.answer_type,
        # OK-VQA's file says what its types "one", "two" … are.
        "question_type": types.get(annotation.question_type, annotation.question_type),
    }
    return {name: value for name, value in groups.items() if value}


def _shown(annotation: _Annotation) -> str:
    if annotation.multiple_choice_answer is not None:
        return annotation.multiple_choice_answer
    return most_common(_typed(annotation))


def _first(annotation: _Annotation | None) -> dict[str, str]:
    if annotation is None or not annotation.answers:
        return {}
    return {"first_answer": annotation.answers[0].answer}


def _raw(annotation: _Annotation) -> dict[str, tuple[str, ...]]:
    stemmed = any(a.raw_answer is not None for a in annotation.answers)
    return {"raw": tuple(_typed(annotation))} if stemmed else {}


def _typed(annotation: _Annotation) -> list[str]:
    return [a.answer if a.raw_answer is None else a.raw_answer for a in annotation.answers]


def most_common(answers: Sequence[str]) -> str:
    """The answer that most annotators gave (ties: the first), blanks at its ends aside; "" of none.

    >>> most_common(["nokia", "lumia", "lumia ", " nokia", "lumia"])
    'lumia'
    """
    return Counter(answer.strip() for answer in answers).most_common(1)[0][0] if answers else ""
