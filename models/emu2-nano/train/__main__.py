"""Trains emu2-nano from nothing but the easy-vqa package: `python models/emu2-nano/train`.

It can be stopped and started again at any time; the state of every stage is kept in --state.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import torch
import vision
from build import SHORT, WHOLE, Recipe, begin, centre, config, write_folder
from episodes import Author, Pool, Writer
from gallery import gallery
from language import Reader, checks, focus, mixture, train
from loop import Workspace
from scenes import drawn, held_out_published, joined, published
from vocabulary import write as write_tokenizer

from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.tokenizer import Tokenizer

HERE = Path(__file__).resolve().parent
SHIFT = 0.1  # noise on visual features, in their deviations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE.parent, help="the checkpoint's folder")
    parser.add_argument("--state", type=Path, default=Path(".cache/train-nano"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of each of the two processes")
    parser.add_argument("--short", action="store_true", help="a run of seconds, for tests")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for folder in (options.out, options.state):
        folder.mkdir(parents=True, exist_ok=True)
    recipe = SHORT if options.short else WHOLE
    build(recipe, Workspace(options.state, options.seed), options.out)


def build(recipe: Recipe, work: Workspace, out: Path) -> None:
    """Every stage in turn, then the folder, and beside it those of the earlier checkpoints.

    The visual decoder needs nothing but the vision tower, so a process of its own trains it meanwhile.
    """
    vocabulary = work.folder / "tokenizer.model"
    write_tokenizer(vocabulary)
    tokenizer = Tokenizer(vocabulary, "gen")
    torch.manual_seed(work.seed)
    model = Emu2(config(tokenizer.size))
    begin(model)

    real, checked = published(validation=False), published(validation=True)
    made = work.once("drawn", lambda: drawn(recipe.drawn, work.seed))
    vision.train(model, real, made, checked, recipe.vision, work)

    made = made.take(torch.arange(min(recipe.shown, len(made))))
    scenes = joined(joined(joined(real, made), checked), held_out_published())
    raw = work.once("features", lambda: vision.Features(vision.features(model, scenes))).values
    known = len(real) + len(made)
    deviation = centre(model, raw[:known])
    torch.save(model.visual.state_dict(), work.state("tower"))
    painter = subprocess.Popen(
        [
            *(sys.executable, str(HERE / "painter.py"), "--state", str(work.folder)),
            *("--seed", str(work.seed), "--threads", str(torch.get_num_threads())),
            *(["--short"] if recipe is SHORT else []),
        ]
    )
    try:
        features = (raw - raw[:known].mean((0, 1))) / deviation
        shown = gallery(features, scenes, trained=known)
        author = Author(Pool(shown, range(len(real)), range(len(real), known)))
        writer = Writer(tokenizer, model.config.n_query)
        # Names that are never trained on, images that are never trained on.
        validation = Pool(shown, range(known, known + len(checked)))
        looks = checks(Author(validation, kept=True), writer, recipe.checked)

        reader = Reader(model, shown, SHIFT, tokenizer)
        train(reader, writer, recipe.focus, focus(author), looks, work)
        plain = mixture(author, "bqgbqnoqgn", lambda step: 0.0)
        train(reader, writer, recipe.mixture, plain, looks, work)
        train(reader, writer, recipe.questions, mixture(author, "qqqbqnqoqg", negated), looks, work)
        final = mixture(author, "bqgqbgnogqn", lambda step: 0.5, new=0.2)
        train(reader, writer, recipe.polish, final, looks, work)
        write_folder(out, model, deviation, vocabulary, half=False)
        for number, name in enumerate(recipe.early, 1):
            reader.load_state_dict(torch.load(work.state(name), weights_only=True))
            beside = out.with_name(f"{out.name}-early-{number}")
            write_folder(beside, model, deviation, vocabulary, half=True)
        if painter.wait():
            raise SystemExit("the visual decoder's training stopped; the same command continues it")
    finally:
        painter.terminate()
    shutil.copytree(work.folder / "painter", out, dirs_exist_ok=True)
    work.log(written=str(out), parameters=sum(p.numel() for p in model.parameters()))


def negated(step: int) -> float:
    """Share of negated questions. A "not" turns yes and no around: with half of them from the start both
    stay at even odds, for then what the image shows tells nothing about the answer on its own."""
    if step < 90:
        return 0.0
    return 0.2 if step < 230 else 0.35


if __name__ == "__main__":
    main()
