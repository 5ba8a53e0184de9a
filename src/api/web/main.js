// The frame of all pages: which module an address has, the tabs, the connection, the theme. A page more is one line in
// PAGES, and one in TABS if it has a tab.

import { known, onDraw, now, connect, forget, tryNow } from "./gateway.js";
import { el, attr, say, show, link, pill, setPill, svg } from "./parts.js";
import { time } from "./words.js";

const PAGES = [
  [/^\/$/, "overview", () => import("./overview.js")],
  [/^\/devices\/?$/, "devices", () => import("./devices.js")],
  [/^\/devices\/([^/]+)$/, "devices", () => import("./device.js")],
];
const TABS = [["/", "overview", "Overview", "o"], ["/devices", "devices", "Devices", "d"]];

const at = (id) => document.getElementById(id);
const main = at("main");

// ---- theme ----

const THEMES = ["auto", "light", "dark"];
let theme = localStorage.getItem("fieldgate-theme") ?? "auto";
const themeButton = el("button", "btn quiet");
function paint() {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  say(themeButton, `Theme: ${theme}`);
}
function nextTheme() {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  localStorage.setItem("fieldgate-theme", theme);
  paint();
}
themeButton.addEventListener("click", nextTheme);
paint();

// ---- where we are ----

let page = null, shown = "", turn = 0;

async function go(moved) {
  const mine = ++turn;
  const path = known.refused ? "access" : location.pathname;
  if (path === shown && !moved) return;
  shown = path;
  const [match, name, load] = PAGES.map(([pattern, name, load]) => [pattern.exec(path), name, load]).find(([m]) => m) ?? [];
  try {
    const module = known.refused ? await import("./access.js") : await (load ?? (() => import("./overview.js")))();
    if (mine !== turn) return;
    page?.close();
    main.replaceChildren();
    page = module.open(main, match?.[1] ? decodeURIComponent(match[1]) : "");
  } catch (error) {
    // The gateway has another version by now: its shell names other files.
    if (known.link === "live" && !sessionStorage.getItem("fieldgate-reloaded")) {
      sessionStorage.setItem("fieldgate-reloaded", "1");
      return location.reload();
    }
    console.error(error);
    shown = "";
    return;
  }
  for (const tab of at("tabs").children) attr(tab, { "aria-current": tab.dataset.name === name && !known.refused ? "page" : null });
  draw();
  if (moved === "link") {
    scrollTo(0, 0);
    const heading = main.querySelector("h1");
    attr(heading, { tabindex: -1 })?.focus({ preventScroll: true });
  } else if (moved === "back") scrollTo(0, history.state?.y ?? 0);
}
export function open(path) {
  history.replaceState({ y: scrollY }, "");
  history.pushState({ y: 0 }, "", path);
  go("link");
}
history.scrollRestoration = "manual";
addEventListener("popstate", () => go("back"));
addEventListener("click", (e) => {
  const a = e.target.closest?.("a[href]");
  if (!a || a.origin !== location.origin || a.target || e.button || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
  e.preventDefault();
  if (a.pathname !== location.pathname) open(a.pathname);
});

// ---- the frame ----

for (const [href, name, text] of TABS) {
  const icon = svg("svg", { "aria-hidden": "true" });
  icon.append(svg("use", { href: `#i-${name}` }));
  const tab = link(href, "", icon, text);
  tab.dataset.name = name;
  at("tabs").append(tab);
}
const livePill = pill("suspect", "connecting");
at("link").append(livePill);
at("lost-try").addEventListener("click", tryNow);
const version = el("span", "small");
const forgetButton = el("button", "btn quiet", "Forget the token");
forgetButton.addEventListener("click", () => forget());
const keysButton = el("button", "btn quiet");
let keys = localStorage.getItem("fieldgate-keys") !== "off";
const paintKeys = () => say(keysButton, `Keys: ${keys ? "on" : "off"}`);
keysButton.title = "g o overview, g d devices, / search, j k rows, [ ] previous and next device, 1 2 3 range of the chart, t theme, esc back";
keysButton.addEventListener("click", () => {
  keys = !keys;
  localStorage.setItem("fieldgate-keys", keys ? "on" : "off");
  paintKeys();
});
paintKeys();
at("foot").append(version, themeButton, keysButton, forgetButton);

function draw() {
  if (Boolean(known.refused) !== (shown === "access")) return void go();
  const access = shown === "access";
  const lost = known.link === "lost" && !access;
  document.body.classList.toggle("is-lost", lost);
  show(at("link"), !access);
  show(at("tabs"), !access);
  show(keysButton, !access);
  show(forgetButton, !access);
  if (known.link === "live") setPill(livePill, "online", "live");
  else if (lost) setPill(livePill, "unknown", "not connected");
  else setPill(livePill, "suspect", "connecting");
  show(at("lost"), lost);
  if (lost) {
    const name = known.gateway || "the gateway";
    say(at("lost-what"), known.listed ? `This page lost ${name} at ${time(known.lostAt, now(), true)}. What you see is from then.` : `This page has not reached ${name} yet.`);
    const left = Math.ceil((known.retryAt - Date.now()) / 1000);
    say(at("lost-when"), left > 0 ? `Trying again in ${left}\u00a0s.` : "Trying now.");
  }
  show(at("clock"), !access && known.listed && known.clock !== "" && known.clock !== "synchronised");
  say(at("name"), known.gateway || "fieldgate");
  say(version, known.version && !access ? `fieldgate ${known.version}` : "fieldgate");
  page?.draw();
  const title = [page?.title, known.gateway, "fieldgate"].filter(Boolean).join(", ");
  if (document.title !== title) document.title = title;
}

// ---- keys: never while typing, and they can be switched off ----

let before = "";
addEventListener("keydown", (e) => {
  if (!keys || known.refused || e.metaKey || e.ctrlKey || e.altKey || e.target.closest?.("input, textarea, select")) return;
  const after = before;
  before = e.key === "g" ? "g" : "";
  const tab = after === "g" && TABS.find(([, , , key]) => key === e.key);
  const rows = [...main.querySelectorAll("a.row")], row = rows.indexOf(document.activeElement);
  if (tab) open(tab[0]);
  else if (e.key === "t") nextTheme();
  else if (e.key === "j" || e.key === "k") rows[Math.max(0, Math.min(rows.length - 1, row + (e.key === "j" ? 1 : -1)))]?.focus();
  else if (e.key === "/" && location.pathname !== "/devices") open("/devices");
  else if (e.key === "Escape" && location.pathname !== "/") history.length > 1 ? history.back() : open("/");
  else if (!page?.key?.(e.key)) return;
  e.preventDefault();
});

onDraw(draw);
go();
connect();
