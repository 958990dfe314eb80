// Tables that are sorted by a click, keep their heads in sight, and can be taken along as CSV.
const AT_ONCE = 60;  // rows of a table that are made at once; more as one scrolls to its end, or asks for all
const ON_PAPER = 250;  // rows that are printed unless all were asked for

// columns: { head, value: what sorts and is written out, cell: what is shown, word: text, not a number }
function table(name, columns, rows, options = {}) {
  const body = el("tbody"), made = new Map();  // row -> its element, which sorting moves
  const state = { column: -1, down: false, all: false, ordered: rows, next: 0 };
  const heads = columns.map((column, place) => el("th", { scope: "col", class: column.word ? "word" : null },
    column.head ? el("button", { type: "button", on: { click: () => sort(place) } }, column.head) : null));
  const more = el("button", { type: "button", class: "small more", on: { click: () => { state.all = true; grow(); } } });
  function sort(place) {
    state.down = state.column === place ? !state.down : !columns[place].word;
    state.column = place;
    heads.forEach((head, at) => at === place ? head.setAttribute("aria-sort", state.down ? "descending" : "ascending") : head.removeAttribute("aria-sort"));
    show();
  }
  function show() {
    if (state.column >= 0) {
      const of = columns[state.column].value, sign = state.down ? -1 : 1;
      state.ordered = rows.filter((row) => !row.heading).sort((a, b) => {
        const [one, other] = [of(a), of(b)];
        if (one == null || other == null) return (one == null) - (other == null);
        return sign * (typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other), "en", { numeric: true }));
      });
    }
    body.replaceChildren();
    grow();
  }
  // Some more rows; all of them, frame by frame, so that the page answers meanwhile.
  function grow(upTo = body.rows.length + AT_ONCE) {
    cancelAnimationFrame(state.next);
    body.append(...state.ordered.slice(body.rows.length, upTo).map((row) => {
      if (!made.has(row)) made.set(row, rowOfTable(columns, row));
      return made.get(row);
    }));
    const left = body.rows.length < state.ordered.length;
    more.hidden = state.all || !left;
    more.textContent = `Show all ${count(state.ordered.length)}`;
    if (state.all && left) state.next = requestAnimationFrame(() => grow());
  }
  show();
  const written = columns.filter((column) => column.head);
  const csv = () => {
    const lines = rows.filter((row) => !row.heading).map((row) => written.map((column) => cellText(column.value(row))));
    const text = [written.map((column) => cellText(column.head)), ...lines].map((cells) => cells.join(",") + "\r\n").join("");
    download(`${name}.csv`, "text/csv", "\ufeff" + text);
  };
  const near = ({ target }) => { if (target.scrollTop + 2 * target.clientHeight > target.scrollHeight) grow(); };
  const box = el("div", { class: "tabled" },
    el("div", { class: "tools" }, options.tools, el("button", { type: "button", class: "small csv", on: { click: csv } }, "CSV")),
    el("div", { class: rows.length > 14 ? "scroll long" : "scroll", tabindex: "0", on: { scroll: near } }, el("table", {}, el("thead", {}, el("tr", {}, heads)), body)), more);
  box.fill = () => grow(ON_PAPER);
  return box;
}

function rowOfTable(columns, row) {
  if (row.heading) return el("tr", { class: "heading" }, el("th", { colspan: columns.length, scope: "rowgroup" }, row.heading));
  return el("tr", { class: row.kind }, columns.map((column) => {
    const content = column.cell ? column.cell(row) : column.value(row);
    return content instanceof HTMLTableCellElement ? content : el("td", { class: column.name ? "word name" : column.word ? "word" : null }, content ?? "–");
  }));
}

// A cell of CSV. What a spreadsheet would take for a formula is marked as text.
function cellText(value) {
  if (value == null) return "";
  if (typeof value === "number") return String(value);
  const text = String(value).replace(/^[=+\-@\t\r]/, "'$&");
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

// Between which values all of a metric lie, zero among them.
function reachOf(panel, metric) {
  panel.reach ??= new Map();
  if (!panel.reach.has(metric)) {
    const rows = panel.runs.flatMap((run) => run.rows.filter((row) => row.metric === metric));
    const known = rows.flatMap((row) => [row.value, row.high, row.low, row.ceiling]).filter((v) => v != null);
    panel.reach.set(metric, [known.reduce((a, b) => Math.min(a, b), 0), known.reduce((a, b) => Math.max(a, b), 1e-9)]);
  }
  return panel.reach.get(metric);
}

// A bar with its interval, in the place of a number's own line.
function miniBar(run, row) {
  if (row.value == null) return null;
  const [low, high] = run.percent ? [0, 100] : reachOf(run.panel, row.metric);
  const x = (v) => 2 + 136 * (Math.min(high, Math.max(low, v)) - low) / (high - low);
  return svg("svg", { viewBox: "0 0 140 18", class: "mini", "aria-hidden": "true" },
    svg("rect", { class: "trough", x: 2, y: 4, width: 136, height: 10 }),
    svg("rect", { class: `fill ${colour(run.model)}`, x: x(Math.min(0, row.value)), y: 4, width: Math.max(1, Math.abs(x(row.value) - x(0))), height: 10 }),
    row.low != null && svg("path", { class: "whisker", d: `M${x(row.low)},9H${x(row.high)}M${x(row.low)},6v6M${x(row.high)},6v6` }),
    ["chance", "ceiling"].map((name) => row[name] != null && svg("path", { class: name, d: `M${x(row[name])},1v16` }, svg("title", {}, `${name} ${number(row[name])}`))));
}

// A difference with its interval on both sides of zero.
function forest(each, reach) {
  const x = (v) => 100 + 94 * Math.max(-1, Math.min(1, v / reach));
  const kind = leaning(each);
  return svg("svg", { viewBox: "0 0 200 18", class: "forest", "aria-hidden": "true" },
    svg("path", { class: "zero", d: "M100,0V18" }),
    each.low != null && svg("path", { class: `reaching ${kind}`, d: `M${x(each.low)},9H${x(each.high)}` }),
    svg("circle", { class: `point ${kind}`, cx: x(each.difference), cy: 9, r: 4.2 }));
}

// better or worse beyond chance; "" where it may be chance.
function leaning(each) {
  if (each.holm == null || each.holm >= SURE || each.difference === 0) return "";
  return (each.difference > 0) === each.better ? "better" : "worse";
}
