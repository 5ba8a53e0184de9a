// Graphics: a line for a row, a bar of states, a chart. Own code; a gap stays a gap.
//
// A series has [moment, value] or, where one stands for many, [moment, mean, least, greatest].

import { svg, attr } from "./parts.js";
import { LETTER, decimals, reading, time } from "./words.js";

// Parts of a series between which nothing was heard for longer than two and a half of its usual steps.
export function parts(series) {
  const steps = series.slice(1).map((p, i) => p[0] - series[i][0]).sort((a, b) => a - b);
  const most = Math.max(5000, 2.5 * (steps[steps.length >> 1] ?? 0));
  const out = [];
  let last;
  for (const point of series) {
    if (last === undefined || point[0] - last > most) out.push([]);
    out.at(-1).push(point);
    last = point[0];
  }
  return out;
}

// The range of the values, never so narrow that noise is drama.
function range(series) {
  let low = Infinity, high = -Infinity;
  for (const [, v, least = v, greatest = v] of series) { low = Math.min(low, least); high = Math.max(high, greatest); }
  const step = 10 ** -Math.max(...series.slice(-24).map(([, v]) => decimals(v)));
  const least = Math.max(Math.abs(high) * 0.01, 5 * step);
  if (high - low < least) { const mid = (high + low) / 2; low = mid - least / 2; high = mid + least / 2; }
  return [low, high];
}

const path = (points) => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;

const W = 76, H = 22;
export function spark() {
  return svg("svg", { class: "spark", viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", "aria-hidden": "true" });
}
export function setSpark(node, series, stale) {
  const points = series.slice(-48), last = points.at(-1);
  const mark = `${last?.[0]} ${stale}`;
  if (node.dataset.mark === mark) return;
  node.dataset.mark = mark;
  attr(node, { class: stale ? "spark stale" : "spark" });
  node.replaceChildren();
  if (points.length < 2) return;
  const [low, high] = range(points), from = points[0][0], to = last[0];
  const at = ([t, v]) => [2 + (t - from) / (to - from || 1) * (W - 6), 19 - (v - low) / (high - low) * 16];
  for (const part of parts(points)) node.append(svg("path", { d: path(part.length > 1 ? part.map(at) : [at(part[0]), at(part[0])]) }));
  const [cx, cy] = at(last);
  node.append(svg("circle", { cx, cy, r: 2.4 }));
}

// 90 slots; trouble is taller, so it reads without colour. Neighbours that are equal are one bar.
const HEIGHT = { o: 16, s: 21, x: 26, u: 5, m: 9 };
export function timeline(label) {
  return svg("svg", { class: "timeline", viewBox: "0 0 360 26", preserveAspectRatio: "none", role: "img", "aria-label": label });
}
export function setTimeline(node, slots, label) {
  attr(node, { "aria-label": label });
  if (node.dataset.slots === slots) return;
  node.dataset.slots = slots;
  const wide = 360 / (slots.length || 1), bars = [];
  for (const [run] of slots.matchAll(/(.)\1*/g)) bars.push([run[0], run.length]);
  let at = 0;
  node.replaceChildren(...bars.map(([state, n]) => {
    const width = Math.max(n * wide, state === "o" || state === "u" ? 0 : 6), x = Math.min(at * wide, 360 - width);
    at += n;
    return svg("rect", { class: state, x, y: 26 - (HEIGHT[state] ?? 5), width, height: HEIGHT[state] ?? 5 });
  }));
}
export function slotsSaid(slots) {
  const of = {};
  for (const letter of slots) of[LETTER[letter]] = (of[LETTER[letter]] ?? 0) + 1;
  const share = (n) => `${Math.round(n / slots.length * 100)}`;
  const said = { online: "online", suspect: "suspect", offline: "offline", unknown: "not observed", maint: "in maintenance" };
  return Object.entries(said).filter(([k]) => of[k]).map(([k, name]) => `${name} in ${share(of[k])} percent of it`).join(", ");
}

// Round steps of 1, 2 or 5 between two values.
function ticks(low, high, most) {
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step / 1e6; v += step) out.push(Number(v.toPrecision(10)));
  return out;
}

export function chart() {
  return svg("svg", { class: "chart", role: "img", "aria-label": "No values yet" });
}
export function setChart(node, series, { name, unit, from, to, stale }) {
  const width = node.clientWidth, height = node.clientHeight;
  if (!width) return;
  attr(node, { viewBox: `0 0 ${width} ${height}` });
  const bottom = 22, top = 12;
  node.replaceChildren();
  if (!series.length) {
    attr(node, { "aria-label": `${name}: nothing is known of this time` });
    return;
  }
  const [low, high] = range(series), room = (high - low) * 0.08;
  const marks = ticks(low - room, high + room, 4), labels = marks.map((v) => reading(v));
  const left = 12 + 7.2 * Math.max(...labels.map((l) => l.length)), right = width - 8;
  const x = (t) => left + (t - from) / (to - from || 1) * (right - left);
  const y = (v) => top + (1 - (v - low + room) / (high - low + 2 * room)) * (height - bottom - top);
  marks.forEach((v, i) => {
    node.append(svg("line", { class: "grid", x1: left, x2: right, y1: y(v), y2: y(v) }));
    node.append(svg("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, labels[i]));
  });
  const times = width < 500 ? 2 : 4;
  for (let i = 0; i <= times; i++) {
    const anchor = i === 0 ? "start" : i === times ? "end" : "middle";
    node.append(svg("text", { x: x(from + (to - from) * i / times), y: height - 4, "text-anchor": anchor }, time(from + (to - from) * i / times, to, to - from < 600_000)));
  }
  for (const part of parts(series)) {
    const wide = part.filter((p) => p.length > 2);
    if (wide.length > 1) node.append(svg("path", { class: "band", d: `${path([...wide.map((p) => [x(p[0]), y(p[3])]), ...wide.reverse().map((p) => [x(p[0]), y(p[2])])])}Z` }));
    if (part.length === 1) node.append(svg("circle", { class: "dot", cx: x(part[0][0]), cy: y(part[0][1]), r: 2 }));
    else node.append(svg("path", { class: "line", d: path(part.map(([t, v]) => [x(t), y(v)])) }));
  }
  const [t, v] = series.at(-1);
  if (stale && t < to) node.append(svg("path", { class: "stale", d: path([[x(t), y(v)], [x(to), y(v)]]) }));
  attr(node, { "aria-label": `${name} since ${time(from, to, true)}: between ${reading(low)} and ${reading(high)} ${unit}, now ${reading(v)}` });
}
