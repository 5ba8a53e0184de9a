// Numbers, times and states as people read them: the words of the command line, the log and the events. Pure.

const NBSP = "\u00a0";
export const LETTER = { o: "online", s: "suspect", x: "offline", u: "unknown", m: "maint" };

// Trouble first.
const RANK = { offline: 0, suspect: 1, unknown: 2, maintenance: 3, online: 4 };
export const rank = (device) => RANK[word(device)] ?? 2;
export const word = (device) => (device.cause === "maintenance" ? "maintenance" : device.state);
// The class that has the glyph and the colours.
export const look = (device) => (word(device) === "maintenance" ? "maint" : device.state);
export const plain = (text) => String(text ?? "").replaceAll("_", " ");
export const byName = (a, b) => a.localeCompare(b, "en", { numeric: true });

export function count(n) {
  const [whole, part] = String(n).replace("-", "").split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return (Number(n) < 0 ? "\u2212" : "") + grouped + (part ? `.${part}` : "");
}
export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (n >= 1000 && at < units.length - 1) { n /= 1000; at++; }
  return [at && n < 100 ? n.toFixed(1) : String(Math.round(n)), units[at]];
}

// At most two units; ticks each second below a minute and each minute above.
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const two = (n, unit, rest, small) => `${n}${NBSP}${unit}${rest ? ` ${rest}${NBSP}${small}` : ""}`;
  if (s < 60) return two(s, "s");
  if (s < 3600) return two(Math.floor(s / 60), "min");
  if (s < 86400) return two(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return two(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
}
export const age = (seconds) => (seconds < 1 ? "now" : span(seconds));
export const ago = (seconds) => (seconds < 1 ? "now" : `${span(seconds)} ago`);

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const two = (n) => String(n).padStart(2, "0");
// The zone of the reader; today without the day.
export function time(ms, now, withSeconds = false) {
  const at = new Date(ms), today = new Date(now);
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}`;
  if (at.toDateString() === today.toDateString()) return withSeconds ? `${clock}:${two(at.getSeconds())}` : clock;
  if (at.getFullYear() === today.getFullYear()) return `${MONTHS[at.getMonth()]}${NBSP}${at.getDate()} ${clock}`;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock}`;
}
export const exact = (ms) => new Date(ms).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const percent = (share) => {
  if (share === 1) return `100${NBSP}%`;
  return `${Math.min(99.9, Math.floor(share * 1000) / 10).toFixed(1)}${NBSP}%`;
};

// More digits than these a 32-bit float does not have.
const short = (n) => Number(n.toPrecision(7));
export const decimals = (n) => (Number.isInteger(n) ? 0 : Math.min(6, (String(short(n)).split(".")[1] ?? "").length));

// A value without its unit; `null` is no value. As many decimals as were ever seen, so that digits stand still.
export function reading(value, places = 0) {
  if (value === null || value === undefined) return "\u2014";
  if (typeof value === "boolean") return value ? "on" : "off";
  if (typeof value !== "number") return String(value);
  if (Math.abs(value) >= 1e15 || (value !== 0 && Math.abs(value) < 1e-6)) return value.toPrecision(4).replace("-", "\u2212");
  return count(places ? value.toFixed(places) : Number.isInteger(value) ? value : short(value));
}

const HEARD = { poll: "polled", message: "heard by MQTT", heartbeat: "reports by HTTP", status: "heard by MQTT", exception: "polled" };
export const heardBy = (kind) => HEARD[kind] ?? "not heard yet";

// Why it is as it is, to a person. `since` in seconds.
export function why(device, since, by) {
  const missed = device.missed ? `, ${many(device.missed, "poll")} missed` : "";
  switch (device.cause) {
    case "silent": return device.state === "suspect" ? `overdue for ${span(since)}${missed}` : `silent for ${span(since)}${missed}`;
    case "said": return `said goodbye ${ago(since)}`;
    case "line_down": return `not seen: line ${device.line ?? ""} is down`;
    case "broker_down": return "not seen: local broker is down";
    case "restored": return `not heard yet since the gateway started ${ago(since)}`;
    case "maintenance": return `for ${span(since)}${by ? `, by ${by}` : ""}`;
    default: return "";
  }
}

// The same for a past change: without its age.
export function cause(state, because, missed) {
  const said = { silent: "silent", said: "said goodbye", line_down: "its line is down", broker_down: "the local broker is down",
    restored: "not heard yet", maintenance: "in maintenance" }[because];
  return [said, missed ? `${many(missed, "poll")} missed` : ""].filter(Boolean).join(", ");
}

// What happened: a glyph, of whom, and the sentence.
export function event(e) {
  const at = (glyph, who, text) => ({ glyph, who, text });
  switch (e.type) {
    case "status": {
      const because = cause(e.state, e.cause, e.missed);
      return at(e.cause === "maintenance" ? "maint" : e.state, e.device, because ? `${e.state}: ${because}` : e.state);
    }
    case "line": return at({ up: "online", down: "offline" }[e.state] ?? "unknown", e.line, `line ${e.state}${e.reason ? `: ${e.reason}` : ""}`);
    case "registered": return at("online", e.device, `registered, heard by ${e.via.toUpperCase()}`);
    case "changed": return at("online", e.device, Object.entries(e.attributes).map(([k, v]) => (v === null ? `no ${plain(k)} any more` : `${plain(k)} ${v}`)).join(", "));
    case "alarm": {
      const name = e.rule ? `${e.alarm} ${e.rule}` : plain(e.alarm);
      if (e.raised && e.by) return at("online", e.device, `${name} acknowledged by ${e.by}`);
      return at(e.raised ? urgency(e.severity) : "online", e.device, `${name} ${e.raised ? "raised" : "cleared"}${e.reason ? `: ${e.reason}` : ""}`);
    }
    case "rule": return at("suspect", e.rule, `told webhook ${e.webhook}${e.reason ? `: ${e.reason}` : ""}`);
    case "uplink": {
      const times = e.changes > 1 ? `, ${count(e.changes)} changes` : "";
      if (e.state === "down") return at("offline", e.uplink, `down${e.reason ? `: ${e.reason}` : ""}${times}`);
      return at("online", e.uplink, `up${e.down_for_ms === null ? "" : ` after ${span(e.down_for_ms / 1000)}`}${times}`);
    }
    case "maintenance": return at("maint", e.device, e.on ? `put into maintenance${e.by ? ` by ${e.by}` : ""}` : "judged again");
    case "command": {
      const values = Object.entries(e.values ?? {}).map(([k, v]) => `${k} = ${reading(v)}`).join(", ");
      return at(phase(e.phase), e.device, `command ${e.phase}${values ? `: ${values}` : ""}${e.reason ? `: ${e.reason}` : ""}`);
    }
    case "refresh_stopped": return at("suspect", e.device, `${e.point} is not written again: ${e.reason}`);
    case "dead_letter": return at("suspect", e.source, `${many(e.count, "message")} put aside: ${e.reason}`);
    case "store": return at(e.state === "ok" ? "online" : "offline", e.file, `${plain(e.state)}${e.detail ? `: ${e.detail}` : ""}`);
    case "gap": return at("offline", "", `${many(e.samples, "value")} of ${e.stream} will not come: ${e.reason}`);
    case "epoch": return at("online", "", "the gateway started");
    case "clock": return at(e.synchronised ? "online" : "suspect", "", e.synchronised ? "clock synchronised" : "clock estimated");
    default: return at("unknown", "", plain(e.type));
  }
}
export const urgency = (severity) => ({ critical: "offline", warning: "suspect" })[severity] ?? "unknown";
export const phase = (p) => ({ confirmed: "online", failed: "offline", rejected: "offline", expired: "suspect", unknown: "unknown" })[p] ?? "suspect";
