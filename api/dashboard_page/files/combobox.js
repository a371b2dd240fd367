// A field with a list beneath that is searched while one types: the pattern "combobox" of ARIA, with keys.

import { h } from "./dom.js";

const SHOWN = 60;
const PAUSE = 120;
let count = 0;

/**
 * A combobox. `find(text)` gives, or promises, the options for a text: `{value, title, note}`; `onchoose(value)` gets the
 * one that is chosen. With `isFree` a text that is no option can be chosen as well. `isKept` leaves the text of what was
 * chosen in the field.
 */
export function combobox({ label, find, onchoose, placeholder = "", isFree = false, isKept = false, value = "", id }) {
  count += 1;
  const name = id ?? `combobox-${count}`;
  const list = h("ul", { class: "combo-list", role: "listbox", id: `${name}-list`, "aria-label": label, hidden: true });
  const field = h("input", {
    id: name, role: "combobox", autocomplete: "off", spellcheck: "false", placeholder, value, "aria-expanded": "false",
    "aria-controls": list.id, "aria-autocomplete": "list", oninput: () => later(), onkeydown: press,
    onclick: () => list.hidden && open(),
    onfocus: () => {
      if (isKept) field.select();
      open();
    },
    onblur: () => {
      close();
      if (isKept) field.value = value;
    },
  });
  const element = h("div", { class: "field combo" }, h("label", { for: name }, label), field, list);
  let options = [];
  let active = -1;
  let timer = null;
  let asked = 0;

  function later() {
    clearTimeout(timer);
    timer = setTimeout(() => open(), PAUSE);
  }

  async function open() {
    asked += 1;
    const mine = asked;
    const text = field.value.trim();
    let found;
    try {
      found = await find(isKept && text === value ? "" : text);
    } catch (error) {
      if (error.name === "AbortError") return;
      found = [{ value: null, title: error.message }];
    }
    if (mine !== asked || document.activeElement !== field) return;
    options = found.slice(0, SHOWN);
    const isNew = isFree && text && !options.some((one) => one.value === text);
    if (isNew) options.push({ value: text, title: text, note: "as typed" });
    show(options.length && text ? 0 : -1);
  }

  function show(place) {
    const shown = options.map((option, at) => {
      const take = (event) => {
        event.preventDefault(); // the field keeps the focus
        choose(at);
      };
      return h("li", { role: "option", id: `${name}-${at}`, "aria-selected": "false", "aria-disabled": option.value === null ? "true" : null, onpointerdown: take },
        h("span", { class: "combo-title" }, option.title), option.note && h("span", { class: "combo-note" }, option.note));
    });
    const nothing = () => h("li", { role: "option", "aria-disabled": "true", "aria-selected": "false", class: "quiet" }, "Nothing fits");
    list.replaceChildren(...(shown.length ? shown : [nothing()]));
    list.hidden = false;
    field.setAttribute("aria-expanded", "true");
    move(place);
  }

  function move(place) {
    list.children[active]?.setAttribute("aria-selected", "false");
    active = place;
    const item = options[place] ? list.children[place] : null;
    item?.setAttribute("aria-selected", "true");
    item?.scrollIntoView({ block: "nearest" });
    if (item) field.setAttribute("aria-activedescendant", item.id);
    else field.removeAttribute("aria-activedescendant");
  }

  function press(event) {
    if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      close();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) open();
      else if (options.length) move((active + (event.key === "ArrowDown" ? 1 : active < 0 ? 0 : -1) + options.length) % options.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (!list.hidden && active >= 0) choose(active);
      else if (isFree && field.value.trim()) take(field.value.trim());
    }
  }

  function choose(place) {
    if (options[place]?.value !== null) take(options[place].value);
  }

  function take(chosen) {
    field.value = field.defaultValue = isKept ? chosen : "";
    close();
    onchoose(chosen);
  }

  function close() {
    asked += 1;
    clearTimeout(timer);
    list.hidden = true;
    active = -1;
    field.setAttribute("aria-expanded", "false");
    field.removeAttribute("aria-activedescendant");
  }

  return element;
}
