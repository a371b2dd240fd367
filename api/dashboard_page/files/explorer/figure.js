// What Plotly is given for one panel: traces and layout, of series that share a unit.
//
// Belongs here: from series to traces. Does not belong here: what a bucket says (`words`), the pointer (`panel`).
//
// Times are UTC in ms; what a clock shows is written at the ticks. What is open is dashed, or hatched where it is a bar.

import { faded } from "../colours.js";
import { addsUp } from "./catalog.js";
import { splitOpen } from "./series.js";
import { ticksOf } from "./ticks.js";

const FEW = 40;
const DASH = "4px,3px";
const PIXELS_PER_TICK = 92;

/**
 * Traces of a panel.
 *
 * @param series of one unit, each with `colour`.
 * @param shape `{chart, width}`: line, area or bar, and the width of a bucket in ms.
 */
export function tracesOf(series, shape) {
  const drawn = shape.chart === "bar" ? bars(series, shape) : isStacked(series, shape.chart) ? stack(series, shape) : lines(series, shape);
  return [...series.flatMap((one) => comparedTrace(one, shape)), ...drawn];
}

/** Whether areas or bars stand on each other: only where the sum of them means something. */
export function isStacked(series, chart) {
  const isWhole = series.every((one) => addsUp(one.result.aggregation) && one.metric === series[0].metric);
  const isPositive = series.every((one) => one.points.every((point) => (point.value ?? 0) >= 0));
  return chart !== "line" && series.length > 1 && isWhole && (chart === "bar" || isPositive);
}

/**
 * Layout of a panel: `range` in ms, `width` that of a bucket, `pixels` how wide it is, `height` how high, `scale` of what
 * is written on it.
 */
export function layoutOf(series, { chart, range, width, zone, pixels, height, scale, colours }) {
  const left = (pixels < 480 ? 46 : 60) * scale;
  const marks = ticksOf(range[0], range[1], zone, Math.max(2, Math.floor((pixels - left) / (PIXELS_PER_TICK * scale))), width);
  return {
    height,
    margin: { l: left, r: 12 * scale, t: 10, b: 40 * scale },
    hovermode: false,
    dragmode: "zoom",
    barmode: isStacked(series, "bar") ? "relative" : "group",
    bargap: 0.12,
    bargroupgap: 0.05,
    uirevision: `${range.join("-")} ${chart}`,
    xaxis: {
      range: range.map((at) => new Date(at).toISOString()),
      tickmode: "array",
      tickvals: marks.map(({ at }) => new Date(at).toISOString()),
      ticktext: marks.map(({ text }) => text),
      automargin: false,
      ticks: "outside",
      ticklen: 4,
    },
    yaxis: {
      fixedrange: true,
      automargin: false,
      rangemode: chart !== "line" || series.every((one) => addsUp(one.result.aggregation)) ? "tozero" : "normal",
      tickformat: highest(series) >= 1e4 ? "~s" : ",.6~r",
      zerolinecolor: colours.line,
    },
  };
}

const highest = (series) => series.reduce((most, one) => one.points.reduce((high, { value }) => Math.max(high, Math.abs(value ?? 0)), most), 0);
const times = (points) => points.map(({ at }) => new Date(at).toISOString());
const quiet = { hoverinfo: "skip", showlegend: false };

function lines(series, { chart, width }) {
  return series.flatMap((one) => {
    const [closed, open] = splitOpen(one.points, width);
    const line = { color: one.colour, width: 2 };
    const fill = chart === "area" ? { fill: "tozeroy", fillcolor: faded(one.colour, 0.14) } : {};
    return [
      { ...quiet, ...fill, type: "scatter", name: one.label, meta: "closed", x: times(closed), y: values(closed), mode: "lines+markers",
        connectgaps: false, line, marker: { size: dots(closed), color: one.colour } },
      ...openTrace(one, open, values(open), line),
    ];
  });
}

function openTrace(one, open, y, line) {
  if (!open.length) return [];
  const size = open.map((point) => (point.state === "open" ? 8 : 0));
  return [{ ...quiet, type: "scatter", name: one.label, meta: "open", x: times(open), y, mode: "lines+markers",
    connectgaps: false, line: { ...line, dash: DASH },
    marker: { size, symbol: "circle-open", color: one.colour, line: { width: 2, color: one.colour } } }];
}

const values = (points) => points.map(({ value }) => value);

/** Sizes of dots: of all where there are few, else only of those that no line leads to. */
function dots(points) {
  const isFew = points.length <= FEW;
  return points.map((point, place) => {
    const isAlone = [points[place - 1], points[place + 1]].every((next) => !next || next.value === null);
    return isAlone ? 6 : isFew ? 4 : 0;
  });
}

// Plotly's own stacks cannot dash a part of a line, so sums are made here; what has no point adds nothing.
function stack(series, { width }) {
  const grid = [...new Set(series.flatMap((one) => one.points.map(({ at }) => at)))].sort((one, other) => one - other);
  const sums = new Map(grid.map((at) => [at, 0]));
  const fills = [];
  const edges = [];
  for (const one of series) {
    const own = new Map(one.points.map((point) => [point.at, point]));
    const state = new Map(series.flatMap((some) => some.points.map((point) => [point.at, point.state])));
    const points = grid.map((at) => {
      sums.set(at, sums.get(at) + (own.get(at)?.value ?? 0));
      return { at, value: sums.get(at), state: state.get(at) };
    });
    const [closed, open] = splitOpen(points, width);
    const [whole] = splitOpen(points.map((point) => ({ ...point, state: null })), width);
    const line = { color: one.colour, width: 1.5 };
    fills.push({ ...quiet, type: "scatter", name: one.label, meta: "fill", x: times(whole), y: values(whole), mode: "lines",
      connectgaps: false, line: { width: 0 }, fill: fills.length ? "tonexty" : "tozeroy", fillcolor: faded(one.colour, 0.3) });
    edges.push({ ...quiet, type: "scatter", name: one.label, meta: "closed", x: times(closed), y: values(closed), mode: "lines", connectgaps: false, line },
      ...openTrace(one, open, values(open), line));
  }
  return [...fills, ...edges];
}

function bars(series, { width }) {
  return series.map((one) => ({
    ...quiet, type: "bar", name: one.label, meta: "bar", x: one.points.map(({ at }) => new Date(at + width / 2).toISOString()), y: values(one.points),
    ...(one.points.length < 2 ? { width: width * 0.8 } : {}),
    marker: {
      color: one.points.map((point) => (point.state === "open" ? faded(one.colour, 0.3) : one.colour)),
      line: { width: one.points.map((point) => (point.state === "open" ? 1 : 0)), color: one.colour },
      pattern: { shape: one.points.map((point) => (point.state === "open" ? "/" : "")), fgcolor: one.colour, size: 6, solidity: 0.25 },
    },
  }));
}

function comparedTrace(one, { chart, width }) {
  if (!one.points.some((point) => typeof point.compared === "number")) return [];
  const [points] = splitOpen(one.points.map((point) => ({ at: point.at, value: point.compared, state: null })), width);
  const middle = chart === "bar" ? width / 2 : 0;
  const x = times(points.map((point) => ({ ...point, at: point.at + middle })));
  return [{ ...quiet, type: "scatter", name: one.label, meta: "compared", x, y: values(points), mode: "lines",
    connectgaps: false, line: { color: faded(one.colour, 0.42), width: 1.5, ...(chart === "bar" ? { shape: "hvh" } : {}) } }];
}
