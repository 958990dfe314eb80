"""A run over a VQAv2 of official size: 214,354 questions on 40,504 images, 8 shots from a training split
of 443,757 questions on 82,783 images. To stay under 2 GB.

Questions, answers and tiny images are made up, once, into a folder ($EMU2EVAL_BENCH, else a cache). The
run answers with the baseline `most-common` in a process of its own; then it is repeated, with nothing left
to ask, and once more with demonstrations by RICES (encoder `thumbnail`). Of each are given the CPU seconds
of reading the data, of looking through the answers that are there, of asking (answering is a part of it) and
of scoring; and those until the first request.
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from measuring import Clock, cpu

SPLITS = {"val2014": (214_354, 40_504), "train2014": (443_757, 82_783)}
SHOTS = 8
ANSWERS = ("yes", "no", "2", "red", "white", "tennis", "a dog", "on the table", "left", "nothing")


def make(root: Path) -> None:
    """The official layout. A mark is left when all is there."""
    if (root / "complete").exists():
        return
    for split, (questions, images) in SPLITS.items():
        _images(root / "coco" / split, split, images)
        _questions(root / "vqav2", split, questions, images)
    (root / "complete").touch()


def _images(folder: Path, split: str, count: int) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    first = 0 if split == "val2014" else 500_000
    for number in range(first, first + count):
        # Half colour, half number: no two alike.
        image = Image.new("RGB", (8, 8), tuple(random.Random(number).randbytes(3)))
        image.putpixel((0, 0), (number >> 16, number >> 8 & 255, number & 255))
        stream = io.BytesIO()
        image.save(stream, "PNG")
        # COCO's names end in .jpg; an image is known by its content.
        (folder / f"COCO_{split}_{number:012d}.jpg").write_bytes(stream.getvalue())


def _questions(folder: Path, split: str, count: int, images: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    first = 0 if split == "val2014" else 500_000
    chance = random.Random(count)
    questions, annotations = [], []
    for number in range(count):
        image = first + number % images
        known = {"image_id": image, "question_id": image * 1000 + number // images}
        questions.append(known | {"question": f"What is thing number {number % 30_000} doing?"})
        given = chance.choices(ANSWERS, k=3)
        annotations.append(
            known
            | {
                "question_type": f"what is {number % 65}",
                "answer_type": chance.choice(("yes/no", "number", "other")),
                "multiple_choice_answer": given[0],
                "answers": [
                    {"answer": a, "answer_confidence": "yes", "answer_id": i}
                    for i, a in enumerate(chance.choices(given, (6, 3, 1), k=10), 1)
                ],
            }
        )
    head: dict[str, Any] = {"info": {}, "license": {}, "data_type": "mscoco"}
    for name, content in (
        (f"v2_OpenEnded_mscoco_{split}_questions.json", {"questions": questions}),
        (f"v2_mscoco_{split}_annotations.json", {"annotations": annotations}),
    ):
        (folder / name).write_text(json.dumps(head | content))


def one(out: Path, changes: list[str]) -> None:
    """The run; prints what it took as JSON."""
    import resource

    from emu2eval import evaluate
    from emu2eval.adapters.baselines import MostCommon
    from emu2eval.engine import carrying, evaluation, held, judges

    with ExitStack() as timed:
        stages = {
            name: timed.enter_context(Clock(owner, function))
            for name, owner, function in (
                ("reading the data", evaluation, "planned"),
                ("looking through answers", held, "index"),
                ("asking", carrying, "execute"),
                ("answering", MostCommon, "answer"),
                ("scoring", judges, "score_run"),
            )
        }
        started, worked = time.perf_counter(), cpu()
        first: list[float] = []
        own = MostCommon.answer

        def answer(self: Any, requests: Any) -> Any:
            first[:] = first or [cpu() - worked]
            return own(self, requests)

        MostCommon.answer = answer  # type: ignore[method-assign]
        (result,) = evaluate("vqav2", "most-common", shots=[SHOTS], out=out, changes=changes)
    row = result.rows[0]
    taken = {name: clock.seconds for name, clock in stages.items()}
    print(
        json.dumps(
            {
                "n": row.n,
                "value": row.value,
                "asked": result.tally.asked,
                "kept": result.tally.kept,
                "seconds": time.perf_counter() - started,
                "work": cpu() - worked,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "stages": taken | ({"until the first request": first[0]} if first else {}),
            }
        )
    )


def main() -> None:
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]))
        return
    if len(sys.argv) > 1:
        one(Path(sys.argv[1]), sys.argv[2:])
        return
    home = Path(os.environ.get("EMU2EVAL_BENCH") or "~/.cache/emu2eval-bench").expanduser()
    started = time.perf_counter()
    # A process of its own: what this one ever held would count in the peaks of those it starts.
    subprocess.run([sys.executable, __file__, "make", str(home / "vqav2-full")], check=True)
    print(f"data in {home / 'vqav2-full'}: {time.perf_counter() - started:.0f} s")
    rices = [
        "task.demonstrations.chooser=rices",
        "task.demonstrations.options.encoder=thumbnail",
    ]
    with tempfile.TemporaryDirectory() as folder:
        there = {
            "EMU2EVAL_DATA": str(home / "vqav2-full"),
            "EMU2EVAL_CACHE": str(Path(folder) / "cache"),
        }
        for name, out, changes in (
            ("random", "first", []),
            ("random, again", "first", []),
            ("rices", "rices", rices),
        ):
            done = subprocess.run(
                [sys.executable, __file__, str(Path(folder) / out), *changes],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | there,
            )
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{name:<13} {found['n']:,} scored, {found['asked']:,} asked, {found['kept']:,} kept: "
                f"{found['seconds']:.0f} s ({found['work']:.0f} s of work), "
                f"peak {found['peak_mib']:,.0f} MiB   (to stay under 2,000)"
            )
            for stage, seconds in found["stages"].items():
                print(f"    {stage:<24} {seconds:6.1f} s of work")


if __name__ == "__main__":
    main()
