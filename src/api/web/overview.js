// The overview: a verdict, the vital signs, the devices by line, what happened.

import { attr, bar, card, deviceAt, el, glyph, link, pill, say, setBar, setGlyph, setPill, show } from "./parts.js";
import { setSpark, spark } from "./charts.js";
import { byName, bytes, count, event, look, many, plain, rank, span, time, exact, urgency, why, word } from "./words.js";
import { answerTimes, known, lasts, now, since, sorted, watch } from "./gateway.js";
import { fetchBars, list, more } from "./rows.js";

const ROWS = 24, EVENTS = 14, URGENT = ["critical", "warning", "info"];

export function open(main) {
  const verdict = verdictPart(), vitals = vitalsPart(), lines = linesPart(), events = eventsPart();
  const two = el("div", "two", lines.node, events.node);
  main.append(verdict.node, vitals.node, two);
  return {
    title: "",
    draw() {
      const devices = sorted();
      verdict.draw(devices);
      vitals.draw(devices);
      lines.draw(devices);
      events.draw();
    },
    close() { lines.close(); watch([]); },
  };
}

// ---- verdict ----

export function judge(devices) {
  const offline = devices.filter((d) => d.state === "offline"), suspect = devices.filter((d) => d.state === "suspect");
  const lines = [...known.lines.values()].filter((l) => l.state === "down");
  const uplinks = (known.status?.uplinks ?? []).filter((u) => u.state === "down");
  const files = (known.status?.store ?? []).filter((f) => !["ok", "slow"].includes(f.state));
  // Those of devices show in their states.
  const alarms = known.alarms.filter((a) => a.rule && a.state === "raised").sort((a, b) => URGENT.indexOf(a.severity) - URGENT.indexOf(b.severity));
  const things = offline.length + lines.length + uplinks.length + files.length + alarms.length;
  const said = [];
  for (const l of lines) {
    const unseen = devices.filter((d) => d.line === l.id && d.state === "unknown").length;
    said.push(`${l.id === "mqtt" ? "The local broker" : `Line ${l.id}`} is down${l.reason ? `: ${l.reason}` : ""}.${unseen ? ` ${many(unseen, "device")} cannot be seen.` : ""}`);
  }
  for (const u of uplinks) said.push(`${u.id} is down${u.reason ? `: ${u.reason}` : ""}. ${u.required === false ? "" : "Everything is kept here."}`);
  for (const f of files) said.push(`${f.file} is ${plain(f.state)}${f.detail ? `: ${f.detail}` : ""}.`);
  if (offline.length) {
    const [d] = offline;
    const others = devices.filter((o) => o.line === d.line && o !== d), answer = others.filter((o) => o.state === "online").length;
    const more = offline.length > 1 ? ` ${offline.slice(1, 4).map((o) => o.id).join(", ")}${offline.length > 4 ? ` and ${offline.length - 4} more are` : offline.length > 2 ? " are" : " is"} offline too.` : "";
    const ages = d.cause === "said" ? `${d.id} said goodbye ${span(since(d.since))} ago.` : `${d.id} has been silent for ${span(lasts(d))}.`;
    const rest = !more && d.line && others.length ? (answer === others.length ? ` ${others.length === 1 ? "The other one" : `The other ${others.length}`} on its line ${others.length === 1 ? "answers" : "answer"}.` : ` ${answer} of the other ${others.length} on its line ${answer === 1 ? "answers" : "answer"}.`) : "";
    said.push(ages + more + rest);
  }
  if (alarms.length) {
    const [a] = alarms, more = alarms.length > 1 ? ` ${many(alarms.length - 1, "more alarm")} ${alarms.length === 2 ? "waits" : "wait"}.` : "";
    said.push(`${a.device}: ${a.reason}, for ${span(since(a.at_ms))}.${more}`);
  }
  const text = said.join(" ");
  if (alarms.length && things === alarms.length) {
    const state = urgency(alarms[0].severity) === "offline" ? "offline" : "suspect";
    return { state, head: alarms.length === 1 ? "1 alarm needs you" : `${count(alarms.length)} alarms need you`, text, device: known.devices.get(alarms[0].device) };
  }
  if (things > 1 && things > offline.length) return { state: "offline", head: `${things} things need you`, text, device: offline[0] ?? known.devices.get(alarms[0]?.device) };
  if (offline.length) return { state: "offline", head: offline.length === 1 ? "1 device needs you" : `${count(offline.length)} devices need you`, text, device: offline[0] };
  if (lines.length) return { state: "offline", head: lines[0].id === "mqtt" ? "The local broker is down" : `Line ${lines[0].id} is down`, text };
  if (uplinks.length) return { state: "offline", head: `${uplinks[0].id} is down`, text };
  if (files.length) return { state: "offline", head: "The disk needs you", text };
  if (suspect.length) {
    const [d] = suspect;
    return { state: "suspect", head: `${many(suspect.length, "device")} overdue`, text: `${d.id} is ${why(d, lasts(d))}.`, device: d };
  }
  const online = devices.filter((d) => d.state === "online").length, waiting = known.status?.spool.waiting ?? 0;
  const rest = devices.length - online;
  const unseen = devices.filter((d) => d.state === "unknown" && d.cause !== "maintenance").length;
  if (unseen) return { state: "unknown", head: `${many(unseen, "device")} not seen yet`, text: `${count(online)} of ${many(devices.length, "device")} online.` };
  const cloud = known.status?.uplinks[0];
  const up = cloud ? `, ${cloud.id} ${typeof cloud.answer_ms === "number" ? `answers in ${cloud.answer_ms < 1 ? "less than 1" : cloud.answer_ms}\u00a0ms` : plain(cloud.state)}` : "";
  return { state: "online", head: "All well", text: `${count(online)} of ${many(devices.length, "device")} online${rest ? `, ${rest} in maintenance` : ""}${up}${cloud && !waiting ? ", nothing waiting" : ""}.` };
}

function verdictPart() {
  const mark = glyph("unknown"), head = el("h1", "", "Looking"), text = el("p"), act = link("/", "btn main", ""), acts = el("div", "act", act);
  const spoken = attr(el("p", "sr"), { role: "status" }), steps = stepsPart();
  const node = el("section", "verdict unknown", mark, head, text, acts, spoken, steps.node);
  attr(node, { "aria-label": "Verdict" });
  return {
    node,
    draw(devices) {
      const empty = known.listed && !devices.length && ![...known.lines.values()].some((l) => l.devices);
      steps.draw(empty);
      if (!known.listed) {
        show(acts, false);
        attr(node, { class: "verdict unknown wait" });
        return;
      }
      const found = empty ? { state: "unknown", head: "No devices yet", text: "Three steps, each works alone." } : judge(devices);
      attr(node, { class: `verdict ${found.state}` });
      setGlyph(mark, found.state);
      say(head, found.head);
      say(text, found.text);
      show(acts, Boolean(found.device));
      if (found.device) {
        say(act, `Look at ${found.device.id}`);
        attr(act, { href: deviceAt(found.device.id) });
      }
      // Ages tick, and nobody wants to hear that.
      say(spoken, [found.head, found.device?.id].filter(Boolean).join(": "));
    },
  };
}

function stepsPart() {
  const step = (text, command) => {
    const mark = glyph("unknown");
    return { node: el("li", "", mark, el("span", "", `${text} `, el("code", "", command))), mark };
  };
  const find = step("Find what is on your wires:", "fieldgate scan PORT"), check = step("Check a value:", "fieldgate read DEVICE"), cloud = step("Connect the cloud:", "[uplink.cloud] in the configuration");
  const node = el("ol", "steps", find.node, check.node, cloud.node);
  return {
    node,
    draw(is) {
      show(node, is);
      setGlyph(cloud.mark, known.status?.uplinks.some((u) => u.state === "up" || u.state === "catching_up") ? "online" : "unknown");
    },
  };
}

// ---- vital signs ----

function tile(name, classes = "") {
  const label = el("span", "small", name), figure = el("b"), unit = el("small"), middle = el("span", "middle"), foot = el("span", "small");
  const node = el("div", `card vital ${classes}`, label, el("span", "value num", figure, " ", unit), middle, foot);
  return { node, label, figure, unit, middle, foot };
}

function vitalsPart() {
  const devices = tile("Devices online"), cloud = tile("Cloud"), card_ = tile("Written to the card", "desk"), spool = tile("Catching up", "wide");
  const dots = attr(el("span", "dots"), { "aria-hidden": "true" }), line = spark(), filled = bar("backlog delivered");
  const to = link("/devices", devices.node.className, ...devices.node.childNodes);
  devices.middle.append(dots);
  cloud.middle.append(line);
  spool.middle.append(filled);
  show(spool.node, false);
  const node = attr(el("section", "vitals", to, cloud.node, card_.node, spool.node), { "aria-label": "Vital signs" });
  let most = 0, dotsAre = "";
  return {
    node,
    draw(all) {
      const online = all.filter((d) => d.state === "online").length;
      say(devices.figure, known.listed ? count(online) : "\u2014");
      say(devices.unit, known.listed ? `of ${count(all.length)}` : "");
      const words = ["offline", "suspect", "unknown", "maintenance"].map((w) => [w, all.filter((d) => word(d) === w).length]).filter(([, n]) => n);
      say(devices.foot, words.length ? words.map(([w, n]) => `${count(n)} ${w === "maintenance" ? "in maintenance" : w}`).join(", ") : known.listed && all.length ? "all of them" : "");
      const looks = all.slice(0, 24).map(look);
      if (looks.join() !== dotsAre) { dotsAre = looks.join(); dots.replaceChildren(...looks.map(glyph)); }
      const status = known.status, up = status?.uplinks[0];
      drawCloud(cloud, status, up);
      setSpark(line, answerTimes, up?.state === "down" || known.link === "lost");
      const wear = status?.wear, [n, unit] = wear ? bytes(wear.bytes) : ["\u2014", ""];
      say(card_.figure, n);
      say(card_.unit, unit);
      say(card_.foot, wear ? `in ${span(wear.counted_s)}, over restarts` : "");
      most = Math.max(most, status?.spool.waiting ?? 0);
      drawSpool(spool, filled, status, up, most);
      if (spool.node.hidden) most = 0;
    },
  };
}

function drawCloud(tile_, status, up) {
  if (!status) return say(tile_.figure, "\u2014");
  if (!up) {
    say(tile_.label, "Cloud");
    say(tile_.figure, "none");
    return say(tile_.foot, "no uplink is configured");
  }
  const answers = typeof up.answer_ms === "number" && up.state !== "down";
  say(tile_.label, answers ? `${up.id} answers in` : up.id);
  say(tile_.figure, answers ? up.answer_ms < 1 ? "< 1" : count(up.answer_ms) : plain(up.state));
  say(tile_.unit, answers ? "ms" : "");
  const others = status.uplinks.length > 1 ? `, and ${many(status.uplinks.length - 1, "more uplink")}` : "";
  const waits = status.spool.waiting ? "" : ", nothing waiting";
  say(tile_.foot, up.state === "down" ? `for ${span(up.since_s)}${up.reason ? `: ${up.reason}` : ""}${others}` : up.state === "unknown" ? `not connected yet${others}` : `${up.state === "catching_up" ? "catching up" : "connected"} for ${span(up.since_s)}${waits}${others}`);
}

function drawSpool(tile_, filled, status, up, most) {
  const s = status?.spool, behind = up && s.waiting > 0 && (up.state === "down" || up.state === "catching_up" || s.oldest_age_s > 10);
  show(tile_.node, Boolean(behind));
  if (!behind) return;
  const down = up.state === "down", full = status.disk.max ? status.disk.bytes / status.disk.max * 100 : 0;
  say(tile_.label, down ? `Kept here while ${up.id} is down` : "Catching up");
  say(tile_.figure, count(s.waiting));
  say(tile_.unit, down ? "values wait" : `of ${count(most)} still waiting`);
  // Cut off: how full the disk is. Catching up: how much of it is delivered.
  setBar(filled, down ? full : (1 - s.waiting / most) * 100);
  attr(filled, { class: `bar ${down && full >= 80 ? "offline" : down && full >= 50 ? "suspect" : ""}`, "aria-label": down ? "disk used" : "backlog delivered" });
  const lost = s.dropped || s.thinned ? `${count(s.thinned)} thinned, ${count(s.dropped)} dropped` : "nothing dropped";
  const ends = !down && typeof up.drained_in_s === "number" ? `empty in ${span(up.drained_in_s)}, ` : "";
  say(tile_.foot, `${ends}oldest ${span(s.oldest_age_s ?? 0)}, ${lost}`);
}

// ---- devices by line ----

const heading = (id) => ({ mqtt: "Local MQTT", "": "Reporting by HTTP" })[id] ?? id;

function section(id) {
  const at = el("span", "small"), used = el("span", "small num"), share = bar("line time used", "bar used"), down = pill("offline", "down"), rows = list();
  const percent = el("span", "percent");
  share.style.setProperty("--limit", "85");
  used.append(share, " ", percent);
  const reason = el("p", "reason small"), rest = el("div");
  const { node, head } = card(heading(id), null, "card flush");
  head.append(at, down, rows.chip, used);
  node.append(reason, rows.node, rest);
  return {
    node, rows,
    draw(devices) {
      const line = known.lines.get(id), shown = devices.slice(0, ROWS);
      const well = !line || line.state === "up" || id === "";
      say(at, line?.at === id ? "" : line?.at ?? (id === "" ? many(devices.length, "device") : ""));
      show(down, !well);
      if (!well) setPill(down, line.state === "down" ? "offline" : "unknown", line.state);
      const busy = line?.utilisation;
      show(used, typeof busy === "number");
      if (typeof busy === "number") {
        const n = Math.min(100, Math.round(busy * 100));
        setBar(share, n);
        attr(share, { class: `bar used ${n >= 100 ? "offline" : n > 85 ? "suspect" : ""}` });
        say(percent, `${n}\u00a0% used${n >= 100 && line.missed ? `, ${many(line.missed, "poll")} missed` : ""}`);
      }
      show(reason, !well && Boolean(line.reason));
      say(reason, line?.reason ?? "");
      rows.draw(shown);
      if (rest.dataset.n !== String(devices.length - shown.length)) {
        rest.dataset.n = devices.length - shown.length;
        rest.replaceChildren(...(devices.length > shown.length ? [more(devices.length - shown.length)] : []));
      }
    },
  };
}

function linesPart() {
  const node = el("div", "stack"), sections = new Map(), skeleton = el("section", "card flush wait", el("header", "", el("h2", "", "Devices")), el("div", "ghost"), el("div", "ghost"), el("div", "ghost"));
  node.append(skeleton);
  return {
    node,
    draw(devices) {
      if (!known.listed) return;
      skeleton.remove();
      const of = new Map();
      for (const d of devices) {
        const id = d.line ?? "";
        if (!of.has(id)) of.set(id, []);
        of.get(id).push(d);
      }
      // A line that is down is shown even if nothing is known on it.
      for (const l of known.lines.values()) if (l.state === "down" && !of.has(l.id)) of.set(l.id, []);
      const worst = (id) => (known.lines.get(id)?.state === "down" ? -1 : rank(of.get(id)[0]));
      const last = (id) => Number(id === "") * 2 + Number(id === "mqtt");
      // Trouble first as the page opens; later they stay where they are.
      for (const id of [...of.keys()].sort((a, b) => Number(worst(a) >= 3) - Number(worst(b) >= 3) || last(a) - last(b) || byName(a, b))) {
        if (!sections.has(id)) {
          sections.set(id, section(id));
          node.append(sections.get(id).node);
        }
      }
      for (const [id, s] of sections) {
        if (of.has(id)) s.draw(of.get(id));
        else { s.rows.close(); s.node.remove(); sections.delete(id); }
      }
      const seen = [...sections.values()].flatMap((s) => s.rows.visible());
      watch(seen.slice(0, 32));
      fetchBars(seen);
    },
    close() { for (const s of sections.values()) s.rows.close(); },
  };
}

// ---- what happened ----

export function eventRow(e, withName = true) {
  const { glyph: mark, who, text } = event(e);
  const when = attr(el("time", "", time(e.at_ms, now()).replace(/ \d\d:\d\d$/, "")), { title: exact(e.at_ms), datetime: new Date(e.at_ms).toISOString() });
  const name = withName && who ? [e.device ? link(deviceAt(who), "name", who) : el("b", "", who), " "] : [];
  return el("li", "", when, glyph(mark), el("span", "", ...name, text));
}

function eventsPart() {
  const { node } = card("What happened"), rows = el("ol", "events"), none = el("p", "soft", "Nothing yet.");
  show(none, false);
  node.append(rows, none);
  let drawn = null;
  return {
    node,
    draw() {
      if (known.events === drawn) return;
      drawn = known.events;
      // Not heard yet is no news, and what was overdue is old news once it is offline.
      const after = new Map();
      const news = (e) => {
        const next = after.get(e.device);
        if (e.type === "status") after.set(e.device, e.state);
        return e.cause !== "restored" && !(e.state === "suspect" && next === "offline");
      };
      const all = (known.events ?? []).filter(news).slice(0, EVENTS);
      rows.replaceChildren(...all.map((e) => eventRow(e)));
      show(none, Boolean(known.events) && !all.length);
    },
  };
}
