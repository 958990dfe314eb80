"""The HTML report opened in headless Chromium: clicked through, typed at, and fed with scripts."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from PIL import Image

from emu2eval import evaluate
from emu2eval.engine.questions import Place
from emu2eval.engine.reopen import reopen
from emu2eval.report import page
from emu2eval.runs.record import read_record
from emu2eval.runs.scored import read_run

EVIL = '<script>window.hacked=1</script><img src=x onerror="window.hacked=1">'
PAINTER = '''
from PIL import Image
from emu2eval import Adapter, Limits, Response
from emu2eval.media.images import from_pil


class Painter(Adapter):
    """Paints everything red."""

    limits = Limits(outputs=frozenset({"image"}))

    def answer(self, requests):
        return [Response(images=(from_pil(Image.new("RGB", (64, 64), "red")),)) for _ in requests]
'''
# Ten models in one figure, whose file is kept.
DRAWN = """
const row = (value) => ({ value, low: value - 5, high: value + 5, n: 9, unscored: 0, chance: 25,
  ceiling: null, digits: 1 });
const of = (model, count, value) => ({ model, count, shots: String(count), name: model + count,
  percent: true, better: true, rows: [row(value)] });
MODELS = ["a", "<b>", "c", "d", "e", "f", "g", "h", "i", "j"];
const panel = { task: "t", split: "s", protocol: "p", metric: "m", version: 1 };
panel.runs = MODELS.flatMap((m, i) => [of(m, 0, 20 + i), of(m, 4, 50 + 3 * i)]);
panel.runs.forEach((run) => run.panel = panel);
const kept = {};
download = (name, kind, text) => kept.file = [name, text];
const [chart] = curve(panel, 900);
document.body.append(chart);
saveFigure(chart, panel);
chart.remove();
const count = (of) => chart.querySelectorAll(of).length;
const at = [...chart.querySelectorAll(".name")].map((n) => Number(n.getAttribute("y")));
at.sort((a, b) => a - b);
return { bands: count(".band"), lines: count(".line"), names: at.length,
  apart: Math.min(...at.slice(1).map((y, i) => y - at[i])),
  chance: count("polyline.chance"), file: kept.file };
"""
# A table of 400 rows: at first, scrolled, sorted, printed, and when all are asked for.
GROWN = """
const [done] = arguments, found = {};
const until = async (is) => { while (!is()) await new Promise(requestAnimationFrame); };
const rows = [...Array(400).keys()].map((n) => ({ n: n < 200 ? n : 0 }));
const grown = table("grown", [{ head: "n", value: (row) => row.n }], rows);
document.body.append(grown);
const box = grown.querySelector(".scroll"), body = grown.querySelector("tbody");
found.first = body.rows.length;
grown.scrollIntoView();
(async () => {
  await until(() => box.scrollHeight > box.clientHeight);
  box.scrollTop = 1e6;
  await until(() => body.rows.length > found.first);
  found.scrolled = body.rows.length;
  grown.querySelector("thead button").click();
  found.sorted = [Number(body.rows[0].textContent), body.rows.length];
  grown.fill();
  found.paper = body.rows.length;
  grown.querySelector(".more").click();
  await until(() => body.rows.length === rows.length);
  found.all = body.rows.length;
  grown.remove();
  done(found);
})();
"""
COLOURS = ("red", "green", "blue")
COUNT = 120
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage"
).split()


@dataclass
class Opened:
    """A browser with a page of the runs in these folders, by the names of their models."""

    driver: Any
    url: str
    folders: dict[str, Path]

    def go(self, address: str = "") -> None:
        # Another document first: a changed fragment alone would not load the page anew.
        self.driver.get("about:blank")
        self.driver.get(self.url + address)
        self.settle()

    def settle(self) -> None:
        """Waits until what is packed in the page is there."""
        self.driver.execute_async_script(
            "const done = arguments[0], soon = requestAnimationFrame;"
            "const look = () => document.querySelector('[aria-busy]')"
            " ? setTimeout(look, 5) : soon(() => soon(done)); setTimeout(look)"
        )

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        found: str = self.run(
            "return document.querySelector(arguments[0])?.textContent ?? ''", selector
        )
        return found

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()
        self.settle()

    def choose(self, select: str, value: str) -> None:
        self.run(
            "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
            "s.dispatchEvent(new Event('change', {bubbles: true}))",
            select,
            value,
        )
        self.settle()

    def wide(self, width: int, height: int, scheme: str = "light") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})

    def sizes(self, selector: str) -> list[list[int]]:
        """Width and height of images, once they are there."""
        found: list[list[int]] = self.run(
            "return Promise.all([...document.querySelectorAll(arguments[0])].map("
            "i => i.decode().then(() => [i.naturalWidth, i.naturalHeight])))",
            selector,
        )
        return found

    def shown(self) -> str:
        return self.text("#count")


def _task(folder: Path) -> Path:
    """Squares whose questions, labels and ids hold scripts."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(COUNT + 10):
        answer = COLOURS[number % 3]
        image = Image.new("RGB", (16, 16), answer)
        image.putpixel((0, 0), (number, 0, 7))
        image.save(folder / "images" / f"{number}.png")
        rows.append(
            {
                "id": f"a/{number:03d} <b>?#%",
                "image": f"{number}.png",
                "question": f"</script>{EVIL} \u2028 square {number}",
                "answer": answer,
                "kind": f'"><svg onload=window.hacked=1>{number % 2}',
            }
        )
    for name, part in (("test", rows[:COUNT]), ("train", rows[COUNT:])):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(lines)
    spec = {
        "name": "squares",
        "title": "Squares",
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
    path = folder / "squares.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def _model(path: Path, adapter: str, **settings: Any) -> str:
    spec = {"name": path.stem, "adapter": adapter, "settings": settings}
    path.write_text(yaml.safe_dump(spec))
    return str(path)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver_path = shutil.which("chromedriver")
    if browser is None or driver_path is None:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    root = tmp_path_factory.mktemp("page")
    task = str(_task(root / "squares"))
    evil = _model(root / "evil.yaml", "scripted", default=EVIL)
    right = {f"square {n}": COLOURS[n % 3] for n in range(99, 9, -1) if n % 4}
    good = _model(
        root / "good.yaml", "scripted", replies=right, default="none", fail=["square 100"]
    )
    results = evaluate(task, [evil, good], shots=[2], out=root / "runs")
    (root / "painter_of_reds.py").write_text(PAINTER)
    sys.path.insert(0, str(root))
    try:
        painter = _model(root / "painter.yaml", "painter_of_reds:Painter")
        twice = {"task": {"output": {"images": 2}}}
        results += evaluate(
            "easy-vqa-draw", painter, shots=[2], limit=6, out=root / "runs", changes=twice
        )
    finally:
        sys.path.remove(str(root))
    folders = [result.folder for result in results]
    page.write(folders, root / "report.html")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={root / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        names = {read_record(folder).model.name: folder for folder in folders}
        yield Opened(driver, (root / "report.html").as_uri(), names)
    finally:
        driver.quit()


@pytest.fixture(autouse=True)
def _quiet(opened: Opened) -> Iterator[None]:
    """Whatever was done, no script but the page's ran, nothing was fetched, the console is empty."""
    opened.wide(1280, 900)
    yield
    assert opened.run("return window.hacked ?? null") is None
    fetched = opened.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in fetched if not name.startswith("file:")] == []
    assert opened.driver.get_log("browser") == []


def test_the_overview_tells_draws_and_lists_every_run(opened: Opened) -> None:
    opened.go()
    assert opened.text("h1") == "3 runs of 3 models on 2 tasks"
    said = opened.text(".findings")
    assert "At 2 shots good leads with" in said and "evil follows at 0.00" in said
    assert "significant (p" in said and "painter reaches" in said
    assert opened.run("return document.querySelectorAll('#overview .barline').length") == 3
    assert opened.run("return document.querySelectorAll('.forest').length") == 1
    assert "svg onload" in opened.text(".weak tbody")
    # One number of shots is no curve.
    assert opened.run("return document.querySelectorAll('.drawing').length") == 0
    opened.run("document.querySelector('.about-run').open = true")
    opened.driver.execute_async_script("setTimeout(arguments[0], 60)")
    assert "{image}{question} Answer:" in opened.text(".about-run")
    assert "fingerprint" in opened.text(".about-run")


def test_a_difference_leads_to_what_flipped(opened: Opened) -> None:
    opened.go()
    opened.run("document.querySelector('.differences td a').click()")
    opened.settle()
    first, second = (read_run(opened.folders[name]).scores for name in ("evil", "good"))
    flipped = [
        key
        for key in first
        if second[key].value is not None and first[key].value != second[key].value
    ]
    assert flipped
    assert opened.shown() == f"{len(flipped)} of {COUNT}"
    # The same ones, whomever it is compared with.
    opened.choose("against", "")
    opened.choose("verdict", "split")
    assert opened.shown() == f"{len(flipped)} of {COUNT}"


def test_tables_are_sorted_and_taken_along(opened: Opened) -> None:
    opened.go()
    values = (
        "return [...document.querySelectorAll('.barline')].map(b => b.previousSibling.textContent)"
    )
    before = opened.run(values)
    opened.run(
        "[...document.querySelectorAll('thead button')].filter(b => b.textContent === 'value')[0].click()"
    )
    after = opened.run(values)
    assert sorted(before, key=float, reverse=True) == after
    text = opened.run(
        "let kept; download = (name, kind, text) => kept = text;"
        "[...document.querySelectorAll('h2')].find(h => h.textContent === 'Results').parentNode"
        ".querySelector('.csv').click(); return kept"
    )
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    assert [row["model"] for row in rows] == ["evil", "good", "painter"]
    assert [f"{float(row['value']):.2f}" for row in rows] == before
    risky = opened.run("return ['=1+1', '-2', '+a', '@b', 'a,\"b\"', -2].map(cellText)")
    assert risky == ["'=1+1", "'-2", "'+a", "'@b", '"a,""b"""', "-2"]


def test_a_long_table_grows_as_it_is_scrolled(opened: Opened) -> None:
    opened.go()
    found = opened.driver.execute_async_script(GROWN)
    assert found == {"first": 60, "scrolled": 120, "sorted": [199, 60], "paper": 250, "all": 400}


def test_an_image_is_enlarged(opened: Opened) -> None:
    from selenium.webdriver.common.keys import Keys

    opened.go(f"#{opened.folders['good'].name}/")
    opened.run("document.querySelector('#detail .zoomable').click()")
    assert opened.sizes("#zoom img") == [[16, 16]]
    first = opened.run("return document.querySelector('#zoom img').alt")
    opened.press(Keys.ARROW_RIGHT)
    assert opened.run("return document.querySelector('#zoom img').alt") != first
    opened.press(Keys.ESCAPE)
    assert not opened.run("return document.getElementById('zoom').open")


def test_on_paper_everything_that_matters_is_there(opened: Opened) -> None:
    opened.go()
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    opened.run("dispatchEvent(new Event('beforeprint'))")
    opened.driver.execute_async_script("setTimeout(arguments[0], 60)")
    hidden = "return getComputedStyle(document.querySelector(arguments[0])).display"
    assert opened.run(hidden, "#bar") == opened.run(hidden, ".csv") == "none"
    assert opened.run("return [...document.querySelectorAll('details')].every(d => d.open)")
    assert "{image}{question} Answer:" in opened.text(".about-run")
    opened.run("dispatchEvent(new Event('afterprint'))")
    assert not opened.run("return document.querySelector('.about-run').open")
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_curves_have_bands_and_names_and_are_files(opened: Opened) -> None:
    """Drawn for any width, of data that no run has, and as an image that needs no style."""
    opened.go()
    made = opened.run(DRAWN)
    assert (made["bands"], made["lines"], made["names"]) == (7, 10, 7)
    assert made["chance"] == 1 and made["apart"] >= 14.9
    name, text = made["file"]
    assert name == "t_s_p.svg"
    image = ElementTree.fromstring(text)
    assert image.tag.endswith("svg") and "class=" not in text.replace("<svg class", "")
    assert not {"script", "a"} & {each.tag.rpartition("}")[2] for each in image.iter()}


def test_scripts_of_models_and_data_are_texts(opened: Opened) -> None:
    run = opened.folders["evil"].name
    opened.go(f"#{run}/")
    for _ in range(3):
        opened.press("j")
        assert opened.text(".block.reply .parts") == EVIL
        assert f"</script>{EVIL} \u2028 square" in opened.text(".block.query .parts")
        assert opened.text("#detail h2").endswith(" <b>?#%")
    assert "svg onload" in opened.text(".tag")
    policy = opened.run("return document.querySelector('meta[http-equiv]').content")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    # The policy stops what would slip through.
    blocked = opened.run(
        "const s = document.createElement('script'); s.textContent = 'window.slipped = 1';"
        "document.body.append(s); return window.slipped ?? null"
    )
    assert blocked is None
    assert "violates" in opened.driver.get_log("browser")[0]["message"]


def test_a_sample_shows_what_the_model_saw(opened: Opened) -> None:
    prompts = reopen(opened.folders["good"], demonstrations=True).prompts
    assert prompts is not None
    prompted = prompts.at(Place(7))
    name, query = opened.folders["good"].name, prompted.sample.id
    opened.go()
    opened.run(
        "location.hash = address(RUNS.find(r => r.name === arguments[0]), arguments[1])",
        name,
        query,
    )
    opened.settle()
    assert opened.text("#detail h2") == query
    shown = opened.run(
        "return [...document.querySelectorAll('.turn')].map(t => t.querySelector('h3').textContent)"
    )
    assert len(shown) == 2
    for heading, demonstration in zip(shown, prompted.demonstrations, strict=True):
        assert demonstration.sample.id in heading
    replies = opened.run(
        "return [...document.querySelectorAll('.turn .shown')].map(t => t.textContent)"
    )
    assert replies == [turn.reply[0] for turn in prompted.prompt.turns]
    titles = opened.run(
        "return [...document.querySelectorAll('.turn img, .query img')].map(i => i.title)"
    )
    assert [t.split(",")[0] for t in titles] == [p.name for p in prompted.prompt.images()]
    assert opened.sizes("#detail img") == [[16, 16]] * 3
    assert opened.text(".references li") == prompted.sample.references[0]
    assert "evil, 2 shots" in opened.text(".others")


def test_filters_and_search(opened: Opened) -> None:
    values = [score.value for score in read_run(opened.folders["good"]).scores.values()]
    opened.go(f"#{opened.folders['good'].name}/")
    for show, count in (
        ("right", values.count(1)),
        ("wrong", values.count(0)),
        ("unscored", values.count(None)),
    ):
        opened.choose("verdict", show)
        assert count and opened.shown() == f"{count} of {COUNT}"
    opened.choose("verdict", "")
    opened.choose("against", opened.folders["evil"].name)
    opened.choose("verdict", "lost")
    assert opened.text("#spacer") == "no matching samples"
    assert "No matching samples" in opened.text("#detail")
    opened.choose("verdict", "")
    opened.choose("group", 'kind: "><svg onload=window.hacked=1>1')
    assert opened.shown() == f"{COUNT // 2} of {COUNT}"
    opened.press("/", "SQUARE 11")
    opened.driver.execute_async_script("setTimeout(arguments[0], 200)")
    opened.settle()
    # 11, 111, 113, 115, 117 and 119 are odd.
    assert opened.shown() == f"6 of {COUNT}"
    # All of that stands in the address.
    opened.driver.refresh()
    opened.settle()
    assert opened.shown() == f"6 of {COUNT}"


def test_keys_and_buttons(opened: Opened) -> None:
    from selenium.webdriver.common.keys import Keys

    opened.go(f"#{opened.folders['evil'].name}/")
    # The first sample is there at once.
    seen = [opened.text("#detail h2").split()[0]]
    for key in ("j", "j", Keys.ARROW_DOWN, "k", Keys.ARROW_UP):
        opened.press(key)
        seen.append(opened.text("#detail h2").split()[0])
    assert seen == ["a/000", "a/001", "a/002", "a/003", "a/002", "a/001"]
    steps = "document.querySelectorAll('.step')"
    opened.run(f"{steps}[1].click()")
    assert opened.text("#detail h2").startswith("a/002")
    opened.run(f"{steps}[0].click(); {steps}[0].click()")
    assert opened.text(".steps .place") == f"1 of {COUNT}"
    assert opened.run(f"return {steps}[0].disabled")
    opened.press(Keys.ARROW_RIGHT)
    assert opened.run("return decodeURIComponent(location.hash)").startswith(
        f"#{opened.folders['good'].name}/a/000"
    )
    opened.press("/")
    assert opened.run("return document.activeElement.id") == "search"
    opened.press(Keys.ESCAPE, "?")
    assert opened.run("return document.getElementById('keys').open")
    opened.press(Keys.ESCAPE)


def test_only_rows_in_sight_exist(opened: Opened) -> None:
    opened.go(f"#{opened.folders['evil'].name}/")
    assert opened.run("return document.querySelectorAll('.row').length") < 40
    opened.run("document.getElementById('list').scrollTop = 1e6")
    opened.driver.execute_async_script("setTimeout(arguments[0], 100)")
    rows = opened.run("return [...document.querySelectorAll('.row .id')].map(e => e.textContent)")
    assert len(rows) < 40
    assert f"a/{COUNT - 1:03d} <b>?#%" in rows


def test_replies_that_are_images(opened: Opened) -> None:
    opened.go(f"#{opened.folders['painter'].name}/")
    assert opened.sizes(".reply img") == [[64, 64]]
    # Two were made for each prompt; each stands in a line of its own.
    assert opened.shown() == "12 of 12"
    first = opened.text("#detail h2")
    opened.go(f"#{opened.folders['painter'].name}/{first}/0/1")
    assert opened.text("#detail h2") == f"{first} · take 2"
    # Demonstrations reply with images too.
    assert opened.run("return document.querySelectorAll('.turn .shown img').length") == 2


def test_light_dark_and_the_switch(opened: Opened) -> None:
    def paper() -> str:
        found: str = opened.run("return getComputedStyle(document.body).backgroundColor")
        return found

    opened.go()
    light = paper()
    opened.wide(1280, 900, "dark")
    dark = paper()
    assert dark != light
    opened.run("document.getElementById('theme').click()")
    assert paper() == light
    opened.driver.refresh()
    assert paper() == light
    opened.press("t")
    assert paper() == dark
    opened.run("localStorage.clear()")


def test_on_a_phone(opened: Opened) -> None:
    fits = "return document.documentElement.scrollWidth <= innerWidth"
    opened.wide(390, 800)
    opened.go()
    assert opened.run(fits)
    opened.go(f"#{opened.folders['good'].name}/")
    assert opened.run(fits)
    opened.run("document.querySelector('.row').click()")
    assert opened.run(fits)
    seen = (
        "return ['list', 'detail'].map(id => getComputedStyle(document.getElementById(id)).display)"
    )
    assert opened.run(seen) == ["none", "block"]
    opened.run("document.querySelector('.back').click()")
    assert opened.run(seen) == ["block", "none"]
    # Rows fill the list again, also under the browser's own way back.
    filled = (
        "const list = document.getElementById('list');"
        "return document.querySelectorAll('.row').length * 56 >= list.clientHeight"
    )
    assert opened.run(filled)
    opened.run("document.querySelector('.row').click()")
    opened.driver.back()
    opened.settle()
    assert opened.run(seen) == ["block", "none"]
    assert opened.run(filled)
