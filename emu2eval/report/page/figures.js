// Few-shot curves, as one would put them into a paper: bands, names at the ends of lines, a file of each.
const MARKERS = [
  (x, y) => `M${x - 4},${y}a4,4 0 1,0 8,0a4,4 0 1,0 -8,0`,
  (x, y) => `M${x - 3.6},${y - 3.6}h7.2v7.2h-7.2z`,
  (x, y) => `M${x},${y - 4.8}l4.6,8.2h-9.2z`,
  (x, y) => `M${x},${y - 5}l5,5l-5,5l-5,-5z`,
  (x, y) => `M${x},${y + 4.8}l4.6,-8.2h-9.2z`,
];
const MOST_LINES = 7;  // that are told apart by colour; the others stand behind them

const colour = (model) => `c${MODELS.indexOf(model) % 7} d${Math.floor(MODELS.indexOf(model) / 7) % 3}`;
const marker = (model) => MARKERS[MODELS.indexOf(model) % MARKERS.length];

function hover(run) {
  const row = run.rows[0];
  return svg("title", {}, `${labelOf(run)}: ${number(row.value, row.digits)} ${within(row.low, row.high, row.digits)}, n ${count(row.n)}`
    + (row.unscored ? `, ${count(row.unscored)} unscored` : ""));
}

// Round numbers between which all values lie.
function scale(values, percent) {
  let low = Math.min(...values), high = Math.max(...values);
  if (percent) {
    const room = Math.max(2, (high - low) * 0.08);
    low = Math.max(0, low - room);
    high = Math.min(100, high + room);
    if (high - low > 60) [low, high] = [0, 100];
  }
  if (high - low < 1e-9) { low -= 0.5; high += 0.5; }
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough - 1e-12);
  const first = Math.floor(low / step + 1e-9) * step, ticks = [];
  for (let i = 0; first + i * step < high + step * 0.999; i++) ticks.push(first + i * step);
  return { low: ticks[0], high: ticks[ticks.length - 1], ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function curves() {
  const panels = PANELS.filter((p) => unique(p.runs.filter((r) => r.rows[0].value != null && r.count != null).map((r) => r.count)).length > 1);
  if (!panels.length) return null;
  const across = panels.length === 1 ? "panels one" : panels.length === 2 || panels.length === 4 ? "panels two" : "panels";
  return section("Few-shot curves", "Score by number of demonstrations. Bands are 95 % intervals; click a point to see its samples.",
    el("div", { class: across }, panels.map((panel) => {
      const box = el("div", { class: "drawing" });
      const figure = el("figure", {}, el("figcaption", {}, el("span", {}, titleOf(panel), ` · ${panel.metric}`),
        el("button", { type: "button", class: "small", on: { click: () => saveFigure(box.firstChild, panel) } }, "SVG")), box);
      fitted(box, (wide) => curve(panel, wide));
      return figure;
    })));
}

// Draws anew where the width changes, so that letters keep their size.
const DRAWN = new Map();
const widths = new ResizeObserver((entries) => entries.forEach(({ target, contentRect }) => draw(target, contentRect.width)));
function fitted(box, make) { DRAWN.set(box, { make, wide: 0 }); widths.observe(box); }
function draw(box, wide) {
  const known = DRAWN.get(box), to = Math.round(wide);
  if (!known || !to || Math.abs(known.wide - to) < 4) return;
  known.wide = to;
  box.replaceChildren(...[known.make(to)].flat());
}

function linesOf(panel) {
  const runs = panel.runs.filter((r) => r.rows[0].value != null && r.count != null);
  const made = new Map();
  for (const run of runs) {
    if (!made.has(run.model)) made.set(run.model, { model: run.model, runs: [] });
    made.get(run.model).runs.push(run);
  }
  const lines = [...made.values()];
  for (const line of lines) line.runs.sort((a, b) => a.count - b.count);
  const last = (line) => line.runs[line.runs.length - 1].rows[0];
  lines.sort((a, b) => (last(b).value - last(a).value) * (last(a).value == null || panel.runs[0].better ? 1 : -1));
  lines.forEach((line, place) => { line.faint = lines.length > MOST_LINES + 1 && place >= MOST_LINES; });
  return lines;
}

// Pixels that a name takes at the end of a line.
const pen = document.createElement("canvas").getContext("2d");
function breadth(text) {
  pen.font = '600 12.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
  return pen.measureText(text).width;
}

const shortened = (text, most) => text.length > most ? text.slice(0, most - 1) + "…" : text;

function curve(panel, wide) {
  const lines = linesOf(panel), runs = lines.flatMap((line) => line.runs), named = lines.filter((line) => !line.faint);
  const shots = unique(runs.map((r) => r.count)).sort((a, b) => a - b);
  const rows = runs.map((r) => r.rows[0]);
  const { low, high, ticks, digits } = scale(rows.flatMap((row) => [row.value, row.low, row.high, row.chance, row.ceiling]).filter((v) => v != null), panel.runs.every((r) => r.percent));
  const longest = highest(named.map((line) => breadth(shortened(line.model, 34)))) + 14;
  const ends = longest < wide * 0.42;  // else the names stand below
  const tall = Math.max(210, Math.min(400, Math.round(wide * 0.46)));
  const left = 54, right = wide - (ends ? longest : 16), top = 18, bottom = tall - 42;
  const x = (k) => shots.length < 2 ? (left + right) / 2 : left + 14 + (right - left - 28) * shots.indexOf(k) / (shots.length - 1);
  const y = (v) => bottom - (bottom - top) * (Math.min(high, Math.max(low, v)) - low) / (high - low);
  const drawn = ticks.map((v) => [svg("line", { class: "grid", x1: left, x2: right, y1: y(v), y2: y(v) }),
    svg("text", { class: "tick", x: left - 8, y: y(v) + 4, "text-anchor": "end" }, number(v, digits))]);
  for (const k of shots) drawn.push(svg("line", { class: "grid", x1: x(k), x2: x(k), y1: bottom, y2: bottom + 4 }),
    svg("text", { class: "tick", x: x(k), y: bottom + 18, "text-anchor": "middle" }, k));
  drawn.push(svg("text", { class: "axis", x: (left + right) / 2, y: bottom + 35, "text-anchor": "middle" }, "demonstrations"),
    svg("text", { class: "axis", transform: `translate(13 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, shortened(panel.metric, 30)));
  for (const name of ["chance", "ceiling"]) {
    const known = shots.map((k) => [k, runs.find((r) => r.count === k && r.rows[0][name] != null)]).filter(([, r]) => r).map(([k, r]) => [k, r.rows[0][name]]);
    if (!known.length) continue;
    const points = known.map(([k, v]) => [x(k), y(v)]);
    // One value for all is a line through the whole panel.
    if (unique(known.map(([, v]) => v)).length === 1) { points.unshift([left, points[0][1]]); points.push([right, points[0][1]]); }
    const [px, py] = points[points.length - 1];
    drawn.push(svg("polyline", { class: name, points: points.map((p) => p.join(",")).join(" ") }, svg("title", {}, name)),
      svg("text", { class: "axis", x: px - 4, y: py - 4, "text-anchor": "end" }, name));
  }
  const behind = lines.filter((line) => line.faint).map((line) => lineOf(line, x, y, "faint"));
  const bands = named.map((line) => bandOf(line, x, y));
  const front = named.map((line) => lineOf(line, x, y, colour(line.model)));
  const names = ends ? endsOf(named, x, y, right, top, bottom) : [];
  const said = runs.map((r) => `${labelOf(r)} ${number(r.rows[0].value)}`).join("; ");
  const chart = svg("svg", { viewBox: `0 0 ${wide} ${tall}`, width: wide, height: tall, role: "img", "aria-label": `${panel.task}: ${shortened(said, 1500)}` },
    drawn, behind, bands, front, names);
  const more = lines.length - named.length;
  const below = [];
  if (!ends) below.push(el("p", { class: "legend" }, named.map((line) => el("span", {}, keyOf(line.model), line.model))));
  if (more) below.push(el("p", { class: "said" }, `The ${MOST_LINES} best are labelled; ${plural(more, "other")} in grey.`));
  return [chart, ...below];
}

function keyOf(model) {
  return svg("svg", { viewBox: "0 0 28 12", class: "key", "aria-hidden": "true" }, svg("path", { class: `line ${colour(model)}`, d: "M0,6H28" }),
    svg("path", { class: `dot ${colour(model)}`, d: marker(model)(14, 6) }));
}

function bandOf(line, x, y) {
  const known = line.runs.filter((r) => r.rows[0].low != null);
  if (known.length < 2) return null;
  const up = known.map((r) => `${x(r.count)},${y(r.rows[0].high)}`), down = known.map((r) => `${x(r.count)},${y(r.rows[0].low)}`).reverse();
  return svg("polygon", { class: `band ${colour(line.model)}`, points: [...up, ...down].join(" ") });
}

function lineOf(line, x, y, kind) {
  const shown = [svg("polyline", { class: `line ${kind}`, points: line.runs.map((r) => `${x(r.count)},${y(r.rows[0].value)}`).join(" ") }, svg("title", {}, line.model))];
  if (kind === "faint") return shown;
  for (const run of line.runs) {
    const row = run.rows[0], cx = x(run.count), cy = y(row.value);
    shown.push(svg("a", { href: address(run) }, hover(run),
      row.low != null && line.runs.length < 2 && svg("path", { class: `bar ${kind}`, d: `M${cx},${y(row.low)}V${y(row.high)}M${cx - 4},${y(row.low)}h8M${cx - 4},${y(row.high)}h8` }),
      svg("path", { class: `dot ${kind}`, d: marker(line.model)(cx, cy) }), svg("circle", { class: "reach", cx, cy, r: 12 })));
  }
  return shown;
}

// Names beside the last points, moved apart where they would cover each other.
function endsOf(lines, x, y, right, top, bottom) {
  const gap = 15;
  const ends = lines.map((line) => {
    const last = line.runs[line.runs.length - 1];
    return { line, px: x(last.count), py: y(last.rows[0].value), at: y(last.rows[0].value) };
  }).sort((a, b) => a.at - b.at);
  for (let i = 1; i < ends.length; i++) ends[i].at = Math.max(ends[i].at, ends[i - 1].at + gap);
  let limit = bottom + 6;
  for (let i = ends.length - 1; i >= 0; i--) { ends[i].at = Math.min(ends[i].at, limit); limit = ends[i].at - gap; }
  return ends.map(({ line, px, py, at }) => [
    svg("path", { class: "leader", d: `M${px + 7},${py}L${right + 1},${at}` }),
    svg("text", { class: `name ${colour(line.model)}`, x: right + 5, y: at + 4 }, shortened(line.model, 34), svg("title", {}, line.model))]);
}

// A figure as a file of its own: in light colours, with every style written out.
const STYLES = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "font-size", "font-family", "font-weight"];
function saveFigure(chart, panel) {
  const root = document.documentElement, before = root.dataset.theme;
  root.dataset.theme = "light";
  const copy = chart.cloneNode(true);
  const from = chart.querySelectorAll("*"), to = copy.querySelectorAll("*");
  from.forEach((element, place) => {
    const shown = getComputedStyle(element);
    for (const name of STYLES) to[place].setAttribute(name, shown.getPropertyValue(name));
    to[place].removeAttribute("class");
  });
  if (before) root.dataset.theme = before; else delete root.dataset.theme;
  copy.querySelectorAll("circle").forEach((reach) => reach.remove());
  copy.querySelectorAll("a").forEach((link) => link.replaceWith(...link.childNodes));
  copy.setAttribute("xmlns", SVG);
  copy.prepend(svg("rect", { width: "100%", height: "100%", fill: "#ffffff" }));
  download(`${panel.task}_${panel.split}_${panel.protocol}.svg`.replace(/[^\w.-]+/g, "-"), "image/svg+xml", new XMLSerializer().serializeToString(copy));
}
