// "Show as curl, Python, SQL": how to ask for what is on the screen from somewhere else.

import { h, setText } from "./dom.js";
import { forms } from "./request_forms.js";

/** A button that shows a request; `what()` says {request, sql} when it is pressed, `sql` only if it differs from the usual. */
export function showAsButton(what, label = "Show as curl, Python, SQL") {
  return h("button", { type: "button", class: "plain show-as", title: label, "aria-label": label, onclick: () => open(what()) },
    h("span", { "aria-hidden": "true" }, "</>"));
}

function open({ request, sql }) {
  const texts = forms(request, sql);
  const names = Object.keys(texts);
  const code = h("code", {});
  const copied = h("span", { class: "quiet", role: "status" });
  const tabs = names.map((name) => h("button", { type: "button", role: "tab", id: `form-${name}`, "aria-controls": "form-text", onclick: () => choose(name),
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) choose(names[(names.indexOf(name) + step + names.length) % names.length], true);
    } }, name));
  const panel = h("pre", { id: "form-text", role: "tabpanel", tabindex: "0" }, code);
  const dialog = h("dialog", { class: "dialog dialog-wide", "aria-labelledby": "form-title", onclose: () => dialog.remove() },
    h("header", {}, h("h2", { id: "form-title" }, "Ask for this elsewhere"),
      h("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
    h("div", { role: "tablist", "aria-label": "Language", class: "tabs" }, tabs), panel,
    h("footer", {}, h("button", { type: "button", class: "primary", onclick: copy }, "Copy"), copied));

  function choose(name, isFocused = false) {
    for (const tab of tabs) {
      const isChosen = tab.id === `form-${name}`;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      if (isChosen && isFocused) tab.focus();
    }
    panel.setAttribute("aria-labelledby", `form-${name}`);
    setText(code, texts[name]);
    setText(copied, "");
  }

  async function copy() {
    try {
      await navigator.clipboard.writeText(code.textContent);
      setText(copied, "Copied.");
    } catch {
      // Without HTTPS beyond this machine browsers keep the clipboard closed.
      getSelection().selectAllChildren(code);
      setText(copied, "Selected: copy it with Ctrl-C.");
    }
  }

  choose(names[0]);
  tabs[0].autofocus = true;
  document.body.append(dialog);
  dialog.showModal();
}
