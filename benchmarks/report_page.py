"""The HTML report of 10,000 samples: what it weighs, how long it takes to make and to go through.

Needs Chromium for the second part. Milliseconds are those of the page's own clock.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from emu2eval import evaluate
from emu2eval.report import page

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
# The middle one and the slowest of twenty among all times of the work, each in a frame of its own.
TIMED = """
const done = arguments[0], times = [];
function step() {
  const start = performance.now();
  WORK;
  times.push(performance.now() - start);
  if (times.length < 100) return requestAnimationFrame(step);
  times.sort((a, b) => a - b);
  done([times[50], times[95]]);
}
step();
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        results = evaluate("easy-vqa", ["most-common", "nearest"], shots=[4], out=root / "runs")
        folders = [result.folder for result in results]
        for again in ("first time", "images there"):
            start = time.perf_counter()
            written = page.write(folders, root / "report.html")
            seconds = time.perf_counter() - start
            print(
                f"{written.samples:,} answers, {written.images:,} images, {again}: {seconds:.1f} s"
            )
        size = (root / "report.html").stat().st_size
        print(f"page {size / 2**20:.1f} MiB")
        driver = browser(root)
        try:
            go_through(driver, (root / "report.html").as_uri())
        finally:
            driver.quit()


def browser(root: Path) -> Any:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    path, program = shutil.which("chromedriver"), shutil.which("chromium")
    if path is None or program is None:
        raise SystemExit(
            "the page itself is timed in Chromium: apt-get install chromium chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={root / 'profile'}"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(path))


def go_through(driver: Any, url: str) -> None:
    driver.get(url)
    loaded = driver.execute_script(
        "return performance.getEntriesByType('navigation')[0].loadEventEnd"
    )
    print(f"loaded after {loaded:.0f} ms")
    driver.execute_script("location.hash = address(RUNS[0], null, 0, {against: RUNS[1].name})")
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    for what, work in (
        (
            "scroll by 84 rows",
            "document.getElementById('list').scrollTop = times.length * 4700; rows()",
        ),
        ("next sample", "choose(current + 1)"),
        ("search", "state.q = 'shape ' + times.length; filter()"),
        ("only flipped", "state.q = ''; state.show = 'flipped'; filter()"),
    ):
        middle, slow = driver.execute_async_script(TIMED.replace("WORK", work))
        print(f"{what}: {middle:.1f} ms, one of twenty takes over {slow:.1f} ms")
    print(
        "rows in the page:",
        driver.execute_script("return document.querySelectorAll('.row').length"),
    )


if __name__ == "__main__":
    main()
