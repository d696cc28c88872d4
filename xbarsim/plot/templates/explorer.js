"use strict";
// One tile of a die at a time. The data is arrays in base64, little end first; what is written into the page is text,
// never markup. Rows, columns and tiles count from 0, as in Python.
(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const root = document.getElementById("explorer");
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const array = (Kind, text) => new Kind(bytes(text).buffer);
  const number = (value, digits = 4) => (Number.isInteger(value) ? String(value) : String(+value.toPrecision(digits)));
  const wordOf = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
  const state = { row: 0, column: 0 };
  let layer, tile;

  // ------------------------------------------------------------------------------------------ data

  function unpacked(text, bits, cells) {
    const packed = bytes(text), each = 8 / bits, mask = 2 ** bits - 1;
    return Uint8Array.from({ length: cells }, (_, cell) => (packed[Math.floor(cell / each)] >> (bits * (cell % each))) & mask);
  }

  function opened(of, written) {
    const cells = of.rows * of.columns;
    const target = unpacked(written.target, of.bits, cells);
    let held;
    if ("held" in written) {
      held = Float32Array.from(array(Uint16Array, written.held), (code) => written.low + code * written.step);
    } else {
      held = Float32Array.from(target);
      const values = array(Float32Array, written.values);
      array(Uint32Array, written.at).forEach((cell, place) => { held[cell] = values[place]; });
    }
    const kind = new Uint8Array(cells), kinds = bytes(written.kinds);
    const stuck = array(Uint32Array, written.stuck);
    stuck.forEach((cell, place) => { kind[cell] = kinds[place]; });
    const made = {
      number: written.tile, target, held, kind, stuck, lines: written.lines, place: written.place,
      inputs: array(Int32Array, written.inputs), outputs: array(Int32Array, written.outputs),
    };
    if (written.place) {
      made.place = { array: written.place.array, rows: array(Int32Array, written.place.rows), columns: array(Int32Array, written.place.columns) };
    }
    made.sums = sums(of, made, written);
    return made;
  }

  function sums(of, made, written) {
    const zero = () => new Float64Array(of.columns);
    const found = { target: zero(), held: zero(), conductance: zero() };
    for (let row = 0; row < of.rows; row += 1) {
      if (made.inputs[row] < 0) continue;
      for (let column = 0; column < of.columns; column += 1) {
        const cell = row * of.columns + column;
        found.target[column] += made.target[cell];
        found.held[column] += made.held[cell];
        found.conductance[column] += of.least + of.step * made.held[cell];
      }
    }
    if (written.conductance) found.conductance = Float64Array.from(array(Float32Array, written.conductance));
    found.read = written.read ? Float64Array.from(array(Float32Array, written.read)) : found.held;
    return found;
  }

  // What a column serves; null where it serves nothing.
  function service(column) {
    if (layer.reference && column === layer.columns - 1) {
      return tile.outputs.some((output) => output >= 0) ? { text: "reference of the tile" } : null;
    }
    const place = Math.floor(column / layer.cells), within = column % layer.cells;
    if (place >= tile.outputs.length || tile.outputs[place] < 0) return null;
    const slice = Math.floor(within / layer.sides), side = within % layer.sides;
    const sign = layer.sides === 1 ? "" : side === 0 ? ", added" : ", subtracted";
    return { text: `output ${tile.outputs[place]}, slice ${slice}${sign}` };
  }

  const used = (row, column) => tile.inputs[row] >= 0 && service(column) !== null;
  const microsiemens = (level) => layer.least + layer.step * level;
  const fault = (cell) => (tile.kind[cell] ? data.kinds[tile.kind[cell]].name : "works");

  function sentence(row, column) {
    const cell = row * layer.columns + column;
    const parts = [
      `Row ${row}, column ${column}: target level ${tile.target[cell]}, holds ${number(tile.held[cell])}, ` +
        `${number(microsiemens(tile.held[cell]))} µS`,
    ];
    parts.push(tile.kind[cell] ? `This cell is ${fault(cell)}` : "This cell works");
    parts.push(used(row, column) ? `Input ${tile.inputs[row]}, ${service(column).text}` : "It holds no part of a weight");
    if (tile.lines.rows.includes(row)) parts.push("Its word line is open");
    if (tile.lines.columns.includes(column)) parts.push("Its bit line is open");
    if (tile.lines.touching.includes(column)) parts.push("Its bit line touches another");
    if (tile.place) {
      parts.push(`It lies on word line ${tile.place.rows[row]}, bit line ${tile.place.columns[column]} of array ${tile.place.array}`);
    }
    return `${parts.join(". ")}.`;
  }

  // ------------------------------------------------------------------------------------------ pictures

  const shades = data.shades.map((text) => [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16)));
  const [below, above] = [data.below, data.above].map((text) => [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16)));

  function between(first, second, share) {
    return first.map((value, index) => Math.round(value + share * (second[index] - value)));
  }

  function colour(cell) {
    const shown = part("shown").value;
    if (shown === "error") {
      const share = Math.max(-1, Math.min(1, (tile.held[cell] - tile.target[cell]) / layer.top));
      return between([255, 255, 255], share < 0 ? below : above, Math.sqrt(Math.abs(share)));
    }
    const level = shown === "target" ? tile.target[cell] : tile.held[cell];
    const place = Math.max(0, Math.min(1, level / layer.top)) * (shades.length - 1);
    const first = Math.min(Math.floor(place), shades.length - 2);
    return between(shades[first], shades[first + 1], place - first);
  }

  function mark(context, x, y, size, kind, idle) {
    const half = size / 2;
    context.lineWidth = Math.max(1, size / 8);
    context.beginPath();
    if (idle) {
      context.strokeStyle = "#777";
      context.moveTo(x - half, y - half); context.lineTo(x + half, y + half);
      context.moveTo(x + half, y - half); context.lineTo(x - half, y + half);
      context.stroke();
      return;
    }
    const { colour: fill, shape } = data.kinds[kind];
    if (shape === "^") { context.moveTo(x, y - half); context.lineTo(x + half, y + half); context.lineTo(x - half, y + half); }
    else if (shape === "v") { context.moveTo(x, y + half); context.lineTo(x + half, y - half); context.lineTo(x - half, y - half); }
    else context.arc(x, y, half, 0, 2 * Math.PI);
    context.closePath();
    context.fillStyle = fill;
    context.strokeStyle = "#fff";
    context.fill();
    context.stroke();
  }

  function sized(canvas, width, height) {
    const ratio = Math.max(1, window.devicePixelRatio || 1);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    return context;
  }

  const kept = document.createElement("canvas"); // the cells of the tile, a pixel each
  function paint() {
    kept.width = layer.columns;
    kept.height = layer.rows;
    const context = kept.getContext("2d"), image = context.createImageData(layer.columns, layer.rows);
    const serves = Array.from({ length: layer.columns }, (_, column) => service(column) !== null);
    for (let cell = 0; cell < tile.target.length; cell += 1) {
      const idle = tile.inputs[Math.floor(cell / layer.columns)] < 0 || !serves[cell % layer.columns];
      image.data.set(idle ? [255, 255, 255, 255] : [...colour(cell), 255], 4 * cell);
    }
    context.putImageData(image, 0, 0);
  }

  function drawMap() {
    const canvas = part("map");
    const scale = Math.max(1, Math.min(24, Math.floor(768 / Math.max(layer.columns, layer.rows))));
    canvas.width = layer.columns * scale;
    canvas.height = layer.rows * scale;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(kept, 0, 0, canvas.width, canvas.height);
    if (part("marked").checked) {
      for (const cell of tile.stuck) {
        const row = Math.floor(cell / layer.columns), column = cell % layer.columns;
        mark(context, (column + 0.5) * scale, (row + 0.5) * scale, Math.max(4, 0.9 * scale), tile.kind[cell], !used(row, column));
      }
    }
    const x = state.column * scale, y = state.row * scale, edge = Math.max(scale, 9);
    for (const [style, wide] of [["#fff", 5], ["#000", 2]]) {
      context.strokeStyle = style;
      context.lineWidth = wide;
      context.strokeRect(x + scale / 2 - edge / 2 - 1, y + scale / 2 - edge / 2 - 1, edge + 2, edge + 2);
    }
  }

  function drawLens() {
    const canvas = part("lens"), size = 34, margin = 34;
    const room = Math.max(200, Math.min(600, canvas.parentElement.clientWidth));
    const columns = Math.min(layer.columns, Math.floor((room - margin) / size)), rows = Math.min(layer.rows, 11);
    const first = (chosen, count, all) => Math.max(0, Math.min(all - count, chosen - Math.floor(count / 2)));
    const top = first(state.row, rows, layer.rows), left = first(state.column, columns, layer.columns);
    const context = sized(canvas, margin + columns * size, margin + rows * size);
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let i = 0; i < rows; i += 1) {
      for (let j = 0; j < columns; j += 1) {
        const row = top + i, column = left + j, cell = row * layer.columns + column;
        const x = margin + j * size, y = margin + i * size, idle = !used(row, column);
        const fill = idle ? [255, 255, 255] : colour(cell);
        context.fillStyle = `rgb(${fill.join()})`;
        context.fillRect(x, y, size, size);
        context.strokeStyle = "#ccc";
        context.lineWidth = 1;
        context.strokeRect(x + 0.5, y + 0.5, size, size);
        const broken = tile.kind[cell] && part("marked").checked;
        if (broken) mark(context, x + size / 2, y + size * 0.72, 13, tile.kind[cell], idle);
        context.fillStyle = idle ? "#666" : 0.3 * fill[0] + 0.59 * fill[1] + 0.11 * fill[2] < 128 ? "#fff" : "#000";
        context.font = "11px system-ui, sans-serif";
        const value = part("shown").value === "target" ? tile.target[cell]
          : part("shown").value === "held" ? tile.held[cell] : tile.held[cell] - tile.target[cell];
        context.fillText(number(value, Math.abs(value) < 0.1 ? 1 : 3), x + size / 2, y + size * (broken ? 0.28 : 0.5), size - 2);
      }
    }
    context.fillStyle = "#333";
    context.font = "11px system-ui, sans-serif";
    for (let i = 0; i < rows; i += 1) context.fillText(String(top + i), margin / 2, margin + (i + 0.5) * size);
    for (let j = 0; j < columns; j += 1) context.fillText(String(left + j), margin + (j + 0.5) * size, margin / 2);
    for (const [style, wide] of [["#fff", 5], ["#000", 2.5]]) {
      context.strokeStyle = style;
      context.lineWidth = wide;
      context.strokeRect(margin + (state.column - left) * size, margin + (state.row - top) * size, size, size);
    }
  }

  function drawSums() {
    const canvas = part("sums"), width = Math.max(200, Math.min(1100, canvas.parentElement.clientWidth)), height = 190;
    const context = sized(canvas, width, height), left = 56, bottom = 22, above_ = 10;
    const { target, read } = tile.sums;
    let low = 0, high = 0;
    for (let column = 0; column < layer.columns; column += 1) {
      low = Math.min(low, target[column], read[column]);
      high = Math.max(high, target[column], read[column]);
    }
    if (high === low) high = low + 1;
    const y = (value) => above_ + ((high - value) / (high - low)) * (height - bottom - above_);
    const step = (width - left - 4) / layer.columns;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = "#333";
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const value of new Set([low, 0, high])) {
      if (value !== 0 && Math.abs(y(value) - y(0)) < 14) continue; // it would stand in the other's place
      context.fillText(number(value), left - 6, y(value));
      context.fillStyle = "#ccc";
      context.fillRect(left, y(value), width - left, 1);
      context.fillStyle = "#333";
    }
    for (let column = 0; column < layer.columns; column += 1) {
      const x = left + column * step, thick = Math.max(1, step * 0.8);
      context.fillStyle = column === state.column ? "#000" : data.below;
      context.fillRect(x, Math.min(y(read[column]), y(0)), thick, Math.max(1, Math.abs(y(read[column]) - y(0))));
      context.fillStyle = data.above;
      context.fillRect(x, y(target[column]) - 1, Math.max(2, step), 2.5);
    }
    context.fillStyle = "#333";
    context.textAlign = "left";
    context.fillText("column 0", left, height - 9);
    context.textAlign = "right";
    context.fillText(`column ${layer.columns - 1}`, width - 4, height - 9);
    canvas.setAttribute("aria-label", `Sums of the levels of each column, from ${number(low)} to ${number(high)}; the table below has them all.`);
  }

  // ------------------------------------------------------------------------------------------ tables and text

  function element(tag, text, of, attributes = {}) {
    const made = document.createElement(tag);
    if (text !== "") made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (of) of.append(made);
    return made;
  }

  function table(name, title, header, rows) {
    const details = part(name);
    if (!details.open) return;
    const around = element("div", "", null, { class: "wide", tabindex: "0", role: "region", "aria-label": title });
    const made = element("table", "", around);
    element("caption", title, made);
    const head = element("tr", "", element("thead", "", made));
    header.forEach((text) => element("th", text, head, { scope: "col" }));
    const body = element("tbody", "", made);
    for (const cells of rows) {
      const line = element("tr", "", body);
      cells.forEach((text, place) => {
        const set = Number.isNaN(Number(text)) ? {} : { class: "number" };
        element(place ? "td" : "th", String(text), line, place ? set : { scope: "row" });
      });
    }
    details.querySelector("div").replaceWith(around);
  }

  function rowTable() {
    const row = state.row, all = Array.from({ length: layer.columns }, (_, column) => column);
    table("row-table", `Row ${row} of tile ${tile.number} of ${layer.name}`, ["column", "target level", "held", "µS", "fault", "holds"],
      all.map((column) => {
        const cell = row * layer.columns + column;
        return [column, tile.target[cell], number(tile.held[cell]), number(microsiemens(tile.held[cell])), fault(cell),
          used(row, column) ? service(column).text : "nothing"];
      }));
  }

  function columnTable() {
    const volts = data.voltage, header = ["column", "serves", "sum of target levels", "sum of levels held", "as read", "sum in µS"];
    const all = Array.from({ length: layer.columns }, (_, column) => column);
    table("column-table", `Columns of tile ${tile.number} of ${layer.name}`, volts === null ? header : [...header, `µA at ${number(volts)} V`],
      all.map((column) => {
        const found = tile.sums, own = service(column);
        const line = [column, own === null ? "nothing" : own.text, found.target[column], number(found.held[column]),
          number(found.read[column]), number(found.conductance[column])];
        return volts === null ? line : [...line, number(volts * found.conductance[column])];
      }));
  }

  const MOST_ROWS = 1000;
  function stuckTable() {
    const listed = Array.from(tile.stuck.slice(0, MOST_ROWS)), all = tile.stuck.length;
    const title = `Stuck cells of tile ${tile.number} of ${layer.name}` + (all > MOST_ROWS ? `, the first ${MOST_ROWS} of ${all}` : "");
    table("stuck-table", title, ["row", "column", "fault", "target level", "held", "µS", "holds"],
      listed.map((cell) => {
        const row = Math.floor(cell / layer.columns), column = cell % layer.columns;
        return [row, column, fault(cell), tile.target[cell], number(tile.held[cell]), number(microsiemens(tile.held[cell])),
          used(row, column) ? `input ${tile.inputs[row]}, ${service(column).text}` : "nothing"];
      }));
  }

  function legend() {
    const line = part("legend"), shown = part("shown").value;
    line.replaceChildren();
    const key = (text) => element("span", text, line, { class: "key" });
    const bar = key(shown === "error" ? `${-layer.top} ` : `level 0, ${number(microsiemens(0))} µS `);
    const stops = shown === "error" ? [data.below, "#ffffff", data.above] : data.shades;
    element("span", "", bar, { class: "scale" }).style.background = `linear-gradient(to right, ${stops.join()})`;
    bar.append(shown === "error" ? ` +${layer.top} levels` : ` level ${layer.top}, ${number(microsiemens(layer.top))} µS`);
    Object.entries(data.kinds).forEach(([kind, { name, shape, colour: fill }]) => {
      const count = tile.stuck.reduce((sum, cell) => sum + (tile.kind[cell] === Number(kind)), 0);
      const made = key("");
      element("span", shape === "^" ? "▲" : shape === "v" ? "▼" : "●", made).style.color = fill;
      made.append(` ${count} ${name}`);
    });
    key("× stuck, but unused");
    key("white: holds no part of a weight");
  }

  function summary() {
    const kinds = Object.entries(data.kinds).map(([kind, { name }]) => [tile.stuck.reduce((sum, cell) => sum + (tile.kind[cell] === Number(kind)), 0), name]);
    const broken = kinds.filter(([count]) => count).map(([count, name]) => `${count} ${name}`).join(", ");
    const rows = tile.inputs.reduce((sum, input) => sum + (input >= 0), 0);
    const columns = Array.from({ length: layer.columns }, (_, column) => service(column) !== null).filter(Boolean).length;
    const lines = [
      [tile.lines.rows.length, "open word line", "open word lines"],
      [tile.lines.columns.length, "open bit line", "open bit lines"],
      [tile.lines.touching.length, "bit line that touches another", "bit lines that touch"],
    ].filter(([count]) => count);
    const open = lines.map(([count, one, many]) => `${count} ${count === 1 ? one : many}`).join(", ");
    part("summary").textContent =
      `${layer.name}, tile ${tile.number} of ${layer.tiles}: ${layer.rows} × ${layer.columns} cells, ${wordOf(rows, "row")} and ` +
      `${wordOf(columns, "column")} in use; ${broken || "nothing is stuck"}${open ? `; ${open}` : ""}.`;
    part("sums-legend").textContent =
      "Sums of the levels of each column over the rows in use: bars are what reads see, lines what was wanted; the black bar is the chosen column.";
    part("map").setAttribute("aria-label", `Cells of tile ${tile.number} of ${layer.name}`);
  }

  // ------------------------------------------------------------------------------------------ choices

  function moved() {
    drawMap();
    drawLens();
    drawSums();
    part("cell").textContent = sentence(state.row, state.column);
    rowTable();
  }

  function chosen() {
    paint();
    legend();
    moved();
  }

  function openTile(index) {
    tile = opened(layer, layer.shown[index]);
    state.row = Math.min(state.row, layer.rows - 1);
    state.column = Math.min(state.column, layer.columns - 1);
    const none = tile.stuck.length === 0;
    part("previous").disabled = none;
    part("next").disabled = none;
    summary();
    columnTable();
    stuckTable();
    chosen();
  }

  function openLayer(index) {
    layer = data.layers[index];
    part("tile").replaceChildren();
    layer.shown.forEach(({ tile: number_, count }, place) => element("option", `${number_} (${count} stuck)`, part("tile"), { value: place }));
    part("tile").value = 0;
    openTile(0);
  }

  function toStuck(direction) {
    const all = tile.stuck, here = state.row * layer.columns + state.column;
    if (all.length === 0) return;
    let found = direction > 0 ? all.find((cell) => cell > here) : all.findLast((cell) => cell < here);
    if (found === undefined) found = direction > 0 ? all[0] : all[all.length - 1];
    state.row = Math.floor(found / layer.columns);
    state.column = found % layer.columns;
    moved();
  }

  const within = (value, all) => Math.max(0, Math.min(all - 1, value));
  function pressed(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const far = event.shiftKey ? 10 : 1;
    const moves = {
      ArrowUp: () => { state.row = within(state.row - far, layer.rows); },
      ArrowDown: () => { state.row = within(state.row + far, layer.rows); },
      ArrowLeft: () => { state.column = within(state.column - far, layer.columns); },
      ArrowRight: () => { state.column = within(state.column + far, layer.columns); },
      Home: () => { state.column = 0; },
      End: () => { state.column = layer.columns - 1; },
      PageUp: () => { state.row = 0; },
      PageDown: () => { state.row = layer.rows - 1; },
    };
    const letter = event.key.toLowerCase();
    if (letter === "n" || letter === "p") toStuck(letter === "n" ? 1 : -1);
    else if (event.key in moves) { moves[event.key](); moved(); }
    else return;
    event.preventDefault();
  }

  function clicked(event) {
    const box = part("map").getBoundingClientRect();
    const border = part("map").clientLeft;
    state.column = within(Math.floor(((event.clientX - box.left - border) / (box.width - 2 * border)) * layer.columns), layer.columns);
    state.row = within(Math.floor(((event.clientY - box.top - border) / (box.height - 2 * border)) * layer.rows), layer.rows);
    moved();
  }

  root.hidden = false;
  data.layers.forEach(({ name, shown, tiles }, index) => {
    const few = shown.length < tiles ? `, ${shown.length} of them here` : "";
    const made = element("option", `${name} (${wordOf(tiles, "tile")}${few})`, part("layer"), { value: index });
    if (shown.length === 0) made.disabled = true;
  });
  const first = data.layers.findIndex(({ shown }) => shown.length);
  part("layer").value = first;
  part("layer").addEventListener("change", () => openLayer(Number(part("layer").value)));
  part("tile").addEventListener("change", () => openTile(Number(part("tile").value)));
  part("shown").addEventListener("change", chosen);
  part("marked").addEventListener("change", chosen);
  part("previous").addEventListener("click", () => toStuck(-1));
  part("next").addEventListener("click", () => toStuck(1));
  part("map").addEventListener("keydown", pressed);
  part("map").addEventListener("click", clicked);
  part("row-table").addEventListener("toggle", rowTable);
  part("column-table").addEventListener("toggle", columnTable);
  part("stuck-table").addEventListener("toggle", stuckTable);
  window.addEventListener("resize", () => { drawLens(); drawSums(); });
  openLayer(first);
})();
