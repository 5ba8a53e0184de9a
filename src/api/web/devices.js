// All devices in one list, with a search.

import { attr, el, say, show } from "./parts.js";
import { known, sorted, watch } from "./gateway.js";
import { count, many } from "./words.js";
import { fetchBars, list, nothing } from "./rows.js";

const ROWS = 200;

export function open(main) {
  const search = attr(el("input"), { id: "search", type: "search", autocomplete: "off", spellcheck: "false" });
  const rows = list(), found = el("span", "small num"), none = nothing(""), rest = el("p", "nothing small");
  const field = el("div", "field grow", attr(el("label", "sr", "Search devices"), { for: "search" }), search);
  attr(search, { placeholder: "Search" });
  const head = el("header", "", found, rows.chip);
  main.append(el("h1", "", "Devices"), field, el("section", "card flush", head, rows.node, none, rest));
  show(none, false);
  show(rest, false);
  const page = {
    title: "Devices",
    draw() {
      if (!known.listed) return;
      const all = sorted(), wanted = search.value.trim().toLowerCase();
      const hits = wanted ? all.filter((d) => `${d.id} ${d.line ?? "http"} ${d.state} ${d.cause ?? ""}`.toLowerCase().includes(wanted)) : all;
      say(found, wanted ? `${count(hits.length)} of ${many(all.length, "device")}` : many(all.length, "device"));
      rows.draw(hits.slice(0, ROWS));
      show(none, !hits.length);
      say(none, all.length ? `No device has \u201c${search.value.trim()}\u201d in its name, line or state.` : "No devices yet. fieldgate scan PORT finds what is on your wires.");
      show(rest, hits.length > ROWS);
      say(rest, `and ${count(hits.length - ROWS)} more: search for them`);
      const seen = rows.visible();
      watch(seen.slice(0, 32));
      fetchBars(seen);
    },
    key(key) {
      if (key === "/") search.focus();
      return key === "/";
    },
    close() { rows.close(); watch([]); },
  };
  search.addEventListener("input", () => page.draw());
  return page;
}
