// The overview: curves, bars, radar, differences, and the table of runs.
const PANELS = [];
for (const [place, run] of RUNS.entries()) {
  run.place = place;
  const head = run.rows[0];
  let panel = PANELS.find((p) => p.measure === run.measure);
  if (!panel) PANELS.push(panel = { measure: run.measure, task: run.task, split: run.split, protocol: run.protocol, metric: head.metric, runs: [] });
  panel.runs.push(run);
}
const MODELS = unique(RUNS.map((run) => run.model));
const colour = (model) => `c${MODELS.indexOf(model) % 7} d${Math.floor(MODELS.indexOf(model) / 7) % 3}`;
const titleOf = (panel) => [el("strong", {}, panel.task), ` ${panel.split}, ${panel.protocol}`];

function range(panel) {
  const rows = panel.runs.map((run) => run.rows[0]);
  if (panel.runs.every((run) => run.percent)) return [0, 100];
  const all = rows.flatMap((row) => [row.value, row.low, row.high, row.chance, row.ceiling]).filter((v) => v != null);
  const low = Math.min(0, ...all), high = Math.max(low + 1e-9, ...all);
  const step = 10 ** Math.floor(Math.log10(high - low));
  return [Math.floor(low / step) * step, Math.ceil(high / step) * step];
}

function hover(run) {
  const row = run.rows[0];
  return svg("title", {}, `${labelOf(run)}: ${number(row.value, 2)} ${within(row.low, row.high, 2)}, n ${count(row.n)}`
    + (row.unscored ? `, ${count(row.unscored)} unscored` : ""));
}

function curves() {
  const panels = PANELS.filter((p) => p.runs.some((r) => r.rows[0].value != null && r.count != null));
  if (!panels.length) return null;
  return section("Few-shot curves", "Value against number of demonstrations, with 95 % intervals.", legend(MODELS),
    el("div", { class: "panels" }, panels.map((panel) => el("figure", {},
      el("figcaption", {}, titleOf(panel)), curve(panel)))));
}

function curve(panel) {
  const runs = panel.runs.filter((r) => r.rows[0].value != null && r.count != null);
  const shots = unique(runs.map((r) => r.count)).sort((a, b) => a - b);
  const [low, high] = range(panel);
  const left = 46, right = 348, top = 12, bottom = 188;
  const x = (k) => shots.length < 2 ? (left + right) / 2
    : left + 24 + (right - left - 48) * shots.indexOf(k) / (shots.length - 1);
  const y = (v) => bottom - (bottom - top) * (Math.min(high, Math.max(low, v)) - low) / (high - low);
  const drawn = [];
  for (let i = 0; i <= 4; i++) {
    const v = low + (high - low) * i / 4;
    drawn.push(svg("line", { class: "grid", x1: left, x2: right, y1: y(v), y2: y(v) }),
      svg("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, number(v, high - low > 4 ? 0 : 2)));
  }
  for (const k of shots) drawn.push(svg("text", { x: x(k), y: bottom + 16, "text-anchor": "middle" }, k));
  drawn.push(svg("text", { class: "axis", x: (left + right) / 2, y: bottom + 34, "text-anchor": "middle" }, "demonstrations"),
    svg("text", { class: "axis", transform: `translate(11 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, panel.metric));
  for (const name of ["chance", "ceiling"]) {
    const known = shots.map((k) => [k, runs.find((r) => r.count === k && r.rows[0][name] != null)]).filter(([, r]) => r);
    if (known.length) drawn.push(svg("polyline", { class: name,
      points: known.map(([k, r]) => `${x(k)},${y(r.rows[0][name])}`).join(" ") }, svg("title", {}, name)));
  }
  const models = MODELS.filter((model) => runs.some((run) => run.model === model));
  models.forEach((model, place) => {
    const own = runs.filter((run) => run.model === model).sort((a, b) => a.count - b.count);
    // A little beside one another, so that no interval hides another.
    const at = (run) => x(run.count) + (place - (models.length - 1) / 2) * 5;
    drawn.push(svg("polyline", { class: `line ${colour(model)}`, points: own.map((r) => `${at(r)},${y(r.rows[0].value)}`).join(" ") }));
    for (const run of own) {
      const row = run.rows[0], cx = at(run);
      drawn.push(svg("a", { href: address(run) }, hover(run),
        row.low != null && svg("path", { class: `bar ${colour(model)}`,
          d: `M${cx},${y(row.low)}V${y(row.high)}M${cx - 3},${y(row.low)}h6M${cx - 3},${y(row.high)}h6` }),
        svg("circle", { class: `dot ${colour(model)}`, cx, cy: y(row.value), r: 4 }),
        svg("circle", { class: "reach", cx, cy: y(row.value), r: 12 })));
    }
  });
  const said = runs.map((r) => `${labelOf(r)} ${number(r.rows[0].value)}`).join("; ");
  return svg("svg", { viewBox: "0 0 360 228", role: "img", "aria-label": `${panel.task}: ${said}` }, drawn);
}

function legend(models, bounds = true) {
  const lines = bounds && PANELS.flatMap((p) => p.runs).some((r) => r.rows[0].chance != null);
  return el("p", { class: "legend" }, models.map((model) => el("span", {},
    svg("svg", { viewBox: "0 0 24 10", class: "key" }, svg("path", { class: `line ${colour(model)}`, d: "M0,5H24" }),
      svg("circle", { class: `dot ${colour(model)}`, cx: 12, cy: 5, r: 4 })), model)),
  lines && ["chance", "ceiling"].map((name) => el("span", {},
    svg("svg", { viewBox: "0 0 24 10", class: "key" }, svg("path", { class: name, d: "M0,5H24" })), name)));
}

function bars() {
  return section("Every run", "Bars with 95 % intervals; a bar leads to its samples.",
    el("div", { class: "panels" }, PANELS.map((panel) => el("figure", {},
      el("figcaption", {}, titleOf(panel), ` · ${panel.metric}`), barsOf(panel), groupsOf(panel)))));
}

function barsOf(panel) {
  const [low, high] = range(panel);
  const left = 132, right = 306, tall = 22;
  const x = (v) => left + (right - left) * (Math.min(high, Math.max(low, v)) - low) / (high - low);
  const drawn = panel.runs.map((run, place) => {
    const row = run.rows[0], top = place * tall, middle = top + tall / 2;
    const name = `${run.model}, ${run.shots}`;
    return svg("a", { href: address(run), class: "barline" }, hover(run),
      svg("rect", { class: "reach", x: 0, y: top, width: 360, height: tall }),
      svg("text", { x: left - 8, y: middle + 4, "text-anchor": "end" }, name.length > 21 ? name.slice(0, 20) + "…" : name),
      row.value != null && svg("rect", { class: `fill ${colour(run.model)}`, x: x(Math.min(0, row.value)), y: top + 4,
        width: Math.max(1, Math.abs(x(row.value) - x(0))), height: tall - 8 }),
      row.low != null && svg("path", { class: "whisker", d: `M${x(row.low)},${middle}H${x(row.high)}M${x(row.low)},${middle - 3}v6M${x(row.high)},${middle - 3}v6` }),
      ["chance", "ceiling"].map((n) => row[n] != null && svg("path", { class: n, d: `M${x(row[n])},${top + 1}v${tall - 2}` })),
      svg("text", { x: 352, y: middle + 4, "text-anchor": "end" }, number(row.value)));
  });
  return svg("svg", { viewBox: `0 0 360 ${panel.runs.length * tall}`, role: "img", "aria-label": `${panel.task}, every run` }, drawn);
}

function groupsOf(panel) {
  const names = unique(panel.runs.flatMap((run) => run.rows.filter((row) => row.group).map((row) => row.group)));
  if (!names.length) return null;
  const made = el("details", { on: { toggle: () => {
    if (made.open && made.children.length === 1) made.append(el("div", { class: "scroll" }, table()));
  } } }, el("summary", {}, `${count(names.length)} sub-scores`));
  const table = () => el("table", {},
    el("thead", {}, el("tr", {}, el("th", {}), panel.runs.map((run) => el("th", {}, labelOf(run))))),
    el("tbody", {}, names.map((name) => el("tr", {}, el("th", {}, name), panel.runs.map((run) => {
      const row = run.rows.find((r) => r.group === name && r.metric === panel.metric);
      return el("td", { title: row ? `${within(row.low, row.high)} n ${count(row.n)}` : null }, row
        ? el("a", { href: address(run, null, 0, 0, { group: name }) }, number(row.value)) : "–");
    })))));
  return made;
}

// A radar's axes are shares in percent, all of them, and every model drawn has been on all of them.
function radars() {
  const drawn = [], shown = [];
  for (const shots of unique(RUNS.map((run) => run.shots))) {
    const axes = PANELS.filter((p) => p.runs.some((r) => r.shots === shots) && p.runs.every((r) => r.percent));
    if (axes.length < 3) continue;
    const on = (model) => axes.map((p) => p.runs.find((r) => r.model === model && r.shots === shots));
    const models = MODELS.filter((model) => on(model).every(Boolean));
    shown.push(...models);
    if (models.length) drawn.push(el("figure", {}, el("figcaption", {}, el("strong", {}, `${shots} shots`)), radar(axes, models, on)));
  }
  return drawn.length ? section("Profiles", "Tasks scored in percent, from 0 in the middle to 100.", legend(unique(shown), false), el("div", { class: "panels" }, drawn)) : null;
}

function radar(axes, models, on) {
  const spot = (place, v) => {
    const turn = 2 * Math.PI * place / axes.length;
    return [180 + 0.9 * v * Math.sin(turn), 115 - 0.9 * v * Math.cos(turn)];
  };
  const ring = (values) => values.map((v, place) => spot(place, v).join(",")).join(" ");
  return svg("svg", { viewBox: "0 0 360 236", role: "img", "aria-label": axes.map((p) => p.task).join(", ") },
    [25, 50, 75, 100].map((v) => svg("polygon", { class: "grid", points: ring(axes.map(() => v)) })),
    axes.map((panel, place) => {
      const [x, y] = spot(place, 110);
      return svg("text", { x, y: y + 4, "text-anchor": x > 190 ? "start" : x < 170 ? "end" : "middle" }, panel.task);
    }),
    models.map((model) => svg("polygon", { class: `area ${colour(model)}`, points: ring(on(model).map((r) => r.rows[0].value)) },
      svg("title", {}, model))));
}

function matrices() {
  if (!DATA.matrices.length) return null;
  return section("Differences", "Row minus column, sample by sample. Coloured where chance is unlikely (p below 0.05, "
    + "corrected for the whole matrix after Holm); a cell leads to the samples at which the two differ.",
  DATA.matrices.map((matrix) => el("figure", { class: "matrix" }, el("figcaption", {}, titleOf(matrix)),
    el("div", { class: "scroll" }, matrixOf(matrix)))));
}

function matrixOf(matrix) {
  const cells = new Map(matrix.cells.map((cell) => [`${cell.a}/${cell.b}`, cell]));
  return el("table", {},
    el("thead", {}, el("tr", {}, el("th", {}), matrix.runs.map((b) => el("th", {}, labelOf(RUNS[b]))))),
    el("tbody", {}, matrix.runs.map((a) => el("tr", {}, el("th", {}, labelOf(RUNS[a])),
      matrix.runs.map((b) => a === b ? el("td", { class: "self" }) : cellOf(cells.get(`${a}/${b}`), cells.get(`${b}/${a}`), a, b))))));
}

function cellOf(ahead, behind, a, b) {
  // A cell is of its second run against its first; here the row stands against the column.
  const cell = ahead || behind, sign = behind ? 1 : -1;
  if (cell.difference == null) return el("td", { class: "none", title: cell.why || cell.notes.join("; ") }, "–");
  const gap = sign * cell.difference, ends = [sign * cell.low, sign * cell.high].sort((p, q) => p - q);
  const sure = cell.holm != null && cell.holm < 0.05;
  const kind = !sure ? "" : (gap > 0) === cell.better ? "better" : "worse";
  const [wins, losses] = behind ? [cell.wins, cell.losses] : [cell.losses, cell.wins];
  const title = [`${signed(gap)} ${cell.metric} ${cell.low == null ? "" : within(...ends)}`, `p ${chance(cell.p)}, corrected ${chance(cell.holm)}`,
    `${count(wins)} better, ${count(losses)} worse, ${count(cell.ties)} alike`,
    cell.unmatched && `${count(cell.unmatched)} samples have no partner`,
    cell.unscored && `${count(cell.unscored)} unscored in either`, ...cell.notes].filter(Boolean).join("\n");
  return el("td", { class: kind, title }, el("a", { href: address(RUNS[a], null, 0, 0, { against: RUNS[b].name, show: "flipped" }) }, signed(gap)));
}

function runsTable() {
  const heads = ["task", "split", "protocol", "model", "shots", "metric", "value", "95 %", "n", "unscored", "notes"];
  return section("Runs", null, el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", {}, head)))),
    el("tbody", {}, RUNS.flatMap((run) => run.rows.filter((row) => !row.group).map((row, place) => el("tr", {},
      el("th", {}, el("a", { href: address(run) }, run.task)), [run.split, run.protocol, run.model].map((t) => el("td", { class: "word" }, t)),
      el("td", {}, run.shots), el("td", { class: "word" }, row.metric), el("td", {}, number(row.value, 2)),
      el("td", {}, within(row.low, row.high, 2)), el("td", {}, count(row.n)), el("td", {}, count(row.unscored)),
      el("td", { class: "word" }, [...row.notes,
        ...(place === 0 && run.promptless ? [`no prompts: ${run.promptless}`] : [])].join("; ")))))))));
}

function section(title, said, ...content) {
  return el("section", {}, el("h2", {}, title), said && el("p", { class: "said" }, said), content);
}

function overview() {
  const tasks = unique(RUNS.map((run) => run.task)).length;
  const lost = RUNS.filter((run) => run.promptless);
  const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
  $("overview").append(
    el("h1", {}, `${plural(RUNS.length, "run")} of ${plural(MODELS.length, "model")} on ${plural(tasks, "task")}`),
    lost.length ? el("p", { class: "note" }, `${plural(lost.length, "run")} shown without prompts, references and images of the data: `,
      unique(lost.map((run) => run.promptless)).join("; ")) : "",
    ...[curves(), bars(), radars(), matrices(), runsTable()].filter(Boolean));
}
