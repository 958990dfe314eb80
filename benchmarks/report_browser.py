"""A report page in Chromium: opened, typed at, sorted, leafed through, on a wide screen and a phone.

    python benchmarks/report_browser.py PAGE.html ... [--shots FOLDER]

Milliseconds are those of the page's own clock, from an event to the frame that shows what it asked for: the
median of seven tries, and the slowest. Where there is no Chromium, it says so and measures nothing.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --enable-precise-memory-info "
    "--disable-background-networking --disable-component-update --disable-sync --disable-dev-shm-usage"
).split()
# Width, height, device pixels of one of CSS, whether it is a phone.
SCREENS = {"wide": (1400, 900, 1, False), "phone": (390, 844, 2, True)}
TRIES = 7
OPENED = """
const [done] = arguments;
const look = () => {
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  if (!paint || document.querySelector("[aria-busy]")) return setTimeout(look, 5);
  requestAnimationFrame(() => setTimeout(() => done([paint.startTime, performance.now()])));
};
look();
"""
# ACT is what a person does, of the n-th try; then comes the frame that shows it.
TIMED = """
const [n, done] = arguments;
const task = () => new Promise((go) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = go;
  port2.postMessage(0);
});
const frame = () => new Promise((go) => requestAnimationFrame(() => task().then(go)));
const until = async (is) => { while (!is() || document.querySelector("[aria-busy]")) await task(); };
const type = (text) => {
  $("search").value = text;
  $("search").dispatchEvent(new Event("input"));
  return until(() => state.q === text);
};
const pick = (id, place, name) => {
  $(id).selectedIndex = place;
  $(id).dispatchEvent(new Event("change"));
  const wanted = $(id).value;
  return until(() => (name === "run" ? state.run.name : state[name]) === wanted);
};
(async () => {
  await frame();
  const start = performance.now();
  ACT;
  await frame();
  done(performance.now() - start);
})().catch((error) => done(String(error)));
"""
OVERVIEW = {
    "sort the results": "document.querySelector('#overview .tabled:has(.run)')"
    ".querySelectorAll('thead button')[n % 2 + 4].click()",
    "scroll the overview": "scrollTo(0, n * 900)",
    "light or dark": "theme()",
}
FIRST = "location.hash = address(RUNS[0]); await until(() => state.run)"
# Every sample is listed, as stored.
ANEW = "await type(''); await pick('verdict', 0, 'show'); await pick('group', 0, 'group');"
ANEW += " await pick('order', 0, 'order'); narrow() ? back() : choose(0)"
SAMPLES = {
    "type a letter": "await type('image 12'.slice(0, n + 1))",
    "show the wrong ones, or all": "await pick('verdict', (n + 1) % 2, 'show')",
    "one sub-score": "await pick('group', n + 1, 'group')",
    "another order": "await pick('order', (n + 1) % 4, 'order')",
    "scroll the list": "$('list').scrollTop = n * 4700 + 300; rows()",
    "open a sample": "narrow() && back(); document.querySelector('.row:nth-of-type(9)').click()",
    "next sample": "choose(current + 1)",
    "back to the list": "back()",
}
RUNS = {
    "another run": "await pick('run', n + 1, 'run')",
    "another benchmark": "await pick('run', Math.floor((n % 4 + 1) * RUNS.length / 5), 'run')",
    "against another run": "await pick('against', n + 1, 'against')",
}


def main() -> None:
    arguments = sys.argv[1:]
    shots = None
    if "--shots" in arguments:
        at = arguments.index("--shots")
        shots = Path(arguments[at + 1])
        del arguments[at : at + 2]
    for file in map(Path, arguments):
        measure(file, shots)


def measure(file: Path, shots: Path | None = None) -> None:
    """Prints what the page takes. shots: where images of it are kept, light and dark."""
    if not (shutil.which("chromedriver") and shutil.which("chromium")):
        print("  no browser was timed: apt-get install chromium chromium-driver")
        return
    for screen in SCREENS:
        with browser(screen) as driver:
            for what, figures in go_through(driver, file.resolve(), screen, shots):
                print(f"  {screen}, {what}: {figures}", flush=True)


@contextmanager
def browser(screen: str) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            driver.set_script_timeout(60)
            width, height, scale, mobile = SCREENS[screen]
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile},
            )
            yield driver
        finally:
            driver.quit()


def go_through(
    driver: Any, file: Path, screen: str, shots: Path | None
) -> Iterator[tuple[str, str]]:
    def opened() -> list[float]:
        driver.get("about:blank")
        driver.get(file.as_uri())
        return list(driver.execute_async_script(OPENED))

    def timed(act: str, tries: int = TRIES) -> str:
        script = TIMED.replace("ACT", act)
        found = [driver.execute_async_script(script, number) for number in range(tries)]
        wrong = [each for each in found if isinstance(each, str)]
        return wrong[0] if wrong else said(found)

    def shot(name: str) -> None:
        if shots is None:
            return
        for theme in ("dark", "light"):
            driver.execute_async_script(TIMED.replace("ACT", f"theme('{theme}')"), 0)
            driver.save_screenshot(str(shots / f"{file.stem}-{screen}-{name}-{theme}.png"))

    if shots:
        shots.mkdir(parents=True, exist_ok=True)
    painted, whole = zip(*(opened() for _ in range(TRIES)), strict=True)
    yield "first paint", said(painted)
    yield "all of the overview", said(whole)
    yield "heap", heap(driver)
    shot("overview")
    for what, act in OVERVIEW.items():
        yield what, timed(act)
    yield "first samples", timed(FIRST, 1)
    shot("list")
    for what, act in SAMPLES.items():
        driver.execute_async_script(TIMED.replace("ACT", ANEW), 0)
        yield what, timed(act)
        if what == "next sample":
            shot("sample")
    if driver.execute_script("return RUNS.length") > 1:
        for what, act in RUNS.items():
            yield what, timed(act)
    yield "heap", heap(driver)


def said(times: Any) -> str:
    return f"{statistics.median(times):.0f} ms, at most {max(times):.0f}"


def heap(driver: Any) -> str:
    driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    used = driver.execute_script("return performance.memory.usedJSHeapSize")
    return f"{used / 2**20:.0f} MiB"


if __name__ == "__main__":
    main()
