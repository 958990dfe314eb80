// A page that its own server made: it asks what is new, and takes a newer page's data without being loaded anew.
const OFTEN = 1500;  // ms between two questions

function follow() {
  let version = null, failures = 0;
  async function ask() {
    try {
      const state = await (await fetch("state", { cache: "no-store" })).json();
      failures = 0;
      if (version != null && state.version !== version) await renew();
      version = state.version;
      underWay(state.running);
    } catch {
      failures++;
      if (failures === 3) $("under-way")?.replaceChildren(el("p", {}, "The server has stopped; this page shows its last state."));
    }
    setTimeout(ask, failures > 2 ? 5 * OFTEN : OFTEN);
  }
  ask();
}

async function renew() {
  const text = await (await fetch("./", { cache: "no-store" })).text();
  const top = document.documentElement.scrollTop, run = state.run && state.run.name;
  takeData(new DOMParser().parseFromString(text, "text/html"));
  state.run = run ? runOf(run) || null : null;
  overview();
  document.documentElement.scrollTop = top;
  if (!state.run) $("to-samples").href = RUNS.length ? address(RUNS[0]) : "#";
  if (location.hash.length > 1) await route();
}

function duration(seconds) {
  if (seconds < 90) return `${seconds} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function underWay(running) {
  const box = $("under-way");
  if (!box) return;
  box.replaceChildren(...running.map((run) => {
    const said = [`${count(run.done)}${run.total == null ? "" : ` of ${count(run.total)}`} answers`,
      run.failed ? `${count(run.failed)} failed` : null,
      run.silent != null ? `nothing new for ${duration(run.silent)}` : run.rate > 0 ? `${number(run.rate, run.rate < 10 ? 1 : 0)} a minute` : null,
      run.silent == null && run.left ? `about ${duration(run.left)} left` : null].filter(Boolean).join(" · ");
    return el("section", { class: "running" },
      el("p", {}, el("strong", {}, run.task), ` ${run.split}, ${run.protocol} · ${run.model}, ${shotsOf(run)} `,
        run.total == null ? null : el("progress", { max: run.total, value: run.done }), ` ${said}`,
        run.value == null ? null : [" · ", el("strong", {}, number(run.value, run.digits)), ` ${within(run.low, run.high, run.digits)} ${run.metric} so far`]),
      el("div", { class: "newest" }, run.newest.map((each) => el("div", {},
        each.image ? el("img", { src: each.image, alt: "" }) : null,
        el("small", {}, each.id), el("div", { class: each.error != null ? "unscored" : null },
          each.value == null ? null : `${each.value >= 1 ? "✓" : each.value <= 0 ? "✗" : "◐"} `, each.error != null ? `failed: ${each.error}` : each.reply || "▣")))));
  }));
}
