// Traces of Plotly from kept points. The bucket that is not over is drawn apart: dashed, or hatched.

import { faded } from "../colours.js";
import * as format from "../format.js";
import { titleOf } from "./kept.js";

const same = (value) => value;

function axis(kept, view) {
  const times = kept.times;
  return { times, x: times.map((time) => format.wall(time, view.zone)), isOpen: (time) => time + view.width > view.now };
}

/** All buckets of the range, the same for every chart, so that charts side by side end at one place. */
function span({ now, range, width, zone }) {
  const bucket = (at) => Math.floor(at / width) * width;
  return [bucket(now - range) - width / 2, bucket(now) + width / 2].map((at) => format.wall(at, zone));
}

const legendOf = (names, view) => (names.length > 1 ? names.map((name, place) => [titleOf(name), view.colour(place)]) : []);

const hatching = ({ times, isOpen }) => ({ shape: times.map((time) => (isOpen(time) ? "/" : "")), size: 5, solidity: 0.5, fillmode: "overlay" });

/** Stacked bars, a series each; the open bucket hatched. `of(value, time)` turns a value into what is shown. */
export function bars(kept, view, of = same) {
  const { times, x, isOpen } = axis(kept, view);
  const names = kept.names;
  return {
    legend: legendOf(names, view),
    traces: names.map((name, place) => ({
      type: "bar",
      name: titleOf(name),
      x,
      y: times.map((time) => {
        const value = kept.at(name, time)?.value;
        return value === undefined || value === null ? null : of(value, time);
      }),
      marker: { color: view.colour(place), line: { width: 0 }, pattern: hatching({ times, isOpen }) },
      hovertemplate: "%{y:,.4~g}",
    })),
    layout: { barmode: "stack", bargap: 0.18, xaxis: { range: span(view) } },
  };
}

/** Lines: `lines` are [kept, series, title]. The piece that leads to the open bucket is dashed. */
export function line(lines, view, { layout = {}, fills = false } = {}) {
  const traces = lines.flatMap(([kept, series, title], place) => {
    const { times, x, isOpen } = axis(kept, view);
    const values = times.map((time) => kept.at(series, time)?.value ?? null);
    return pieces({ x, values, times, isOpen, title, colour: view.colour(place), fills });
  });
  return { traces, layout: { xaxis: { range: span(view) }, ...layout }, legend: lines.length > 1 ? lines.map(([, , title], place) => [title, view.colour(place)]) : [] };
}

/** Lines of what has been added up since the beginning of the range, a series each. */
export function cumulated(kept, view) {
  const { times, x, isOpen } = axis(kept, view);
  const names = kept.names;
  const traces = names.flatMap((name, place) => {
    let sum = 0;
    const values = times.map((time) => (sum += kept.at(name, time)?.value ?? 0));
    return pieces({ x, values, times, isOpen, title: titleOf(name), colour: view.colour(place) });
  });
  return { traces, legend: legendOf(names, view), layout: { xaxis: { range: span(view) }, yaxis: { rangemode: "normal", zeroline: true } } };
}

function pieces({ x, values, times, isOpen, title, colour, fills = false }) {
  const begin = times.findIndex(isOpen);
  const isWhole = begin < 0;
  const look = { type: "scatter", mode: times.length < 2 ? "lines+markers" : "lines", name: title, hovertemplate: "%{y:,.4~g}", connectgaps: false };
  const settled = {
    ...look, x: isWhole ? x : x.slice(0, begin), y: isWhole ? values : values.slice(0, begin),
    line: { color: colour, width: 2 },
    ...(fills ? { fill: "tozeroy", fillcolor: faded(colour, 0.12) } : {}),
  };
  if (isWhole) return [settled];
  const from = Math.max(0, begin - 1);
  const open = { ...look, mode: "lines+markers", x: x.slice(from), y: values.slice(from), line: { color: colour, width: 2, dash: "dot" },
    marker: { color: colour, size: values.slice(from).map((_, place) => (place || !begin ? 6 : 0)) },
    hovertemplate: "%{y:,.4~g} so far",
    // The whole bucket before it is there twice, to join the pieces: told once.
    hoverinfo: values.slice(from).map((_, place) => (place || !begin ? "all" : "skip")) };
  return [settled, open];
}

/** Candles above, volume below, on one axis of time; the open bucket is hollow. */
export function candles(prices, volume, view) {
  const { times, x, isOpen } = axis(prices, view);
  const [name] = prices.names;
  const traded = axis(volume, view);
  const [traders] = volume.names;
  const up = view.named("--good");
  const down = view.named("--bad");
  const candle = (title, isShown, fill) => {
    const part = (field) => times.map((time) => (isShown(time) ? prices.at(name, time)?.[field] ?? null : null));
    return { type: "candlestick", name: title, x, open: part("open"), high: part("high"), low: part("low"), close: part("close"),
      increasing: { line: { color: up, width: 1.2 }, fillcolor: fill ?? up }, decreasing: { line: { color: down, width: 1.2 }, fillcolor: fill ?? down } };
  };
  const traces = [
    candle("Price", (time) => !isOpen(time)),
    candle("Price so far", isOpen, "rgba(0,0,0,0)"),
    { type: "bar", name: "Volume", x: traded.x, y: traded.times.map((time) => volume.at(traders, time)?.value ?? null), yaxis: "y2",
      marker: { color: view.named("--series-9"), opacity: 0.6, line: { width: 0 }, pattern: hatching(traded) }, hovertemplate: "%{y:,.4~g}" },
  ];
  return {
    traces,
    legend: [["up", up], ["down", down], ["volume", view.named("--series-9")]],
    layout: {
      bargap: 0.25,
      xaxis: { range: span(view), rangeslider: { visible: false }, anchor: "y2" },
      yaxis: { domain: [0.27, 1], rangemode: "normal" },
      yaxis2: { domain: [0, 0.2], nticks: 3, rangemode: "tozero" },
    },
  };
}

/** What the last whole bucket says, for people who listen. */
export function told(kept, view, of = same, unit = "") {
  const whole = kept.times.filter((time) => time + view.width <= view.now);
  const last = whole.at(-1);
  if (last === undefined) return "Nothing yet.";
  const sum = [...kept.series.values()].reduce((all, series) => all + (series.get(last)?.value ?? 0), 0);
  return `${format.number(of(sum, last))} ${unit} in the bucket of ${format.clock(last, view.zone)}.`;
}
