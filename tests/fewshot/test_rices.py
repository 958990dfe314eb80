"""RICES: the most similar last, never the query's own image, the same whatever else is asked."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as PILImage

from emu2eval import evaluate, registry
from emu2eval.data.samples import Samples
from emu2eval.encoders.base import Thumbnail
from emu2eval.engine.precompute import compute_features
from emu2eval.engine.reopen import reopen
from emu2eval.engine.results import Result
from emu2eval.errors import ConfigError, PlanError, StoreError, UnknownName
from emu2eval.fewshot import rices
from emu2eval.fewshot.rices import Rices, RicesSettings
from emu2eval.media import images
from emu2eval.types import Image, Sample, Video

MakeTask = Callable[..., Path]


def image(number: int, level: int = 6) -> Image:
    """Drawn by number; another level of compression gives the same pixels in other bytes."""
    chance = np.random.default_rng(number)
    small = chance.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    stream = io.BytesIO()
    image = PILImage.fromarray(small).resize((32, 32), PILImage.Resampling.NEAREST)
    image.save(stream, "PNG", compress_level=level)
    return Image(data=stream.getvalue())


IMAGES = [image(n) for n in range(40)]


def sample(name: str, number: int, question: str = "what is it?") -> Sample:
    return Sample(name, {"question": question}, (IMAGES[number],), answer=name)


def pool(size: int = 30, each: int = 1) -> Samples:
    """each: so many samples of every image, with ids that alternate between the images."""
    return Samples(
        (sample(f"{n:02d}-{i}", i, f"is it {n}?") for n in range(each) for i in range(size)),
        where="the pool",
    )


def chooser(samples: Samples | None = None, seed: int = 0, **options: Any) -> Rices:
    found: Rices = registry.build(
        "chooser",
        "rices",
        {"encoder": "thumbnail", **options},
        given=(pool() if samples is None else samples, seed),
    )
    return found


def ids(found: Rices, query: Sample, shots: int) -> list[str]:
    return [d.sample.id for d in found.choose(query, shots, 0)]


def thumbnail(shown: Image) -> npt.NDArray[np.float64]:
    small = images.load(shown).resize((16, 16), PILImage.Resampling.BOX)
    values = np.asarray(small, dtype=np.float64).ravel() - 127.5
    return values / np.linalg.norm(values)


QUERY = sample("query", 35)


def test_equals_a_plain_ranking_with_the_most_similar_last() -> None:
    samples = pool()
    likeness = {
        s.id: thumbnail(IMAGES[int(s.id.split("-")[1])]) @ thumbnail(IMAGES[35]) for s in samples
    }
    expected = sorted(likeness, key=lambda name: likeness[name])
    shown = chooser(samples).choose(QUERY, 30, 0)
    assert [d.sample.id for d in shown] == expected
    assert shown[-1].why == f"rices: rank 1, similarity {likeness[expected[-1]]:.4f}, thumbnail"


def test_fewer_shots_are_the_nearest_of_more() -> None:
    found = chooser(pool(12, each=3))
    most = ids(found, QUERY, 36)
    assert len(set(most)) == 36
    for shots in range(36):
        assert ids(found, QUERY, shots) == most[36 - shots :]


def test_the_query_and_its_image_are_never_shown() -> None:
    samples = pool(10, each=3)
    found = chooser(samples)
    for query in samples:
        shown = found.choose(query, 27, 0)
        own = images.digest(query.images[0])  # type: ignore[arg-type]
        assert own not in {images.digest(d.sample.images[0]) for d in shown}  # type: ignore[arg-type]
        with pytest.raises(PlanError, match="only 27"):
            found.choose(query, 28, 0)
    # Under another name, in another place, it is the same image.
    elsewhere = Sample("elsewhere", images=(Image(data=images.read(IMAGES[4])),))
    assert not any(name.endswith("-4") for name in ids(found, elsewhere, 27))


def test_equals_stand_in_the_order_of_their_ids() -> None:
    # Two encodings of the same pixels: not the same image, but equally similar.
    twins = [
        Sample(f"{n}", images=(image(7, level=9 if n % 2 else 1),), answer="x") for n in range(8)
    ]
    others = [sample(f"other-{n}", n) for n in range(20, 26)]
    query = Sample("query", images=(image(7, level=5),))
    found = chooser(Samples([*twins, *others], where="the pool"))
    for shots in range(1, 9):
        assert ids(found, query, shots) == [str(n) for n in range(shots)][::-1]


@pytest.mark.parametrize("text", [0.0, 0.4])
def test_few_kept_neighbours_change_nothing(text: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # Equally similar units on both sides of the border, and a query whose own image is in the pool.
    twins = [
        Sample(f"{n}", {"question": "a b"}, (image(7, level=n % 4),), answer="x") for n in range(8)
    ]
    samples = Samples([*twins, *pool(15, each=2)], where="the pool")
    queries = [QUERY, samples[20], Sample("q", {"question": "b"}, (image(7, level=8),))]
    usual = [ids(chooser(samples, text=text), query, 30) for query in queries]
    for kept in (1, 3, 9):
        monkeypatch.setattr(rices, "KEPT", kept)
        found = chooser(samples, text=text)
        assert [ids(found, query, 30) for query in queries] == usual


def test_what_is_prepared_together_changes_nothing() -> None:
    samples = pool(20, each=2)
    queries = [sample(f"q{n}", n, f"is it {n}?") for n in range(40)]
    alone = chooser(samples, text=0.3)
    one_by_one = [ids(alone, query, 6) for query in queries]
    together = chooser(Samples(reversed(list(samples)), where="turned"), seed=5, text=0.3)
    told: set[str] = set()
    together.prepare(queries, 6, progress=lambda what, done, total: told.add(what))
    assert [ids(together, query, 6) for query in reversed(queries)][::-1] == one_by_one
    assert "searching for the most similar" in told


def test_one_image_gives_only_so_many() -> None:
    found = chooser(pool(12, each=4), per_image=1)
    shown = ids(found, QUERY, 12)
    assert len({name.split("-")[1] for name in shown}) == 12
    assert shown == ids(chooser(pool(12)), QUERY, 12)
    with pytest.raises(PlanError, match="only 12"):
        found.choose(QUERY, 13, 0)


def test_words_count_by_their_weight() -> None:
    samples = Samples(
        [
            sample("same-words", 1, "how many dogs are there?"),
            sample("same-image", 35, "what is it?"),
            sample("nothing", 2, "what colour has he?"),
        ],
        where="the pool",
    )
    # The same pixels in other bytes, or its image would be excluded.
    query = Sample("q", {"question": "how many dogs are there"}, (image(35, level=1),))
    assert ids(chooser(samples, text=0), query, 1) == ["same-image"]
    assert ids(chooser(samples, text=0.9), query, 1) == ["same-words"]
    assert ids(chooser(samples, text=1.0), query, 1) == ["same-words"]
    with pytest.raises(UnknownName, match="caption"):
        chooser(samples, text=0.5, text_field="caption").choose(query, 1, 0)


def test_several_images_count_as_their_mean() -> None:
    shown = [Sample(f"{n}", images=(IMAGES[n], IMAGES[n + 1]), answer="x") for n in range(9)]
    film = Video((IMAGES[20], IMAGES[30], IMAGES[31]))
    query = Sample("q", images=(film,))

    def mean(*numbers: int) -> npt.NDArray[np.float64]:
        total = np.sum([thumbnail(IMAGES[n]) for n in numbers], axis=0)
        unit: npt.NDArray[np.float64] = total / np.linalg.norm(total)
        return unit

    likeness = {f"{n}": mean(n, n + 1) @ mean(20, 30, 31) for n in range(9)}
    expected = sorted(likeness, key=lambda name: likeness[name])
    assert ids(chooser(Samples(shown, where="the pool")), query, 9) == expected


def test_what_its_encoder_lacks_is_known_without_a_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (lacking,) = Rices(Samples.none(), 0, RicesSettings()).lacks()
    assert "openai/clip-vit-large-patch14" in str(lacking)
    assert chooser(Samples.none()).lacks() == []
    assert chooser(Samples.none(), encoder="model").lacks() == []


def test_samples_without_images_and_impossible_options_are_refused() -> None:
    bare = Samples([Sample("1", {"question": "who?"}, answer="x")], where="texts")
    with pytest.raises(ConfigError, match="has none"):
        chooser(bare).choose(QUERY, 1, 0)
    assert ids(chooser(bare, text=1), QUERY, 1) == ["1"]
    for options in ({"text": 1.5}, {"per_image": 0}):
        with pytest.raises(ConfigError, match="option"):
            chooser(**options)
    with pytest.raises(ConfigError, match="no model here"):
        chooser(encoder="model").choose(QUERY, 1, 0)


# -- whole runs -----------------------------------------------------------------------------------


def run(task: Path, **settings: Any) -> Result:
    (result,) = evaluate(str(task), "most-common", **{"shots": [4], **settings})
    return result


def shown_by(result: Result) -> dict[str, list[str]]:
    lines = (result.folder / "responses.jsonl").read_text().splitlines()
    return {row["id"]: row["examples"] for row in map(json.loads, lines)}


def by_rices(**options: Any) -> dict[str, Any]:
    options = {"encoder": "thumbnail", **options}
    return {"demonstrations": {"split": "train", "chooser": "rices", "options": options}}


def test_the_same_for_any_batch_limit_and_cache(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(queries=20, pool=40, **by_rices())
    few = run(task, limit=7, batch=1, out=tmp_path / "few")
    monkeypatch.setenv("EMU2EVAL_CACHE", str(tmp_path / "other cache"))
    whole = run(task, batch=64, out=tmp_path / "whole")
    assert len(shown_by(whole)) == 20
    assert shown_by(few).items() <= shown_by(whole).items()
    # The run that was begun with a limit goes on as if it had none.
    grown = run(task, out=tmp_path / "few")
    assert grown.folder.name == whole.folder.name
    assert (grown.tally.kept, grown.tally.asked + grown.tally.copied) == (7, 13)
    assert shown_by(grown) == shown_by(whole)


def test_all_shots_of_one_command_share_a_search(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = []
    really = rices.nearest

    def counted(*arguments: Any) -> Any:
        searches.append(arguments[1])
        return really(*arguments)

    monkeypatch.setattr(rices, "nearest", counted)
    task = make_task(queries=6, pool=20, **by_rices())
    results = evaluate(str(task), ["most-common", "nearest"], shots=[2, 4, 8])
    assert len(results) == 6
    assert len(searches) == 1


def test_the_record_names_encoder_and_features(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task(**by_rices())
    first = run(task)
    record = json.loads((first.folder / "run.json").read_text())
    stored = record["identity"]["data"]["chooser"]
    assert stored["encoder"] == Thumbnail().identity()
    assert len(stored["features"]["images"]) == 64
    assert run(task).tally.asked == 0

    # Another image under the same name: other features, so another run.
    PILImage.new("RGB", (16, 16), "white").save(tmp_path / "squares" / "images" / "1003.png")
    with pytest.raises(StoreError, match="different ones would be shown"):
        reopen(first.folder, demonstrations=True)
    second = run(task)
    assert second.folder != first.folder
    reopen(second.folder, demonstrations=True)
    again = json.loads((second.folder / "run.json").read_text())["identity"]["data"]["chooser"]
    assert again["features"] != stored["features"]


def test_a_run_without_rices_records_no_features(make_task: MakeTask) -> None:
    record = json.loads((run(make_task()).folder / "run.json").read_text())
    assert record["identity"]["data"]["chooser"] == {}


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "emu2eval.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_from_the_command_line(make_task: MakeTask, tmp_path: Path) -> None:
    task = str(make_task(queries=5, pool=9))
    sets = ["task.demonstrations.chooser=rices", "task.demonstrations.options.encoder=thumbnail"]
    made = cli("features", "--task", task, "--encoder", "thumbnail", "--set", sets[0])
    assert made.returncode == 0, made.stderr
    assert "test: 5 images, 5 newly computed" in made.stdout
    assert "train: 9 images, 9 newly computed" in made.stdout
    done = cli(
        "run",
        "--model",
        "most-common",
        "--task",
        task,
        "--shots",
        "2",
        "-f",
        "json",
        "--set",
        *sets,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["n"] == 5
    assert "through thumbnail" not in done.stderr  # nothing was left to compute

    (file,) = (tmp_path / "cache" / "features").glob("thumbnail-*/images-*.safetensors")
    file.write_bytes(file.read_bytes()[:-50])
    damaged = cli("run", "--model", "most-common", "--task", task, "--shots", "2", "--set", *sets)
    assert damaged.returncode == 0, damaged.stderr


def test_models_without_eyes_and_wrong_splits_are_told(make_task: MakeTask) -> None:
    task = make_task(**by_rices(encoder="model"))
    with pytest.raises(ConfigError, match="offers no image features"):
        run(task)
    with pytest.raises(UnknownName, match="did you mean 'test'"):
        list(compute_features(str(task), ["tests"]))


def test_show_and_a_dry_run_choose_by_likeness_too(make_task: MakeTask, program: Any) -> None:
    task = str(make_task(queries=5, pool=9, **by_rices()))
    code, printed, _ = program("show", "--task", task, "--shots", "2", "--index", "0")
    assert (code, "rices: rank 1, similarity" in printed) == (0, True)
    code, printed, _ = program(
        "run", "--model", "most-common", "--task", task, "--shots", "2", "--dry-run"
    )
    assert (code, "dry run: no requests are sent" in printed) == (0, True)
