// What the catalog allows: which settings a question about some metrics may have.
//
// Belongs here: rules over entries of `/api/v1/metrics/catalog`. Does not belong here: the question (`question`),
// controls (`controls`).

const SUMS = new Set(["count", "sum", "rate", "skipped"]);
const COUNTED = new Set(["count", "skipped", "distinct"]);

/** The entry behind a name: its own, or the one whose names are made by a dimension, without groupings then. */
export function entryOf(catalog, name) {
  const own = catalog.find((entry) => entry.name === name);
  if (own) return own;
  const family = catalog.find((entry) => entry.name_by && name.startsWith(`${entry.name}.`));
  if (!family) return null;
  const value = name.slice(family.name.length + 1);
  return { ...family, name, family: family.name, dimension_sets: [], description: `Events of type ${value}.` };
}

/** The entries of all metrics of a question that are in the catalog. */
export function entriesOf(catalog, question) {
  return question.metrics.map((name) => entryOf(catalog, name)).filter(Boolean);
}

/** The aggregations that all of these metrics have. */
export function commonAggregations(entries) {
  return common(entries.map((entry) => entry.aggregations));
}

/** Whether all of them take any quantile. */
export function takesQuantiles(entries) {
  return entries.length > 0 && entries.every((entry) => entry.has_quantiles);
}

/** What all of them can be grouped by; each as names with commas between. */
export function commonGroupings(entries) {
  return common(entries.map((entry) => entry.dimension_sets.map((names) => [...names].sort().join(","))));
}

/** The dimensions by which all of them can be filtered. */
export function commonDimensions(entries) {
  return common(entries.map((entry) => [...new Set(entry.dimension_sets.flat())]));
}

/** Whether all of them can be asked for without `group_by`. */
function haveTotals(entries) {
  return entries.every((entry) => entry.has_total);
}

/** The question, grouped where these metrics must be. */
export function grouped(question, entries) {
  const groupings = commonGroupings(entries);
  const isPinned = question.filters.some((filter) => filter.operator === "eq");
  if (question.groupBy.length || haveTotals(entries) || isPinned || !groupings.length) return question;
  return { ...question, groupBy: groupings[0].split(",") };
}

/** The question without what these metrics do not allow, and grouped where they must be. */
export function fitted(question, entries) {
  if (!entries.length) return question;
  const found = { ...question };
  const isQuantile = /^p[0-9]/.test(found.aggregation) && takesQuantiles(entries);
  if (found.aggregation && !isQuantile && !commonAggregations(entries).includes(found.aggregation)) {
    found.aggregation = "";
  }
  const groupings = commonGroupings(entries);
  if (found.groupBy.length && !groupings.includes(found.groupBy.join(","))) found.groupBy = [];
  const dimensions = commonDimensions(entries);
  found.filters = found.filters.filter((filter) => dimensions.includes(filter.name));
  if (!found.groupBy.length || !haveTotals(entries)) found.top = ""; // of series that cannot be added up there is no rest
  return grouped(found, entries);
}

/** Whether values of several series add up to that of all of them, so that they may be stacked. */
export function addsUp(aggregation) {
  return SUMS.has(aggregation);
}

/** The unit of a value: a count of something has none. */
export function unitOf(entry, aggregation) {
  if (!entry || COUNTED.has(aggregation)) return "";
  const unit = entry.unit === "1" ? "" : entry.unit;
  return aggregation === "rate" ? `${isRateOfSum(entry) ? unit : ""}/s` : unit;
}

/** Whether its rate is that of its sum, not of its count. */
export function isRateOfSum(entry) {
  return entry.default_aggregation === "sum";
}

function common(lists) {
  const [first = [], ...rest] = lists;
  return first.filter((one) => rest.every((list) => list.includes(one)));
}
