// Texts inside SQL.

/** A text as SQL's literal. */
export function literal(text) {
  const quoted = `'${String(text).replaceAll("'", "''")}'`;
  return quoted.includes("\\") ? `E${quoted.replaceAll("\\", "\\\\")}` : quoted;
}
