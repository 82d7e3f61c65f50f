"use strict";
// Sorting, long tables, and the details of a block, a value or a weight, which the address names: #block-3.
// Names come from files of strangers: they are put into the page as text (textContent), never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const values = data.comparison ? data.comparison.values : [];
const weights = data.comparison ? data.comparison.weights : [];
const panel = document.getElementById("details");
const ROWS = 20; // of a long table, at first
const SVG = "http://www.w3.org/2000/svg";

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function drawn(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const known = (number) => number !== null && number !== undefined;
const figure = (number) => !known(number) ? "–" : number && Math.abs(number) < 1e-4 ? number.toExponential(2) : String(Number(number.toPrecision(3)));
const percent = (share) => known(share) ? (100 * share).toFixed(share < 0.01 ? 3 : 1) + " %" : "–";
const decibels = (number) => known(number) ? number.toFixed(1) + " dB" : "–";

// A name that may break after its separators.
function named(tag, name) {
  const made = element(tag, {});
  for (const part of name.split(/(?<=[/._])/)) made.append(part, element("wbr", {}));
  return made;
}

function facts(pairs) {
  const list = element("dl", {});
  for (const [name, fact] of pairs) {
    if (known(fact) && fact !== "") list.append(element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: fact })));
  }
  return list;
}

// The counts of the codes as bars.
function histogram(counts, low, high) {
  const width = 380, height = 96, top = Math.max(...counts, 1), each = width / counts.length;
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height + 20}`, class: "chart histogram", role: "img", "aria-label": "how often each code occurs" });
  counts.forEach((count, code) => {
    const tall = count ? Math.max(1, height * count / top) : 0;
    const bar = drawn("rect", {
      x: code * each, y: height - tall, width: each - (counts.length > 64 ? 0 : 1), height: tall,
    });
    const title = drawn("title", {});
    title.textContent = `code ${code}: ${count.toLocaleString("en")}`;
    bar.append(title);
    picture.append(bar);
  });
  picture.append(drawn("line", { class: "axis", x1: 0, x2: width, y1: height + 0.5, y2: height + 0.5 }));
  for (const [x, anchor, number] of [[0, "start", low], [width, "end", high]]) {
    const label = drawn("text", { x: x, y: height + 15, "text-anchor": anchor });
    label.textContent = figure(number);
    picture.append(label);
  }
  return picture;
}

function codes(entry, low, high) {
  return entry.histogram.length ? [histogram(entry.histogram, low, high)] : [];
}

function valueFacts(value) {
  return [
    ...codes(value, value.grid_low, value.grid_high),
    facts([
      ["step size", figure(value.scale)],
      ["zero point", String(value.zero_point)],
      ["bits", String(value.bits)],
      ["codes used", `${value.used} of ${value.levels}`],
      ["saturated", percent(value.saturated)],
      ["grid", `${figure(value.grid_low)} to ${figure(value.grid_high)}`],
      ["seen in float", `${figure(value.low)} to ${figure(value.high)}`],
      ["SQNR", decibels(value.sqnr_db)],
      ["of the grid alone", decibels(value.rounding_db)],
      ["cosine", figure(value.cosine)],
    ]),
  ];
}

function weightFacts(weight) {
  const steps = data.steps[weight.weight];
  const spread = steps && steps[0] !== steps[2] ? `${figure(steps[1])} (channels: ${figure(steps[0])} to ${figure(steps[2])})` : steps && figure(steps[1]);
  return [
    ...codes(weight, weight.grid_low, weight.grid_high),
    facts([
      ["step size", spread],
      ["operator", weight.operator],
      ["shape", weight.shape.join(" × ")],
      ["bits", String(weight.bits)],
      ["codes used", `${weight.used} of ${weight.levels}; ${weight.used_median} in the median channel`],
      ["grid", `${figure(weight.grid_low)} to ${figure(weight.grid_high)}`],
      ["float", `${figure(weight.low)} to ${figure(weight.high)}`],
      ["SQNR", decibels(weight.sqnr_db)],
      ["cosine", figure(weight.cosine)],
    ]),
  ];
}

function blockDetails(block, index) {
  const finding = block.finding;
  const found = [
    facts([
      ["kind", block.kind],
      ["bits", known(block.wbits) ? `weights ${block.wbits}${known(block.abits) ? ", activations " + block.abits : ""}` : "float"],
      ["error, first step", known(block.before) ? figure(block.before) : ""],
      ["error, last step", known(block.after) ? figure(block.after) : ""],
      ["SQNR of its output", finding ? decibels(finding.sqnr_db) : ""],
      ["cosine", finding ? figure(finding.cosine) : ""],
      ["quantized alone", finding && finding.alone ? effect(finding.alone) : ""],
      ["all but this one", finding && finding.all_but ? effect(finding.all_but) : ""],
      ["share of the noise", finding && known(finding.share) ? percent(finding.share) : ""],
      ["nodes", block.nodes.join(", ")],
    ]),
  ];
  const curve = document.querySelector(`#curves [data-block="${index}"]`);
  if (curve) found.push(element("h3", { textContent: "Error over the steps of its learning" }), curve.firstElementChild.cloneNode(true));
  const read = finding ? finding.values : block.inputs;
  for (const weight of weights.filter((entry) => entry.block === block.block)) {
    found.push(named("h3", `Weight ${weight.weight}`), ...weightFacts(weight));
  }
  for (const value of values.filter((entry) => read.includes(entry.value))) {
    found.push(named("h3", `Reads ${value.value}`), ...valueFacts(value));
  }
  return found;
}

function effect(measured) {
  return decibels(measured.sqnr_db) + (known(measured.agreement) ? `, ${percent(measured.agreement)} same top-1` : "");
}

// What the address names, as [heading, ...content]; null where it names nothing of this kind.
function details() {
  const [, kind, place] = /^#(block|value|weight)-(\d+)$/.exec(location.hash) || [];
  const index = Number(place);
  const entry = kind && { block: data.blocks, value: values, weight: weights }[kind][index];
  if (!entry) return null;
  if (kind === "block") return [entry.block, ...blockDetails(entry, index)];
  const maker = data.blocks.findIndex((block) => block.block === entry.block);
  const link = maker < 0 ? [] : [element("p", {}, "of block ", element("a", { href: `#block-${maker}`, textContent: entry.block }))];
  return kind === "value" ? [entry.value, ...link, ...valueFacts(entry)] : [entry.weight, ...link, ...weightFacts(entry)];
}

let opener = null;

function show() {
  const found = details();
  panel.hidden = !found;
  document.body.classList.toggle("open", Boolean(found));
  for (const block of document.querySelectorAll(".block")) block.classList.toggle("chosen", block.getAttribute("href") === location.hash);
  if (!found) return;
  const [heading, ...content] = found;
  panel.querySelector(".details-body").replaceChildren(named("h2", heading), ...content);
  panel.scrollTop = 0;
  panel.focus({ preventScroll: true });
}

function close() {
  history.replaceState(null, "", location.pathname + location.search);
  show();
  if (opener) opener.focus({ preventScroll: true });
}

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (link && !panel.contains(link)) opener = link;
});
window.addEventListener("hashchange", show);
panel.querySelector(".close").addEventListener("click", close);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !panel.hidden) close();
});

// A cell sorts by data-value, else by its text. Empty ones stay last.
function key(row, column, kind) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  return kind === "number" ? (text === "" ? NaN : Number.parseFloat(text)) : text;
}

function sort(table, heading) {
  const column = heading.cellIndex, kind = heading.dataset.sort;
  const ascending = heading.getAttribute("aria-sort") === "descending" || (kind === "text" && !heading.hasAttribute("aria-sort"));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const sign = ascending ? 1 : -1, body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [key(row, column, kind), row]);
  keyed.sort(([a], [b]) => {
    if (kind === "text") return sign * a.localeCompare(b, "en", { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return sign * (a - b);
  });
  body.append(...keyed.map(([, row]) => row));
  fold(table);
}

function fold(table) {
  if (table.classList.contains("long")) [...table.tBodies[0].rows].forEach((row, place) => row.classList.toggle("rest", place >= ROWS));
}

for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.addEventListener("click", (event) => {
    const heading = event.target.closest("th");
    if (heading) sort(table, heading);
  });
  fold(table);
  if (table.querySelector(".rest")) {
    const more = element("button", { type: "button", className: "more", textContent: `Show all ${table.tBodies[0].rows.length}` });
    more.addEventListener("click", () => { table.classList.add("all"); more.remove(); });
    table.parentElement.after(more);
  }
}

// Browsers without ::details-content print only what is open.
window.addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});

// A drawing wider than the screen begins where the network does.
const graph = document.querySelector(".graph");
if (graph) {
  const first = graph.querySelector(".block").getBoundingClientRect(), frame = graph.getBoundingClientRect();
  graph.scrollLeft += first.left + first.width / 2 - (frame.left + frame.width / 2);
}

show();
