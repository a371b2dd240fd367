// What stands in an address and is not shown as it stands there, in sentences: nothing of an address is dropped in silence.
//
// Belongs here: what the page does not do. Does not belong here: what the API refuses, which it says itself.

import { isZone } from "../format.js";
import { chartOf, CHARTS, SETTINGS, SHORT_FILTERS, textsOf } from "./question.js";

const REPEATING = new Set(["metric_name", "dimension", "hide", ...SHORT_FILTERS]);
const KNOWN = new Set([...SETTINGS, ...SHORT_FILTERS, "zone"]);
const ORDERS = ["asc", "desc"];

/** Parameters of the API that say how its answer is written, not what is asked. */
const WRITING = {
  order: "order is asc or desc; the headings of the table sort it",
  limit: "limit is not followed: the explorer draws the whole range, not a page of it",
  cursor: "cursor is not followed: the explorer draws the whole range, not a page of it",
  counts: "counts is always 1 here: how many events a value is made of is shown",
  explain: "explain is not shown: what was read for an answer is told by the API alone",
};
const DONE = { order: ORDERS, counts: ["1"] };

/** The names that an address may have beside the settings of a question: they go once the question is changed. */
export const READ_ONCE = [...SHORT_FILTERS, ...Object.keys(WRITING)];

/**
 * Sentences about an address.
 *
 * @param params its settings: texts, or lists of texts where a name repeats.
 * @param {string} zone in which times are shown.
 */
export function remarksOf(params, zone) {
  const names = Object.keys(params).filter((name) => textsOf(params, name).length > 0 && !name.startsWith("_"));
  const chart = chartOf(params);
  const asked = textsOf(params, "zone").at(-1);
  return [
    ...names.filter((name) => textsOf(params, name).length > 1 && !REPEATING.has(name)).map((name) => `${name} stands in the address more than once; the last one holds.`),
    ...names.filter((name) => name in WRITING && !DONE[name]?.includes(textsOf(params, name).at(-1))).map((name) => `${WRITING[name]}.`),
    !CHARTS.includes(chart) && `chart=${chart} is none of ${CHARTS.join(", ")}; a line is drawn.`,
    asked && !isZone(asked) && `This browser knows no time zone ${asked}; times are those of ${zone}.`,
    ...names.filter((name) => !KNOWN.has(name) && !(name in WRITING)).map((name) => `Neither the API nor the explorer has a parameter ${name}; it changes nothing here.`),
  ].filter(Boolean);
}
