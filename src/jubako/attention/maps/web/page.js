// What the reader does, and what the page then shows. The state stands in the address, so that a view can be linked to.

const $ = (id) => document.getElementById(id);
const SCALES = ["linear", "sqrt", "log"];
const CHIPS = 400;  // tokens of the text around the row that are shown
const state = { run: about.runs.length - 1, layer: 0, head: MEAN, row: 0, column: null, scale: "sqrt", shared: false };
const view = new View($("viewport"), $("spacer"), $("canvas"));
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
let theme = null;  // chosen by the reader; else the system's
let current = null;  // the map that is shown
let pointed = null;  // the cell below the mouse
let headBefore = 0;

const look = () => ({ theme: theme ?? (prefersDark.matches ? "dark" : "light"), scale: state.scale });
const largestOf = (run) => Math.max(...about.maps.slice(placeOf(run, 0, 0), placeOf(run + 1, 0, 0)).map((map) => map.largest));
const reachOf = (map, run) => (state.shared && map.largest > 0 ? largestOf(run) / map.largest : 1);
const layerName = (layer) => (/^\d+$/.test(about.layers[layer]) ? `layer ${about.layers[layer]}` : shown(about.layers[layer]));
const headName = (head) => (head === MEAN ? "mean of the heads" : `head ${shown(about.heads[head])}`);
const mapName = (layer, head) => `${layerName(layer)} · ${headName(head)}`;
const counted = (count, word) => `${count} ${word}${Number(count) === 1 ? "" : "s"}`;
const capital = (text) => text[0].toUpperCase() + text.slice(1);
const quoted = (tokens, place) => (tokens ? `${place} “${shown(tokens[place])}”` : `${place}`);

function start() {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    const number = Number(value);
    if (name === "run" && about.runs[number]) state.run = number;
    if (name === "layer" && about.layers[number] !== undefined) state.layer = number;
    if (name === "head" && (value === "mean" || about.heads[number] !== undefined)) state.head = value === "mean" ? MEAN : number;
    if (name === "row" && number >= 0 && number < about.rows) state.row = Math.floor(number);
    if (name === "scale" && SCALES.includes(value)) state.scale = value;
    if (name === "shared") state.shared = value === "1";
    if (name === "theme" && palettes[value]) theme = value;
  }
  $("title").textContent = about.title || "Attention";
  $("subtitle").textContent = about.subtitle;
  $("footer").textContent = about.footer;
  if (about.runs.length > 1) {
    $("runs").hidden = false;
    about.runs.forEach((run, place) => {
      const input = element("input", { type: "radio", name: "run", value: place });
      $("runs").append(element("label", { title: run.title }, input, element("span", {}, run.name)));
    });
  }
  buildTiles();
  listen();
  dress();
  show();
}

// --- showing -----------------------------------------------------------------------------------------------------------

function go(changes) {
  const before = { ...state };
  Object.assign(state, changes);
  if (state.head !== MEAN) headBefore = state.head;
  if (before.run !== state.run || before.layer !== state.layer || before.head !== state.head) return show();
  showRow();
  view.point({ row: state.row }, cellPointed());
  return undefined;
}

const cellPointed = () => pointed ?? (state.column === null ? null : { row: state.row, column: state.column });

async function show() {
  const { run, layer, head } = state;
  const map = await loadMap(run, layer, head);
  if (run !== state.run || layer !== state.layer || head !== state.head) return;  // the reader was faster
  current = map;
  $("map-name").textContent = capital(mapName(layer, head));
  pressTile(layer, head);
  redraw();
  showRow();
  document.documentElement.dataset.ready = placeOf(run, layer, head);
}

function redraw() {
  document.querySelector(`#scales [value=${state.scale}]`).checked = true;
  if (about.runs.length > 1) document.querySelector(`#runs [value="${state.run}"]`).checked = true;
  $("shared").checked = state.shared;
  paintTiles();
  view.chosen = { row: state.row };
  view.pointed = cellPointed();
  view.show(current, tintsOf(current, look(), reachOf(current, state.run)), state.run);
  showLegend();
}

function dress() {
  document.documentElement.dataset.theme = look().theme;
}

function showLegend() {
  const palette = palettes[look().theme][current.signed ? 1 : 0];
  paint($("ramp"), Uint8Array.from({ length: 254 }, (_, i) => i), 1, 254, palette);
  const largest = current.largest * reachOf(current, state.run);
  const at = (place) => {
    const way = current.signed ? 2 * place - 1 : place;
    const share = { linear: Math.abs(way), sqrt: way * way, log: 10 ** (about.decades * (Math.abs(way) - 1)) }[state.scale];
    if (state.scale === "log" && way === 0) return current.signed ? "0" : `≤ ${rough(largest / 10 ** about.decades, 2)}`;
    return `${current.signed && way > 0 ? "+" : ""}${rough(Math.sign(way) * share * largest, 2)}`;
  };
  $("ticks").replaceChildren(...[0, 0.25, 0.5, 0.75, 1].map((place) => {
    const tick = element("span", {}, at(place));
    tick.style.left = `${100 * place}%`;
    return tick;
  }));
  const marks = [["entropy", current.signed ? "weight moved; change of the first key" : "entropy of the row; weight of its first key"]];
  if (current.masked) marks.push(["masked", `masked: ${counted(current.masked, "cell")}`]);
  if (current.broken) marks.push(["broken", `not a number: ${counted(current.broken, "cell")}`]);
  $("marks").replaceChildren(...marks.map(([kind, text]) => element("li", {}, element("i", { className: kind }), text)));
}

function showRow() {
  const { run, row } = state;
  const [queries, keys] = [queriesOf(run), keysOf(run)];
  const top = topOf(current, row);
  const tints = tintsOf(current, look(), reachOf(current, run));
  const asks = current.signed ? "where it differs most" : "where it looks";
  $("row-name").replaceChildren("Row ", element("b", {}, element("bdi", {}, quoted(queries, row))), `: ${asks}`);
  const spread = current.entropy[row];
  const facts = [];
  if (!Number.isFinite(spread)) facts.push("Not all of the row are numbers.");
  else if (current.signed) facts.push("Weight moved ", element("b", {}, rough(spread, 4)), ", first key ", element("b", {}, exact(current.first[row])));
  else facts.push("Entropy ", element("b", {}, `${rough(spread, 4)} bits`), `, as spread over ${counted(rough(2 ** spread, 2), "key")}; first key `, element("b", {}, exact(current.first[row])));
  if (current.hidden[row] > 0) facts.push(element("span", { className: "warning" }, ` On masked keys: ${rough(current.hidden[row])}.`));
  $("row-facts").replaceChildren(...facts);
  const sum = top.reduce((all, { value }) => all + value, 0);
  $("row-caption").textContent = top.length ? `The ${top.length} ${current.signed ? "largest" : "top"} keys; together ${rough(sum, 4)}` : "No key has a number.";
  $("value-name").textContent = current.signed ? "difference" : "weight";
  const longest = Math.max(...top.map(({ value }) => Math.abs(value)), 0);
  $("keys-of-row").replaceChildren(...top.map(({ key, value }) => {
    const fill = element("div", { className: "fill" });
    fill.style.width = `${longest ? (100 * Math.abs(value)) / longest : 0}%`;
    const palette = palettes[look().theme][current.signed ? 1 : 0];
    fill.style.background = cssColour(palette[current.signed ? (value < 0 ? 45 : 208) : 150]);
    const name = element("th", { scope: "row" }, element("span", { className: "place" }, `${key}`), keys ? tokenElement(shown(keys[key])) : "");
    const number = element("td", { className: "number" }, exact(value));
    return element("tr", key === state.column ? { "aria-current": "true" } : {}, name, element("td", {}, element("div", { className: "track", "aria-hidden": "true" }, fill)), number);
  }));
  showText(tints);
  showPointed();
  const best = top.slice(0, 3).map(({ key, value }) => `${quoted(keys, key)} ${rough(value, 3)}`).join(", ");
  $("status").textContent = `${mapName(state.layer, state.head)}, row ${quoted(queries, row)}: ${best || "no numbers"}.${state.column === null ? "" : ` ${describe(row, state.column)}`}`;
  remember();
}

// The tokens in their order, each in the colour of its cell of the row; a row of as many leads on to its own.
function showText(tints) {
  const { run, row } = state;
  const keys = keysOf(run);
  $("text-name").textContent = keys ? "In the text" : "";
  if (!keys) return $("text").replaceChildren();
  const from = Math.max(0, Math.min(row - CHIPS / 2, about.columns - CHIPS));
  const until = Math.min(about.columns, from + CHIPS);
  const chips = [];
  for (let key = from; key < until; key++) {
    const tint = tints[current.codes[row * about.columns + key]];
    const chip = element("button", { type: "button", tabIndex: -1, title: describe(row, key) }, element("bdi", {}, shown(keys[key])));
    chip.style.background = cssColour(tint);
    chip.style.color = isDark(tint) ? "#fff8ec" : "#211a17";
    if (key === row && about.rows === about.columns) chip.setAttribute("aria-current", "true");
    chip.addEventListener("click", () => go(key < about.rows ? { row: key } : {}));
    chips.push(chip);
  }
  if (until - from < about.columns) chips.push(element("p", {}, `Keys ${from} to ${until - 1} of ${about.columns}.`));
  return $("text").replaceChildren(...chips);
}

// What is known of a cell: exactly if it is one of the row's top keys, else what its colour tells.
function describe(row, column) {
  const names = `${quoted(queriesOf(state.run), row)} → ${quoted(keysOf(state.run), column)}`;
  return `${names}: ${valueAt(row, column)}`;
}

function valueAt(row, column) {
  const code = current.codes[row * about.columns + column];
  if (code === MASKED) return "masked";
  if (code === BROKEN) return "not a number";
  const found = topOf(current, row).find(({ key }) => key === column);
  return found ? exact(found.value) : `about ${rough(shareOf(code, current) * current.largest, 2)}`;
}

function showPointed() {
  const cell = cellPointed();
  if (!cell) return $("pointed").replaceChildren("Rows are queries, columns are keys: point at a cell, or click on one.");
  const { row, column } = cell;
  return $("pointed").replaceChildren(
    element("bdi", {}, quoted(queriesOf(state.run), row)), " → ", element("bdi", {}, quoted(keysOf(state.run), column)), "  ",
    element("b", {}, valueAt(row, column)));
}

function remember() {
  if (location.protocol === "about:") return;  // in a notebook there is no address
  const { run, layer, head, row, scale, shared } = state;
  const words = { ...(about.runs.length > 1 ? { run } : {}), layer, head: head === MEAN ? "mean" : head, row, scale, ...(shared ? { shared: 1 } : {}), ...(theme ? { theme } : {}) };
  history.replaceState(null, "", `#${new URLSearchParams(words)}`);
}

// --- what the reader does ----------------------------------------------------------------------------------------------

const wrap = (place, count) => (place + count) % count;
const clamp = (place, count) => Math.max(0, Math.min(count - 1, place));

function restyle(changes) {
  Object.assign(state, changes);
  dress();
  redraw();
  showRow();
}

function moveTo(row, column) {
  pointed = null;
  go({ row: clamp(row, about.rows), column: column === null ? null : clamp(column, about.columns) });
  view.reveal(state.row, state.column ?? 0);
  view.draw();
}

const KEYS = {
  h: () => go({ head: wrap(state.head - 1, MEAN + 1) }),
  l: () => go({ head: wrap(state.head + 1, MEAN + 1) }),
  n: () => go({ layer: wrap(state.layer + 1, about.layers.length) }),
  p: () => go({ layer: wrap(state.layer - 1, about.layers.length) }),
  m: () => go({ head: state.head === MEAN ? headBefore : MEAN }),
  j: () => moveTo(state.row + 1, state.column),
  k: () => moveTo(state.row - 1, state.column),
  r: () => go({ run: wrap(state.run + 1, about.runs.length) }),
  c: () => restyle({ scale: SCALES[wrap(SCALES.indexOf(state.scale) + 1, SCALES.length)] }),
  s: () => restyle({ shared: !state.shared }),
  t: () => {
    theme = look().theme === "dark" ? "light" : "dark";
    restyle({});
  },
  "+": () => view.zoom(2),
  "=": () => view.zoom(2),
  "-": () => view.zoom(0.5),
  0: () => view.zoom(0),
  "?": () => $("keys").showModal(),
};

function moveInMap(event) {
  const step = event.shiftKey ? 10 : 1;
  const page = Math.max(1, Math.floor(about.rows / 10));
  const { row } = state;
  const column = state.column ?? 0;
  const moves = {
    ArrowUp: [row - step, column], ArrowDown: [row + step, column], ArrowLeft: [row, column - step], ArrowRight: [row, column + step],
    Home: [row, 0], End: [row, about.columns - 1], PageUp: [row - page, column], PageDown: [row + page, column],
    Enter: [column, column],
  };
  if (!moves[event.key]) return;
  event.preventDefault();
  moveTo(...moves[event.key]);
}

function listen() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open || !current) return;
    const action = KEYS[event.key];
    if (!action || !Object.hasOwn(KEYS, event.key)) return;
    event.preventDefault();
    action();
  });
  $("viewport").addEventListener("keydown", moveInMap);
  $("tiles").addEventListener("keydown", moveInTiles);
  $("viewport").addEventListener("scroll", () => view.draw());
  $("viewport").addEventListener("mousemove", (event) => pointAt(event));
  $("viewport").addEventListener("mouseleave", () => pointAt(null));
  $("viewport").addEventListener("click", (event) => {
    const cell = cellBelow(event);
    if (cell) go(cell);
  });
  $("smaller").addEventListener("click", () => view.zoom(0.5));
  $("larger").addEventListener("click", () => view.zoom(2));
  $("fit").addEventListener("click", () => view.zoom(0));
  $("theme").addEventListener("click", KEYS.t);
  $("help").addEventListener("click", KEYS["?"]);
  $("shared").addEventListener("change", KEYS.s);
  $("scales").addEventListener("change", (event) => restyle({ scale: event.target.value }));
  $("runs").addEventListener("change", (event) => go({ run: Number(event.target.value) }));
  prefersDark.addEventListener("change", () => restyle({}));
  new ResizeObserver(() => current && view.arrange()).observe($("viewport"));
}

function cellBelow(event) {
  const box = $("canvas").getBoundingClientRect();
  return current && view.cellAt(event.clientX - box.left, event.clientY - box.top);
}

function pointAt(event) {
  pointed = event && cellBelow(event);
  view.point({ row: state.row }, cellPointed());
  showPointed();
}

if (typeof DecompressionStream === "function") {
  start();
} else {
  $("notice").textContent = "This browser is too old to unpack the maps: it takes one of 2023 or later.";
  $("notice").hidden = false;
}
