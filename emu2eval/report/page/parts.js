// Elements and texts. Whatever a model or a data set wrote becomes a text node; nothing is read as HTML.
const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS = DATA.runs;
const SVG = "http://www.w3.org/2000/svg";

// The places in an answer, as `_answer` in gather.py lists them.
const SAMPLE = 0, VALUE = 1, TEXT = 2, PREDICTION = 3, IMAGES = 4, WHY = 5, LEFT_OUT = 6, OTHER = 7,
  LOGS = 8, DETAILS = 9, TAKE = 10, RAW = 11, THOUGHT = 12, ENDED = 13;

const $ = (id) => document.getElementById(id);
const textOf = (number) => number == null ? null : DATA.texts[number];

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value == null || value === false) continue;
    if (name === "on") for (const [event, call] of Object.entries(value)) element.addEventListener(event, call);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false)
    .map((child) => child instanceof Node ? child : document.createTextNode(String(child))));
  return element;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const number = (value, digits = 1) => value == null ? "–"
  : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const count = (value) => value.toLocaleString("en");
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + number(Math.abs(value));
const chance = (p) => p == null ? "–" : p < 0.0001 ? "< 0.0001" : p.toFixed(4);
const within = (low, high, digits = 1) => low == null ? "" : `[${number(low, digits)}, ${number(high, digits)}]`;
const unique = (list) => [...new Set(list)];

function labelOf(run) {
  if (run.label) return run.label;
  const same = RUNS.filter((r) => ["task", "split", "protocol", "model", "shots"].every((key) => r[key] === run[key]));
  // Runs of several seeds are told apart by these; others, such as those of two settings, by the end of their name.
  const seeds = unique(same.map((r) => r.seed)).length === same.length;
  const more = same.length < 2 ? "" : seeds ? `, seed ${run.seed}` : ` (${run.name.slice(-8)})`;
  return run.label = `${run.model}, ${run.shots} shots${more}`;
}

// Spaces and line breaks at the ends matter to a model and are easily missed.
function exact(text) {
  const [, before, middle, after] = /^(\s*)([\s\S]*?)(\s*)$/.exec(text);
  return [blanks(before), middle, blanks(after)];
}

// What joins an ask with its reply, and a reply with the next ask, where a model reads one plain text.
const joint = (text) => text ? el("span", { class: "joint" }, exact(text)) : null;

function blanks(text) {
  if (!text) return null;
  const shown = [...text].map((c) => c === " " ? "␣" : c === "\n" ? "↵\n" : c === "\t" ? "⇥" : "·").join("");
  return el("span", { class: "blank", title: JSON.stringify(text) }, shown);
}

function image(place, small = false) {
  const [source, width, height, name] = DATA.images[-1 - place];
  if (source == null) return el("span", { class: "broken" }, `no image: ${name}`);
  const title = `${name}, ${width} × ${height}`;
  // Images of a few pixels are shown pixel by pixel.
  const kind = Math.max(width, height) <= 64 ? "pixels" : null;
  return el("img", { src: source, alt: small ? "" : title, title, class: kind, loading: "lazy", decoding: "async" });
}

function part(value) {
  if (Array.isArray(value)) return el("span", { class: "video" }, value.map((frame) => image(frame)));
  return value < 0 ? image(value) : exact(textOf(value));
}

// A prompt's part in one line, for lists and searches.
const plain = (parts) => (parts || []).map((p) => typeof p === "number" && p >= 0 ? textOf(p) : "▣").join(" ");

// Right, partly and wrong make sense for scores between 0 and 1 alone.
function verdict(run, value) {
  if (value == null) return "unscored";
  if (!bounded(run)) return "scored";
  return value >= 1 ? "right" : value <= 0 ? "wrong" : "partly";
}

function bounded(run) {
  run.bounded ??= run.rows[0].better
    && run.answers.every((a) => a[VALUE] == null || (a[VALUE] >= 0 && a[VALUE] <= 1));
  return run.bounded;
}

const MARKS = { right: "✓", partly: "◐", wrong: "✗", unscored: "?", scored: "·" };
const sampleOf = (run, answer) => DATA.sets[run.set][answer[SAMPLE]];

const takeOf = (answer) => answer[TAKE] ?? 0;
const highest = (numbers) => numbers.reduce((a, b) => Math.max(a, b), 0);

// The place of the answer to a sample in a trial, the take'th one.
function answerTo(run, id, trial, take) {
  if (!run.index) {
    run.index = new Map();
    run.answers.forEach((answer, place) => {
      const sample = sampleOf(run, answer);
      run.index.set(`${sample.t}/${takeOf(answer)}/${sample.i}`, place);
    });
    run.trials = highest(DATA.sets[run.set].map((sample) => sample.t)) + 1;
    run.takes = highest(run.answers.map(takeOf)) + 1;
  }
  // A run of one trial stands beside every trial of another, and likewise for takes.
  return run.index.get(`${run.trials === 1 ? 0 : trial}/${run.takes === 1 ? 0 : take}/${id}`);
}

function replyOf(run, answer) {
  const images = (answer[IMAGES] || []).map((place) => image(place));
  const text = textOf(answer[TEXT]) ?? (images.length ? null : textOf(answer[PREDICTION]));
  if (images.length) return text ? [...images, exact(text)] : images;
  if (text == null) return el("em", {}, answer[WHY] == null ? "not stored" : `none: ${textOf(answer[WHY])}`);
  return text === "" ? el("em", {}, "empty") : exact(text);
}

function score(run, answer) {
  const kind = verdict(run, answer[VALUE]);
  const value = answer[VALUE] == null ? "unscored" : number(answer[VALUE], Number.isInteger(answer[VALUE]) ? 0 : 3);
  return el("span", { class: `score ${kind}` }, `${MARKS[kind]} ${value}`);
}

// Which of several answers to a question it is, for people.
const which = (trial, take) => (trial ? ` · trial ${trial + 1}` : "") + (take ? ` · take ${take + 1}` : "");

// Where a sample of a run is found: #run/sample, #run/sample/trial/take, with filters after a question mark.
function address(run, sample, trial, take, filters) {
  let text = "#" + encodeURIComponent(run.name) + "/";
  if (sample != null) text += encodeURIComponent(sample) + (trial || take ? `/${trial}/${take}` : "");
  const query = new URLSearchParams(Object.entries(filters || {}).filter(([, value]) => value)).toString();
  return text + (query ? "?" + query : "");
}
