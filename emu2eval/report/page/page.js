// What is shown stands in the address: # is the overview, #run/sample one sample. Keys, theme, start.
const FILTERS = ["against", "show", "group", "order", "q"];
const decoded = (text) => { try { return decodeURIComponent(text); } catch { return text; } };

function remember(anew = false) {
  const filters = Object.fromEntries(FILTERS.map((name) => [name, state[name]]));
  const to = address(state.run, state.sample, state.trial, state.take, filters);
  // The way back leads to the list, not through every sample that was seen.
  // A browser that finds it too often refuses: whoever holds a key down.
  try { history[anew ? "pushState" : "replaceState"](null, "", to); } catch { /* the next one counts */ }
  document.title = `${state.sample ?? labelOf(state.run)} · ${state.run.task} · emu2eval`;
}

// The page waits for what is packed in it; of several waits the last one counts.
let turn = 0;
async function ready(runs) {
  const own = ++turn;
  document.body.setAttribute("aria-busy", "true");
  await need(runs);
  if (own !== turn) return false;
  document.body.removeAttribute("aria-busy");
  return true;
}

async function route() {
  const [path, query] = location.hash.slice(1).split(/\?(.*)/s);
  const [name, sample, trial, take] = path.split("/").map(decoded);
  const run = name ? runOf(name) : null;
  const samples = Boolean(run);
  $("overview").hidden = samples;
  $("samples").hidden = !samples;
  $("to-overview").toggleAttribute("aria-current", !samples);
  $("to-samples").toggleAttribute("aria-current", samples);
  document.body.classList.toggle("browsing", samples);
  document.title = "emu2eval report";
  if (!samples) {
    turn++;
    document.body.removeAttribute("aria-busy");
    document.body.classList.remove("one");
    return;
  }
  const asked = new URLSearchParams(query || "");
  if (!await ready([run, runOf(asked.get("against"))])) return;
  for (const key of FILTERS) state[key] = asked.get(key) || "";
  Object.assign(state, { run, sample: sample || null, trial: Number(trial) || 0, take: Number(take) || 0 });
  show();
  $("to-samples").href = location.hash;
}

function show() {
  selects();
  filter();
  prepare(state.run);
  if (current < 0) $("list").scrollTop = 0;
  // A wide page shows a sample at once, a phone its list.
  if (state.sample == null && listed.length && !narrow()) choose(0, true);
  else { reveal(); detail(); }
}

async function changed() {
  const [run, against] = [runOf($("run").value), $("against").value];
  if (!await ready([run, runOf(against)])) return;
  Object.assign(state, { run, against, show: $("verdict").value, group: $("group").value, order: $("order").value, q: $("search").value });
  selects();
  relist();
}

// A letter changes which samples are listed, and nothing that can be chosen.
function searched() {
  if (!state.run || document.body.hasAttribute("aria-busy")) return changed();
  state.q = $("search").value;
  relist();
}

function relist() {
  remember();
  filter();
  if (current < 0 && listed.length && !narrow()) { $("list").scrollTop = 0; choose(0, true); return; }
  if (current < 0 && !listed.length && !narrow()) state.sample = null;
  $("list").scrollTop = current < 0 ? 0 : $("list").scrollTop;
  reveal();
  detail();
}

function beside(step) {
  const place = RUNS.indexOf(state.run) + step;
  if (!RUNS[place]) return;
  $("run").value = RUNS[place].name;
  changed();
}

const KEYS = [["j, ↓", "next sample", () => choose(current + 1)], ["k, ↑", "previous sample", () => choose(current - 1)],
  ["→", "next run", () => beside(1)], ["←", "previous run", () => beside(-1)], ["/", "search", () => $("search").focus()],
  ["Enter", "enlarge the first image", () => document.querySelector("#detail .zoomable")?.click()], ["Esc", "leave the search; back to the list", () => back()], ["t", "light or dark", () => theme()], ["?", "these keys", () => keys()]];
const DOES = { j: 0, ArrowDown: 0, k: 1, ArrowUp: 1, ArrowRight: 2, ArrowLeft: 3, "/": 4, Enter: 5, Escape: 6, t: 7, "?": 8 };

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest?.("input, select, textarea");
  if (typing) {
    if (event.key === "Escape" || (event.key === "Enter" && typing.id === "search")) { $("list").focus(); event.preventDefault(); }
    return;
  }
  const place = DOES[event.key];
  if (place == null || (place < 7 && $("samples").hidden)) return;
  // A button or a link that has the focus is pressed, not passed over.
  if (event.key === "Enter" && event.target.closest?.("button, a, summary")) return;
  event.preventDefault();
  KEYS[place][2]();
}

function keys() {
  $("keys").replaceChildren(el("h2", {}, "Keys"), el("table", {}, KEYS.map(([key, does]) => el("tr", {}, el("th", {}, key), el("td", { class: "word" }, does)))),
    el("form", { method: "dialog" }, el("button", {}, "Close")));
  $("keys").showModal();
}

function theme(wanted) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  const to = wanted || (now === "dark" ? "light" : "dark");
  document.documentElement.dataset.theme = to;
  // A page opened from a file may have no storage.
  try { localStorage.setItem("emu2eval-theme", to); } catch { /* forgotten when it is closed */ }
}

// What is folded on a screen is there on paper, where it is not too much.
function unfold(open) {
  const folded = [...document.querySelectorAll("#overview details")].filter((each) => RUNS.length <= FEW || !each.closest(".about-task"));
  for (const each of folded) {
    if (open) { each.folded = !each.open; each.open = true; each.fill?.(); } else if (each.folded) each.open = false;
  }
  if (open) for (const table of document.querySelectorAll("#overview .tabled")) table.fill();
}

function start() {
  try { const kept = localStorage.getItem("emu2eval-theme"); if (kept === "dark" || kept === "light") theme(kept); } catch { /* none */ }
  if (!window.DecompressionStream) {
    $("overview").hidden = false;
    $("overview").append(el("p", { class: "note" }, "This browser is too old for this page, which needs Chrome 80, Firefox 113, Safari 16.4 or later."));
    return;
  }
  takeData(document);
  // The first screen is shown before the rest is made.
  overview((call) => requestAnimationFrame(() => setTimeout(call)));
  $("to-samples").href = RUNS.length ? address(RUNS[0]) : "#";
  let waiting = 0;
  const soon = (call) => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(() => call()); };
  $("list").addEventListener("scroll", () => soon(rows), { passive: true });
  addEventListener("resize", () => { if (!$("samples").hidden && state.run) rows(); });
  for (const name of ["run", "against", "verdict", "group", "order"]) $(name).addEventListener("change", changed);
  let typed = 0;
  $("search").addEventListener("input", () => { cancelAnimationFrame(typed); typed = requestAnimationFrame(() => searched()); });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("theme").addEventListener("click", () => theme());
  $("more").addEventListener("click", () => $("more").setAttribute("aria-expanded", String($("filters").classList.toggle("open"))));
  $("help").addEventListener("click", keys);
  $("detail").addEventListener("click", (event) => { const found = event.target.closest(".zoomable"); if (found) zoom(Number(found.dataset.image)); });
  addEventListener("keydown", pressed);
  addEventListener("hashchange", route);
  addEventListener("beforeprint", () => unfold(true));
  addEventListener("afterprint", () => unfold(false));
  route();
  // Whoever looks at samples next does not wait for them to be unpacked.
  if (RUNS.length) setTimeout(() => { chunk("images"); chunk(`set-${RUNS[0].set}`); }, 400);
  if (DATA.live) follow();
}

start();
