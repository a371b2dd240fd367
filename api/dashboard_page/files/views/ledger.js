// What became of every message: the equation, in total and by topic; gaps; batches; the proof.

import { errorState, h, swap, textField } from "../dom.js";
import { equation, gapsPanel, topicsTable } from "../operations/conservation.js";
import { batchesPanel } from "../operations/batches.js";
import { proof } from "../operations/proof.js";
import { PERIODS, announcer, interval, panel, segments, since, troubles } from "../operations/parts.js";
import { poll } from "../polling.js";
import { literal } from "../sql_text.js";

const PATH = "/api/v1/ledger";

export const view = {
  id: "ledger",
  title: "Ledger",
  render(root, params, context) {
    const period = params.period ?? "24h";
    const asked = () => ({ start_time: since(period), source: params.source });
    const lines = () => ({
      source: params.source, batch_id: params.batch, cursor: params.cursor, limit: 25,
      dead: params.only === "dead" ? "true" : null, duplicates: params.only === "duplicates" ? "true" : null, notes: params.only === "notes" ? "true" : null,
      skipped: params.only === "skipped" ? "true" : null,
    });
    const parts = { trouble: h("div", {}), books: h("div", {}, h("p", { class: "card quiet" }, "Adding up …")), batches: h("div", {}), batchTrouble: h("div", {}) };
    root.append(h("div", { class: "toolbar" },
      segments("period", "Committed in the last", PERIODS, period, (value) => context.set({ period: value, cursor: null })),
      textField("source", "Topic", params.source ?? "", (value) => context.set({ source: value, cursor: null }), { placeholder: "any, or http, _replay" })),
    parts.trouble, parts.books, proof(period, context), parts.batchTrouble, parts.batches);

    const tell = announcer(context, "#books");
    let isDrawn = false;
    const books = poll((signal) => context.api.get(`${PATH}/conservation`, asked(), { signal }), (found) => {
      isDrawn = true;
      swap(parts.books, draw(found, context, period, asked, params));
      tell(parts.books);
    }, {
      every: 5000,
      onError(error) {
        troubles(parts.trouble, isDrawn ? error : null);
        if (error && !isDrawn) swap(parts.books, errorState(error, () => books.now()));
      },
    });
    const batches = poll((signal) => context.api.get(PATH, lines(), { signal }), (found) => {
      swap(parts.batches, batchesPanel(found, params, context, lines()));
    }, { every: 5000, onError: (error) => troubles(parts.batchTrouble, isDrawn ? error : null) });
    return () => {
      books.close();
      batches.close();
    };
  },
};

function draw(found, context, period, asked, params) {
  const request = () => ({ request: { method: "GET", path: `${PATH}/conservation`, params: asked() }, sql: sql(period, params.source) });
  return [
    equation(found, period, context.showAs(request)),
    found.gaps.length > 0 && gapsPanel(found.gaps, context),
    panel("By topic", { id: "topics", note: "each line balances by itself" }, topicsTable(found, context)),
  ];
}

const sql = (period, source) => `SELECT source, sum(read) AS read, sum(stored) AS stored, sum(duplicate) AS duplicate, sum(dead) AS dead,
       sum(read) = sum(stored) + sum(duplicate) + sum(dead) AS balances
FROM ingest_batches
WHERE committed_at > now() - ${interval(period)}${source ? ` AND source = ${literal(source)}` : ""}
GROUP BY source ORDER BY source;`;
