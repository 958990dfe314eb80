"""Readers of tasks answered with images: which captions are drawn, which scene and image go together."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from emu2eval import registry
from emu2eval.data import coco_images, dreambench
from emu2eval.data.load import load_split
from emu2eval.errors import ConfigError, DataError
from emu2eval.spec.task import load_task
from emu2eval.types import Image, Sample

from ..tasks.layouts import coco_t2i as coco_layout
from ..tasks.layouts import dreambench as layout

# Of Kosmos-G's evaluation: the one image of each subject that is shown.
INPUTS = """pink_sunglasses 04, can 01, candle 02, teapot 04, backpack 02, dog3 05, cat2 02, dog8 04,
grey_sloth_plushie 04, backpack_dog 02, robot_toy 00, dog5 00, duck_toy 01, dog2 02, dog 02,
colorful_sneaker 01, red_cartoon 00, clock 03, shiny_sneaker 01, dog6 02, berry_bowl 02, bear_plushie 03,
poop_emoji 00, rc_car 03, dog7 01, cat 04, fancy_boot 02, wolf_plushie 04, monster_toy 04, vase 02"""
LIVE = {"cat", "cat2", "dog", "dog2", "dog3", "dog5", "dog6", "dog7", "dog8"}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    layout.write(tmp_path)
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path))
    return tmp_path / "dreambooth/dataset"


def everything(bench: Path) -> None:
    """Makes the folder that of all 30 subjects, with six images each."""
    classes = {}
    for subject in (entry.split()[0] for entry in INPUTS.split(",")):
        own = "cat" if subject.startswith("cat") else "dog" if subject in LIVE else "toy"
        classes[subject] = own
        for number in range(6):
            place = bench / subject / f"{number:02d}.jpg"
            place.parent.mkdir(exist_ok=True)
            place.touch()
    (bench / "prompts_and_classes.txt").write_text(layout.official(classes))


def stems(sample: Sample) -> list[str]:
    return [Path(p.path or "").stem for p in sample.references if isinstance(p, Image)]


def test_the_official_lists_are_750_prompts_about_one_image_each(bench: Path) -> None:
    everything(bench)
    samples = load_split(load_task("dreambench"), "all")
    assert len(samples) == 750
    shown = {s.groups["subject"]: Path(s.images[0].path).stem for s in samples}  # type: ignore[union-attr,arg-type]
    assert shown == dict(entry.split() for entry in INPUTS.split(","))
    assert {s.groups["subject"] for s in samples if s.groups["kind"] == "live"} == LIVE
    for sample in samples:
        assert sample.references[:2] == (sample.fields["prompt"], sample.images[0])
        assert sorted(stems(sample)) == [f"{number:02d}" for number in range(6)]
        assert sample.cluster == sample.groups["subject"]
    counted: dict[tuple[object, object], int] = {}
    for sample in samples:
        key = (sample.groups["kind"], sample.groups["prompt"])
        counted[key] = counted.get(key, 0) + 1
    assert counted == {
        ("object", "recontextualisation"): 21 * 20,
        ("object", "property"): 21 * 5,
        ("live", "recontextualisation"): 9 * 10,
        ("live", "accessorisation"): 9 * 10,
        ("live", "property"): 9 * 5,
    }


def test_all_35_prompts_are_reworded_by_one_rule(bench: Path) -> None:
    samples = load_split(load_task("dreambench"), "all")
    asked = {
        (s.fields["prompt"].replace(s.fields["class"], "{}", 1), s.fields["emu2"]) for s in samples
    }
    scenes = {*layout.PLACES, *layout.MORE_PLACES, *layout.CLOTHES}
    assert asked == {(f"a {{}} {scene}", f" {scene}") for scene in scenes} | {
        (f"a {quality} {{}}", f" Make it {quality}") for quality in layout.QUALITIES
    }
    assert len(asked) == 35
    by_id = {s.id: s.fields for s in samples}
    assert by_id["backpack-10"]["prompt"] == "a backpack with a wheat field in the background"
    assert by_id["cat2-10"]["prompt"] == "a cat wearing a red hat"
    assert by_id["cat2-24"]["emu2"] == " Make it cube shaped"
    assert by_id["cat2-24"]["kosmos_g"] == ", cube shaped"
    assert by_id["cat2-03"]["kosmos_g"] == by_id["cat2-03"]["emu2"] == " on a cobblestone street"


def test_real_images_stand_beside_the_others_of_their_subject(bench: Path) -> None:
    samples = load_split(load_task("dreambench"), "real")
    assert samples.ids[:2] == ["backpack-00", "backpack-01"]
    assert stems(samples[1]) == ["00", "02", "03"]
    assert all(isinstance(reference, Image) for reference in samples[1].references)


def replaced(bench: Path, old: str, new: str) -> str:
    path = bench / "prompts_and_classes.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        list(load_split(load_task("dreambench"), "all"))
    return str(caught.value)


CALL = ".format(unique_token, class_token)"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'a {0} {1} in the snow'", "f'a {0} {1} in the snow'", "is not a prompt such as"),
        (f"snow'{CALL},", f"snow'{CALL} + open('seen', 'w').name,", "is not a prompt such as"),
        ("'a {0} {1} in the snow'", "'a {0.__class__} {1} in the snow'", "is not a prompt such as"),
        ("{1} in the snow'", "in the snow'", "is not a prompt such as"),
        ("{1} in the snow'", r"{1} in the \xsnow'", "is not a prompt such as"),
        (
            f"'a {{0}} {{1}} in the snow'{CALL},\n",
            "",
            "24 object prompts, but the official file has 25",
        ),
        ("Live Subject Prompts", "Object Prompts", "object prompts appear twice"),
        ("subject_name,class", "subject,class", "found 0 classes"),
        ("cat2,cat", "cat2", "is not a subject with its class"),
        ("cat2,cat", "cat3,cat", "no such folder"),
        ("cat2,cat", "../cat2,cat", "outside the data folder"),
    ],
)
def test_what_is_not_the_official_file_is_said(
    bench: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    if message == "no such folder":
        message = "cat3 does not exist"
    assert message in replaced(bench, old, new)
    assert not (tmp_path / "seen").exists()


def test_a_list_that_does_not_end(bench: Path) -> None:
    path = bench / "prompts_and_classes.txt"
    path.write_text(path.read_text().rstrip().removesuffix("]"))
    with pytest.raises(DataError, match="does not end"):
        dreambench.parse(path)


def test_the_shown_image_must_be_there(bench: Path) -> None:
    (bench / "backpack/02.jpg").unlink()
    with pytest.raises(DataError, match=r"shown to the model is 02\.jpg; there are 00, 01, 03"):
        load_split(load_task("dreambench"), "all")
    task = load_task("dreambench", overrides={"data.options.inputs": {"backpack": "00"}})
    with pytest.raises(DataError, match="cat2 that is shown to the model is not named"):
        load_split(task, "all")


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    coco_layout.write(tmp_path)
    monkeypatch.setenv("EMU2EVAL_DATA", str(tmp_path))
    return tmp_path / "coco/annotations/captions_val2014.json"


@pytest.mark.parametrize("seed", [0, 3])
def test_captions_are_drawn_as_kosmos_g_draws_them(coco: Path, seed: int) -> None:
    annotations = json.loads(coco.read_text())["annotations"]
    random.seed(seed)
    wanted = random.sample(annotations, 5)
    changes = {"data.splits.val.sample": 5, "data.splits.val.seed": seed}
    samples = load_split(load_task("coco_t2i", overrides=changes), "val")
    assert {s.id: s.fields["caption"] for s in samples} == {
        str(a["id"]): a["caption"].strip() for a in wanted
    }
    for sample in samples:
        image, words = sample.references
        assert words == sample.fields["caption"]
        assert isinstance(image, Image)
        assert image.name == f"COCO_val2014_{int(sample.cluster or 0):012d}.jpg"
        assert sample.answer == image and not sample.images
    # Autoencoding takes the images of the same draw.
    encoded = load_split(load_task("coco_autoencode", overrides=changes), "val")
    assert set(encoded.ids) == {str(a["image_id"]) for a in wanted}
    assert len(encoded) < 5
    assert all(s.images == s.references == (s.answer,) for s in encoded)


def test_without_a_draw_every_caption_and_a_pool_of_first_ones(coco: Path) -> None:
    assert len(load_split(load_task("coco_t2i"), "val")) == 8
    pool = load_split(load_task("coco_t2i"), "train")
    assert len(pool) == 20
    file = json.loads(coco.with_name("captions_train2014.json").read_text())
    first = {}
    for annotation in file["annotations"]:
        first.setdefault(str(annotation["image_id"]), str(annotation["id"]))
    assert {s.cluster: s.id for s in pool} == first


def test_captions_that_cannot_be_used(coco: Path, tmp_path: Path) -> None:
    named = {"captions": "coco/annotations/captions_val2014.json", "images": "coco/val2014"}
    with pytest.raises(ConfigError, match="at least 1, or null, got 0"):
        registry.build("reader", "coco-captions", {**named, "sample": 0}, given=(tmp_path,))
    file = json.loads(coco.read_text())
    file["annotations"][0]["caption"] = " \n"
    coco.write_text(json.dumps(file))
    with pytest.raises(DataError, match=r"caption \d+ is empty"):
        list(coco_images.read(tmp_path, **named))
    file["images"].clear()
    coco.write_text(json.dumps(file))
    with pytest.raises(DataError, match="which is not listed"):
        list(coco_images.read(tmp_path, **named))
