// Series out of answers: points by metric and dimensions, on one grid of buckets, and what each bucket says of itself.
//
// Belongs here: pure arrangement of what the API answered. Does not belong here: drawing (`figure`), words (`words`).

import { OTHER } from "../others.js";

/** The results of an answer, one or several. */
export const resultsOf = (answer) => answer.results ?? [answer.result];

/** One text for one set of dimensions. */
export function keyOf(dimensions) {
  return JSON.stringify(Object.entries(dimensions).sort(([one], [other]) => (one < other ? -1 : 1)));
}

/**
 * The series of an answer, in the order in which they are drawn: of each metric by its highest total, the rest last.
 *
 * Each has `metric`, `dimensions`, `label`, `result` (without points), `points`, ascending in time, with `at` in ms, and
 * the same by time, `at`.
 */
export function seriesOf(answer) {
  const results = resultsOf(answer);
  return results.flatMap((result) => {
    const { data_points: points, ...rest } = result;
    const found = new Map();
    for (const point of points) {
      const key = keyOf(point.dimensions);
      if (!found.has(key)) {
        found.set(key, { metric: result.metric_name, dimensions: point.dimensions, key, result: rest, points: [] });
      }
      found.get(key).points.push({ ...point, at: Date.parse(point.timestamp) });
    }
    const several = results.length > 1;
    return [...found.values()]
      .map((one) => ({ ...one, label: labelOf(one, several), weight: weightOf(one), at: new Map(one.points.map((point) => [point.at, point])) }))
      .sort((one, other) => isRest(one) - isRest(other) || other.weight - one.weight || (one.key < other.key ? -1 : 1));
  });
}

/** Whether it is what is left of the top, or beyond the budget. */
export const isRest = (series) => Number(Object.values(series.dimensions).includes(OTHER));

/** Every bucket in which some series has a point, ascending, with what the answer says of it. */
export function bucketsOf(series) {
  const found = new Map();
  for (const one of series) {
    for (const point of one.points) {
      const known = found.get(point.at);
      const bucket = known ?? { at: point.at, state: point.state, revision: point.revision, late: point.late_count ?? 0 };
      for (const mark of ["pending", "incomplete", "predecessor"]) bucket[mark] ||= point[mark] === true;
      found.set(point.at, bucket);
    }
  }
  return [...found.values()].sort((one, other) => one.at - other.at);
}

/**
 * The points of a series without those that stand still to be settled at the end, and the way from the last of these to
 * the open ones: `[closed, open]`. A gap of more than one bucket and a half is a point of null between.
 */
export function splitOpen(points, width) {
  const first = points.findIndex((point) => point.state === "open");
  const begin = first < 0 ? points.length : first;
  return [withGaps(points.slice(0, begin), width), withGaps(points.slice(Math.max(0, begin - 1)), width, first < 0)];
}

function withGaps(points, width, isNone = false) {
  if (isNone) return [];
  const found = [];
  for (const point of points) {
    const before = found.at(-1);
    if (before && point.at - before.at > 1.5 * width) found.push({ at: before.at + width, value: null, isGap: true });
    found.push(point);
  }
  return found;
}

/** The answer with the points of a message of its stream put in, without those from before `start`. */
export function withChanges(answer, message, start) {
  const isOne = Boolean(answer.result);
  const renewed = resultsOf(answer).map((result) => {
    const mine = message.data_points.filter((point) => isOne || point.metric_name === result.metric_name);
    const points = new Map(result.data_points.map((point) => [point.timestamp + keyOf(point.dimensions), point]));
    for (const point of mine) points.set(point.timestamp + keyOf(point.dimensions), point);
    const kept = [...points.values()].filter((point) => Date.parse(point.timestamp) >= start);
    kept.sort((one, other) => Date.parse(one.timestamp) - Date.parse(other.timestamp));
    return { ...result, data_points: kept, total_count: kept.length };
  });
  return isOne ? { ...answer, result: renewed[0] } : { ...answer, results: renewed };
}

/** The nearest bucket to a time: its position, -1 where there is none. */
export function nearest(buckets, at) {
  let [low, high] = [0, buckets.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (buckets[middle].at < at) low = middle + 1;
    else high = middle;
  }
  if (low > 0 && at - buckets[low - 1].at < Math.abs(buckets[low].at - at)) low -= 1;
  return buckets.length ? low : -1;
}

function weightOf({ points }) {
  return points.reduce((sum, point) => sum + Math.abs(point.value ?? 0), 0);
}

function labelOf({ metric, dimensions }, several) {
  const values = Object.entries(dimensions).map(([name, value]) => (value === null ? `no ${name}` : String(value)));
  if (!values.length) return metric;
  return several ? `${metric} · ${values.join(" · ")}` : values.join(" · ");
}
