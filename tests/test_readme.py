"""What the README shows is run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import emu2eval
from tests.adapters.huggingface.families import save

ROOT = Path(emu2eval.__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(kind: str, first_line: str) -> str:
    found = re.search(rf"```{kind}\n({re.escape(first_line)}.*?)```", README, re.DOTALL)
    assert found, first_line
    return found[1]


def command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "emu2eval.cli", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_own_task(make_task: Any, tmp_path: Path, program: Any) -> None:
    images = make_task(queries=6).parent / "images"
    images.rename(tmp_path / "photos")
    (tmp_path / "birds.yaml").write_text(block("yaml", "# birds.yaml"))
    for part, first in (("test", 0), ("train", 1000)):
        rows = [f"{n},{n:04d}.png,which is it?,{'ab'[n % 2]}" for n in range(first, first + 6)]
        (tmp_path / f"{part}.csv").write_text("id,file,question,answer\n" + "\n".join(rows) + "\n")
    assert "6 samples" in program("check", "--task", "./birds.yaml")[1]
    code, out, _ = program(
        "run", "--task", "./birds.yaml", "--shots", "0", "4", "--model", "emu2-nano"
    )
    assert code == 0 and "birds" in out


def test_my_model_on_my_data(tmp_path: Path, make_task: Any, program: Any) -> None:
    """A checkpoint and a folder of images: from nothing to a curve and a page, as it stands there."""
    images = sorted((make_task(queries=6).parent / "images").iterdir())
    for place, image in enumerate(images[:20]):
        folder = tmp_path / "photos" / ("rose", "tulip")[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.rename(folder / image.name)
    save("idefics3", tmp_path / "my-checkpoint")
    block_ = re.search(r"## Your model on your data\n\n```\n(.*?)```", README, re.DOTALL)
    assert block_
    lines = [line.partition("#")[0].split() for line in block_[1].splitlines()]
    assert [line[1] for line in lines] == ["new", "run", "curves", "report"]
    for line in lines:
        code, out, said = program(*line[1:])
        assert code == 0, said
        if line[1] == "run":
            assert "my-checkpoint" in out and "flowers" in out
    assert (tmp_path / "flowers.svg").is_file() and (tmp_path / "flowers.html").is_file()


def test_the_own_adapter(tmp_path: Path) -> None:
    code = block("python", "# my_adapter.py")
    assert len(code.splitlines()) < 40
    (tmp_path / "my_adapter.py").write_text(code)
    (tmp_path / "parrot.yaml").write_text(block("yaml", "# parrot.yaml"))
    assert "no  " not in command("check", "--adapter", "my_adapter:Parrot")
    run = ("run", "--task", "easy-vqa", "--model", "./parrot.yaml", "--shots", "4", "--limit", "20")
    assert "parrot" in command(*run)


def test_the_own_scorer_and_its_test(tmp_path: Path) -> None:
    (tmp_path / "test_my_scorer.py").write_text(block("python", "# test_my_scorer.py"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_my_scorer.py"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
