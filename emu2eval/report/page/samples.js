// The browser of samples: a list of which only the visible rows exist, and one sample beside it.
const TALL = 56;  // pixels of a row, as in page.css
const SHOWN = {
  all: "all", wrong: "wrong", partly: "partly right", right: "right", unscored: "unscored", split: "runs disagree",
  flipped: "flipped", won: "flipped, better here", lost: "flipped, worse here",
};
const FLIPS = ["flipped", "won", "lost"];
const ORDERS = { "": "as stored", low: "lowest score first", high: "highest score first", id: "by id" };

const state = { run: null, sample: null, trial: 0, take: 0, against: "", show: "", group: "", order: "", q: "" };
let listed = [];  // places in the answers of state.run, filtered and in order
let current = -1;  // place in `listed`

const runOf = (name) => RUNS.find((run) => run.name === name);
const narrow = () => matchMedia("(max-width: 760px)").matches;

function haystack(run, answer) {
  run.texts ??= new Map();
  if (!run.texts.has(answer)) {
    const sample = sampleOf(run, answer);
    run.texts.set(answer, [sample.i, plain(run, sample.q || sample.p), textOf(run, answer[TEXT]), textOf(run, answer[PREDICTION]),
      plain(run, sample.r), textOf(run, answer[WHY])].filter((t) => t != null).join("\n").toLowerCase());
  }
  return run.texts.get(answer);
}

function partnerOf(other, answer) {
  const sample = sampleOf(state.run, answer), place = answerTo(other, sample.i, sample.t, takeOf(answer));
  return place == null ? null : answersOf(other)[place];
}

// Makes what is searched while nobody waits for it.
function prepare(run) {
  const answers = answersOf(run);
  let place = run.texts ? answers.length : 0;
  const some = () => {
    if (state.run !== run) return;
    for (const end = performance.now() + 8; place < answers.length && performance.now() < end;) haystack(run, answers[place++]);
    if (place < answers.length) setTimeout(some, 10);
  };
  setTimeout(some, 300);
}

// How far the answer's score is above its partner's; null where either has none or they are alike.
function change(answer, other) {
  const partner = other && partnerOf(other, answer);
  if (!partner || answer[VALUE] == null || partner[VALUE] == null) return null;
  const gap = answer[VALUE] - partner[VALUE];
  return Math.abs(gap) > 1e-9 ? gap * (state.run.better ? 1 : -1) : null;
}

// Samples of a set to which runs have answers of different worth.
function split(run) {
  const set = setOf(run);
  if (!set.split) {
    const ends = new Map();
    for (const answers of Object.values(set.answers)) for (const answer of answers) {
      if (answer[VALUE] == null) continue;
      const [low, high] = ends.get(answer[SAMPLE]) || [Infinity, -Infinity];
      ends.set(answer[SAMPLE], [Math.min(low, answer[VALUE]), Math.max(high, answer[VALUE])]);
    }
    set.split = new Set([...ends].filter(([, [low, high]]) => high - low > 1e-9).map(([sample]) => sample));
  }
  return set.split;
}

function filter() {
  const run = state.run, answers = answersOf(run), other = runOf(state.against);
  const group = state.group ? setOf(run).texts.indexOf(state.group) : -1;
  const words = state.q ? state.q.toLowerCase().split(/\s+/) : [];
  const fits = (answer) => {
    if (state.group && !sampleOf(run, answer).g.includes(group)) return false;
    if (FLIPS.includes(state.show)) {
      const gap = change(answer, other);
      if (gap == null || (state.show === "won" && gap < 0) || (state.show === "lost" && gap > 0)) return false;
    } else if (state.show === "split") {
      if (!split(run).has(answer[SAMPLE])) return false;
    } else if (state.show && state.show !== "all" && verdict(run, answer[VALUE]) !== state.show) return false;
    return words.every((word) => haystack(run, answer).includes(word));
  };
  listed = [];
  answers.forEach((answer, place) => { if (fits(answer)) listed.push(place); });
  const worth = (place, none) => answers[place][VALUE] ?? none;
  if (state.order === "low") listed.sort((a, b) => worth(a, Infinity) - worth(b, Infinity) || a - b);
  if (state.order === "high") listed.sort((a, b) => worth(b, -Infinity) - worth(a, -Infinity) || a - b);
  if (state.order === "id") {
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    listed.sort((a, b) => compare(sampleOf(run, answers[a]).i, sampleOf(run, answers[b]).i) || a - b);
  }
  $("count").value = `${count(listed.length)} of ${count(answers.length)}` + (run.shown < run.answers ? ` (drawn from ${count(run.answers)})` : "");
  $("count").title = run.shown < run.answers ? `${count(run.shown)} of this run's ${count(run.answers)} answers were drawn at random, unscored ones first; `
      + "numbers on the overview cover all answers. For more: emu2eval report --samples N." : "";
  $("spacer").style.height = `${Math.max(1, listed.length) * TALL}px`;
  const place = state.sample == null ? null : answerTo(run, state.sample, state.trial, state.take);
  current = place == null ? -1 : listed.indexOf(place);
  rows(true);
}

const made = new Map();  // place in `listed` -> its row

function rows(anew = false) {
  const list = $("list"), spacer = $("spacer");
  const first = Math.max(0, Math.floor(list.scrollTop / TALL) - 6);
  const last = Math.min(listed.length, Math.ceil((list.scrollTop + list.clientHeight) / TALL) + 6);
  for (const [place, row] of made) if (anew || (place >= 0 && (place < first || place >= last))) { row.remove(); made.delete(place); }
  for (let place = first; place < last; place++) {
    if (made.has(place)) continue;
    const row = rowOf(place);
    made.set(place, row);
    spacer.append(row);
  }
  if (anew && !listed.length) {
    const none = el("p", { class: "empty" }, "no matching samples");
    made.set(-1, none);
    spacer.append(none);
  }
  if (current >= 0) list.setAttribute("aria-activedescendant", `row-${current}`);
  else list.removeAttribute("aria-activedescendant");
}

function rowOf(place) {
  const run = state.run, answer = answersOf(run)[listed[place]], sample = sampleOf(run, answer);
  const shown = (sample.q || sample.p || []).flat().find((p) => p < 0);
  const kind = verdict(run, answer[VALUE]);
  const reply = answer[PICTURES] != null ? "▣" : textOf(run, answer[TEXT]) ?? textOf(run, answer[PREDICTION]) ?? textOf(run, answer[WHY]) ?? "";
  const asked = (sample.q || sample.p || []).flat().filter((p) => p >= 0).map((p) => textOf(run, p)).join(" ").trim();
  const row = el("div", { class: "row", role: "option", id: `row-${place}`, "aria-selected": String(place === current),
    on: { click: () => choose(place) } },
  el("span", { class: `mark ${kind}`, title: kind }, MARKS[kind]),
  answer[PICTURES] != null ? image(answer[PICTURES][0], true) : shown != null ? image(shown, true) : el("span", { class: "noimg" }),
  el("span", { class: "two" }, el("span", { class: "id" }, sample.i, which(sample.t, takeOf(answer))),
    el("span", { class: "asked" }, asked.slice(-160)), el("span", { class: "said" }, "→ ", reply.slice(0, 160))));
  row.style.top = `${place * TALL}px`;
  return row;
}

function choose(place, quietly = false) {
  if (!listed.length) return;
  const to = Math.max(0, Math.min(listed.length - 1, place));
  const answer = answersOf(state.run)[listed[to]], sample = sampleOf(state.run, answer);
  const first = state.sample == null && !quietly;
  Object.assign(state, { sample: sample.i, trial: sample.t, take: takeOf(answer) });
  made.get(current)?.setAttribute("aria-selected", "false");
  current = to;
  made.get(current)?.setAttribute("aria-selected", "true");
  remember(first);
  reveal();
  detail();
}

function reveal() {
  const list = $("list"), top = current * TALL;
  if (current < 0) return;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + TALL > list.scrollTop + list.clientHeight) list.scrollTop = top + TALL - list.clientHeight;
  rows();
}

function detail() {
  const box = $("detail"), run = state.run;
  document.body.classList.toggle("one", state.sample != null);
  // A phone's list had no height while a sample was shown.
  if (state.sample == null) rows();
  const place = state.sample == null ? null : answerTo(run, state.sample, state.trial, state.take);
  box.scrollTop = 0;
  if (place == null) {
    box.replaceChildren(el("p", { class: "empty" }, state.sample == null ? "No matching samples."
      : `${labelOf(run)} has no sample ${state.sample} here.`));
    return;
  }
  const answer = answersOf(run)[place], sample = sampleOf(run, answer);
  const step = (to, said, key, off) => el("button", { type: "button", class: "step", disabled: off, title: `${said} sample (${key})`, on: { click: () => choose(to) } }, said);
  box.replaceChildren(
    el("div", { class: "top" },
      el("button", { type: "button", class: "back", on: { click: back } }, "← list"),
      el("div", { class: "steps" }, step(current - 1, "‹ Previous", "k", current <= 0),
        el("span", { class: "place" }, current < 0 ? "not in this list" : `${count(current + 1)} of ${count(listed.length)}`),
        step(current + 1, "Next ›", "j", current >= listed.length - 1))),
    el("div", { class: "titled" }, el("h2", {}, sample.i, which(sample.t, takeOf(answer))), score(run, answer)),
    el("p", { class: "about" }, `${run.task} · ${run.split} · ${run.protocol} · ${labelOf(run)}`,
      sample.g.map((g) => el("span", { class: "tag" }, textOf(run, g)))),
    el("div", { class: "halves" }, el("div", {}, promptOf(run, sample, answer)), el("div", {},
      block("reply", `Reply of ${labelOf(run)}`, replyOf(run, answer)),
      asItCame(run, answer), scoredAs(run, answer), likelihoods(run, sample, answer), referencesOf(run, sample), others(run, sample, answer),
      answer[DETAILS] == null ? "" : el("details", {}, el("summary", {}, "What the scorer noted"), el("pre", {}, textOf(run, answer[DETAILS]))))));
}

const block = (kind, title, ...content) => el("section", { class: `block ${kind}` }, el("h3", {}, title), el("div", { class: "parts" }, content));

function promptOf(run, sample, answer) {
  const why = run.promptless || textOf(run, sample.x);
  if (why || !sample.q) return [el("p", { class: "note" }, `The prompt cannot be shown: ${why || "it was not stored"}`),
    sample.p ? block("query", "The sample", sample.p.map((p) => part(run, p))) : ""];
  const shown = [];
  if (answer[OTHER]) shown.push(el("p", { class: "note" }, "This reply was given to another prompt than the one that is made today."));
  if (sample.s != null) shown.push(block("system", "System", exact(textOf(run, sample.s))));
  const [lead, separator] = sample.j.map((place) => textOf(run, place));
  const leftOut = answer[LEFT_OUT] || 0;
  sample.d.forEach((turn, place) => {
    const [ask, reply] = setOf(run).turns[turn];
    const gone = place < leftOut;
    shown.push(block(gone ? "turn gone" : "turn", `Demonstration ${place + 1} of ${sample.d.length}: ${textOf(run, sample.e[place])}`
      + (gone ? ", left out: the prompt was too long" : ""), ask.map((p) => part(run, p)), joint(lead), el("span", { class: "shown" }, reply.map((p) => part(run, p))), joint(separator)));
  });
  shown.push(block("query", "Query", sample.q.map((p) => part(run, p))));
  return shown;
}

// What came with the text that is scored: all that the model wrote, its thoughts, an unusual end.
function asItCame(run, answer) {
  const [raw, thought, ended] = [RAW, THOUGHT, ENDED].map((place) => textOf(run, answer[place]));
  return [
    ended && el("p", { class: "note" }, `The reply ended by ${ended}.`),
    raw != null && el("details", {}, el("summary", {}, "The whole text, as it came"), el("pre", {}, raw)),
    thought != null && el("details", {}, el("summary", {}, "Thought before the reply"), el("pre", {}, thought)),
  ].filter(Boolean);
}

function scoredAs(run, answer) {
  const said = textOf(run, answer[PREDICTION]);
  if (answer[WHY] != null) return block("", "Unscored", textOf(run, answer[WHY]));
  return said == null || said === textOf(run, answer[TEXT]) ? "" : block("", "Scored as", exact(said));
}

function likelihoods(run, sample, answer) {
  if (!answer[LOGS] || !sample.c) return "";
  const best = Math.max(...answer[LOGS]);
  return block("", "Log-likelihoods", el("table", {}, sample.c.map((choice, place) => el("tr", { class: answer[LOGS][place] === best ? "best" : null },
    el("th", {}, textOf(run, choice)), el("td", {}, number(answer[LOGS][place], 3))))));
}

function referencesOf(run, sample) {
  if (!sample.r) return "";
  const times = new Map();
  for (const each of sample.r) times.set(each, (times.get(each) || 0) + 1);
  return block("references", "References", times.size ? el("ul", {}, [...times].map(([each, n]) =>
    el("li", {}, part(run, each), n > 1 ? el("small", {}, ` × ${n}`) : ""))) : el("em", {}, "none"));
}

// Runs that were asked the same question, whatever they were shown before it.
const besides = (run) => RUNS.filter((r) => r !== run && r.task === run.task && r.split === run.split && r.protocol === run.protocol).slice(0, 60);

function others(run, sample, answer) {
  const all = besides(run), there = all.filter((r) => SETS[r.set]);
  if (there.length < all.length) need(all).then(() => { if (state.run === run && state.sample === sample.i) detail(); });
  const found = there.map((r) => [r, answerTo(r, sample.i, sample.t, takeOf(answer))]).filter(([, place]) => place != null);
  if (!found.length) return "";
  found.sort(([a], [b]) => (b.name === state.against) - (a.name === state.against));
  return block("others", "The same question, other runs", el("table", {}, found.map(([r, place]) => el("tr", { class: r.name === state.against ? "best" : null },
    el("th", {}, el("a", { href: address(r, sample.i, sample.t, takeOf(answer)) }, labelOf(r))),
    el("td", {}, score(r, answersOf(r)[place])), el("td", { class: "word" }, replyOf(r, answersOf(r)[place]))))));
}

// To the list, which on a wide page is there anyway.
function back() {
  if (!narrow()) { $("list").focus(); return; }
  state.sample = null;
  current = -1;
  remember();
  filter();
  detail();
  $("list").focus();
}

function options(select, choices, value) {
  const written = JSON.stringify(choices);
  if ($(select).written !== written) $(select).replaceChildren(...choices.map(([key, text]) => el("option", { value: key }, text)));
  $(select).written = written;
  $(select).closest("label").hidden = choices.length < 2;
  $(select).value = value;
}

function selects() {
  const run = state.run, answers = answersOf(run);
  options("run", RUNS.map((r) => [r.name, `${r.task} (${r.split}, ${r.protocol}), ${labelOf(r)}`]), run.name);
  const like = RUNS.filter((r) => r !== run && r.task === run.task && r.split === run.split);
  if (!like.some((r) => r.name === state.against)) state.against = "";
  options("against", [["", "no other run"], ...like.map((r) => [r.name, labelOf(r) + (r.protocol === run.protocol ? "" : `, ${r.protocol}`)])], state.against);
  const counts = { all: answers.length, split: split(run).size }, other = runOf(state.against);
  for (const answer of answers) {
    const kind = verdict(run, answer[VALUE]);
    counts[kind] = (counts[kind] || 0) + 1;
    const gap = change(answer, other);
    if (gap != null) for (const name of ["flipped", gap > 0 ? "won" : "lost"]) counts[name] = (counts[name] || 0) + 1;
  }
  if (!(state.show in SHOWN)) state.show = "";
  if (FLIPS.includes(state.show) && !state.against) state.show = "";
  const kinds = Object.keys(SHOWN).filter((name) => counts[name] || name === state.show || (FLIPS.includes(name) && state.against));
  options("verdict", kinds.map((name) => [name === "all" ? "" : name, `${SHOWN[name]} (${count(counts[name] || 0)})`]), state.show);
  const groups = unique(setOf(run).samples.flatMap((sample) => sample.g)).map((g) => textOf(run, g)).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  if (!groups.includes(state.group)) state.group = "";
  options("group", [["", "all"], ...groups.map((name) => [name, name])], state.group);
  options("order", Object.entries(ORDERS), state.order in ORDERS ? state.order : "");
  if ($("search").value !== state.q) $("search").value = state.q;
}

// An image as large as the window allows, and from there to the others of the sample.
function zoom(place) {
  const [source, width, height, name] = IMAGES[-1 - place];
  const shown = unique([...document.querySelectorAll("#detail .zoomable")].map((each) => Number(each.dataset.image)));
  const at = shown.indexOf(place), box = $("zoom");
  const whole = el("img", { src: sourceOf(IMAGES[-1 - place]) + (DATA.live && source ? "/whole" : ""), alt: name, class: Math.max(width, height) <= 64 ? "pixels" : null });
  const turn = (by) => el("button", { type: "button", disabled: !shown[at + by] && shown[at + by] !== 0, "aria-label": by < 0 ? "Image before" : "Next image",
    on: { click: () => zoom(shown[at + by]) } }, by < 0 ? "‹" : "›");
  box.replaceChildren(whole, el("p", {}, turn(-1), ` ${name}, ${width} × ${height} `, turn(1), el("form", { method: "dialog" }, el("button", {}, "Close"))));
  box.onclick = (event) => { if (event.target === box || event.target === whole) box.close(); };
  box.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && shown[at + by] != null) { event.preventDefault(); zoom(shown[at + by]); }
  };
  if (!box.open) box.showModal();
}
