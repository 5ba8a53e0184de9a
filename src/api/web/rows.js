// Lists of devices. A row never moves under a finger: while the list is touched or has the focus a new order waits, and a
// button says so.

import { el, attr, say, show, link, glyph, setGlyph, deviceAt } from "./parts.js";
import { spark, setSpark, timeline, setTimeline, slotsSaid } from "./charts.js";
import { age, ago, heardBy, look, many, reading, time, why, word } from "./words.js";
import { ask, changed, first, known, lasts, now, since } from "./gateway.js";

function row(id) {
  const mark = glyph("unknown"), said = el("span"), ageSmall = el("span", "ago"), state = el("span", "sr");
  const value = el("b"), unit = el("small"), line = spark(), past = timeline(`last 24 hours of ${id}`), heard = el("span", "age small num");
  const a = link(deviceAt(id), "row", mark, el("span", "name", id), el("span", "why", state, said, ageSmall), el("span", "reading", value, " ", unit), line, past, heard);
  const node = el("li", "", a);
  function draw(device) {
    const now_ = word(device), lost = known.link === "lost", online = device.state === "online";
    attr(a, { class: `row ${look(device)}` });
    setGlyph(mark, look(device));
    say(state, online ? "online: " : "");
    const why_ = why(device, lasts(device), known.maintenance.get(id)?.by);
    say(said, online ? heardBy(device.by) : now_ === "maintenance" ? `maintenance ${why_}` : [device.state, why_].filter(Boolean).join(", "));
    say(ageSmall, online && device.heard ? `, ${ago(since(device.heard))}` : "");
    say(heard, device.heard === null ? "" : lost ? time(device.heard, now()) : age(since(device.heard)));
    const had = known.values.get(id), point = first(had), shown = had?.points.get(point);
    say(value, shown ? reading(shown.value, had.decimals.get(point)) : "");
    attr(value, { class: online ? null : "old", title: point ?? null });
    say(unit, shown?.value === null ? "" : shown?.unit ?? "");
    setSpark(line, had?.series.get(point) ?? [], !online || lost);
    const slots = bars.get(id)?.slots;
    if (slots) setTimeline(past, slots, `last 24 hours of ${id}: ${slotsSaid(slots)}`);
  }
  return { node, draw };
}

export function list() {
  const node = el("ul", "rows"), chip = el("button", "btn chip");
  const rows = new Map();
  let order = [], touched = 0;
  const canHover = matchMedia("(hover: hover)").matches;
  node.addEventListener("pointerdown", () => { touched = Infinity; });
  const free = () => { if (touched === Infinity) touched = Date.now() + 2000; };
  addEventListener("pointerup", free);
  addEventListener("pointercancel", free);
  const held = () => Date.now() < touched || node.matches(":focus-within") || (canHover && node.matches(":hover"));
  let wanted = [];
  function arrange() {
    order = wanted;
    for (const [id, r] of rows) if (!order.includes(id)) { r.node.remove(); rows.delete(id); }
    order.forEach((id, n) => {
      if (node.children[n] !== rows.get(id).node) node.insertBefore(rows.get(id).node, node.children[n] ?? null);
    });
    show(chip, false);
  }
  chip.addEventListener("click", arrange);
  show(chip, false);
  return {
    node, chip,
    draw(devices) {
      wanted = devices.map((d) => d.id);
      let fresh = false;
      for (const d of devices) if (!rows.has(d.id)) { rows.set(d.id, row(d.id)); fresh = true; }
      const same = !fresh && wanted.length === order.length && wanted.every((id, n) => id === order[n]);
      if (!same && order.length && held()) {
        // What is new comes at the end meanwhile.
        for (const [, r] of rows) if (!r.node.parentNode) node.append(r.node);
        order = [...node.children].map((li) => [...rows].find(([, r]) => r.node === li)[0]);
        const moved = order.length - inOrder(order.map((id) => wanted.indexOf(id)));
        say(chip, `Order changed, ${moved} moved`);
        show(chip, moved > 0);
      } else if (!same) arrange();
      for (const d of devices) rows.get(d.id).draw(d);
    },
    // Those on the screen.
    visible() {
      const inside = ({ top, bottom }) => bottom > 0 && top < innerHeight;
      return [...rows].filter(([, r]) => inside(r.node.getBoundingClientRect())).map(([id]) => id);
    },
    close() {
      removeEventListener("pointerup", free);
      removeEventListener("pointercancel", free);
    },
  };
}

// How many stay in their order: the longest rising part.
function inOrder(places) {
  const long = places.map(() => 1);
  places.forEach((place, n) => { for (let k = 0; k < n; k++) if (places[k] < place) long[n] = Math.max(long[n], long[k] + 1); });
  return Math.max(0, ...long);
}

// ---- the bars of the last day: only where there is room for them, one question after the other ----

const bars = new Map(), FRESH = 300_000;
const wide = matchMedia("(min-width: 960px)");
let busy = false;
export async function fetchBars(ids) {
  if (busy || !wide.matches || known.link !== "live") return;
  const due = ids.find((id) => {
    const had = bars.get(id);
    return !had || Date.now() - had.at > FRESH || (had.since !== known.devices.get(id)?.since && Date.now() - had.at > 5000);
  });
  if (due === undefined) return;
  busy = true;
  const asked = known.devices.get(due)?.since;
  try {
    bars.set(due, { slots: (await ask(`devices/${encodeURIComponent(due)}/uptime`)).slots, at: Date.now(), since: asked });
  } catch {
    bars.set(due, { slots: bars.get(due)?.slots, at: Date.now(), since: asked });
  } finally {
    busy = false;
    changed();
  }
}

export const nothing = (text) => el("p", "nothing soft", text);
export const more = (n) => link("/devices", "row more", `and ${many(n, "more device")}`);
