// Drawing: codes to colours, blocks of cells to one, and the large map with its margins.

const palettes = {};  // by theme, [one way, two ways]: 256 colours as the bytes of a picture
for (const theme of ["light", "dark"]) {
  palettes[theme] = about.palettes[theme].map((text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const colours = new Uint8Array(1024).fill(255);
    for (let i = 0; i < 256; i++) colours.set(bytes.subarray(3 * i, 3 * i + 3), 4 * i);
    return new Uint32Array(colours.buffer);
  });
}

function shade(share, scale) {
  if (scale === "linear") return share;
  if (scale === "sqrt") return Math.sqrt(share);
  return share > 0 ? Math.max(0, 1 + Math.log10(share) / about.decades) : 0;
}

// The colour of every code. `reach` is what the strongest colour stands for, in units of the map's largest cell.
function tintsOf(map, look, reach = 1) {
  const palette = palettes[look.theme][map.signed ? 1 : 0];
  const middle = map.signed ? 126.5 : 0;
  const tints = new Uint32Array(256);
  for (let code = 0; code < 254; code++) {
    const share = shareOf(Math.min(code, about.levels), map) / reach;
    const step = shade(Math.min(1, Math.abs(share)), look.scale) * (253 - middle);
    tints[code] = palette[Math.round(middle + (share < 0 ? -step : step))];
  }
  tints[MASKED] = palette[MASKED];
  tints[BROKEN] = palette[BROKEN];
  return tints;
}

const cssColour = (tint) => `rgb(${tint & 255} ${(tint >> 8) & 255} ${(tint >> 16) & 255})`;
const isDark = (tint) => 0.299 * (tint & 255) + 0.587 * ((tint >> 8) & 255) + 0.114 * ((tint >> 16) & 255) < 140;

function paint(canvas, codes, rows, columns, tints) {
  canvas.width = columns;
  canvas.height = rows;
  const pixels = new Uint32Array(codes.length);
  for (let i = 0; i < codes.length; i++) pixels[i] = tints[codes[i]];
  const image = new ImageData(new Uint8ClampedArray(pixels.buffer), columns, rows);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const blockStart = (block, length, count) => Math.floor((block * length) / count);
const blockOf = (place, length, count) => Math.ceil(((place + 1) * count) / length) - 1;

// Codes of fewer cells: each the one of its block that is furthest from zero, or no number.
function reduceCodes(map, rows, columns) {
  const zero = map.signed ? about.levels / 2 : 0;
  const order = (code) => (code === MASKED ? -1 : code === BROKEN ? 1024 : 2 * Math.abs(code - zero) + (code > zero));
  const ranks = Int16Array.from({ length: 256 }, (_, code) => order(code));
  const found = new Uint8Array(rows * columns).fill(MASKED);
  for (let i = 0; i < about.rows; i++) {
    const line = blockOf(i, about.rows, rows) * columns;
    for (let j = 0; j < about.columns; j++) {
      const at = line + blockOf(j, about.columns, columns);
      const code = map.codes[i * about.columns + j];
      if (ranks[code] > ranks[found[at]]) found[at] = code;
    }
  }
  return found;
}

const LABELLED = 11;  // pixels of a cell from which on its row and column have their names written
const STRIP = 11, GAP = 8;
const LONGEST = 22;  // characters of a token that stand beside the map

function short(name) {
  const characters = Array.from(name);
  return characters.length > LONGEST ? `${characters.slice(0, LONGEST - 1).join("")}…` : name;
}

class View {
  constructor(viewport, spacer, canvas) {
    Object.assign(this, { viewport, spacer, canvas, cell: 0, fits: true, picture: document.createElement("canvas") });
  }

  show(map, tints, run) {
    Object.assign(this, { map, tints, run });
    this.arrange();
  }

  // Decides the size of cells, and what of the picture a cell is: one cell, or a block of them.
  arrange() {
    const { rows, columns } = about;
    const [width, height] = [this.viewport.clientWidth, this.viewport.clientHeight];
    const fitting = (margin) => Math.min((width - margin.left - margin.right) / columns, (height - margin.top) / rows);
    const named = this.measure(true), plain = this.measure(false);
    if (this.fits) {
      this.cell = Math.min(40, Math.floor(fitting(named)));
      if (this.cell < LABELLED) this.cell = Math.min(LABELLED - 1, Math.max(1, fitting(plain)));
    }
    this.margin = this.cell >= LABELLED ? named : plain;
    const share = this.fits ? Math.min(1, fitting(this.margin)) : 1;
    this.shape = [Math.max(1, Math.floor(rows * share)), Math.max(1, Math.floor(columns * share))];
    this.size = [this.shape[1] * this.cell, this.shape[0] * this.cell];
    this.spacer.style.width = `${this.margin.left + this.size[0] + this.margin.right}px`;
    this.spacer.style.height = `${this.margin.top + this.size[1]}px`;
    const codes = share < 1 ? reduceCodes(this.map, ...this.shape) : this.map.codes;
    paint(this.picture, codes, ...this.shape, this.tints);
    this.draw();
  }

  measure(isNamed) {
    const right = GAP + 2 * STRIP + 4;
    if (!isNamed) return { left: 38, top: 58, right };
    const context = this.canvas.getContext("2d");
    context.font = this.font();
    const widest = (tokens, count) => {
      const names = tokens ? tokens.map(shown) : [`${count}`];
      return Math.min(120, Math.max(24, ...names.map((name) => context.measureText(short(name)).width)));
    };
    const top = Math.max(58, widest(keysOf(this.run), about.columns) + 12);
    return { left: widest(queriesOf(this.run), about.rows) + 12, top, right };
  }

  font() {
    const style = getComputedStyle(document.documentElement);
    return `${Math.min(12, Math.max(10, this.cell - 3))}px ${style.getPropertyValue("--mono")}`;
  }

  zoom(factor) {
    this.fits = factor === 0;
    if (factor) this.cell = Math.max(1, Math.min(48, factor > 1 ? Math.floor(this.cell * 1.4) + 1 : Math.ceil(this.cell / 1.4) - 1));
    this.arrange();
  }

  left(column) {
    return this.margin.left + blockOf(column, about.columns, this.shape[1]) * this.cell - this.viewport.scrollLeft;
  }

  top(row) {
    return this.margin.top + blockOf(row, about.rows, this.shape[0]) * this.cell - this.viewport.scrollTop;
  }

  // The cell at a place of the viewport; null outside of the map.
  cellAt(x, y) {
    const across = Math.floor((x - this.margin.left + this.viewport.scrollLeft) / this.cell);
    const down = Math.floor((y - this.margin.top + this.viewport.scrollTop) / this.cell);
    const [rows, columns] = this.shape;
    if (x < this.margin.left || y < this.margin.top || across >= columns || down >= rows) return null;
    return { row: blockStart(down, about.rows, rows), column: blockStart(across, about.columns, columns) };
  }

  // Scrolls as far as it takes to see a cell.
  reveal(row, column) {
    const { viewport, margin, cell } = this;
    const [x, y] = [this.left(column), this.top(row)];
    const right = viewport.clientWidth - margin.right - cell;
    if (x < margin.left) viewport.scrollLeft += x - margin.left;
    else if (x > right) viewport.scrollLeft += x - right;
    if (y < margin.top) viewport.scrollTop += y - margin.top;
    else if (y > viewport.clientHeight - cell) viewport.scrollTop += y - viewport.clientHeight + cell;
  }

  point(chosen, pointed) {
    Object.assign(this, { chosen, pointed });
    this.draw();
  }

  draw() {
    if (!this.map) return;
    const { viewport, canvas, margin, cell } = this;
    const [width, height] = [viewport.clientWidth, viewport.clientHeight];
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    context.scale(ratio, ratio);
    context.imageSmoothingEnabled = false;
    const inner = [Math.min(width - margin.left - margin.right, this.size[0]), Math.min(height - margin.top, this.size[1])];
    context.save();
    context.beginPath();
    context.rect(margin.left, margin.top, ...inner);
    context.clip();
    context.drawImage(this.picture, this.left(0), this.top(0), ...this.size);
    this.drawPoints(context, colour);
    context.restore();
    context.strokeStyle = colour("line");
    context.strokeRect(margin.left - 0.5, margin.top - 0.5, inner[0] + 1, inner[1] + 1);
    context.font = cell >= LABELLED ? this.font() : `10px ${colour("sans")}`;
    context.textBaseline = "middle";
    this.drawNames(context, colour, inner);
    this.drawStrips(context, colour, inner);
  }

  drawPoints(context, colour) {
    const { cell, chosen, pointed, margin } = this;
    context.strokeStyle = colour("point");
    if (pointed) {
      context.globalAlpha = 0.55;
      context.lineWidth = 1;
      context.strokeRect(this.left(pointed.column) - 0.5, margin.top - 9, cell + 1, this.viewport.clientHeight + 18);
      context.globalAlpha = 1;
    }
    context.lineWidth = 2;
    context.strokeRect(margin.left - 9, this.top(chosen.row) - 1, this.viewport.clientWidth + 18, cell + 2);
    if (pointed) context.strokeRect(this.left(pointed.column) - 1, this.top(pointed.row) - 1, cell + 2, cell + 2);
  }

  drawNames(context, colour, inner) {
    const { cell, margin, chosen, pointed, run } = this;
    const every = cell >= LABELLED ? 1 : 10 ** Math.ceil(Math.log10(40 / (this.size[0] / about.columns)));
    const middle = cell / 2;
    const write = (count, each) => {
      for (let i = 0; i < count; i += every) each(i, `${i}`);
    };
    const paintOf = (isChosen) => {
      context.fillStyle = colour(isChosen ? "point" : "soft");
    };
    context.textAlign = "right";
    write(about.rows, (i, place) => {
      const y = this.top(i) + middle;
      if (y < margin.top || y > margin.top + inner[1]) return;
      paintOf(i === chosen.row);
      context.fillText(cell >= LABELLED ? short(nameOf(queriesOf(run), i)) : place, margin.left - 7, y, margin.left - 8);
    });
    context.textAlign = "left";
    write(about.columns, (j, place) => {
      const x = this.left(j) + middle;
      if (x < margin.left || x > margin.left + inner[0]) return;
      paintOf(pointed && j === pointed.column);
      context.save();
      context.translate(x, margin.top - 7);
      if (cell >= LABELLED) context.rotate(-Math.PI / 2);
      else context.textAlign = "center";
      context.fillText(cell >= LABELLED ? short(nameOf(keysOf(run), j)) : place, 0, 0, margin.top - 8);
      context.restore();
    });
  }

  // Beside the rows: how far each spreads (entropy; of a difference, the weight moved), and what its first key has.
  drawStrips(context, colour, inner) {
    const { map, margin, shape, cell } = this;
    const x = margin.left + inner[0] + GAP;
    const size = (values) => values.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0) || 1;
    const strips = map.signed
      ? [["moved", map.entropy, size(map.entropy)], ["first key", map.first, size(map.first)]]
      : [["entropy", map.entropy, Math.log2(Math.max(2, about.columns))], ["first key", map.first, 1]];
    context.save();
    context.beginPath();
    context.rect(x - 1, 0, 2 * STRIP + 4, margin.top + inner[1]);
    context.clip();
    strips.forEach(([name, values, largest], place) => {
      const at = x + place * (STRIP + 2);
      context.fillStyle = colour("soft");
      context.save();
      context.translate(at + STRIP / 2, margin.top - 6);
      context.rotate(-Math.PI / 2);
      context.font = `10px ${colour("sans")}`;
      context.textAlign = "left";
      context.fillText(name, 0, 0);
      context.restore();
      for (let block = 0; block < shape[0]; block++) {
        const [from, to] = [blockStart(block, about.rows, shape[0]), blockStart(block + 1, about.rows, shape[0])];
        const part = values.subarray(from, Math.max(to, from + 1));
        const y = this.top(from);
        if (y + cell < margin.top || y > margin.top + inner[1]) continue;
        const isBroken = part.some((value) => !Number.isFinite(value));
        context.globalAlpha = 1;
        context.fillStyle = colour(isBroken ? "broken" : "raised");
        context.fillRect(at, Math.max(y, margin.top), STRIP, Math.min(cell, y + cell - margin.top));
        if (isBroken) continue;
        context.fillStyle = colour("strip");
        context.globalAlpha = Math.min(1, part.reduce((a, b) => Math.max(a, Math.abs(b)), 0) / largest);
        context.fillRect(at, Math.max(y, margin.top), STRIP, Math.min(cell, y + cell - margin.top));
      }
      context.globalAlpha = 1;
    });
    context.restore();
  }
}
