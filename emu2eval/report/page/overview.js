// The overview: what was found, curves, differences, every run with its settings, and where it is weak.
function section(title, said, ...content) {
  return el("section", {}, el("h2", {}, title), said && el("p", { class: "said" }, said), content);
}

function found() {
  if (!DATA.conclusions.length) return null;
  const said = ({ said, sure, run }) => el("li", { class: sure ? "sure" : null },
    el("span", { class: "verdict", title: sure == null ? "not tested" : sure ? "significant" : "not significant" }, sure == null ? "–" : sure ? "●" : "○"),
    el("span", {}, said, " ", el("a", { href: address(RUNS[run]), class: "noprint" }, "samples")));
  const tasks = unique(DATA.conclusions.map((each) => each.about));
  const line = (about) => el("li", {}, el("p", { class: "about" }, about), el("ul", {}, DATA.conclusions.filter((each) => each.about === about).map(said)));
  const [first, rest] = [tasks.slice(0, 4), tasks.slice(4)];
  return el("section", { id: "findings" }, el("ul", { class: "findings" }, first.map(line)),
    rest.length ? el("details", {}, el("summary", {}, `${plural(rest.length, "other task")}`), el("ul", { class: "findings" }, rest.map(line))) : null,
    DATA.conclusions.some((each) => each.sure != null) && el("p", { class: "said" }, "● significant: p < 0.05 after Holm correction; ○ not significant. Brackets are 95 % intervals, clustered by image."));
}

const KINDS = {
  models: ["Models at the same number of shots", "Compared sample by sample, on the samples that both models answered."],
  shots: ["What demonstrations add", "Each model with more demonstrations compared with itself with the fewest."],
  ablation: ["What ablations cost", "Ablated demonstrations compared with intact ones, at the same number of shots."],
};

function differences() {
  const made = Object.entries(KINDS).map(([kind, [title, said]]) => {
    const all = DATA.differences.filter((each) => each.kind === kind), known = all.filter((each) => each.difference != null);
    const lost = all.filter((each) => each.difference == null);
    if (!all.length) return null;
    const best = known.some((each) => each.best) ? " With many models, each is compared with the one that has the highest value." : "";
    return el("section", { class: "differences" }, el("h3", {}, title), el("p", { class: "said" }, said + best),
      known.length ? differenceTable(kind, known) : null,
      lost.length ? el("p", { class: "note" }, `${plural(lost.length, "pair")} not compared: `, unique(lost.map((each) => each.why || each.notes.join("; "))).slice(0, 5).join("; ")) : null);
  }).filter(Boolean);
  return made.length ? section("Differences", "With 95 % intervals; p by sign flips of whole clusters, Holm-corrected per kind and task. Filled: significant.", made) : null;
}

function differenceTable(kind, known) {
  const rows = [];
  for (const panel of PANELS) {
    const own = known.filter((each) => RUNS[each.a].panel === panel);
    if (!own.length) continue;
    const reach = highest(own.flatMap((each) => [each.difference, each.low ?? 0, each.high ?? 0].map(Math.abs))) || 1;
    rows.push({ heading: [titleOf(panel), ` · ${panel.metric}`] }, ...own.map((each) => ({ ...each, reach, one: RUNS[each.b], other: RUNS[each.a] })));
  }
  const short = (run) => kind === "models" ? run.model : shotsOf(run);
  return table(`differences-${kind}`, [
    ...(kind === "models" ? [] : [{ head: "model", word: true, name: true, value: (d) => d.one.model }]),
    { head: "run", word: true, name: true, value: (d) => short(d.one), cell: (d) => el("a", { href: address(d.one, null, 0, 0, { against: d.other.name, show: "flipped" }), title: "the samples on which the two differ" }, short(d.one)) },
    { head: "against", word: true, name: true, value: (d) => short(d.other) },
    ...(kind === "models" ? [{ head: "shots", value: (d) => d.setting }] : []),
    { head: "difference", value: (d) => d.difference, cell: (d) => el("td", { class: leaning(d) }, signed(d.difference, d.digits)) },
    { head: "low", value: (d) => d.low, cell: (d) => number(d.low, d.digits) },
    { head: "high", value: (d) => d.high, cell: (d) => number(d.high, d.digits) },
    { head: "", value: () => null, cell: (d) => forest(d, d.reach) },
    { head: "p (Holm)", value: (d) => d.holm, cell: (d) => chance(d.holm) },
    { head: "better", value: (d) => d.wins, cell: (d) => d.wins == null ? "–" : count(d.wins) },
    { head: "worse", value: (d) => d.losses, cell: (d) => d.losses == null ? "–" : count(d.losses) },
    { head: "n", value: (d) => d.n, cell: (d) => count(d.n) },
    ...(known.some((d) => d.notes.length || d.unmatched || d.unscored) ? [{ head: "notes", word: true, value: (d) => [...d.notes,
      d.unmatched ? `${count(d.unmatched)} without a counterpart` : null, d.unscored ? `${count(d.unscored)} unscored in either` : null].filter(Boolean).join("; ") }] : []),
  ], rows);
}

function results() {
  // Task by task, model by model, from the fewest shots.
  const rank = new Map(RUNS.map((run) => [run, [PANELS.indexOf(run.panel), MODELS.indexOf(run.model), parseInt(run.shots, 10), run.shots.length]]));
  const ordered = [...RUNS].sort((a, b) => { const at = rank.get(a).findIndex((n, i) => n !== rank.get(b)[i]); return at < 0 ? 0 : rank.get(a)[at] - rank.get(b)[at]; });
  const rows = ordered.flatMap((run) => run.rows.map((row) => ({ run, row })));
  const shared = (of) => unique(RUNS.map(of)).length === 1;
  const optional = [["split", (r) => r.run.split], ["protocol", (r) => r.run.protocol]];
  const same = optional.filter(([, of]) => shared((run) => of({ run })));
  const said = same.length ? `All: ${same.map(([name, of]) => `${name} ${of({ run: RUNS[0] })}`).join(", ")}. ` : "";
  return section("Results", `${said}Intervals are 95 %. Click a name to see its samples.`, table("results", [
    { head: "task", word: true, name: true, value: (r) => r.run.task },
    ...optional.filter((each) => !same.includes(each)).map(([head, value]) => ({ head, word: true, name: true, value })),
    { head: "model", word: true, name: true, value: (r) => r.run.model, cell: (r) => el("a", { href: address(r.run), class: "run" }, keyOf(r.run.model), r.run.model) },
    { head: "shots", value: (r) => r.run.shots },
    { head: "metric", word: true, name: true, value: (r) => r.row.metric },
    { head: "value", value: (r) => r.row.value, cell: (r) => el("td", { class: "main" }, number(r.row.value, r.row.digits)) },
    { head: "", value: () => null, cell: (r) => el("td", { class: "barline" }, miniBar(r.run, r.row)) },
    { head: "low", value: (r) => r.row.low, cell: (r) => number(r.row.low, r.row.digits) },
    { head: "high", value: (r) => r.row.high, cell: (r) => number(r.row.high, r.row.digits) },
    { head: "n", value: (r) => r.row.n, cell: (r) => count(r.row.n) },
    ...(RUNS.some((run) => run.rows.some((row) => row.unscored)) ? [{ head: "unscored", value: (r) => r.row.unscored, cell: (r) => count(r.row.unscored) }] : []),
    ...(rows.some((r) => r.row.notes.length) ? [{ head: "notes", word: true, value: (r) => r.row.notes.join("; ") }] : []),
  ], rows));
}

// Sub-scores, weakest first, and what was answered in the place of what; of one run at a time.
function weaknesses() {
  const able = RUNS.filter((run) => run.groups || run.confusion);
  if (!able.length) return null;
  const box = el("div", { class: "weak" });
  const choice = el("select", { "aria-label": "Run", on: { change: () => show() } }, able.map((run) =>
    el("option", { value: run.place }, `${run.task} (${run.split}, ${run.protocol}), ${labelOf(run)}`)));
  async function show() {
    const run = RUNS[choice.value], [groups, confusions] = await Promise.all([chunk("groups"), chunk("confusions")]);
    box.replaceChildren(...[groupsOf(run, groups[run.place]), confusionOf(confusions[run.place])].filter(Boolean));
  }
  show();
  return section("Weaknesses", "The sub-scores of a run, lowest first, and which answers it confuses.",
    el("p", { class: "noprint" }, el("label", { class: "picked" }, "Run ", choice)), box);
}

function groupsOf(run, rows) {
  const whole = run.rows[0], own = rows.filter((row) => row.metric === whole.metric && row.value != null);
  if (!own.length) return null;
  own.sort((a, b) => (a.value - b.value) * (run.better ? 1 : -1));
  return el("figure", {}, el("figcaption", {}, el("span", {}, el("strong", {}, "Sub-scores"), ` · ${whole.metric}, ${number(whole.value, whole.digits)} overall`)), table(`sub-scores-${run.name}`, [
    { head: "samples", word: true, value: (row) => row.group, cell: (row) => el("a", { href: address(run, null, 0, 0, { group: row.group }) }, row.group) },
    { head: "value", value: (row) => row.value, cell: (row) => el("td", { class: "main" }, number(row.value, row.digits)) },
    { head: "", value: () => null, cell: (row) => miniBar(run, row) },
    { head: "low", value: (row) => row.low, cell: (row) => number(row.low, row.digits) },
    { head: "high", value: (row) => row.high, cell: (row) => number(row.high, row.digits) },
    { head: "n", value: (row) => row.n, cell: (row) => count(row.n) },
  ], own));
}

function confusionOf(found) {
  if (!found) return null;
  const { labels, counts } = found, other = counts.some((row) => row[labels.length]), none = counts.some((row) => row[labels.length + 1]);
  const heads = [...labels, ...(other ? ["other"] : []), ...(none ? ["no answer"] : [])];
  const cells = (row) => [...labels.map((_, place) => row[place]), ...(other ? [row[labels.length]] : []), ...(none ? [row[labels.length + 1]] : [])];
  return el("figure", { class: heads.length > 8 ? "whole" : null }, el("figcaption", {}, el("span", {}, el("strong", {}, "Answers"), " · rows: correct answer; columns: model's answer; shade: share of the row")),
    el("div", { class: "scroll" }, el("table", { class: "confusion" },
      el("thead", {}, el("tr", {}, el("th"), heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, labels.map((label, at) => {
        const total = counts[at].reduce((a, b) => a + b, 0);
        return el("tr", {}, el("th", { scope: "row" }, label), cells(counts[at]).map((n, place) => {
          const cell = el("td", { class: place === at ? "hit" : n ? "miss" : "nil", title: `${label} → ${heads[place]}: ${count(n)} of ${count(total)}` }, n ? count(n) : "");
          cell.style.setProperty("--share", total ? n / total : 0);
          return cell;
        }));
      })))));
}

const FEW = 20;  // runs whose settings are listed, and printed, one by one

// When each run was made, by what, with which settings and words.
function settings() {
  const own = DATA;
  // There before it is asked for: what is printed cannot wait.
  if (RUNS.length <= FEW) chunk("about").then((found) => { own.about = found; });
  const one = (run) => {
    const made = el("details", { class: "about-run", on: { toggle: () => open() } }, el("summary", {}, `${run.task} (${run.split}, ${run.protocol}) · ${labelOf(run)}`));
    made.fill = () => { if (own.about && made.children.length === 1) made.append(aboutOf(run, own.about[run.place])); };
    async function open() {
      own.about ??= await chunk("about");
      if (made.open) made.fill();
    }
    return made;
  };
  if (RUNS.length <= FEW) return section("Settings and prompts", null, RUNS.map(one));
  // Of many runs each task's are folded together, and made when they are unfolded.
  return section("Settings and prompts", null, PANELS.map((panel) => {
    const list = el("div", { class: "about-list" });
    return el("details", { class: "about-task", on: { toggle: () => { if (!list.children.length) list.append(...panel.runs.map(one)); } } },
      el("summary", {}, titleOf(panel), ` · ${plural(panel.runs.length, "run")}`), list);
  }));
}

function aboutOf(run, about) {
  const lines = (name, list) => list.length ? el("div", {}, el("h4", {}, name), el("ul", { class: "settings" }, list.map((line) => el("li", {}, line)))) : null;
  return el("div", { class: "about-body" },
    el("p", {}, about.when ? `Last answer ${about.when.slice(0, 16).replace("T", " ")} UTC. ` : "The time of its answers is not recorded. ",
      el("a", { href: address(run) }, run.name), `, fingerprint ${about.fingerprint.slice(0, 16)}, ${Object.entries(about.versions).map((v) => v.join(" ")).join(", ")}`),
    el("div", { class: "columns" }, Object.entries(about.settings).map(([name, list]) => lines(name, list))),
    Object.keys(about.template).length ? el("div", {}, el("h4", {}, "prompt"), el("dl", { class: "template" },
      Object.entries(about.template).map(([name, text]) => [el("dt", {}, name), el("dd", {}, exact(text))]))) : null,
    run.promptless ? el("p", { class: "note" }, `Its prompts cannot be shown: ${run.promptless}`) : null);
}

let overviews = 0;
// What is below the first screen is made by `later`, unless the overview was made anew by then.
function overview(later = (call) => call()) {
  const own = ++overviews, box = $("overview");
  DRAWN.clear();
  widths.disconnect();
  if (!RUNS.length) {
    box.replaceChildren(el("h1", {}, "No finished runs yet"), el("div", { id: "under-way" }));
    box.removeAttribute("aria-busy");
    return;
  }
  const tasks = unique(RUNS.map((run) => run.task)).length, lost = RUNS.filter((run) => run.promptless);
  const shown = RUNS.reduce((n, run) => n + run.shown, 0), all = RUNS.reduce((n, run) => n + run.answers, 0);
  const dates = RUNS.map((run) => run.when).filter(Boolean).sort().map((when) => when.slice(0, 10));
  const when = dates.length ? ` · answered ${unique([dates[0], dates[dates.length - 1]]).join(" to ")}` : "";
  box.replaceChildren(...[
    el("h1", {}, `${plural(RUNS.length, "run")} of ${plural(MODELS.length, "model")} on ${plural(tasks, "task")}`),
    el("p", { class: "said" }, `${plural(all, "answer")}${shown < all ? `, ${count(shown)} of them browsable (drawn at random)` : ""}${when}${DATA.version ? ` · emu2eval ${DATA.version}` : ""}`),
    DATA.live ? el("div", { id: "under-way" }) : null,
    found(), curves()].filter(Boolean));
  box.setAttribute("aria-busy", "true");
  later(() => {
    if (own !== overviews) return;
    box.append(...[differences(), results(), weaknesses(), settings(),
      lost.length ? el("p", { class: "note" }, `${plural(lost.length, "run")} shown without the data's prompts, references and images: `,
        unique(lost.map((run) => run.promptless)).join("; ")) : null].filter(Boolean));
    box.removeAttribute("aria-busy");
  });
}
