// What the page knows: packed maps, unpacked when they are first looked at, and how numbers and tokens are written.
//
// A map is a stream of zlib in base64: values of the top keys (L x k), first keys' values (L), entropies (L, float32),
// weight on masked keys (L, float32), places of the top keys (L x k; all bits set: none), codes of cells (L x S).

const about = JSON.parse(document.getElementById("about").textContent);
const MASKED = 254, BROKEN = 255;
const Floats = about.bytes === 8 ? Float64Array : Float32Array;
const Places = about.columns > 65535 ? Uint32Array : Uint16Array;
const NO_PLACE = about.columns > 65535 ? 0xffffffff : 0xffff;
const MEAN = about.heads.length;  // the place of the mean, after the heads
const packed = document.querySelectorAll("script.map");
const unpacked = new Map();  // the newest last

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// The place of a map among all, which come run by run, layer by layer, the mean after the heads.
function placeOf(run, layer, head) {
  return (run * about.layers.length + layer) * (MEAN + 1) + head;
}

async function loadMap(run, layer, head) {
  const place = placeOf(run, layer, head);
  let map = unpacked.get(place);
  unpacked.delete(place);
  if (!map) {
    map = { ...about.maps[place], ...readMap(await unpack(packed[place].textContent)) };
    while (unpacked.size * about.rows * about.columns > 1e8) unpacked.delete(unpacked.keys().next().value);
  }
  unpacked.set(place, map);
  return map;
}

function readMap(buffer) {
  const { rows, columns, top } = about;
  let at = 0;
  const next = (Type, count) => {
    const start = at;
    at += count * Type.BYTES_PER_ELEMENT;
    return new Type(buffer.slice(start, at));
  };
  const values = next(Floats, rows * top);
  const first = next(Floats, rows);
  const entropy = next(Float32Array, rows);
  const hidden = next(Float32Array, rows);
  const places = next(Places, rows * top);
  const codes = next(Uint8Array, rows * columns);
  return { values, first, entropy, hidden, places, codes };
}

// The share of the largest that a code stands for, below zero where it does.
function shareOf(code, map) {
  const zero = map.signed ? about.levels / 2 : 0;
  const root = (code - zero) / (about.levels - zero);
  return Math.sign(root) * root * root;
}

// The top keys of a row, the largest first: [{ key, value }].
function topOf(map, row) {
  const found = [];
  for (let i = row * about.top; i < (row + 1) * about.top && map.places[i] !== NO_PLACE; i++) {
    found.push({ key: map.places[i], value: map.values[i] });
  }
  return found;
}

// A number with as few digits as tell it from all others of its type: exact.
function exact(value) {
  if (Floats === Float64Array || !Number.isFinite(value)) return String(value);
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(Number(value.toPrecision(9)));
}

function rough(value, digits = 3) {
  return String(Number(value.toPrecision(digits)));
}

// A token as it can be shown: controls, invisible and empty ones by a sign for each.
function shown(token) {
  if (token === "") return "∅";
  return token.replace(/[\p{C}\p{Z}]/gu, (c) => {
    const code = c.codePointAt(0);
    if (c === " ") return "␣";
    if (c === "\n") return "⏎";
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : `\\u{${code.toString(16)}}`;
  });
}

const queriesOf = (run) => about.runs[run].queries;
const keysOf = (run) => about.runs[run].keys;
const nameOf = (tokens, place) => (tokens ? shown(tokens[place]) : `${place}`);

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("aria-") || key === "role" || key === "scope") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

const tokenElement = (text) => element("bdi", { className: "token" }, text);
