"""The HTML report: of 1,000 runs, of one run as large as VQAv2's, and what the page does in a browser.

    python benchmarks/report_page.py [runs] [large] [browser]

Runs are made up without a model: records and scores as an evaluation writes them. What a browser does is
timed by report_browser.py.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import report_browser
import yaml
from PIL import Image

from emu2eval import evaluate
from emu2eval.report import page
from emu2eval.runs.answers import Answer, from_line, to_line
from emu2eval.runs.record import Record, read_record, write_record
from emu2eval.runs.scores import SampleScore, read_rows, read_scores, write_rows, write_scores
from emu2eval.runs.store import ANSWERS

MODELS, SHOTS, SAMPLES = 40, (0, 1, 2, 4, 8), 1_260
LARGE = 214_354


def main() -> None:
    wanted = set(sys.argv[1:]) or {"runs", "large", "browser"}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        if "runs" in wanted:
            folders = [folder for each in range(5) for folder in many(root / f"task-{each}", each)]
            timed(f"{len(folders):,} runs", folders, root / "runs.html", "browser" in wanted)
        if "large" in wanted:
            timed(
                "one large run", [large(root / "large")], root / "large.html", "browser" in wanted
            )


def task(folder: Path, name: str, queries: int, images: int) -> Path:
    """Questions about images of 640 x 480, of which many share one."""
    (folder / "images").mkdir(parents=True)
    noise = Image.effect_noise((640, 480), 40).convert("RGB")
    for number in range(images):
        noise.putpixel((number % 640, number // 640), (number % 256, 0, 0))
        noise.save(folder / "images" / f"{number}.jpg", quality=80)
    for split, count in (("test", queries), ("train", 2_000)):
        with (folder / f"{split}.jsonl").open("w") as lines:
            for number in range(count):
                row = {
                    "id": f"{split}-{number:07d}",
                    "image": f"{number % images}.jpg",
                    "question": f"what is shown in image {number}?",
                    "answer": ("yes", "no", "two", "red")[number % 4],
                    "kind": f"kind {number % 12}",
                }
                lines.write(json.dumps(row) + "\n")
    spec = {
        "name": name,
        "title": name,
        "data": {
            "reader": "table",
            "root": ".",
            "options": {"folder": "images", "groups": ["kind"]},
            "splits": {"test": {"files": "test.jsonl"}, "train": {"files": "train.jsonl"}},
        },
        "split": "test",
        "demonstrations": {"split": "train"},
        "score": {"scorer": "exact_match", "clean": ["strip"]},
        "protocol": "plain",
        "protocols": {"plain": {"ask": "{image}{question} Answer:"}},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def model(folder: Path) -> Path:
    path = folder / "made-up.yaml"
    path.write_text(
        yaml.safe_dump({"name": "made-up", "adapter": "scripted", "settings": {"default": "yes"}})
    )
    return path


def many(folder: Path, seed: int) -> Iterator[Path]:
    """The runs of one task: every model at every number of shots, one of which was run."""
    path = task(folder, f"task-{seed}", SAMPLES, 400)
    for done in evaluate(str(path), str(model(folder)), shots=list(SHOTS), out=folder / "runs"):
        first = done.folder
        record, rows = read_record(first), read_rows(first)
        scores = list(read_scores(first))
        answers = [from_line(line) for line in (first / ANSWERS).open("rb")]
        for number in range(MODELS):
            name = f"model-{number:02d}"
            own = first.with_name(f"{first.name.rpartition('_')[0]}_{name}_{number:08x}")
            own.mkdir()
            right = 0.3 + 0.01 * number + 0.02 * record.shots.count
            draw = random.Random(f"{seed} {number} {record.shots.count}")
            values = [float(draw.random() < right) for _ in scores]
            yield written(own, named(record, name), rows, scores, answers, values)


def named(record: Record, name: str) -> Record:
    identity = record.identity
    assert identity.model is not None
    changed = msgspec.structs.replace(identity.model, settings={"default": name})
    return msgspec.structs.replace(
        record,
        model=msgspec.structs.replace(record.model, name=name, settings={"default": name}),
        identity=msgspec.structs.replace(identity, model=changed),
    )


def written(
    folder: Path,
    record: Record,
    rows: list[Any],
    scores: list[SampleScore],
    answers: list[Answer],
    values: list[float],
) -> Path:
    write_record(folder, record)
    write_scores(
        folder,
        (msgspec.structs.replace(s, value=v) for s, v in zip(scores, values, strict=True)),
    )
    value = 100 * sum(values) / len(values)
    head = msgspec.structs.replace(
        rows[0],
        run=folder.name,
        model=record.model.name,
        value=value,
        low=value - 2,
        high=value + 2,
    )
    rest = [
        msgspec.structs.replace(row, run=folder.name, model=record.model.name) for row in rows[1:]
    ]
    write_rows(folder, [head, *rest])
    (folder / ANSWERS).write_bytes(b"".join(map(to_line, answers)))
    return folder


def large(folder: Path) -> Path:
    """One run with as many answers as VQAv2 has questions in its validation split, at 4 shots."""
    path = task(folder, "large", LARGE, 5_000)
    (done,) = evaluate(str(path), str(model(folder)), shots=[4], out=folder / "runs")
    return done.folder


def timed(what: str, folders: list[Path], file: Path, in_browser: bool) -> None:
    start = time.perf_counter()
    cpu = time.process_time()
    made = page.write(folders, file)
    print(
        f"{what}: {made.answers:,} answers, {made.samples:,} of them to look at, {made.images:,} images: "
        f"{time.perf_counter() - start:.1f} s ({time.process_time() - cpu:.1f} s of CPU), "
        f"page {file.stat().st_size / 2**20:.1f} MiB",
        flush=True,
    )
    if in_browser:
        report_browser.measure(file)


if __name__ == "__main__":
    main()
