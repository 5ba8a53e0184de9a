// The card that asks for a token, once. Log-in by name comes in its place.

import { el, attr, say } from "./parts.js";
import { enter, known } from "./gateway.js";

const WHY = {
  401: "This token is not known here. Look at it again, letter by letter.",
  403: "This token may not look at the pages. It needs the role viewer or above.",
};

export function open(main) {
  const why = known.refused?.status ? WHY[known.refused.status] ?? known.refused.detail : "";
  const input = attr(el("input"), { id: "token", type: "password", autocomplete: "current-password", autocapitalize: "off", spellcheck: "false", "aria-describedby": "token-why token-where" });
  const keep = attr(el("input"), { id: "keep", type: "checkbox" });
  const error = attr(el("p", "error"), { id: "token-why", role: "alert" });
  error.textContent = why;
  if (why) attr(input, { "aria-invalid": "true" });
  const button = el("button", "btn main", "Open");
  const form = el("form", "field stack",
    el("div", "", attr(el("label", "", "Access token"), { for: "token" }), input, error),
    attr(el("label", "check", keep, el("span", "", "Keep it on this device")), { for: "keep" }),
    button);
  const tell = (text) => {
    say(error, text);
    attr(input, { "aria-invalid": text ? "true" : null });
    if (text) input.focus();
  };
  form.addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    const text = input.value.trim();
    if (!text) return tell("Paste the token first.");
    // What no header can carry is no token.
    if (!/^[!-~]+$/.test(text)) return tell("A token has no blanks and only plain letters, digits and signs.");
    say(button, "Trying");
    const problem = await enter(text, keep.checked);
    say(button, "Open");
    if (problem) tell(WHY[problem.status] ?? `${problem.title}. ${problem.detail}`);
  });
  const where = attr(el("p", "small"), { id: "token-where" });
  where.append("Who runs this gateway has it: a token with the role viewer, operator or admin under ", el("code", "", "[api.token.NAME]"), " of its configuration. Without the mark it is forgotten when this tab is closed.");
  main.replaceChildren(el("section", "card access", el("h1", "", "Access"), el("p", "soft", "These pages show nothing without a token."), form, where));
  input.focus();
  return { title: "Access", draw() {}, close() {} };
}
