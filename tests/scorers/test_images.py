"""Cosines and FID of images, against the same worked out anew from the features themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image as PILImage

from emu2eval import evaluate, registry
from emu2eval.encoders.base import Encoder, Thumbnail, Vectors
from emu2eval.errors import ConfigError, ModelError, UserError
from emu2eval.media import images
from emu2eval.runs.scores import read_scores
from emu2eval.scorers.frechet import Frechet, FrechetDistance, FrechetSettings
from emu2eval.scorers.images import Images
from emu2eval.statistics.paired import paired_influences, paired_jackknife
from emu2eval.types import Image, Response, Sample, Score


def image(number: int, shift: float = 0.0) -> Image:
    chance = np.random.default_rng(number)
    small = chance.normal(110 + shift, 45, (4, 4, 3)).clip(0, 255).astype(np.uint8)
    return images.from_pil(PILImage.fromarray(small).resize((20, 20), PILImage.Resampling.BICUBIC))


class Few(Encoder):
    """The mean colours of the left and the right half: (6,), so that few images have a covariance."""

    name = "few"

    def identity(self) -> dict[str, Any]:
        return {"encoder": "few"}

    def encode(self, prepared: Sequence[Any]) -> Vectors:
        grids = [np.asarray(images.load(p), dtype=np.float32) for p in prepared]
        return np.stack([np.r_[g[:, :10].mean((0, 1)), g[:, 10:].mean((0, 1))] for g in grids])


FEW = f"{__name__}:Few"


def answered(count: int, shift: float = 0.0, real: int = 1) -> list[tuple[Sample, Response]]:
    return [
        (
            Sample(
                f"s{n:03d}",
                cluster=f"c{n // 2}",
                references=(f"number {n}", *(image(1000 + n * real + i) for i in range(real))),
            ),
            Response(images=(image(n, shift),)),
        )
        for n in range(count)
    ]


def cosine(one: Image, other: Image) -> float:
    a, b = (Thumbnail().prepare(p).astype(np.float64) for p in (one, other))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def images_scorer(**options: Any) -> Images:
    scorer: Images = registry.build("scorer", "images", options)
    return scorer


def measure(network: str, **settings: Any) -> Frechet:
    return Frechet(FrechetSettings(network=network, **settings))


@pytest.mark.parametrize("references", ["first", "all"])
def test_cosines_with_the_first_or_with_all_references(references: Any) -> None:
    scorer = images_scorer(clip_i={"encoder": "thumbnail"}, references=references)
    given = answered(5, real=3)
    scorer.prepare(iter(given))
    for sample, response in given:
        real = [r for r in sample.references if isinstance(r, Image)]
        made = response.image
        assert made is not None
        wanted = [cosine(made, r) for r in (real if references == "all" else real[:1])]
        assert scorer.score(sample, response).value == pytest.approx(np.mean(wanted), abs=1e-12)


def test_an_image_without_a_reference_is_unscored() -> None:
    scorer = images_scorer(clip_i={"encoder": "thumbnail"})
    assert scorer.score(Sample("a"), Response(images=(image(1),))).value is None
    assert (
        scorer.score(Sample("a", references=("words",)), Response(images=(image(1),))).value is None
    )


def test_an_encoder_without_words_in_common_says_so() -> None:
    scorer = images_scorer(clip_t={"encoder": "thumbnail"})
    with pytest.raises(ConfigError, match="cannot compare images with texts"):
        scorer.score(Sample("a", references=("words",)), Response(images=(image(1),)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "no encoder"),
        ({"clip_i": {"encodr": "x"}}, "has no key 'encodr'; did you mean 'encoder'"),
        ({"clip_i": {"preprocessing": {}}}, "'clip_i' of scorer images needs the key 'encoder'"),
        ({"clip_i": {"encoder": "thumbnail"}, "references": "some"}, "'all' or 'first'"),
        ({"clip_i": {"encoder": "thumbnail"}, "fid": {"net": "x"}}, "did you mean 'network'"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as raised:
        images_scorer(**options)
    assert said in f"{raised.value} {raised.value.hint}"


def frechet_distance(one: Any, other: Any) -> float:
    """As its definition has it, with a general matrix root."""
    from scipy.linalg import sqrtm

    (m, s), (r, t) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (one, other))
    root = sqrtm(s @ t).real
    return float((m - r) @ (m - r) + np.trace(s + t - 2 * root))


def fed(frechet: Frechet, given: list[tuple[Sample, Response]]) -> FrechetDistance:
    made = [response.image for _, response in given if response.image is not None]
    real = [p for sample, _ in given for p in sample.references if isinstance(p, Image)]
    frechet.learn(made, real)
    distance = FrechetDistance(frechet)
    for (sample, _), shown in zip(given, made, strict=True):
        distance.add(sample, Score(1.0, details={"image": images.digest(shown)}))
    return distance


def features(shown: Sequence[Image]) -> Any:
    return Few().encode(shown).astype(np.float64)


def test_fid_is_what_its_definition_says() -> None:
    given = answered(60, shift=12)
    distance = fed(measure(FEW), given)
    made = features([r.image for _, r in given if r.image is not None])
    real = features([image(1000 + n) for n in range(60)])
    assert distance.value() == pytest.approx(frechet_distance(made, real), rel=1e-6)


def test_fid_does_not_depend_on_the_order_or_on_how_much_is_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = answered(20, shift=5)
    once = fed(measure(FEW), given).value()
    monkeypatch.setattr("emu2eval.scorers.frechet._AT_ONCE", 3)
    turned = fed(measure(FEW), given[::-1]).value()
    assert turned == pytest.approx(once, rel=1e-9)


def test_fid_against_the_images_of_a_folder(tmp_path: Path) -> None:
    for number in range(30):
        images.load(image(500 + number)).save(tmp_path / f"{number:02d}.png")
    given = answered(30)
    found = fed(measure(FEW, references=str(tmp_path)), given).value()
    made = features([r.image for _, r in given if r.image is not None])
    real = features([image(500 + number) for number in range(30)])
    assert found == pytest.approx(frechet_distance(made, real), rel=1e-6)
    lacking = measure(FEW, references=str(tmp_path / "none")).lacks()
    assert "the folder of FID's reference images does not exist" in [each.what for each in lacking]


def test_fid_of_fewer_images_than_features_says_that_it_is_too_large() -> None:
    found = []
    for count in (6, 7):
        frechet = measure(FEW)
        fed(frechet, answered(count))
        found.append("biased far upwards: 6 images are too few for 6 features" in frechet.note)
    assert found == [True, False]


def test_the_error_of_fid_is_that_of_resampling_whole_clusters() -> None:
    given = answered(240, shift=15)
    distance = fed(measure(FEW), given)
    _, error = distance.result()
    assert error is not None
    made = features([r.image for _, r in given if r.image is not None]).reshape(120, 2, -1)
    real = features([image(1000 + n) for n in range(240)])
    chance = np.random.default_rng(0)
    values = [
        frechet_distance(made[chance.integers(120, size=120)].reshape(240, -1), real)
        for _ in range(400)
    ]
    assert error == pytest.approx(np.std(values), rel=0.2)
    moved = distance.influences()
    assert moved is not None and len(moved) == 120
    assert sum(moved.values()) == pytest.approx(0, abs=0.02 * error)


def test_two_runs_fids_are_compared_by_what_each_image_moves_them_by() -> None:
    frechet = measure(FEW)
    one, other = answered(120), answered(120, shift=4)
    first, second = fed(frechet, one), fed(frechet, other)
    made = paired_influences(first, second, 120)
    assert made is not None and made.error is not None
    assert made.difference == pytest.approx((second.value() or 0) - (first.value() or 0))

    def feed(a: Any, b: Any, places: Sequence[int]) -> None:
        for place in places:
            for accumulator, given in ((a, one), (b, other)):
                sample, response = given[place]
                assert response.image is not None
                shown = {"image": images.digest(response.image)}
                accumulator.add(sample, Score(1.0, details=shown))

    clusters = [str(sample.cluster) for sample, _ in one]
    slow = paired_jackknife(lambda: FrechetDistance(frechet), feed, clusters)
    assert slow is not None
    # The jackknife leaves the reference images of what it leaves out away as well.
    assert made.error == pytest.approx(slow.error, rel=0.5)


class TestInception:
    torch = pytest.importorskip("torch")

    @pytest.fixture(autouse=True)
    def _few_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # The network is large, and a test shows it one image.
        monkeypatch.setattr("emu2eval.encoders.together.ROWS", 1)

    def network(self, path: Path) -> Path:
        from safetensors.torch import save_file

        from emu2eval.encoders.inception import build

        self.torch.manual_seed(0)
        network = build()
        save_file(network.state_dict(), path)
        return path

    def test_it_has_the_published_tensors(self) -> None:
        """Inception-v3 without its two classifiers: 23,834,568 parameters less 2,049,000."""
        from emu2eval.encoders.inception import build

        network = build()
        assert sum(p.numel() for p in network.parameters()) == 23_834_568 - 2_049_000
        tensors = {name: tuple(t.shape) for name, t in network.state_dict().items()}
        assert len([n for n in tensors if n.endswith("conv.weight")]) == 94
        assert tensors["Conv2d_4a_3x3.conv.weight"] == (192, 80, 3, 3)
        assert tensors["Mixed_5b.branch5x5_2.conv.weight"] == (64, 48, 5, 5)
        assert tensors["Mixed_6b.branch7x7dbl_2.conv.weight"] == (128, 128, 7, 1)
        assert tensors["Mixed_7a.branch7x7x3_4.conv.weight"] == (192, 192, 3, 3)
        assert tensors["Mixed_7c.branch3x3dbl_3b.bn.running_var"] == (384,)

    def test_features_from_a_file_of_either_kind(self, tmp_path: Path) -> None:
        from safetensors.torch import load_file

        from emu2eval.encoders.inception import InceptionEncoder

        path = self.network(tmp_path / "network.safetensors")
        # The published file holds a classifier, too, and no counters of batches.
        tensors = {k: t for k, t in load_file(path).items() if "num_batches" not in k}
        tensors["fc.weight"] = self.torch.zeros(1008, 2048)
        self.torch.save(tensors, tmp_path / "network.pth")
        shown = [image(1)]
        found = []
        for name in ("network.safetensors", "network.pth"):
            encoder = InceptionEncoder(str(tmp_path / name))
            found.append(encoder.encode([encoder.prepare(p) for p in shown]))
        assert found[0].shape == (1, 2048)
        np.testing.assert_array_equal(found[0], found[1])

    def test_images_are_cut_and_resized_as_said(self, tmp_path: Path) -> None:
        from emu2eval.encoders.inception import InceptionEncoder

        path = str(self.network(tmp_path / "network.safetensors"))
        image = PILImage.fromarray(
            np.random.default_rng(0).integers(0, 255, (100, 140, 3), dtype=np.uint8)
        )
        cut = InceptionEncoder(path, crop=50).prepare(images.from_pil(image))
        small = np.asarray(image.resize((70, 50), PILImage.Resampling.BILINEAR))
        np.testing.assert_array_equal(cut, small[:, 10:60].transpose(2, 0, 1))
        whole = InceptionEncoder(path, crop=None, antialias=False)
        ready = whole.prepare(images.from_pil(image))
        assert ready.shape == (3, 100, 140)
        made = whole._sized(self.torch.from_numpy(np.ascontiguousarray(ready)[None]))[0].numpy()
        # TensorFlow 1: row 7 stands at 7 x 100 / 299 of the image's rows, column 200 at 200 x 140 / 299.
        y, x = 7 * 100 / 299, 200 * 140 / 299
        top, left = int(y), int(x)
        corner = ready[:, top : top + 2, left : left + 2].astype(np.float64)
        weights = np.outer([1 - (y - top), y - top], [1 - (x - left), x - left])
        np.testing.assert_allclose(
            made[:, 7, 200], ((corner * weights).sum((1, 2)) - 128) / 128, atol=1e-4
        )

    @pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x04\x95"])
    def test_a_file_of_another_kind_is_told(self, tmp_path: Path, content: bytes) -> None:
        from emu2eval.encoders.inception import InceptionEncoder

        for name in ("network.pth", "network.safetensors"):
            (tmp_path / name).write_bytes(content)
            encoder = InceptionEncoder(str(tmp_path / name))
            with pytest.raises(ModelError, match="cannot read"):
                encoder.encode([encoder.prepare(image(1))])
        (lacking,) = InceptionEncoder(str(tmp_path / "none.pth")).lacks()
        assert lacking.what == "the Inception network for FID is missing"

    def test_a_file_that_would_run_code_is_refused(self, tmp_path: Path) -> None:
        import pickle

        from emu2eval.encoders.inception import InceptionEncoder

        class Evil:
            def __reduce__(self) -> Any:
                return (Path.touch, (tmp_path / "ran",))

        (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
        encoder = InceptionEncoder(str(tmp_path / "evil.pth"))
        with pytest.raises(ModelError, match="cannot read"):
            encoder.encode([encoder.prepare(image(1))])
        assert not (tmp_path / "ran").exists()

    def test_the_tensors_of_another_network_are_refused(self, tmp_path: Path) -> None:
        from emu2eval.encoders.inception import InceptionEncoder

        self.torch.save({"weight": self.torch.zeros(2)}, tmp_path / "other.pth")
        encoder = InceptionEncoder(str(tmp_path / "other.pth"))
        with pytest.raises(ModelError, match="not the Inception-v3"):
            encoder.encode([encoder.prepare(image(1))])


def test_an_encoder_is_tried_once_and_keeps_no_weights_meanwhile(tiny_clip: Path) -> None:
    tried = images_scorer(clip_t={"encoder": str(tiny_clip)})
    assert tried.lacks() == []
    tried.try_out()
    encoder = tried.cosines["clip_t"].encoder
    assert "_model" not in vars(encoder)
    given = answered(2)
    tried.prepare(iter(given))
    assert "_model" in vars(encoder)
    assert tried.score(*given[0]).value is not None
    again = images_scorer(clip_t={"encoder": str(tiny_clip)})
    kept = again.cosines["clip_t"]._kept("images")
    assert len(kept) == 1 + 2
    again.try_out()
    assert len(kept) == 1 + 2


def test_two_numbers_by_one_checkpoint_load_it_once(tiny_clip: Path, tiny_dino: Path) -> None:
    clip, dino = {"encoder": str(tiny_clip)}, {"encoder": str(tiny_dino)}
    cosines = images_scorer(dino=dino, clip_i=clip, clip_t=clip).cosines
    assert cosines["clip_i"].encoder is cosines["clip_t"].encoder
    assert cosines["clip_i"].encoder is not cosines["dino"].encoder
    squashed = {**clip, "preprocessing": {"do_center_crop": False}}
    cosines = images_scorer(clip_i=squashed, clip_t=clip).cosines
    assert cosines["clip_i"].encoder is not cosines["clip_t"].encoder


def test_fid_is_one_number_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told once in the table, with its label and what it was measured by; sub-scores have the cosines."""
    sets = [
        "task.score.scorer=images",
        "task.score.options.clip_i.encoder=thumbnail",
        "task.score.options.fid.network=thumbnail",
    ]
    reference = tmp_path / "real"
    reference.mkdir()
    for number in range(4):
        images.load(image(number)).save(reference / f"{number}.png")
    sets.append(f"task.score.options.fid.references={reference}")
    (tmp_path / "data").mkdir()
    rows = [{"id": str(n), "file": f"{n}.png", "kind": "ab"[n % 2]} for n in range(6)]
    for n, row in enumerate(rows):
        images.load(image(100 + n)).save(tmp_path / "data" / row["file"])
    (tmp_path / "data" / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = {
        "name": "same",
        "title": "The same image",
        "data": {
            "reader": f"{__name__}:read",
            "root": "data",
            "splits": {"test": {}},
        },
        "split": "test",
        "output": {"kind": "image"},
        "score": {"scorer": "images"},
        "protocol": "plain",
        "protocols": {"plain": {"ask": "{image}"}},
    }
    (tmp_path / "same.yaml").write_text(yaml.safe_dump(task))
    (result,) = evaluate(str(tmp_path / "same.yaml"), "copy", changes=sets, out=tmp_path / "runs")
    told = [(row.label, row.group) for row in result.rows]
    assert told == [
        ("clip_i/thumbnail", None),
        ("fid/thumbnail", None),
        ("clip_i/thumbnail", "kind: a"),
        ("clip_i/thumbnail", "kind: b"),
    ]
    fid = result.rows[1]
    assert fid.value is not None and fid.value > 0 and not fid.higher_is_better
    assert any("against 4 images of real" in note for note in result.rows[0].notes)


def test_an_image_that_no_encoder_takes_leaves_its_sample_unscored(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("".join(f"{n}\n" for n in range(4)))
    task = {
        "name": "broken",
        "title": "One real image is broken, one is not there",
        "data": {"reader": f"{__name__}:read_broken", "root": ".", "splits": {"test": {}}},
        "split": "test",
        "output": {"kind": "image"},
        "score": {
            "scorer": "images",
            "options": {
                "clip_i": {"encoder": "thumbnail"},
                "fid": {"network": "thumbnail", "references": "matched"},
            },
        },
        "protocol": "plain",
        "protocols": {"plain": {"ask": "{image}"}},
    }
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(task))
    (result,) = evaluate(str(tmp_path / "broken.yaml"), "copy", out=tmp_path / "runs")
    head, fid = result.rows
    assert (head.n, head.unscored) == (2, 2)
    assert head.value == pytest.approx(1) and fid.value is not None
    why = {score.id: score.why for score in read_scores(result.folder)}
    assert why["0"] is None
    assert all(str(why[name]).startswith("an image cannot be used: ") for name in "12")


def read_broken(root: Path) -> Iterator[Sample]:
    real = {1: Image(data=b"no image"), 2: Image(str(root / "nothing.png"))}
    for n in map(int, (root / "rows").read_text().split()):
        yield Sample(str(n), images=(image(n),), references=(real.get(n, image(n)),))


def read(root: Path) -> Iterator[Sample]:
    for line in (root / "test.jsonl").read_text().splitlines():
        row = json.loads(line)
        shown = Image(str(root / row["file"]))
        yield Sample(row["id"], images=(shown,), references=(shown,), groups={"kind": row["kind"]})
