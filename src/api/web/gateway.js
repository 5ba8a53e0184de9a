// What the page knows of its gateway, and how it hears of it: one WebSocket for all pages, questions by fetch beside it.
//
// Silence is not calm: the gateway says its time every 5 s. After 12 s without anything the page calls itself not connected,
// keeps what it has, and tries again. After each connection the whole list is taken anew. Ages are computed by the
// gateway's clock, so a phone with a wrong one shows right ages.

import { rank, byName, decimals } from "./words.js";

const QUIET = 12_000, HIDDEN = 30_000, DRAWN = 250, SERIES = 600, WAITS = [1, 2, 4, 8, 15];
const KEY = "fieldgate-token";

export const known = {
  gateway: "", version: "", clock: "", devices: new Map(), lines: new Map(), maintenance: new Map(), status: null, events: null, alarms: [], role: "viewer",
  values: new Map(), listed: false,
  link: "connecting", // live, connecting, lost
  heardAt: Date.now(), // by the clock of this page
  lostAt: 0, // by the clock of the gateway
  retryAt: 0,
  refused: null, // why there is no access: a problem, or "none" without a token
};

// ---- time ----

let offset = 0;
export const now = () => Date.now() + offset;
export const since = (ms) => Math.max(0, (now() - ms) / 1000);

// ---- drawing: once a frame, at most four times a second ----

const drawers = new Set();
let asked = false, drawnAt = 0;
export function onDraw(draw) {
  drawers.add(draw);
  changed();
  return () => drawers.delete(draw);
}
export function changed() {
  if (asked) return;
  asked = true;
  setTimeout(() => requestAnimationFrame(() => {
    asked = false;
    drawnAt = performance.now();
    for (const draw of drawers) draw();
  }), Math.max(0, DRAWN - (performance.now() - drawnAt)));
}

// ---- access ----

let token = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
known.refused = token ? null : "none";
// Resolves with the problem, or with nothing when the token opens the pages.
export async function enter(text, keep) {
  token = text;
  try {
    takeStatus(await ask("status"));
  } catch (problem) {
    token = null;
    return problem;
  }
  (keep ? localStorage : sessionStorage).setItem(KEY, text);
  tries = 0;
  Object.assign(known, { refused: null, link: "connecting", heardAt: Date.now() });
  connect();
}
export function forget(why = "none") {
  token = null;
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
  known.refused = why;
  Object.assign(known, { listed: false, status: null, events: null, alarms: [], role: "viewer", gateway: "" });
  known.devices.clear();
  known.values.clear();
  hangUp();
  clearTimeout(retry);
  changed();
}

// ---- questions ----

// Rejects with a problem: { status, title, detail, remedy, code }; status 0: the gateway was not reached. With POST it is told
// to do something.
export async function ask(path, method = "GET") {
  const used = token;
  let response, body = {};
  try {
    response = await fetch(`/api/v1/${path}`, { method, headers: { Authorization: `Bearer ${used}` }, cache: "no-store", signal: AbortSignal.timeout(10_000) });
    body = await response.json();
  } catch (error) {
    if (!response || response.ok) throw { status: 0, title: "The gateway was not reached", detail: String(error.message ?? error), code: "not-reached" };
  }
  if (response.ok) return body;
  const problem = { status: response.status, title: body.title, detail: body.detail, remedy: body.remedy, code: String(body.type ?? "").split(":").pop() };
  const closed = response.status === 401 || (response.status === 403 && path === "status");
  if (closed && used === token && !known.refused) forget(problem);
  throw problem;
}

// ---- the WebSocket ----

let socket = null, retry = 0, tries = 0, hidden = 0, connecting = false;

export async function connect() {
  clearTimeout(retry);
  if (!token || socket || connecting) return;
  known.retryAt = 0;
  connecting = true;
  changed();
  try {
    // A browser does not say why a WebSocket was refused, so the token is tried here first.
    takeStatus(await ask("status"));
    known.refused = null;
    if (document.hidden && hidden === -1) return;
    const at = new URL("/ws/devices", location.href);
    at.protocol = at.protocol.replace("http", "ws");
    const opened = new WebSocket(at, ["fieldgate", `token.${encodeURIComponent(token)}`]);
    socket = opened;
    opened.onmessage = (message) => opened === socket && take(JSON.parse(message.data));
    opened.onclose = () => opened === socket && (hangUp(), again());
  } catch {
    again();
  } finally {
    connecting = false;
  }
}

function hangUp() {
  const old = socket;
  socket = null;
  old?.close();
  if (known.link === "live") known.link = "connecting";
  changed();
}

function again() {
  clearTimeout(retry);
  if (!token) return;
  const wait = WAITS[Math.min(tries++, WAITS.length - 1)] * 1000;
  known.retryAt = Date.now() + wait;
  retry = setTimeout(connect, wait);
  changed();
}

export function tryNow() {
  if (known.link === "live") return;
  known.heardAt = known.link === "lost" ? known.heardAt : Date.now();
  hangUp();
  connect();
}

function heard() {
  known.heardAt = Date.now();
}

function take(message) {
  heard();
  switch (message.type) {
    case "device_list":
      tries = 0;
      known.link = "live";
      known.gateway = message.gateway;
      known.clock = message.clock ?? known.clock;
      offset = message.server_time - Date.now();
      known.devices = new Map(message.devices.map((d) => [d.id, device(d)]));
      known.maintenance = new Map((message.maintenance ?? []).map((m) => [m.device, m]));
      takeLines(message.lines);
      known.listed = true;
      sayWatch();
      refreshEvents();
      ask("caller").then((caller) => { known.role = caller.role; changed(); }, () => {});
      break;
    case "device_update":
      for (const d of message.devices) {
        known.devices.set(d.id, device(d));
        // The line itself is asked for a moment later.
        if (d.line && ["line_down", "broker_down"].includes(d.cause)) takeLines([{ id: d.line, state: "down" }]);
      }
      soon();
      break;
    case "tick":
      offset = message.server_time - Date.now();
      known.clock = message.clock ?? known.clock;
      if (!document.hidden) ask("status").then(takeStatus, () => {});
      break;
    case "values": takeValues(message); break;
  }
  changed();
}

const device = (d) => ({
  id: d.id, line: d.line, state: d.state, cause: d.cause, missed: d.missed, since: now() - d.since_s * 1000,
  heard: d.evidence ? now() - d.evidence.age_s * 1000 : null, by: d.evidence?.kind,
});

function takeLines(lines) {
  for (const line of lines) known.lines.set(line.id, { ...known.lines.get(line.id), ...line });
}

const answers = [];
export const answerTimes = answers;
function takeStatus(status) {
  // An alarm of a rule moves no device.
  if (known.listed && known.status?.alarms.unseen !== status.alarms.unseen) refreshEvents();
  known.status = status;
  known.gateway = status.gateway.id;
  known.version = status.gateway.version;
  known.clock = status.clock.quality;
  takeLines(status.lines);
  const ms = status.uplinks[0]?.answer_ms;
  if (typeof ms === "number" && status.uplinks[0].state !== "down") answers.push([now(), ms]);
  answers.splice(0, answers.length - 120);
  changed();
}

// ---- what happened: asked for after each change, at most every two seconds, and every half minute ----

let eventsAt = 0, eventsDue = 0, changes = 0;
// Grows with each change of a device: whoever shows its past asks again.
export const changeCount = () => changes;
function soon() {
  changes++;
  if (eventsDue) return;
  eventsDue = setTimeout(() => {
    eventsDue = 0;
    refreshEvents();
    ask("devices").then((list) => {
      known.maintenance = new Map(list.maintenance.map((m) => [m.device, m]));
      takeLines(list.lines);
      changed();
    }, () => {});
  }, Math.max(300, eventsAt + 2000 - Date.now()));
}
export function refreshEvents() {
  eventsAt = Date.now();
  ask("events?limit=60").then((found) => { known.events = found.events; changed(); }, () => {});
  refreshAlarms();
}

// ---- alarms that are raised, and the word of a person: I have seen it ----

export const mayOperate = () => known.role !== "viewer";
const refreshAlarms = () => ask("alarms?limit=500").then((found) => { known.alarms = found.alarms; changed(); }, () => {});
export async function acknowledge(alarm) {
  await ask(`alarms/${alarm.id}/acknowledge`, "POST");
  await refreshAlarms();
}

// ---- values of the devices that are on the screen ----

let watched = [];
export function watch(ids) {
  if (ids.join() === watched.join()) return;
  watched = ids;
  sayWatch();
}
function sayWatch() {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ watch: watched.length ? watched : null }));
}

function takeValues({ device: id, values, evidence }) {
  const had = known.values.get(id) ?? { points: new Map(), series: new Map(), decimals: new Map() };
  known.values.set(id, had);
  had.points = new Map(values.map((v) => [v.point, v]));
  const whole = watched.length === 1;
  values.forEach((v, n) => {
    if (typeof v.value === "number") had.decimals.set(v.point, Math.max(had.decimals.get(v.point) ?? 0, decimals(v.value)));
    const value = typeof v.value === "boolean" ? Number(v.value) : v.value;
    if (typeof value !== "number" || (!whole && v.point !== first(had)) || n > 200) return;
    const series = had.series.get(v.point) ?? [];
    had.series.set(v.point, series);
    if (!series.length || v.at_ms > series.at(-1)[0]) series.push([v.at_ms, value]);
    if (series.length > SERIES) series.splice(0, series.length - SERIES);
  });
  const known_ = known.devices.get(id);
  if (known_ && evidence) Object.assign(known_, { heard: evidence.at_ms, by: evidence.kind });
}

// The value that stands for a device in a row: the first number, else the first of all.
export function first(had) {
  let any;
  for (const [point, v] of had?.points ?? []) {
    if (typeof v.value === "number") return point;
    any ??= point;
  }
  return any;
}

// For how long it is as it is: silence began with the last sign of life.
export const lasts = (device) => since(device.cause === "silent" && device.heard ? device.heard : device.since);

export const sorted = () => [...known.devices.values()].sort((a, b) => rank(a) - rank(b) || byName(a.id, b.id));

// ---- silence, hidden tabs, coming back ----

setInterval(() => {
  if (token && known.link !== "lost" && !document.hidden && Date.now() - known.heardAt > QUIET) {
    known.lostAt = known.heardAt + offset;
    known.link = "lost";
    hangUp();
    if (!known.retryAt && !connecting) again();
  }
  changed();
}, 1000);
setInterval(() => known.link === "live" && !document.hidden && refreshEvents(), 30_000);

document.addEventListener("visibilitychange", () => {
  clearTimeout(hidden);
  if (document.hidden) {
    hidden = setTimeout(() => { hidden = -1; clearTimeout(retry); hangUp(); }, HIDDEN);
  } else {
    if (hidden === -1 && known.link !== "lost") known.heardAt = Date.now();
    hidden = 0;
    tryNow();
  }
});
addEventListener("pageshow", (e) => e.persisted && tryNow());
addEventListener("online", tryNow);
