// Elements, made by one call. Text is always text, never markup.

/**
 * An element. Attributes whose name begins with `on` are listeners; true sets an attribute without a value; null,
 * undefined and false leave it out. Children are nodes or texts; arrays are flattened, nothing is left out.
 */
export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value" && "value" in made) {
      made.value = value;
      if (made instanceof HTMLInputElement) made.defaultValue = value; // see `swap`
    }
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) made.append(child);
  }
  return made;
}

/** A text that changes: the node is touched only if it does, so that readers are not told the same again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Replace what an element holds. What had the focus has it again, by its id, with what was typed and not yet taken:
 * the text of an input that differs from its `defaultValue`.
 */
export function swap(element, ...children) {
  const before = element.contains(document.activeElement) ? document.activeElement : null;
  const typed = before instanceof HTMLInputElement && before.value !== before.defaultValue ? before.value : null;
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  const after = before?.id ? document.getElementById(before.id) : null;
  after?.focus({ preventScroll: true });
  if (after && typed !== null) {
    after.value = typed;
    after.dispatchEvent(new Event("input", { bubbles: true }));
  }
}

/** A select with its label: `choices` are values, or pairs of value and text. */
export function choiceField(id, label, choices, value, onchange) {
  const options = choices.map((one) => {
    const [key, text] = Array.isArray(one) ? one : [one, one];
    return h("option", { value: key, selected: key === value }, text);
  });
  return h("div", { class: "field" },
    h("label", { for: id }, label),
    h("select", { id, onchange: (event) => onchange(event.target.value) }, options));
}

/** A line for input with its label; `oncommit` gets the text on Enter, or when the field is left. */
export function textField(id, label, value, oncommit, attributes = {}) {
  return h("div", { class: "field" },
    h("label", { for: id }, label),
    h("input", { id, value, autocomplete: "off", spellcheck: "false", ...attributes,
      onchange: ({ target }) => {
        target.defaultValue = target.value; // taken
        oncommit(target.value.trim());
      } }));
}

/** What stands where there is nothing to show. */
export const emptyState = (title, text) => h("div", { class: "state" }, h("p", { class: "state-title" }, title), h("p", {}, text));

/** What stands where something could not be read. */
export function errorState(error, again) {
  return h("div", { class: "state state-error", role: "alert" },
    h("p", { class: "state-title" }, "This could not be read"),
    h("p", {}, error.message),
    again && h("button", { type: "button", onclick: again }, "Try again"));
}
