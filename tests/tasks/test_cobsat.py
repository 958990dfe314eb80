"""CoBSAT: the published list decides what is shown and asked; CLIP and a judge say what was drawn."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emu2eval import evaluate, score_again
from emu2eval.data.cobsat import SPACES
from emu2eval.data.load import load_split
from emu2eval.engine.tasks import opened
from emu2eval.errors import ConfigError, DataError, ModelError
from emu2eval.media import images
from emu2eval.spec.task import load_task
from emu2eval.types import Image

from .layouts import cobsat

LATENT = {"color-1": ("color", "object", True), "background-2": ("animal", "background", False)}
"""Task -> the space that is said, the space that is latent, and whether the latent one is the thing."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cobsat")
    cobsat.write(root)
    return root


@pytest.fixture(autouse=True)
def root(data: Path, _alone: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMU2EVAL_DATA", str(data))
    return data / "cobsat"


@pytest.mark.parametrize("shots", [0, 2, 8])
@pytest.mark.parametrize("name", LATENT)
def test_the_published_list_decides_what_is_shown_and_asked(
    root: Path, name: str, shots: int
) -> None:
    task = load_task("cobsat", split=name)
    queries, pool = load_split(task, name, shots), load_split(task, "images")
    chooser = opened(task).chooser(pool, 0)
    said_space, latent_space, thing_is_latent = LATENT[name]
    saids, latents = SPACES[said_space].split(), SPACES[latent_space].split()
    prompts = json.loads((root / "load_datasets/prompts_list_default.json").read_text())
    for prompt, query in zip(prompts, queries, strict=True):
        latent = latents[prompt["theta_list"][shots + 1]]
        x = saids[prompt["x_list"][shots]]
        thing, attribute = (latent, x) if thing_is_latent else (x, latent)
        assert query.references == (thing, attribute)
        assert (query.fields["x"], query.fields["latent"]) == (x, latent)
        assert query.groups == {
            "task": name,
            "inference": "object" if thing_is_latent else "attribute",
        }
        shown = [d.sample for d in chooser.choose(query, shots, 0)]
        assert len(shown) == shots
        for place, sample in enumerate(shown):
            said = saids[prompt["x_list"][place]]
            of, item = (latent, said) if thing_is_latent else (said, latent)
            folder = f"{latent_space if not thing_is_latent else said_space}_{of}"
            assert isinstance(sample.answer, Image) and sample.answer.path is not None
            assert sample.answer.path.endswith(f"datasets/{folder}/{item}_{of}.jpg")
            assert sample.fields["x"] == said
            other = latents[prompt["theta_list"][place]]
            assert sample.fields["other"] == other
            assert sample.fields["caption"] == f"A {of}, {item}."


THUMBNAIL = ["task.score.options.clip.encoder=thumbnail"]
"""An encoder that is always at hand."""


def test_nine_shots_are_one_too_many() -> None:
    with pytest.raises(DataError, match="no query after 9 demonstrations"):
        evaluate("cobsat", "copy", shots=[9], split="color-1", changes=THUMBNAIL)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ({"x_list": [0] * 10, "theta_list": [*range(10)]}, "appears twice"),
        ({"x_list": [*range(9), 10], "theta_list": [*range(10)]}, "<= 9"),
        ({"x_list": [*range(10)]}, "theta_list"),
    ],
)
def test_a_list_that_is_not_the_published_one_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: Any, said: str
) -> None:
    changed = tmp_path / "changed/cobsat"
    (changed / "load_datasets").mkdir(parents=True)
    (changed / "datasets").symlink_to(root / "datasets")
    (changed / "load_datasets/prompts_list_default.json").write_text(json.dumps([prompt]))
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path / "changed"))
    with pytest.raises(DataError, match=said):
        load_split(load_task("cobsat"), "color-1")


def test_clip_takes_the_likest_of_ten_objects_and_of_ten_attributes(tiny_clip: Path) -> None:
    (result,) = evaluate(
        "cobsat", "copy", shots=[2], changes=[f"task.score.options.clip.encoder={tiny_clip}"]
    )
    likest = _by_hand(tiny_clip)
    wanted: defaultdict[str | None, list[tuple[float, float, float]]] = defaultdict(list)
    for query in load_split(load_task("cobsat"), "all", 2):
        (*_, (last, _)) = json.loads(query.fields["shown"])
        name = query.groups["task"]
        attribute = str(name).partition("-")[0]
        thing = "animal" if attribute in ("action", "background") else "object"
        drawn = f"{last}.jpg"
        hit = tuple(
            likest(drawn, SPACES[space]) == reference
            for space, reference in zip((thing, attribute), query.references, strict=True)
        )
        latent = hit[0] if str(name).endswith("1") else hit[1]
        other = hit[1] if str(name).endswith("1") else hit[0]
        inference = f"inference: {query.groups['inference']}"
        for group in (None, f"task: {name}", inference):
            wanted[group].append((float(all(hit)), float(latent), float(other)))
    assert len(wanted) == 1 + 10 + 2
    rows = {(row.group, row.label): row for row in result.rows}
    assert len(rows) == 3 * len(wanted)
    for group, values in wanted.items():
        means = 100 * np.mean(values, axis=0)
        for figure, mean in zip(("right", "latent", "non_latent"), means, strict=True):
            row = rows[group, f"clip_{figure}/{tiny_clip.name}"]
            assert row.value == pytest.approx(mean)
    assert result.rows[0].label == f"clip_right/{tiny_clip.name}"
    assert any(0 < np.mean(values) < 1 for values in wanted.values())


def _by_hand(folder: Path) -> Any:
    """(image below datasets, items) -> the item whose text CLIP finds likest, by transformers alone."""
    import torch
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    sees, reads = (
        CLIPImageProcessorPil.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    base = Path(load_task("cobsat").root) / "cobsat/datasets"

    def likest(image: str, items: str) -> str:
        pixels = images.load(Image(str(base / image)))
        with torch.no_grad():
            one = {"pixel_values": sees(images=[pixels], return_tensors="pt")["pixel_values"]}
            looks = []
            for item in items.split():
                both = model(**one, **reads([item], return_tensors="pt"))
                looks.append(float((both.image_embeds @ both.text_embeds.T).clamp(min=0)))
        return items.split()[int(np.argmax(looks))]

    return likest


def test_a_judge_chooses_among_the_same_items(make_model: Any) -> None:
    """One that always names the first object and the third attribute, and no option of styles."""
    judge = make_model(
        "judge", default="(1)", replies={"What is the style": "none", "of the main": "3."}
    )
    (result,) = evaluate(
        "cobsat", "copy", shots=[0], judge=str(judge), changes=["task.score.options.clip=null"]
    )
    queries = list(load_split(load_task("cobsat"), "all"))
    seen = [q for q in queries if not str(q.groups["task"]).startswith("style")]
    latent, right = [], []
    for query in seen:
        first, third = query.fields["objects"].split()[0], query.fields["attributes"].split()[2]
        hit = query.references[0] == first, query.references[1] == third
        latent.append(hit[query.groups["inference"] == "attribute"])
        right.append(all(hit))
    whole = {row.label: row for row in result.rows if row.group is None}
    assert next(iter(whole)) == "judged_right/own by judge"
    assert whole["judged_right/own by judge"].value == pytest.approx(100 * np.mean(right))
    assert whole["judged_latent/own by judge"].value == pytest.approx(100 * np.mean(latent))
    assert (result.rows[0].n, result.rows[0].unscored) == (16, 4)  # styles are unscored, not wrong
    lines = (result.folder / "scores.jsonl").read_text().splitlines()
    why = {row.get("why") for row in map(json.loads, lines)}
    assert why == {None, "the judge chose no option for the attribute"}


def test_clip_stays_the_headline_beside_a_judge(make_model: Any, tiny_clip: Path) -> None:
    options: dict[str, Any] = {
        "split": "style-2",
        "shots": [2],
        "changes": [f"task.score.options.clip.encoder={tiny_clip}"],
    }
    (plain,) = evaluate("cobsat", "copy", **options)
    (judged,) = evaluate("cobsat", "copy", judge=str(make_model("judge", default="9")), **options)
    assert judged.tally.asked == 0
    assert [row.label for row in judged.rows if row.group is None][:4] == [
        *(row.label for row in plain.rows if row.group is None),
        "judged_right/own by judge",
    ]
    assert judged.rows[0].value == plain.rows[0].value
    assert score_again(judged.folder).rows == judged.rows


def test_a_description_is_scored_as_its_image(make_model: Any, tiny_clip: Path) -> None:
    model = make_model(default="a red hat on a table")
    (result,) = evaluate(
        "cobsat",
        str(model),
        protocol="describe",
        shots=[2],
        changes=[f"task.score.options.clip.encoder={tiny_clip}"],
    )
    assert (result.rows[0].n, result.rows[0].unscored) == (20, 0)
    said = {
        row["prediction"]
        for row in map(json.loads, (result.folder / "scores.jsonl").read_text().splitlines())
        if row["id"].startswith("color")
    }
    assert len(said) == 1  # the same words look alike, whatever was asked


def test_what_is_missing_is_said_before_anything_is_drawn() -> None:
    with pytest.raises(ModelError, match=r"task\.score\.options\.clip"):
        evaluate("cobsat", "copy", changes=["task.score.options.clip.encoder=nowhere/clip"])
    with pytest.raises(ConfigError, match="needs a judge, but none is given"):
        evaluate("cobsat", "copy", changes=["task.score.options.clip=null"])
    assert not Path("results").exists()
