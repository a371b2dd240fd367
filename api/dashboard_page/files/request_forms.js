// A request as a line of curl, as Python with b25_client, and as SQL where the database answers the same.

import { address } from "./api.js";
import { literal } from "./sql_text.js";

const TABLES = { count: "count", sum: "sum", avg: "avg", min: "min", max: "max", first: "first", last: "last" };
const CLIENT_METHODS = { "/api/v1/events": "events", "/api/v1/stream/events": "stream_events" };

// What a stream goes on with: the same question to what is stored already, whose answer ends.
const STORED = { "/api/v1/stream/events": "/api/v1/events" };

/** Texts by language. `sql` is what a view knows better; otherwise it follows from a request for a metric. */
export function forms(request, sql) {
  const found = { curl: both(request, curl), Python: both(request, python) };
  const text = sql ?? (request.path === "/api/v1/metrics" ? metricSql(request.params) : null);
  if (text) found.SQL = text;
  return found;
}

function both(request, form) {
  const path = STORED[request.path];
  if (!path) return form(request);
  return `# What is stored, the newest first.\n${form({ ...request, path })}\n\n# What comes from now on, until Ctrl-C.\n${form(request)}`;
}

const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function curl(request) {
  const stream = request.path.startsWith("/api/v1/stream/") ? " -N" : "";
  const lines = [`curl${stream} ${shell(location.origin + address(request))}`, "-H \"X-API-Key: $ANALYTICS_API_KEY\""];
  if (request.method !== "GET") lines[0] = `curl -X ${request.method} ${shell(location.origin + address(request))}`;
  if (request.body !== undefined) lines.push("-H 'Content-Type: application/json'", `-d ${shell(JSON.stringify(request.body))}`);
  return lines.join(" \\\n  ");
}

function python(request) {
  const { path, params = {} } = request;
  const begin = `with Client(${pythonText(location.origin)}) as client:\n`;
  const head = "from b25_client import Client\n\n# The key, if one is needed, is read from ANALYTICS_API_KEY.\n";
  if (path === "/api/v1/metrics" || path === "/api/v1/stream/metrics") {
    const { metric_name: name, ...more } = params;
    const names = Array.isArray(name) ? name : String(name).split(",");
    if (path === "/api/v1/stream/metrics") {
      return `${head}${begin}    for message in client.stream_metrics(${call(pythonText(name), more, 8)}):\n        print(message)\n`;
    }
    if (names.length > 1) {
      return `${head}${begin}    for found in client.several_metrics(${call(pythonText(names), more, 8)}):\n        print(found.metric_name, found.points)\n`;
    }
    return `${head}${begin}    found = client.metrics(${call(pythonText(names[0]), more, 8)})\nfor point in found.points:\n    print(point.timestamp, point.dimensions, point.value, point.state)\n`;
  }
  if (path === "/api/v1/dashboard/metrics") return `${head}${begin}    print(client.dashboard())\n`;
  if (path === "/api/v1/stream/dashboard") return `${head}${begin}    for message in client.stream_dashboard():\n        print(message)\n`;
  const single = /^\/api\/v1\/events\/([^/]+)$/.exec(path);
  if (single && single[1] !== "stats") return `${head}${begin}    print(client.event(${call(pythonText(decodeURIComponent(single[1])), params, 8)}))\n`;
  if (path in CLIENT_METHODS) {
    return `${head}${begin}    for event in client.${CLIENT_METHODS[path]}(${call(null, params, 8)}):\n        print(event)\n`;
  }
  const body = request.body === undefined ? "" : `, json=${pythonText(request.body)}`;
  const query = Object.keys(params).length ? `, params=${pythonText(params)}` : "";
  return [
    "import os", "", "import httpx", "",
    "key = os.environ.get(\"ANALYTICS_API_KEY\")",
    "headers = {\"X-API-Key\": key} if key else {}",
    `answer = httpx.request(${pythonText(request.method)}, ${pythonText(location.origin + path)}${query}${body}, headers=headers)`,
    "print(answer.raise_for_status().json())", "",
  ].join("\n");
}

function call(first, params, indent) {
  const given = Object.entries(params)
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => `${name}=${pythonText(value)}`);
  const parts = first === null ? given : [first, ...given];
  const line = parts.join(", ");
  if (line.length < 70) return line;
  const space = " ".repeat(indent);
  return `\n${parts.map((part) => `${space}${part},\n`).join("")}${" ".repeat(indent - 4)}`;
}

function pythonText(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value === "number") return String(value);
  if (Array.isArray(value)) return `[${value.map(pythonText).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, one]) => `${pythonText(name)}: ${pythonText(one)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

/** What metrics_live answers to the same question; null where only the API does. */
function metricSql(params) {
  const column = TABLES[params.aggregation ?? ""] ?? (params.aggregation ? null : "count, sum, avg, min, max");
  if (!column || Array.isArray(params.metric_name) || params.interval === "auto" || params.time_zone) return null;
  const where = [
    `metric_name = ${literal(params.metric_name)}`,
    `interval = ${literal(params.interval ?? "1h")}`,
    `dimension_set = ${literal(params.group_by ?? "")}`,
    ...range(params),
  ];
  for (const one of [params.dimension ?? []].flat()) {
    const [name, operator, ...rest] = one.split(":");
    if (operator !== "eq") return null;
    where.push(`dimensions ->> ${literal(name)} = ${literal(rest.join(":"))}`);
  }
  return `SELECT time_bucket, dimensions, ${column}\nFROM metrics_live\nWHERE ${where.join("\n  AND ")}\nORDER BY time_bucket, dimensions;`;
}

function range({ start_time: start, end_time: end, last }) {
  if (start) return [`time_bucket >= ${literal(start)}`, ...(end ? [`time_bucket < ${literal(end)}`] : [])];
  const units = { s: "seconds", m: "minutes", h: "hours", d: "days", w: "weeks" };
  const [, count, unit] = /^(\d+)([smhdw])$/.exec(last ?? "24h") ?? [null, "24", "h"];
  return [`time_bucket >= now() - interval '${count} ${units[unit]}'`];
}
