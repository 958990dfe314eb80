// Elements and texts. Whatever a model or a data set wrote becomes a text node; nothing is read as HTML.
const SVG = "http://www.w3.org/2000/svg";
let SOURCE, DATA, RUNS, IMAGES, PANELS, MODELS;
let SETS = [];
const CHUNKS = new Map();  // name -> promise of what is packed in the page
const INSIDE = new Map();  // images that stand in the page, some together

// The places in an answer, as `_answer` in gather.py lists them.
const SAMPLE = 0, VALUE = 1, TEXT = 2, PREDICTION = 3, PICTURES = 4, WHY = 5, LEFT_OUT = 6, OTHER = 7,
  LOGS = 8, DETAILS = 9, TAKE = 10, RAW = 11, THOUGHT = 12, ENDED = 13;

const $ = (id) => document.getElementById(id);

// Takes the data out of a document: this one, or a newer one of the same server.
function takeData(from) {
  SOURCE = from;
  DATA = JSON.parse(from.getElementById("data").textContent);
  RUNS = DATA.runs;
  IMAGES = null;
  SETS = [];
  CHUNKS.clear();
  INSIDE.clear();
  PANELS = [];
  const panels = new Map();
  RUNS.forEach((run, place) => {
    run.place = place;
    if (!panels.has(run.measure)) {
      const panel = { measure: run.measure, task: run.task, split: run.split, protocol: run.protocol, version: run.version,
        metric: run.rows[0].metric, runs: [] };
      panels.set(run.measure, panel);
      PANELS.push(panel);
    }
    run.panel = panels.get(run.measure);
    run.panel.runs.push(run);
  });
  MODELS = unique(RUNS.map((run) => run.model));
}

function chunk(name) {
  if (!CHUNKS.has(name)) CHUNKS.set(name, unpack(SOURCE.getElementById(`chunk-${name}`).textContent));
  return CHUNKS.get(name);
}

async function unpack(text) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// What is shown of the samples of these runs.
async function need(runs) {
  IMAGES ??= await chunk("images");
  for (const place of unique(runs.filter(Boolean).map((run) => run.set))) SETS[place] ??= await chunk(`set-${place}`);
}

const setOf = (run) => SETS[run.set];
const answersOf = (run) => setOf(run).answers[run.place];
const sampleOf = (run, answer) => setOf(run).samples[answer[SAMPLE]];
const textOf = (run, number) => number == null ? null : setOf(run).texts[number];

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

// One formatter for each number of digits: making one costs more than all that it writes.
const WRITTEN = new Map();
function writer(digits) {
  if (!WRITTEN.has(digits)) WRITTEN.set(digits, new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  return WRITTEN.get(digits);
}
const number = (value, digits = 1) => value == null ? "–" : writer(digits).format(value).replace("-", "−");
const counted = new Intl.NumberFormat("en");
const count = (value) => counted.format(value);
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
const signed = (value, digits = 1) => (value > 0 ? "+" : value < 0 ? "−" : "") + number(Math.abs(value), digits);
const chance = (p) => p == null ? "–" : p < 0.0001 ? "< 0.0001" : p.toFixed(4);
const within = (low, high, digits = 1) => low == null ? "" : `[${number(low, digits)}, ${number(high, digits)}]`;
const unique = (list) => [...new Set(list)];
const SURE = 0.05;

const shotsOf = (run) => `${run.shots} ${run.shots === "1" ? "shot" : "shots"}`;

// A model with its shots; runs of one panel that still look the same are told apart by the end of their name.
function labelOf(run) {
  if (run.label) return run.label;
  const same = run.panel.runs.filter((r) => r.model === run.model && r.shots === run.shots);
  return run.label = `${run.model}, ${shotsOf(run)}${same.length < 2 ? "" : ` (${run.name.slice(-8)})`}`;
}

const titleOf = (panel) => [el("strong", {}, panel.task, panel.version === 1 ? "" : ` v${panel.version}`), ` ${panel.split}, ${panel.protocol}`];

// Saves what was made in the page as a file.
function download(name, kind, text) {
  const url = URL.createObjectURL(new Blob([text], { type: kind }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
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

function sourceOf(entry) {
  if (typeof entry[0] !== "number") return entry[0];
  const group = Math.floor(entry[0] / DATA.together);
  if (!INSIDE.has(group)) INSIDE.set(group, JSON.parse(SOURCE.getElementById(`inside-${group}`).textContent));
  return INSIDE.get(group)[entry[0] % DATA.together];
}

function image(place, small = false) {
  const [source, width, height, name] = IMAGES[-1 - place];
  if (source == null) return el("span", { class: "broken" }, `no image: ${name}`);
  const title = `${name}, ${width} × ${height}`;
  // Images of a few pixels are shown pixel by pixel.
  const kind = Math.max(width, height) <= 64 ? "pixels" : null;
  const shown = el("img", { src: sourceOf(IMAGES[-1 - place]), alt: small ? "" : title, title, class: kind, loading: "lazy", decoding: "async" });
  return small ? shown : el("button", { type: "button", class: "zoomable", "aria-label": `Enlarge ${name}`, "data-image": place }, shown);
}

function part(run, value) {
  if (Array.isArray(value)) return el("span", { class: "video" }, value.map((frame) => image(frame)));
  return value < 0 ? image(value) : exact(textOf(run, value));
}

// A prompt's part in one line, for lists and searches.
const plain = (run, parts) => (parts || []).map((p) => typeof p === "number" && p >= 0 ? textOf(run, p) : "▣").join(" ");

// Right, partly and wrong make sense for scores between 0 and 1 alone.
function verdict(run, value) {
  if (value == null) return "unscored";
  if (!run.bounded) return "scored";
  return value >= 1 ? "right" : value <= 0 ? "wrong" : "partly";
}

const MARKS = { right: "✓", partly: "◐", wrong: "✗", unscored: "?", scored: "·" };

const takeOf = (answer) => answer[TAKE] ?? 0;
const highest = (numbers) => numbers.reduce((a, b) => Math.max(a, b), 0);

// The place of the answer to a sample in a trial, the take'th one.
function answerTo(run, id, trial, take) {
  if (!run.index) {
    run.index = new Map();
    answersOf(run).forEach((answer, place) => {
      const sample = sampleOf(run, answer);
      run.index.set(`${sample.t}/${takeOf(answer)}/${sample.i}`, place);
    });
    run.trials = highest(setOf(run).samples.map((sample) => sample.t)) + 1;
    run.takes = highest(answersOf(run).map(takeOf)) + 1;
  }
  // A run of one trial stands beside every trial of another, and likewise for takes.
  return run.index.get(`${run.trials === 1 ? 0 : trial}/${run.takes === 1 ? 0 : take}/${id}`);
}

function replyOf(run, answer) {
  const images = (answer[PICTURES] || []).map((place) => image(place));
  const text = textOf(run, answer[TEXT]) ?? (images.length ? null : textOf(run, answer[PREDICTION]));
  if (images.length) return text ? [...images, exact(text)] : images;
  if (text == null) return el("em", {}, answer[WHY] == null ? "not stored" : `none: ${textOf(run, answer[WHY])}`);
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
