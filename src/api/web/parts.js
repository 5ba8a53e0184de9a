// Small pieces of the pages. Everything from the field goes in as text.

const SVG = "http://www.w3.org/2000/svg";

// el("p", "small", "text" | node, …): an element with classes and children; what is null is left out.
export function el(name, classes, ...children) {
  const node = document.createElement(name);
  if (classes) node.className = classes;
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}
export function svg(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (text !== undefined) node.textContent = text;
  return node;
}
export function attr(node, attributes) {
  for (const key in attributes) {
    const value = attributes[key];
    if (value === null || value === undefined) node.removeAttribute(key);
    else if (node.getAttribute(key) !== String(value)) node.setAttribute(key, value);
  }
  return node;
}

// Only what differs is touched, so that a selection and the layout stay.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
export function show(node, is) {
  if (node.hidden === is) node.hidden = !is;
}

export function glyph(state) {
  const node = svg("svg", { class: `glyph ${state}`, "aria-hidden": "true" });
  node.append(svg("use", { href: `#g-${state}` }));
  return node;
}
export function setGlyph(node, state) {
  attr(node, { class: `glyph ${state}` });
  attr(node.firstChild, { href: `#g-${state}` });
}
export function pill(state, text) {
  const node = el("span", `pill ${state}`);
  node.append(glyph(state), el("span", "", text));
  return node;
}
export function setPill(node, state, text) {
  attr(node, { class: `pill ${state}` });
  setGlyph(node.firstChild, state);
  say(node.lastChild, text);
}

export function link(href, classes, ...children) {
  return attr(el("a", classes, ...children), { href });
}
export const deviceAt = (id) => `/devices/${encodeURIComponent(id)}`;

export function card(title, aside, classes = "card") {
  const head = el("header", "", el("h2", "", title), aside ?? null);
  const node = el("section", classes, head);
  return { node, head };
}

export function bar(label, classes = "bar") {
  const node = el("span", classes, el("i"));
  attr(node, { role: "meter", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0, "aria-label": label });
  return node;
}
export function setBar(node, at) {
  node.style.setProperty("--at", String(at));
  attr(node, { "aria-valuenow": Math.round(at) });
}

// Something that the gateway refused or could not do, with what to do next; the page around it stays.
export function trouble(problem, again) {
  const node = el("div", "trouble", el("p", "", problem.detail || problem.title), el("p", "small", problem.remedy ?? ""));
  const button = el("button", "btn", "Try again");
  button.addEventListener("click", again);
  node.append(button, el("p", "small mono", problem.code ?? ""));
  return node;
}
