// The browser of samples: a list of which only the visible rows exist, and one sample beside it.
const TALL = 56;  // pixels of a row, as in page.css
const SHOWN = {
  all: "all", wrong: "wrong", partly: "partly right", right: "right", unscored: "unscored",
  flipped: "flipped", won: "flipped, better here", lost: "flipped, worse here",
};
const ORDERS = { "": "as stored", low: "lowest score first", high: "highest score first", id: "by id" };

const state = { run: null, sample: null, trial: 0, take: 0, against: "", show: "", group: "", order: "", q: "" };
let listed = [];  // places in state.run.answers, filtered and in order
let current = -1;  // place in `listed`

function haystack(run, answer) {
  run.texts ??= new Map();
  if (!run.texts.has(answer)) {
    const sample = sampleOf(run, answer);
    run.texts.set(answer, [sample.i, plain(sample.q || sample.p), textOf(answer[TEXT]), textOf(answer[PREDICTION]),
      plain(sample.r), textOf(answer[WHY])].filter((t) => t != null).join("\n").toLowerCase());
  }
  return run.texts.get(answer);
}

function partnerOf(answer) {
  const other = RUNS.find((run) => run.name === state.against);
  if (!other) return null;
  const sample = sampleOf(state.run, answer), place = answerTo(other, sample.i, sample.t, takeOf(answer));
  return place == null ? null : [other, other.answers[place]];
}

// How far the answer's score is above its partner's; null where either has none or they are alike.
function change(answer) {
  const partner = partnerOf(answer);
  if (!partner || answer[VALUE] == null || partner[1][VALUE] == null) return null;
  const gap = answer[VALUE] - partner[1][VALUE];
  return Math.abs(gap) > 1e-9 ? gap * (state.run.rows[0].better ? 1 : -1) : null;
}

function fits(answer) {
  if (state.group && !sampleOf(state.run, answer).g.some((g) => textOf(g) === state.group)) return false;
  if (["flipped", "won", "lost"].includes(state.show)) {
    const gap = change(answer);
    if (gap == null || (state.show === "won" && gap < 0) || (state.show === "lost" && gap > 0)) return false;
  } else if (state.show && state.show !== "all" && verdict(state.run, answer[VALUE]) !== state.show) return false;
  return !state.q || state.q.toLowerCase().split(/\s+/).every((word) => haystack(state.run, answer).includes(word));
}

function filter() {
  const run = state.run;
  listed = run.answers.map((_, place) => place).filter((place) => fits(run.answers[place]));
  const worth = (place) => run.answers[place][VALUE] ?? Infinity;
  if (state.order === "low") listed.sort((a, b) => worth(a) - worth(b) || a - b);
  if (state.order === "high") listed.sort((a, b) => (run.answers[b][VALUE] ?? -Infinity) - (run.answers[a][VALUE] ?? -Infinity) || a - b);
  if (state.order === "id") listed.sort((a, b) => sampleOf(run, run.answers[a]).i.localeCompare(sampleOf(run, run.answers[b]).i, "en", { numeric: true }) || a - b);
  $("count").value = `${count(listed.length)} of ${count(run.answers.length)}`;
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
  for (const [place, row] of made) if (anew || place < first || place >= last) { row.remove(); made.delete(place); }
  for (let place = first; place < last; place++) {
    if (made.has(place)) continue;
    const row = rowOf(place);
    made.set(place, row);
    spacer.append(row);
  }
  if (anew && !listed.length) {
    const none = el("p", { class: "empty" }, "no sample fits");
    made.set(-1, none);
    spacer.append(none);
  }
  if (current >= 0) list.setAttribute("aria-activedescendant", `row-${current}`);
  else list.removeAttribute("aria-activedescendant");
}

function rowOf(place) {
  const run = state.run, answer = run.answers[listed[place]], sample = sampleOf(run, answer);
  const shown = (sample.q || sample.p || []).flat().find((p) => p < 0);
  const kind = verdict(run, answer[VALUE]);
  const reply = answer[IMAGES] != null ? "▣" : textOf(answer[TEXT]) ?? textOf(answer[PREDICTION]) ?? textOf(answer[WHY]) ?? "";
  const asked = (sample.q || sample.p || []).flat().filter((p) => p >= 0).map(textOf).join(" ").trim();
  const row = el("div", { class: "row", role: "option", id: `row-${place}`, "aria-selected": String(place === current),
    on: { click: () => choose(place) } },
  el("span", { class: `mark ${kind}`, title: kind }, MARKS[kind]),
  answer[IMAGES] != null ? image(answer[IMAGES][0], true) : shown != null ? image(shown, true) : el("span", { class: "noimg" }),
  el("span", { class: "two" }, el("span", { class: "id" }, sample.i, which(sample.t, takeOf(answer))),
    el("span", { class: "asked" }, asked.slice(-160)), el("span", { class: "said" }, "→ ", reply.slice(0, 160))));
  row.style.top = `${place * TALL}px`;
  return row;
}

function choose(place) {
  if (!listed.length) return;
  const to = Math.max(0, Math.min(listed.length - 1, place));
  const answer = state.run.answers[listed[to]], sample = sampleOf(state.run, answer);
  const first = state.sample == null;
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
  const place = state.sample == null ? null : answerTo(run, state.sample, state.trial, state.take);
  box.scrollTop = 0;
  if (place == null) {
    box.replaceChildren(el("p", { class: "empty" }, state.sample == null ? "Choose a sample: j and k go down and up."
      : `This run has no sample ${state.sample}.`));
    return;
  }
  const answer = run.answers[place], sample = sampleOf(run, answer);
  box.replaceChildren(
    el("div", { class: "top" },
      el("button", { type: "button", class: "back", on: { click: back } }, "← list"),
      el("h2", {}, sample.i, which(sample.t, takeOf(answer))), score(run, answer),
      el("span", { class: "steps" },
        el("button", { type: "button", "aria-label": "Previous", on: { click: () => choose(current - 1) } }, "↑"),
        el("button", { type: "button", "aria-label": "Next", on: { click: () => choose(current + 1) } }, "↓"))),
    el("p", { class: "about" }, `${run.task} · ${run.split} · ${run.protocol} · ${labelOf(run)}`,
      sample.g.map((g) => el("span", { class: "tag" }, textOf(g)))),
    el("div", { class: "halves" }, el("div", {}, promptOf(run, sample, answer)), el("div", {},
      block("reply", `Reply of ${labelOf(run)}`, replyOf(run, answer)),
      asItCame(answer), scoredAs(answer), likelihoods(sample, answer), referencesOf(run, sample), others(run, sample, answer),
      answer[DETAILS] == null ? "" : el("details", {}, el("summary", {}, "What the scorer noted"), el("pre", {}, textOf(answer[DETAILS]))))));
}

const block = (kind, title, ...content) => el("section", { class: `block ${kind}` }, el("h3", {}, title), el("div", { class: "parts" }, content));

function promptOf(run, sample, answer) {
  const why = run.promptless || textOf(sample.x);
  if (why || !sample.q) return [el("p", { class: "note" }, `The prompt cannot be shown: ${why || "it was not stored"}`),
    sample.p ? block("query", "The sample", sample.p.map(part)) : ""];
  const shown = [];
  if (answer[OTHER]) shown.push(el("p", { class: "note" }, "This reply was given to another prompt than the one that is made today."));
  if (sample.s != null) shown.push(block("system", "System", exact(textOf(sample.s))));
  const [lead, separator] = sample.j.map(textOf);
  const leftOut = answer[LEFT_OUT] || 0;
  sample.d.forEach((turn, place) => {
    const [ask, reply] = DATA.turns[turn];
    const gone = place < leftOut;
    shown.push(block(gone ? "turn gone" : "turn", `Demonstration ${place + 1} of ${sample.d.length}: ${textOf(sample.e[place])}`
      + (gone ? ", left out: the prompt was too long" : ""), ask.map(part), joint(lead), el("span", { class: "shown" }, reply.map(part)), joint(separator)));
  });
  shown.push(block("query", "Query", sample.q.map(part)));
  return shown;
}

// What came with the text that is scored: all that the model wrote, its thoughts, an unusual end.
function asItCame(answer) {
  const [raw, thought, ended] = [RAW, THOUGHT, ENDED].map((place) => textOf(answer[place]));
  return [
    ended && el("p", { class: "note" }, `The reply ended by ${ended}.`),
    raw != null && el("details", {}, el("summary", {}, "The whole text, as it came"), el("pre", {}, raw)),
    thought != null && el("details", {}, el("summary", {}, "Thought before the reply"), el("pre", {}, thought)),
  ].filter(Boolean);
}

function scoredAs(answer) {
  const said = textOf(answer[PREDICTION]);
  if (answer[WHY] != null) return block("", "Unscored", textOf(answer[WHY]));
  return said == null || said === textOf(answer[TEXT]) ? "" : block("", "Scored as", exact(said));
}

function likelihoods(sample, answer) {
  if (!answer[LOGS] || !sample.c) return "";
  const best = Math.max(...answer[LOGS]);
  return block("", "Log-likelihoods", el("table", {}, sample.c.map((choice, place) => el("tr", { class: answer[LOGS][place] === best ? "best" : null },
    el("th", {}, textOf(choice)), el("td", {}, number(answer[LOGS][place], 3))))));
}

function referencesOf(run, sample) {
  if (!sample.r) return "";
  const times = new Map();
  for (const each of sample.r) times.set(each, (times.get(each) || 0) + 1);
  return block("references", "References", times.size ? el("ul", {}, [...times].map(([each, n]) =>
    el("li", {}, part(each), n > 1 ? el("small", {}, ` × ${n}`) : ""))) : el("em", {}, "none"));
}

function others(run, sample, answer) {
  const found = RUNS.filter((r) => r !== run && r.task === run.task && r.split === run.split && r.protocol === run.protocol)
    .map((r) => [r, answerTo(r, sample.i, sample.t, takeOf(answer))]).filter(([, place]) => place != null);
  if (!found.length) return "";
  found.sort(([a], [b]) => (b.name === state.against) - (a.name === state.against));
  return block("others", "The same question, other runs", el("table", {}, found.map(([r, place]) => el("tr", { class: r.name === state.against ? "best" : null },
    el("th", {}, el("a", { href: address(r, sample.i, sample.t, takeOf(answer)) }, labelOf(r))),
    el("td", {}, score(r, r.answers[place])), el("td", { class: "word" }, replyOf(r, r.answers[place]))))));
}

function back() {
  state.sample = null;
  current = -1;
  remember();
  filter();
  detail();
  $("list").focus();
}

function options(select, choices, value) {
  $(select).replaceChildren(...choices.map(([key, text]) => el("option", { value: key, selected: key === value }, text)));
  $(select).closest("label").hidden = choices.length < 2;
  $(select).value = value;
}

function selects() {
  const run = state.run;
  options("run", RUNS.map((r) => [r.name, `${r.task} (${r.split}, ${r.protocol}), ${labelOf(r)}`]), run.name);
  const like = RUNS.filter((r) => r !== run && r.task === run.task && r.split === run.split);
  if (!like.some((r) => r.name === state.against)) state.against = "";
  options("against", [["", "no other run"], ...like.map((r) => [r.name, labelOf(r) + (r.protocol === run.protocol ? "" : `, ${r.protocol}`)])], state.against);
  const counts = {};
  for (const answer of run.answers) {
    const kind = verdict(run, answer[VALUE]);
    counts[kind] = (counts[kind] || 0) + 1;
    const gap = state.against ? change(answer) : null;
    if (gap != null) for (const name of ["flipped", gap > 0 ? "won" : "lost"]) counts[name] = (counts[name] || 0) + 1;
  }
  counts.all = run.answers.length;
  if (!(state.show in SHOWN)) state.show = "";
  const flips = ["flipped", "won", "lost"];
  if (flips.includes(state.show) && !state.against) state.show = "";
  const kinds = Object.keys(SHOWN).filter((name) => counts[name] || name === state.show
    || (flips.includes(name) && state.against));
  options("verdict", kinds.map((name) => [name === "all" ? "" : name, `${SHOWN[name]} (${count(counts[name] || 0)})`]), state.show);
  const groups = unique(DATA.sets[run.set].flatMap((sample) => sample.g)).map(textOf).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  if (!groups.includes(state.group)) state.group = "";
  options("group", [["", "all"], ...groups.map((name) => [name, name])], state.group);
  options("order", Object.entries(ORDERS), state.order in ORDERS ? state.order : "");
  if ($("search").value !== state.q) $("search").value = state.q;
}
