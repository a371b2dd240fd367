// Filters on dimensions: those there are, each with a button that takes it away, and fields for another one.

import { combobox } from "../combobox.js";
import { choiceField, h, swap } from "../dom.js";
import { commonDimensions, entriesOf } from "./catalog.js";
import { readFilter } from "./question.js";

const WORDS = { eq: "is", ne: "is not", in: "is one of", prefix: "begins with", exists: "is there", missing: "is not there" };
const MOST = 10;
const NONE = "(none)";

/** The row of filters, if these metrics have dimensions; see `controls` for `acts`. */
export function filterFields(catalog, question, acts) {
  const dimensions = commonDimensions(entriesOf(catalog, question));
  if (!dimensions.length && !question.filters.length) return [];
  const change = (filters) => acts.change({ ...question, filters });
  const chips = question.filters.map((filter, place) => h("li", { class: "ex-chip" }, h("span", {}, textOf(filter)),
    h("button", { type: "button", class: "ex-remove", "aria-label": `Remove the filter ${textOf(filter)}`,
      onclick: () => change(question.filters.filter((_, at) => at !== place)) }, "×")));
  const row = h("div", { class: "ex-filters" }, chips.length > 0 && h("ul", { class: "ex-chips", "aria-label": "Filters" }, chips));
  if (dimensions.length && question.filters.length < MOST) row.append(adder(dimensions, question, change, acts));
  return [row];
}

/** A filter in words. */
function textOf({ name, operator, values, text }) {
  if (text) return text;
  if (operator === "exists") return `${name} ${values[0] === "true" ? WORDS.exists : WORDS.missing}`;
  return `${name} ${WORDS[operator]} ${values.map((value) => value ?? NONE).join(", ")}`;
}

function adder(dimensions, question, change, acts) {
  // What was chosen stays when the fields are made anew, for another filter of the kind.
  let name = dimensions.includes(acts.adding.name) ? acts.adding.name : dimensions[0];
  let { operator } = acts.adding;
  const holder = h("div", { class: "ex-adder", role: "group", "aria-label": "Add a filter" });

  function add(value) {
    const filter = filterOf(name, operator, value);
    const same = question.filters.find((one) => one.name === name && one.operator === "in" && operator === "in");
    if (same) {
      const values = [...new Set([...same.values, ...filter.values])];
      change(question.filters.map((one) => (one === same ? { ...one, values } : one)));
    } else change([...question.filters, filter]);
  }

  async function find(text) {
    const note = (value) => (value === null ? `events without ${name}` : null);
    return (await acts.values(name, text)).map((value) => ({ value: value ?? NONE, title: value ?? NONE, note: note(value) }));
  }

  function draw() {
    Object.assign(acts.adding, { name, operator });
    const isWord = operator === "exists" || operator === "missing";
    swap(holder,
      choiceField("ex-filter-name", "Filter", dimensions, name, (chosen) => { name = chosen; draw(); }),
      choiceField("ex-filter-operator", "Operator", Object.entries(WORDS), operator, (chosen) => { operator = chosen; draw(); }),
      isWord ? h("button", { type: "button", class: "ex-end", onclick: () => add("") }, "Add")
        : combobox({ id: "ex-filter-value", label: "Value", placeholder: operator === "prefix" ? "Beginning" : "Search values", isFree: true, find, onchoose: add }));
  }

  draw();
  return holder;
}

function filterOf(name, operator, value) {
  if (operator === "exists" || operator === "missing") return readFilter(`${name}:exists:${operator === "exists"}`);
  return { name, operator, values: [value === NONE && operator !== "prefix" ? null : value] };
}
