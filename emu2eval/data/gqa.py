"""GQA (Hudson and Manning, 2019): compositional questions made from scene graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from emu2eval.data.jsonfile import parse
from emu2eval.data.paths import folder, inside
from emu2eval.types import Image, Sample

_SEMANTIC = {
    "attr": "attribute",
    "cat": "category",
    "global": "scene",
    "obj": "object",
    "rel": "relation",
}
# The last step of a program only names what was found; the official script does not count it.
_NO_STEPS = ("exist", "query: name", "choose name")


class _Types(msgspec.Struct, frozen=True, gc=False):
    structural: str | None = None
    semantic: str | None = None


class _Step(msgspec.Struct, gc=False):
    operation: str
    argument: str


class GQAQuestion(msgspec.Struct):
    """What is read of a question; the names are the file's."""

    imageId: str
    question: str
    answer: str | None = None
    isBalanced: bool = True
    types: _Types = _Types()
    semantic: list[_Step] = []
    entailed: list[str] = []


def read(root: Path, questions: str, images: str, references: bool = True) -> Iterator[Sample]:
    """The official questions of GQA; a large file may be a folder of its parts, as distributed.

    references: False keeps only the answers shown as demonstrations. Groups, of balanced questions only,
    are those of the official script: binary or open, structural and semantic type, steps, words.
    Fields: `entailed`, ids with spaces between; `balanced`, "no" where the official accuracy passes over
    the question.
    questions: the file; images: the folder of the images.
    """
    shown_from = folder(root, images, where="images")
    path = inside(root, questions, where="questions")
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(2, "no question file in the folder", str(path))
    for file in files:
        for question_id, question in parse(file, dict[str, GQAQuestion]).items():
            image = inside(shown_from, f"{question.imageId}.jpg", where=str(file))
            yield sample(question_id, question, Image(str(image)), references)


def sample(question_id: str, question: GQAQuestion, image: Image, references: bool) -> Sample:
    """What `read` says of one question."""
    fields = {"question": question.question}
    scored = references and question.answer is not None
    if scored and question.entailed:
        fields["entailed"] = " ".join(question.entailed)
    if not question.isBalanced:
        fields["balanced"] = "no"
    return Sample(
        id=question_id,
        fields=fields,
        images=(image,),
        answer=question.answer,
        references=(question.answer,) if scored and question.answer is not None else (),
        cluster=question.imageId,
        groups=_groups(question) if scored and question.isBalanced else {},
    )


def _groups(question: GQAQuestion) -> dict[str, str]:
    groups = {"words": str(len(question.question.split()))}
    if question.types.structural:
        groups["kind"] = "open" if question.types.structural == "query" else "binary"
        groups["structural"] = question.types.structural
    if question.types.semantic:
        groups["semantic"] = _SEMANTIC.get(question.types.semantic, question.types.semantic)
    if question.semantic:
        steps = (f"{step.operation}: {step.argument}" for step in question.semantic)
        groups["steps"] = str(sum(not any(name in step for name in _NO_STEPS) for step in steps))
    return groups
