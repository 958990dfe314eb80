"""Tasks answered with images, by a tiny Emu2-Gen: values against features computed here, and the seed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from emu2eval.adapters.emu2.reading import Emu2Reader  # noqa: E402
from emu2eval.data.load import load_split  # noqa: E402
from emu2eval.runs.store import RunStore  # noqa: E402
from emu2eval.spec import catalog  # noqa: E402
from emu2eval.spec.task import load_task  # noqa: E402
from emu2eval.types import Image  # noqa: E402

from .. import tiny_models  # noqa: E402
from ..conftest import Program  # noqa: E402
from ..tiny_models import SIDE  # noqa: E402

Command = Callable[..., str]
Vectors = Callable[[Any], Any]

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SMALL = [
    *("--set", "task.output.width=64", "--set", "task.output.height=64"),
    *("--set", "task.output.steps=1"),
]
CROPPED = SIDE + 6
"""Pixels of the shorter side before DINO's crop; officially 256, of which 224 are kept."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def at(
    roots: Callable[[str], Path], _alone: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    return lambda task: monkeypatch.setenv("EMU2EVAL_DATA", str(roots(task)))


@pytest.fixture
def encoders(tiny_clip: Path, tiny_dino: Path) -> list[str]:
    """The tiny encoders in the place of the official ones, with DINO's own preprocessing at their size."""
    options = "task.score.options"
    crop = f"{options}.dino.preprocessing.crop_size"
    return [
        *("--set", f"{options}.clip_i.encoder={tiny_clip}"),
        *("--set", f"{options}.clip_t.encoder={tiny_clip}"),
        *("--set", f"{options}.dino.encoder={tiny_dino}"),
        *("--set", f"{options}.dino.preprocessing.size.shortest_edge={CROPPED}"),
        *("--set", f"{crop}.height={SIDE}", "--set", f"{crop}.width={SIDE}"),
    ]


class Encoders:
    """Features by transformers called directly: unit vectors of images and texts."""

    def __init__(self, clip: Path, dino: Path):
        self.clip = transformers.CLIPModel.from_pretrained(clip).eval()
        self.processor = transformers.CLIPImageProcessorPil.from_pretrained(clip)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(clip)
        self.vit = transformers.ViTModel.from_pretrained(dino, add_pooling_layer=False).eval()

    @torch.inference_mode()
    def clip_i(self, path: str) -> Any:
        with PILImage.open(path) as image:
            pixels = self.processor(images=image.convert("RGB"), return_tensors="pt")
        seen = self.clip.vision_model(pixel_values=pixels["pixel_values"]).pooler_output
        return unit(self.clip.visual_projection(seen))

    @torch.inference_mode()
    def words(self, text: str) -> Any:
        ids = torch.tensor([self.tokenizer(text)["input_ids"]])
        read = self.clip.text_model(input_ids=ids).pooler_output
        return unit(self.clip.text_projection(read))

    @torch.inference_mode()
    def dino(self, path: str) -> Any:
        """Resize the shorter side (bicubic), centre crop, ImageNet's mean and deviation; class token."""
        with PILImage.open(path) as image:
            shown = image.convert("RGB")
        short = min(shown.size)
        size = tuple(int(CROPPED * side / short) for side in shown.size)
        shown = shown.resize(size, PILImage.Resampling.BICUBIC)
        left, top = ((side - SIDE) // 2 for side in shown.size)
        shown = shown.crop((left, top, left + SIDE, top + SIDE))
        scaled = np.asarray(shown, dtype=np.float32) / 255
        scaled = (scaled - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        pixels = torch.tensor(scaled, dtype=torch.float32).permute(2, 0, 1)[None]
        return unit(self.vit(pixel_values=pixels).last_hidden_state[:, 0])


def unit(vector: Any) -> Any:
    found = vector[0].numpy().astype(np.float64)
    return found / np.linalg.norm(found)


@pytest.fixture(scope="module")
def direct(tiny_clip: Path, tiny_dino: Path) -> Encoders:
    return Encoders(tiny_clip, tiny_dino)


def answers(run: str) -> list[tuple[str, int, str]]:
    """(query, which image of it, path) of every stored image."""
    folder = catalog.results_root() / run
    return [
        (answer.id, answer.take, str(folder / f"images/{answer.images[0]}.png"))
        for answer in RunStore(folder).answers()
    ]


def table(printed: str) -> dict[str, Any]:
    """Number -> its row, of the whole."""
    rows = [row for row in json.loads(printed) if row["group"] is None]
    return {row["metric"].partition("/")[0]: row for row in rows}


def real(task: str, split: str) -> dict[str, tuple[list[str], list[str]]]:
    """Query -> paths of its real images, and its texts."""
    return {
        sample.id: (
            [p.path for p in sample.references if isinstance(p, Image)],
            [text for text in sample.references if isinstance(text, str)],
        )
        for sample in load_split(load_task(task), split)
    }


@pytest.mark.parametrize("shots", ["0", "2"])
def test_coco_text_to_image(
    at: Callable[[str], None], command: Command, tiny_emu2_gen: Path, direct: Encoders,
    encoders: list[str], shots: str,
) -> None:  # fmt: skip
    at("coco_t2i")
    asked = ["run", "--task", "coco_t2i", "--protocol", "emu2", "--model", str(tiny_emu2_gen)]
    printed = command(*asked, *SMALL, *encoders[:4], "--shots", shots, "-f", "json")
    rows = table(printed)
    drawn, known = answers(rows["clip_i"]["run"]), real("coco_t2i", "val")
    assert rows.keys() == {"clip_i", "clip_t"}
    assert len(drawn) == len({path for *_, path in drawn}) == 8
    likeness, fit = [], []
    for query, _, path in drawn:
        (image,), (caption,) = known[query]
        likeness.append(direct.clip_i(path) @ direct.clip_i(image))
        fit.append(direct.clip_i(path) @ direct.words(caption))
    assert rows["clip_i"]["value"] == pytest.approx(np.mean(likeness), abs=2e-6)
    assert rows["clip_t"]["value"] == pytest.approx(np.mean(fit), abs=2e-6)
    assert np.std(likeness) > 1e-3 and np.std(fit) > 1e-3


def test_coco_autoencoding(
    at: Callable[[str], None], command: Command, tiny_emu2_gen: Path, direct: Encoders,
    encoders: list[str],
) -> None:  # fmt: skip
    at("coco_autoencode")
    asked = ["run", "--task", "coco_autoencode", "--protocol", "emu2", "-f", "json"]
    printed = command(*asked, "--model", str(tiny_emu2_gen), *SMALL, *encoders[:2])
    rows = table(printed)
    known = real("coco_autoencode", "val")
    likeness = [
        direct.clip_i(path) @ direct.clip_i(known[query][0][0])
        for query, _, path in answers(rows["clip_i"]["run"])
    ]
    assert len(likeness) == 5
    assert rows["clip_i"]["value"] == pytest.approx(np.mean(likeness), abs=2e-6)
    # One that gives the image back is as like it as can be.
    same = table(command(*asked, "--model", "copy", *encoders[:2]))
    assert same["clip_i"]["value"] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("protocol", ["emu2", "dreambooth"])
def test_dreambench(
    at: Callable[[str], None], command: Command, tiny_emu2_gen: Path, direct: Encoders,
    encoders: list[str], protocol: str,
) -> None:  # fmt: skip
    """Against the input image alone, or every image against all photographs of its subject."""
    at("dreambench")
    asked = ["run", "--task", "dreambench", "--protocol", protocol, "--model", str(tiny_emu2_gen)]
    printed = command(*asked, *SMALL, *encoders, "--limit", "7", "--groups", "-f", "json")
    rows = table(printed)
    drawn, known = answers(rows["dino"]["run"]), real("dreambench", "all")
    assert len(drawn) == len({path for *_, path in drawn}) == 7 * 4
    pairs: dict[str, list[float]] = {"dino": [], "clip_i": [], "clip_t": []}
    for query, _, path in drawn:
        photographs, (text,) = known[query]
        assert Path(photographs[0]).name == "02.jpg" and len(photographs) == 4
        for photograph in photographs[:1] if protocol == "emu2" else photographs:
            pairs["dino"].append(direct.dino(path) @ direct.dino(photograph))
            pairs["clip_i"].append(direct.clip_i(path) @ direct.clip_i(photograph))
        pairs["clip_t"].append(direct.clip_i(path) @ direct.words(text))
    for name, found in pairs.items():
        assert rows[name]["value"] == pytest.approx(np.mean(found), abs=2e-6), name
        assert rows[name]["n"] == 28
    groups = {row["group"]: row["n"] for row in json.loads(printed) if row["group"]}
    assert groups["subject: cat2"] == groups["kind: live"] == 28 - groups["kind: object"]
    assert groups["prompt: recontextualisation"] > 0


def test_real_images_against_one_another(
    at: Callable[[str], None], command: Command, direct: Encoders, encoders: list[str]
) -> None:
    """The oracle of subject-driven generation, without any model."""
    at("dreambench")
    asked = ["run", "--task", "dreambench", "--split", "real", "--protocol", "dreambooth"]
    one = ["--set", "task.output.images=1"]
    rows = table(command(*asked, "--model", "copy", *encoders, *one, "-f", "json"))
    pairs = []
    for subject in ("backpack", "cat2"):
        first = next(v for k, v in real("dreambench", "all").items() if k.startswith(subject))
        seen = [direct.dino(path) for path in first[0]]
        pairs += [a @ b for i, a in enumerate(seen) for j, b in enumerate(seen) if i != j]
    assert rows["dino"]["value"] == pytest.approx(np.mean(pairs), abs=2e-6)
    assert rows["clip_t"]["value"] is None


def images_of(printed: str) -> dict[tuple[str, int], str]:
    rows = table(printed)
    return {(i, n): Path(p).stem for i, n, p in answers(next(iter(rows.values()))["run"])}


def test_images_of_a_prompt_are_the_same_however_many_are_asked_for(
    at: Callable[[str], None], command: Command, tiny_emu2_gen: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    at("dreambench")
    asked = ["run", "--task", "dreambench", "--model", str(tiny_emu2_gen), *SMALL, "-f", "json"]
    asked += ["--set", "task.score.options.dino=null", "--set", "task.score.options.clip_t=null"]
    asked += ["--set", "task.score.options.clip_i.encoder=thumbnail"]
    found, conditions = [], []

    regress = Emu2Reader.regress

    def counted(*given: Any) -> Any:
        conditions[-1] += 1
        return regress(*given)

    monkeypatch.setattr(Emu2Reader, "regress", counted)
    for name, ways in (
        ("four", [["--limit", "3"]]),
        ("in steps", [["--limit", "1", "--batch", "1"], ["--limit", "3", "--batch", "3"]]),
        ("one", [["--limit", "3", "--set", "task.output.images=1"]]),
    ):
        monkeypatch.setenv("EMU2EVAL_RUNS", str(tmp_path / name))
        for way in ways:
            conditions.append(0)
            printed = command(*asked, *way)
        found.append(images_of(printed))
    four, steps, one = found
    # What a prompt says is worked out once for its images, and what guidance contrasts with once a run.
    assert conditions == [3 + 1, 1 + 1, 2 + 1, 3 + 1]
    assert four == steps
    assert one == {place: digest for place, digest in four.items() if place[1] == 0}
    assert len(set(four.values())) == len(four) == 12


PAINTER = """
import os, random, signal
from pathlib import Path
from PIL import Image as PILImage
from emu2eval import Adapter, Limits, Response
from emu2eval.media.images import from_pil


class Noise(Adapter):
    limits = Limits(outputs=frozenset({"image"}), batch=1)

    def answer(self, requests):
        return [self.paint(request) for request in requests]

    def paint(self, request):
        log, fuse = Path("log"), Path("fuse")
        if fuse.exists() and sum(1 for _ in log.open()) >= int(fuse.read_text()):
            os.kill(os.getpid(), signal.SIGKILL)
        with log.open("a") as out:
            out.write(f"{request.output.seed}\\n")
        pixels = random.Random(request.output.seed).randbytes(16 * 16 * 3)
        return Response(images=(from_pil(PILImage.frombytes("RGB", (16, 16), pixels)),))
"""


def test_a_run_that_is_killed_between_images_draws_only_the_one_under_way_again(
    at: Callable[[str], None], tmp_path: Path
) -> None:
    at("dreambench")
    (tmp_path / "noise.py").write_text(PAINTER)
    (tmp_path / "noise.yaml").write_text('name: noise\nadapter: "noise:Noise"\n')
    log = tmp_path / "log"
    asked = ["run", "--task", "dreambench", "--model", "./noise.yaml", "--limit", "3"]
    asked += ["--set", "task.score.options.dino=null", "--set", "task.score.options.clip_t=null"]
    asked += ["--set", "task.score.options.clip_i.encoder=thumbnail", "-f", "json"]

    def run(out: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "emu2eval.cli", *asked, "--out", out]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    log.touch()
    whole = run("whole")
    assert whole.returncode == 0, whole.stderr
    undisturbed = log.read_text()
    assert len(set(undisturbed.split())) == 12
    log.write_text("")
    for drawn in (5, 10):  # in the middle of the images of a prompt
        (tmp_path / "fuse").write_text(str(drawn))
        assert run("killed").returncode == -signal.SIGKILL
        assert len(log.read_text().split()) == drawn
    (tmp_path / "fuse").unlink()
    assert run("killed").returncode == 0
    again = log.read_text().split()
    # What is drawn is stored while the next is drawn, so that each kill may cost one.
    assert set(again) == set(undisturbed.split()) and len(again) <= 12 + 2
    (one,), (other,) = ((tmp_path / out).iterdir() for out in ("whole", "killed"))
    assert (one / "scores.jsonl").read_bytes() == (other / "scores.jsonl").read_bytes()
    kept = [{path.name for path in (folder / "images").iterdir()} for folder in (one, other)]
    assert kept[0] == kept[1] and len(kept[0]) == 12


def refused(at: Callable[[str], None], program: Program, *changes: str) -> str:
    """What a run says that ends before anything is drawn."""
    at("dreambench")
    Path("never.py").write_text(PAINTER)
    Path("never.yaml").write_text('name: never\nadapter: "never:Noise"\n')
    asked = ["run", "--task", "dreambench", "--model", "./never.yaml", "--limit", "1"]
    asked += [part for change in changes for part in ("--set", f"task.score.options.{change}")]
    code, _, said = program(*asked, "--out", "runs")
    assert code == 2, said
    assert not Path("log").exists() and not Path("runs").exists()
    return said


def test_all_encoders_that_are_missing_are_told_at_once_before_anything_is_drawn(
    at: Callable[[str], None], program: Program, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said = refused(at, program, f"clip_i.encoder={tiny_clip}", "fid.network=none.pth")
    assert "3 problems" in said
    for needed in (
        "hf download facebook/dino-vits16 --local-dir dino-vits16",
        "--set task.score.options.dino.encoder=./dino-vits16",
        "hf download openai/clip-vit-base-patch32 --local-dir clip-vit-base-patch32",
        "--set task.score.options.clip_t.encoder=./clip-vit-base-patch32",
        "--set task.score.options.fid=null",
    ):
        assert needed in said
    assert "clip_i.encoder" not in said


def test_encoders_that_cannot_do_their_work_are_told_before_anything_is_drawn(
    at: Callable[[str], None], program: Program, tmp_path: Path, tiny_clip: Path, tiny_dino: Path
) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(tiny_clip, cut)
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    said = refused(
        at, program, f"dino.encoder={tiny_dino}",  # with images of the official size
        f"clip_i.encoder={cut}", f"clip_t.encoder={tiny_dino}",
        f"fid.network={tiny_clip / 'model.safetensors'}",
    )  # fmt: skip
    assert "4 problems" in said
    for wrong in (
        "doesn't match model",
        "cannot be loaded",
        "encodes only images",
        "has another shape",
    ):
        assert wrong in said


def test_numbers_of_different_encoders_are_not_compared(
    at: Callable[[str], None],
    command: Command,
    program: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither under two names, nor where the files behind one name were exchanged."""
    at("coco_autoencode")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMU2EVAL_RUNS", str(tmp_path / "runs"))
    for seed, name in enumerate(("one", "other")):
        tiny_models.clip(tmp_path / name, seed)
    encoder = "task.score.options.clip_i.encoder"
    asked = ["run", "--task", "coco_autoencode", "--model", "copy", "--set", f"{encoder}=./one"]
    first = table(command(*asked, "-f", "json"))["clip_i"]
    shutil.copytree(tmp_path / "runs" / first["run"], tmp_path / "again")
    compared = ["compare", f"runs/{first['run']}", "again", "-f", "json"]
    same = json.loads(command(*compared))["differences"][0]
    assert (same["difference"], same["digits"]) == (0, 3)
    # A reference keeps each image's headline and nothing else of it.
    command("keep", "again", "--into", "kept-runs")
    (reference,) = (tmp_path / "kept-runs").iterdir()
    kept = json.loads(command("compare", str(reference), "again", "-f", "json"))
    assert (kept["differences"][0]["difference"], kept["differences"][0]["n"]) == (0, 5)
    (tmp_path / "one").rename(tmp_path / "kept")
    (tmp_path / "other").rename(tmp_path / "one")
    command("score", "again")
    assert "encoders of clip_i/one differ" in program(*compared)[2]
    command("score", "again", "--set", f"{encoder}=./kept")
    code, _, said = program(*compared)
    assert code == 2 and "metrics differ (clip_i/one and clip_i/kept)" in said
