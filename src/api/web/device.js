// One device: how it stands and on what evidence, the last day, values as they come and as they were, its alarms, its past, what it says
// of itself.

import { attr, card, deviceAt, el, glyph, link, pill, say, setGlyph, setPill, show, trouble } from "./parts.js";
import { chart, setChart, setSpark, setTimeline, slotsSaid, spark, timeline } from "./charts.js";
import { ago, cause, count, exact, heardBy, look, many, percent, phase, plain, reading, span, time, urgency, why, word, age } from "./words.js";
import { acknowledge, ask, changeCount, changed, first, known, mayOperate, now, since, sorted, watch } from "./gateway.js";
import { open as goto } from "./main.js";

const REFRESH = 30_000;

export function open(main, id) {
  const back = link("/", "small tap", "\u2190 ", el("span", "", "Overview")), state = pill("unknown", "unknown"), said = el("p", "soft said");
  const head = el("header", "stack tight", back, el("div", "title", el("h1", "", id), state), said);
  const gone = el("section", "card", el("p", "", `There is no device ${id} here.`), link("/devices", "btn", "All devices"));
  const alarms = alarmsPart(id), day = dayPart(), values = valuesPart(id), wire = wirePart(), attributes = attributesPart(), past = pastPart(), commands = commandsPart();
  const body = el("div", "stack", alarms.node, day.node, el("div", "two", el("div", "stack", values.chartNode, values.node), el("div", "stack", wire.node, attributes.node)), el("div", "two even", past.node, commands.node));
  const failed = el("div");
  main.append(head, gone, failed, body);
  show(gone, false);
  watch([id]);
  let asked = 0, changesAt = -1, since_ = null, card_ = null, problem = null;

  // One after the other: four questions at once would only wait for each other.
  async function refresh() {
    asked = Date.now();
    changesAt = changeCount();
    since_ = known.devices.get(id)?.since;
    const at = encodeURIComponent(id);
    try {
      card_ = await ask(`devices/${at}`);
      values.points(card_.points);
      wire.draw(card_.figures);
      attributes.draw(card_.attributes);
      day.draw(await ask(`devices/${at}/uptime`));
      past.draw((await ask(`devices/${at}/history?limit=20&from=${Math.floor(now() - 30 * 86_400_000)}`)).transitions);
      commands.draw((await ask("commands?limit=400")).commands.filter((c) => c.device === id).slice(0, 8));
      problem = null;
    } catch (error) {
      problem = error.status ? error : null;
    }
    failed.replaceChildren(...(problem && problem.status !== 404 ? [trouble(problem, refresh)] : []));
    changed();
  }

  function move(by) {
    const all = sorted().map((d) => d.id), to = all[all.indexOf(id) + by];
    if (to) goto(deviceAt(to));
    return Boolean(to);
  }

  return {
    title: id,
    draw() {
      const device = known.devices.get(id), lost = known.link === "lost";
      if (known.listed) { show(gone, !device); show(body, Boolean(device)); show(state, Boolean(device)); show(said, Boolean(device)); }
      if (!device) return;
      const due = Date.now() - asked > REFRESH || (since_ !== device.since && Date.now() - asked > 1500);
      if (known.link === "live" && due) refresh();
      say(back.lastChild, device.line ?? "Overview");
      setPill(state, look(device), word(device));
      say(said, sentence(device, card_, lost));
      alarms.draw(lost);
      values.draw(device, lost);
    },
    key: (key) => (key === "[" ? move(-1) : key === "]" ? move(1) : values.key(key)),
    close() { watch([]); },
  };
}

function sentence(device, more, lost) {
  const heard = device.heard === null ? "Not heard yet." : lost ? `Last heard at ${time(device.heard, now(), true)}, ${heardBy(device.by)}.` : `Last heard ${ago(since(device.heard))}, ${heardBy(device.by)}.`;
  const ms = more?.figures?.answer_ms, answers = device.state === "online" && typeof ms === "number" ? ` Answers in ${Math.round(ms)}\u00a0ms.` : "";
  const kept = known.maintenance.get(device.id);
  const because = kept ? [kept.by && `by ${kept.by}`, kept.reason].filter(Boolean).join(": ") : cause(device.state, device.cause, device.missed);
  const name = word(device) === "maintenance" ? "In maintenance" : word(device)[0].toUpperCase() + word(device).slice(1);
  const from = `${name} since ${time(device.since, now())}${lost ? "" : `, for ${span(since(device.since))}`}`;
  return `${heard}${answers} ${from}${because && device.state !== "online" ? `: ${because}` : ""}.`;
}

// ---- what is raised, and the word of a person: I have seen it ----

function alarmsPart(id) {
  const { node } = card("Alarms"), list = el("ul", "alarms"), rows = new Map();
  node.append(list);
  show(node, false);
  function row(first) {
    const mark = glyph("unknown"), head = el("p"), what = el("b"), about = el("p", "small num"), error = attr(el("p", "error small"), { role: "alert" });
    const button = el("button", "btn", "Acknowledge"), why = el("p", "small", "Operators may acknowledge it.");
    head.append(what);
    const r = { node: attr(el("li", "", mark, head, about, button, why, error), { tabindex: -1 }), mark, what, about, button, why, alarm: first };
    button.addEventListener("click", async () => {
      attr(button, { disabled: "" });
      say(button, "Acknowledging");
      say(error, "");
      try {
        await acknowledge(r.alarm);
        r.node.focus({ preventScroll: true });
      } catch (problem) {
        say(error, [problem.detail || problem.title, problem.remedy].filter(Boolean).join(": "));
      }
      attr(button, { disabled: null });
      say(button, "Acknowledge");
      changed();
    });
    return r;
  }
  return {
    node,
    draw(lost) {
      const mine = known.alarms.filter((a) => a.device === id);
      show(node, mine.length > 0);
      for (const alarm of mine) {
        const r = rows.get(alarm.id) ?? row(alarm), seen = alarm.state === "acknowledged";
        if (!rows.has(alarm.id)) { rows.set(alarm.id, r); list.append(r.node); }
        r.alarm = alarm;
        setGlyph(r.mark, urgency(alarm.severity));
        say(r.what, alarm.reason || plain(alarm.alarm));
        const name = alarm.rule ? `rule ${alarm.rule}` : plain(alarm.alarm), for_ = lost ? "" : `, for ${span(since(alarm.at_ms))}`;
        say(r.about, `${alarm.severity}, ${name}, since ${time(alarm.at_ms, now())}${for_}${seen ? `, seen by ${alarm.acknowledged_by}` : ""}`);
        show(r.button, !seen && mayOperate());
        show(r.why, !seen && !mayOperate());
        if (lost) attr(r.button, { disabled: "", title: "The gateway cannot be reached" });
        else if (r.button.title) attr(r.button, { disabled: null, title: null });
      }
      for (const [key, r] of rows) if (!mine.some((a) => a.id === key)) { r.node.remove(); rows.delete(key); }
    },
  };
}

// ---- the last day ----

function dayPart() {
  const share = el("span", "small num"), line = timeline("last 24 hours"), facts = el("p", "small num fold");
  const { node } = card("Last 24 hours", share, "card day");
  const key = (state, letter, text) => {
    const mark = el("i", letter);
    return el("span", state, mark, text);
  };
  node.append(line, el("div", "legend", key("online", "o", "online"), key("suspect", "s", "suspect"), key("offline", "x", "offline"), key("maint", "m", "maintenance"), key("unknown", "u", "not observed")), facts);
  return {
    node,
    draw(up) {
      const seen = up.online_share === null ? "not observed" : `${percent(up.online_share)} of the ${span(up.observed_s)} observed`;
      say(share, seen);
      setTimeline(line, up.slots, `Last 24 hours: ${slotsSaid(up.slots)}`);
      const out = up.longest_outage;
      const times = [["online", up.online_s], ["offline", up.offline_s], ["in maintenance", up.maintenance_s]].filter(([, s]) => s);
      say(facts, `${times.map(([name, s]) => `${span(s)} ${name}, `).join("")}${many(up.changes, "change")}${out ? `, longest outage ${span(out.s)} at ${time(out.from_ms, now())}` : ", no outage"}`);
    },
  };
}

// ---- values, and a chart of one of them: its past where the gateway keeps it, else what came since the page was opened ----

const RANGES = [["1 h", 3_600_000], ["24 h", 86_400_000], ["7 d", 7 * 86_400_000]];
const PARTS = 240;

function valuesPart(id) {
  const opened = now(), picture = chart(), title = el("h2", "", "Values"), figure = el("span", "big num");
  const since_ = el("span", "small"), choice = attr(el("span", "ranges"), { role: "group", "aria-label": "Range of the chart" });
  const numbers = numbersPart();
  const chartNode = el("section", "card", el("header", "", title, figure, choice, since_), picture, numbers.node);
  const buttons = RANGES.map(([text]) => {
    const button = el("button", "btn", text.replace(" ", "\u00a0"));
    button.addEventListener("click", () => range(text));
    choice.append(button);
    return button;
  });
  show(choice, false);
  const every = el("span", "small"), { node } = card("Live values", every, "card flush");
  const headings = ["Point", "Value", "Since opened", "Read"].map((text, n) => attr(el("th", n === 1 ? "right" : n === 2 ? "wide-only" : "", text), { scope: "col" }));
  const table = el("table", "points", el("thead", "", el("tr", "", ...headings)));
  const rows = el("tbody"), none = el("p", "nothing soft", "No values yet."), still = el("span", "sr");
  table.append(rows);
  node.append(table, none, still);
  const known_ = new Map();
  let cards = new Map(), chosen = decodeURIComponent(location.hash.slice(1)), drawnAt = 0;
  const said = new URLSearchParams(location.search).get("range");
  let ranged = RANGES.find(([text]) => text.replace(" ", "") === said) ?? RANGES[0];
  // What is known of the past: of which point and range, asked when, its slots. `kept`: whether anything is, once that is known.
  let past = { of: "", at: 0, slots: [], until: 0 }, kept = null, asking = false;

  function range(text) {
    ranged = RANGES.find(([name]) => name === text);
    history.replaceState(history.state, "", `?range=${text.replace(" ", "")}${location.hash}`);
    drawnAt = 0;
    changed();
  }
  async function refreshPast(point) {
    const [text, ms] = ranged, of = `${point} ${text}`;
    const fresh = past.of === of && Date.now() - past.at < (ms > 3_600_000 ? 60_000 : 15_000);
    if (fresh || asking || kept === false || known.link !== "live") return;
    asking = true;
    // From a whole step on, so that the slots stay where they are.
    const to = now(), step = ms / PARTS, from = (Math.ceil(to / step) - PARTS) * step;
    try {
      const found = await ask(`devices/${encodeURIComponent(id)}/samples?from=${from}&to=${from + ms}&slots=${PARTS}&points=${point}`);
      const slot = ([at, least, mean, greatest]) => [Math.min(at + step / 2, to), mean, ...(greatest > least ? [least, greatest] : [])];
      past = { of, at: Date.now(), slots: (found.points[point] ?? []).map(slot), until: to };
      kept = true;
    } catch (problem) {
      if (problem.code === "no-history") kept = false;
      past = { ...past, of, at: Date.now() };
    } finally {
      asking = false;
      drawnAt = 0;
      changed();
    }
  }

  function pick(point) {
    chosen = point;
    history.replaceState(history.state, "", `#${encodeURIComponent(point)}`);
    drawnAt = 0;
    changed();
  }
  function row(point) {
    const button = el("button", "point", el("b", "", point)), kind = el("span", "small"), value = el("b"), unit = el("small"), none = pill("unknown", "not available"), read = el("td", "age num"), line = spark();
    button.addEventListener("click", () => pick(point));
    const cell = el("td", "reading", value, " ", unit, none);
    const r = { node: el("tr", "", el("td", "", button, kind), cell, el("td", "wide-only", line), read), button, kind, value, unit, none, read, line };
    known_.set(point, r);
    rows.append(r.node);
    return r;
  }
  return {
    node, chartNode,
    points(list) { cards = new Map(list.map((p) => [p.id, p])); },
    draw(device, lost) {
      const had = known.values.get(id), stale = device.state !== "online" || lost;
      show(none, !had?.points.size);
      show(table, Boolean(had?.points.size));
      say(every, stale && had ? "from before" : "");
      for (const [point, v] of had?.points ?? []) {
        const r = known_.get(point) ?? row(point), c = cards.get(point);
        const chartable = typeof v.value === "number" || typeof v.value === "boolean";
        attr(r.button, { "aria-pressed": chartable ? String(point === shown(had)) : null, disabled: chartable ? null : "" });
        say(r.kind, [c?.type, c?.writable ? "can be written" : ""].filter(Boolean).join(", "));
        say(r.value, reading(v.value, had.decimals.get(point)));
        attr(r.value, { class: stale ? "old" : null });
        say(r.unit, v.value === null ? "" : v.unit);
        show(r.none, v.value === null);
        say(r.read, lost ? time(v.at_ms, now(), true) : age(since(v.at_ms)));
        attr(r.read, { title: exact(v.at_ms) });
        setSpark(r.line, had.series.get(point) ?? [], stale);
      }
      for (const [point, r] of known_) if (!had?.points.has(point)) { r.node.remove(); known_.delete(point); }
      const point = shown(had), v = had?.points.get(point);
      show(chartNode, Boolean(point));
      // Once a second is enough for an eye.
      if (!point || performance.now() - drawnAt < 1000) return;
      drawnAt = performance.now();
      say(title, point);
      say(figure, `${reading(v.value, had.decimals.get(point))}${v.unit && v.value !== null ? `\u00a0${v.unit}` : ""}`);
      const live = had.series.get(point) ?? [], to = lost ? known.lostAt : now();
      refreshPast(point);
      show(choice, kept === true);
      if (kept) {
        const [text, ms] = ranged, is = past.of === `${point} ${text}`;
        buttons.forEach((b, n) => attr(b, { "aria-pressed": String(RANGES[n] === ranged) }));
        say(since_, is ? past.slots.length ? "" : `nothing is kept of the last ${text}` : "asking for the past");
        show(since_, since_.textContent !== "");
        // What came since the last question follows behind it.
        const series = is ? [...past.slots, ...live.filter(([t]) => t >= past.until)] : [];
        setChart(picture, series, { name: point, unit: v.unit, from: to - ms, to, stale });
        return numbers.draw(series, v.unit);
      }
      const from = Math.min(live[0]?.[0] ?? opened, to - 60_000);
      say(since_, `since ${time(opened, now(), true)}, when this page was opened`);
      setChart(picture, live, { name: point, unit: v.unit, from, to, stale });
      numbers.draw(live, v.unit);
    },
    key(key) {
      if (!kept || !RANGES[key - 1]) return false;
      range(RANGES[key - 1][0]);
      return true;
    },
  };
  function shown(had) {
    if (chosen && had?.points.has(chosen)) return chosen;
    const point = first(had);
    return ["number", "boolean"].includes(typeof had?.points.get(point)?.value) ? point : undefined;
  }
}

// The same numbers as text, for who cannot see the chart and for copying. Made when it is unfolded.
function numbersPart() {
  const body = attr(el("div"), { tabindex: 0, role: "region", "aria-label": "The numbers of the chart" });
  const node = el("details", "numbers", el("summary", "", "The numbers"), body);
  let series = [], unit = "";
  function fill() {
    if (!node.open) return body.replaceChildren();
    const many_ = series.some((p) => p.length > 2), heads = ["Time", many_ ? "Mean" : "Value", ...(many_ ? ["Least", "Greatest"] : [])];
    const head = el("tr", "", ...heads.map((text, n) => attr(el("th", n ? "right" : "", n === 1 && unit ? `${text}, ${unit}` : text), { scope: "col" })));
    const cell = (v) => el("td", "right", v === undefined ? "" : reading(v));
    const rows = [...series].reverse().map(([t, v, least, greatest]) => el("tr", "", el("td", "", exact(t)), cell(v), ...(many_ ? [cell(least), cell(greatest)] : [])));
    body.replaceChildren(el("table", "", el("thead", "", head), el("tbody", "", ...rows)));
  }
  node.addEventListener("toggle", fill);
  return {
    node,
    // What is being read does not move: it is made anew when it is unfolded again.
    draw(all, of) { [series, unit] = [all, of]; },
  };
}

// ---- lists ----

const facts = (rows) => el("dl", "facts", ...rows.flatMap(([name, value]) => [el("dt", "", name), el("dd", "", value)]));

function wirePart() {
  const { node } = card("On the wire", el("span", "small", "since the start"));
  const body = el("div");
  node.append(body);
  show(node, false);
  return {
    node,
    draw(f) {
      show(node, Boolean(f));
      if (!f) return;
      const ms = (n) => (typeof n === "number" ? `${count(Math.round(n))}\u00a0ms` : "\u2014");
      const rows = [["Answer time, mean", ms(f.answer_ms)], ["Answer time, p95", ms(f.answer_p95_ms)], ["Answered", `${count(f.answers)} of ${count(f.requests)}`], ["Silent", count(f.silent)], ["Garbled", count(f.garbled)], ["Refused", count(f.refused)], ["Late answers, discarded", count(f.late)], ["Timeout", ms(f.timeout_ms)]];
      if (f.cycle_ms) rows.push(["Shortest period", ms(f.cycle_ms)]);
      if (f.holes) rows.push(["Holes learned", count(f.holes)]);
      if (f.trouble) rows.push(["Trouble", f.trouble]);
      body.replaceChildren(facts(rows));
    },
  };
}

function attributesPart() {
  const { node } = card("It says of itself"), body = el("div");
  node.append(body);
  show(node, false);
  return {
    node,
    draw(all) {
      const rows = Object.entries(all ?? {});
      show(node, rows.length > 0);
      body.replaceChildren(facts(rows.map(([name, a]) => [plain(name), a.value])));
    },
  };
}

function entry(glyphOf, at, text) {
  const when = attr(el("time", "", time(at, now())), { title: exact(at), datetime: new Date(at).toISOString() });
  return el("li", "", when, glyphOf, el("span", "", text));
}

function pastPart() {
  const { node } = card("History"), rows = el("ol", "events wide");
  node.append(rows);
  return {
    node,
    draw(found) {
      // Every start of the gateway begins with not knowing, for a moment.
      const all = found.filter((t, n) => !(t.cause === "restored" && n > 0 && found[n - 1].at_ms - t.at_ms < 60_000));
      rows.replaceChildren(...all.map((t, n) => {
        const lasted = n === 0 ? "" : `, for ${span((all[n - 1].at_ms - t.at_ms) / 1000)}`;
        const name = t.cause === "maintenance" ? "maintenance" : t.state, because = t.cause === "maintenance" ? "" : cause(t.state, t.cause, t.missed);
        return entry(pill(look(t), name).firstChild, t.at_ms, `${name}${because ? `: ${because}` : ""}${lasted}`);
      }));
    },
  };
}

function commandsPart() {
  const { node } = card("Last commands"), rows = el("ol", "events wide"), none = el("p", "soft", "None.");
  node.append(rows, none);
  return {
    node,
    draw(all) {
      show(none, !all.length);
      rows.replaceChildren(...all.map((c) => {
        const values = Object.entries(c.values).map(([k, v]) => `${k} = ${reading(v)}`).join(", ");
        return entry(pill(phase(c.phase), c.phase).firstChild, c.received_ms, `${c.phase}${values ? `: ${values}` : ""}${c.reason ? `: ${c.reason}` : ""}, from ${c.from}`);
      }));
    },
  };
}
