// Keys for those who do not reach for the mouse. They can be switched off in the help, for those who speak to the page.

import { h } from "./dom.js";

let known = [];

export class Shortcuts {
  /** `keys`: key, what it does, function; each without Ctrl, Alt and the like, and never while something is typed. */
  constructor(keys) {
    known = [...keys, ["?", "This help", openHelp], ["Esc", "Close", null]];
    document.addEventListener("keydown", (event) => this.press(event));
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !areOn()) return;
    if (event.target.closest?.("input, select, textarea, dialog, [contenteditable]")) return;
    const action = known.find(([key]) => key === event.key)?.[2] ?? ofView().find(([key]) => key === event.key)?.[2];
    if (!action) return;
    event.preventDefault();
    action();
  }
}

/** Buttons of the view that say in `data-key` which key presses them. */
function ofView() {
  return [...document.querySelectorAll("#main button[data-key]")].map((button) => [button.dataset.key, button.textContent, () => button.click()]);
}

function areOn() {
  try {
    return localStorage.getItem("shortcuts") !== "off";
  } catch {
    return true;
  }
}

function switchTo(isOn) {
  try {
    localStorage.setItem("shortcuts", isOn ? "on" : "off");
  } catch {
    // Storage is switched off: they stay on.
  }
}

/** The help, over the page. */
export function openHelp() {
  const rows = [...ofView(), ...known].map(([key, text]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, key)), h("td", {}, text)));
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "help-title", onclose: () => dialog.remove() },
    h("header", {}, h("h2", { id: "help-title" }, "Keys"),
      h("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
    h("table", { class: "keys" }, h("tbody", {}, rows)),
    h("p", {}, h("label", { class: "check" },
      h("input", { type: "checkbox", checked: areOn(), onchange: (event) => switchTo(event.target.checked) }), " Keys are on")),
    h("p", { class: "quiet" }, "The address of the page holds all that is chosen: share it. ", h("a", { href: "/docs" }, "The API"), " behind it has its own page."));
  document.body.append(dialog);
  dialog.showModal();
}
