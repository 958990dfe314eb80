"""What is named after a project is what its code makes: vectors made by running it, at the commit named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from emu2eval.data import cobsat, vl_icl
from emu2eval.data.samples import Samples
from emu2eval.engine.tasks import opened
from emu2eval.fewshot.vl_icl import VLICL
from emu2eval.prompts import PromptBuilder
from emu2eval.spec.task import load_task
from emu2eval.types import Image, Sample

from .drawing import save


def flat(task: str, protocol: str, query: Sample, demonstrations: Sequence[Sample] = ()) -> str:
    """The prompt as one text, <image> in the place of images."""
    builder = PromptBuilder(load_task(task, protocol=protocol).protocol, "here")
    parts = builder.build(query, demonstrations).flat()
    return "".join(part if isinstance(part, str) else "<image>" for part in parts)


def asked(number: int, answer: str | None = None, **fields: str) -> Sample:
    return Sample(str(number), fields, images=(Image(f"{number}.png"),), answer=answer)


@pytest.mark.parametrize("name", ["vqav2", "okvqa", "vizwiz", "textvqa"])
def test_questions_as_openflamingo_joins_them(name: str) -> None:
    """655f693, get_vqa_prompt and evaluate_vqa; <|endofchunk|> is a token of the model's own."""
    shown = [
        asked(1, question="What is it?", first_answer="race"),
        asked(2, question="Who?", first_answer="a man"),
    ]
    assert flat(name, "openflamingo", asked(3, question="Why?"), shown) == (
        "<image>Question:What is it? Short answer:race\n<image>Question:Who? Short answer:a man\n"
        "<image>Question:Why? Short answer:"
    )


@pytest.mark.parametrize("name", ["coco_caption", "flickr30k"])
def test_captions_as_openflamingo_joins_them(name: str) -> None:
    """655f693, get_caption_prompt and evaluate_captioning."""
    shown = [asked(1, "A dog."), asked(2, "A cat")]
    wanted = "<image>Output:A dog.\n<image>Output:A cat\n<image>Output:"
    assert flat(name, "openflamingo", asked(3), shown) == wanted


def test_memes_as_openflamingo_joins_them() -> None:
    """655f693, get_hateful_memes_prompt and evaluate_classification."""
    shown = [asked(1, "no", text="hi there"), asked(2, "yes", text="oh")]
    assert flat("hateful_memes", "openflamingo", asked(3, text="what"), shown) == (
        "<image>is an image with: 'hi there' written on it. Is it hateful? Answer:no"
        "<image>is an image with: 'oh' written on it. Is it hateful? Answer:yes"
        "<image>is an image with: 'what' written on it. Is it hateful? Answer:"
    )


ENTRY = {"x_list": [8, 7, 5, 9, 2, 3, 6, 1, 4, 0], "theta_list": [7, 6, 3, 4, 1, 0, 2, 5, 9, 8]}
"""The first entry of CoBSAT's published list."""


@pytest.mark.parametrize(
    ("name", "named", "wanted"),
    [
        ("background-2", "exact", ["cat park: ", "cow park: ", "lion park: "]),
        ("background-2", "misleading", ["cat space: ", "cow waterfall: ", "lion volcano: "]),
        ("style-2", "exact", ["bag lego: ", "ball lego: ", "box lego: "]),
        ("style-2", "misleading", ["bag futuristic: ", "ball graffiti: ", "box origami: "]),
        ("background-1", "misleading", ["cave cow: ", "space dog: ", "gym pig: "]),
    ],
)
def test_words_as_cobsat_loads_them(
    tmp_path: Path, name: str, named: str, wanted: list[str]
) -> None:
    """a787be5, load_dataset.py: the word list is for what is shown, not for what is latent."""
    (tmp_path / "list.json").write_text(json.dumps([ENTRY]))
    (query,) = cobsat.read(tmp_path, "data", "list.json", tasks=[name], shots=2)
    ask = load_task("cobsat", protocol=named).protocol.ask
    shown = [fields for _, fields in json.loads(query.fields["shown"])]
    assert [ask.format(**fields) for fields in (*shown, query.fields)] == wanted


def test_pairs_as_vl_icl_shows_them(tmp_path: Path) -> None:
    """2b77eee, select_demonstration after random.seed(0): names that sort the other way decide nothing."""

    def row(*names: str, answer: str) -> dict[str, object]:
        return {"image": list(names), "question": "Result:", "answer": answer}

    support = [
        {
            "same": row(f"z{n}.png", f"y{n}.png", answer="yes"),
            "diff": row(f"b{n}.png", f"a{n}.png", answer="no"),
        }
        for n in range(5)
    ]
    (tmp_path / "matching_mi").mkdir()
    for name, content in (
        ("support", support),
        ("query", [{"id": "q", **row("q.png", answer="no")}]),
    ):
        (tmp_path / f"matching_mi/{name}.json").write_text(json.dumps(content))
    names = [f"{letter}{number}" for number in range(5) for letter in "zyba"]
    for number, name in enumerate([*names, "q"]):
        save(tmp_path / f"{name}.png", number)
    queries, pool = (
        Samples(vl_icl.read(tmp_path.parent, tmp_path.name, "matching_mi", part), where="here")
        for part in ("query", "support")
    )
    chooser = VLICL(pool, 0, shot="pair")
    for shots, wanted in ((1, ["z3.png", "b3.png"]), (2, ["z3.png", "b3.png", "z0.png", "b0.png"])):
        chosen = [d.sample.images[0] for d in chooser.choose(queries[0], shots, 0)]
        assert [image.name for image in chosen if isinstance(image, Image)] == wanted


@pytest.mark.parametrize(
    ("name", "named", "reply", "wanted"),
    [
        # LLaVA c121f04, scripts/convert_gqa_for_eval.py
        ("gqa", "emu2-chat", "Yes...", "yes"),
        ("gqa", "emu2-chat", "The man.\nHe is tall.", "the man.\nhe is tall"),
        ("gqa", "emu2-chat", "A.B.", "a.b"),
        # Emu 13c395e, Emu1/mm_eval/datasets/coco.py, coco_results_processor
        ("coco_caption", "emu1", " A Dog runs. It is black.", " a dog runs"),
        ("coco_caption", "emu1", " Two cats.", " two cats"),
        ("coco_caption", "emu1", "A man\nand a dog. x", "a man"),
        # mmf's evaluator is given whole answers.
        ("textvqa", "emu2", "D.H. Lawrence", "D.H. Lawrence"),
        ("textvqa", "emu2-chat", "2, 3, 4", "2, 3, 4"),
    ],
)
def test_replies_as_the_project_cleans_them(name: str, named: str, reply: str, wanted: str) -> None:
    found = opened(load_task(name, protocol=named))
    cut = reply
    for stop in getattr(found.spec.output, "stop", ()):
        cut = cut.partition(stop)[0]
    assert found.clean(cut) == wanted


def test_emu1_asks_for_captions_in_these_words() -> None:
    """Emu 13c395e, Emu1/mm_eval/datasets/coco.py, without its marks of roles."""
    assert flat("coco_caption", "emu1", asked(1)).endswith(
        "<image> please provide an accurate and concise description of the given image. "
        "the image depicts a photo of"
    )
