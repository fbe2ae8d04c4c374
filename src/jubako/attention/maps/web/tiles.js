// All maps as small pictures: a table of layers and heads, or of one layer a wall of larger ones.

const tiles = [];  // [layer][head], the mean last
const thumbnails = [];  // of each run, when they are there: all in one array

function buildTiles() {
  const heads = [...about.heads.keys(), MEAN];
  const isNumbered = about.layers.every((name) => /^\d+$/.test(name));  // a name would not fit
  const label = (head) => (head === MEAN ? "mean" : shown(about.heads[head]));
  about.layers.forEach((_, layer) => tiles.push(heads.map((head) => {
    const tile = element("button", { type: "button", className: "tile", "aria-pressed": "false", tabIndex: -1 }, element("canvas"));
    tile.setAttribute("aria-label", mapName(layer, head));
    tile.title = mapName(layer, head);
    tile.addEventListener("click", () => go({ layer, head }));
    return tile;
  })));
  if (about.layers.length === 1) {
    $("overview-name").textContent = capital(layerName(0));
    tiles[0].forEach((tile, head) => tile.append(element("span", {}, head === MEAN ? "mean" : headName(head))));
    $("tiles").append(element("div", { className: "wall" }, ...tiles[0]));
    return;
  }
  $("overview-name").textContent = "Layers and heads";
  const top = element("tr", {}, element("td"), ...heads.map((head) => element("th", { scope: "col", className: head === MEAN ? "mean" : "" }, label(head))));
  top.firstChild.className = "side";
  const lines = tiles.map((line, layer) => {
    const name = element("th", { scope: "row", className: "side", title: layerName(layer) }, isNumbered ? about.layers[layer] : `${layer}`);
    return element("tr", {}, name, ...line.map((tile, head) => element("td", { className: head === MEAN ? "mean" : "" }, tile)));
  });
  top.firstChild.replaceWith(element("th", { className: "side", "aria-label": "layer" }));
  $("tiles").append(element("table", {}, element("thead", {}, top), element("tbody", {}, ...lines)));
}

async function paintTiles() {
  thumbnails[state.run] ??= unpack($(`thumbnails-${state.run}`).textContent).then((buffer) => new Uint8Array(buffer));
  const run = state.run;
  const codes = await thumbnails[run];
  if (run !== state.run) return;
  const [rows, columns] = about.thumbnail;
  tiles.flat().forEach((tile, place) => {
    const map = about.maps[placeOf(run, 0, 0) + place];
    const part = codes.subarray(place * rows * columns, (place + 1) * rows * columns);
    paint(tile.firstChild, part, rows, columns, tintsOf(map, look(), reachOf(map, run)));
  });
}

// Marks the tile of the map that is shown, the one that the Tab key comes to.
function pressTile(layer, head) {
  tiles.flat().forEach((tile) => {
    tile.setAttribute("aria-pressed", "false");
    tile.tabIndex = -1;
  });
  const tile = tiles[layer][head];
  tile.setAttribute("aria-pressed", "true");
  tile.tabIndex = 0;
  tile.scrollIntoView({ block: "nearest" });
}

function moveInTiles(event) {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  if (!moves[event.key]) return;
  event.preventDefault();
  const [down, across] = moves[event.key];
  const isWall = about.layers.length === 1;
  const acrossWall = isWall && down ? down * wallWidth() : across;
  const [layer, head] = [clamp(state.layer + (isWall ? 0 : down), about.layers.length), clamp(state.head + acrossWall, MEAN + 1)];
  go({ layer, head });
  tiles[layer][head].focus();
}

const wallWidth = () => getComputedStyle(document.querySelector(".wall")).gridTemplateColumns.split(" ").length;
