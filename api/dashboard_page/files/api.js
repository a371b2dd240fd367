// Asks the API. A request is plain data, {method, path, params, body}, so that it can also be shown (request_dialog.js).

const LONGEST_WAIT = 10;
let csrfToken = null;
let onSignedOut = () => {};
let onWait = () => {};

/** Why there is no answer, as one sentence in `message`; `problem` is the API's own document where it gave one. */
export class ApiError extends Error {
  constructor(message, status = 0, problem = {}) {
    super(message);
    this.status = status;
    this.problem = problem;
  }
}

/** Who is told that the session has ended, and that the API asks to wait (seconds). */
export function connect(handlers) {
  onSignedOut = handlers.onSignedOut;
  onWait = handlers.onWait;
}

/** The query string of parameters; lists repeat a name, null and "" leave it out. */
export function queryString(params = {}) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") found.append(name, one);
    }
  }
  const text = found.toString();
  return text ? `?${text}` : "";
}

/** Path and query of a request. */
export const address = ({ path, params }) => path + queryString(params);

/** Send a request; the answer's JSON, null if it has none. Throws ApiError, or an AbortError if `signal` says so. */
export async function send(request, { signal, headers = {} } = {}) {
  for (let attempt = 0; ; attempt += 1) {
    const response = await once(request, signal, headers);
    if (response.ok) return response.status === 204 ? null : response.json();
    const error = await refusal(response);
    const seconds = Number(response.headers.get("retry-after") ?? 1);
    if (response.status === 429 && attempt < 3 && seconds <= LONGEST_WAIT) {
      onWait(seconds);
      await pause(seconds * 1000, signal);
      continue;
    }
    if (response.status === 401) onSignedOut(error);
    throw error;
  }
}

/** Read something. */
export const get = (path, params, options) => send({ method: "GET", path, params }, options);

/** Write something, or ask a question that has a body. */
export const post = (path, body, options) => send({ method: "POST", path, body }, options);

/** Why a stream does not open: an ApiError, or null if it does. */
export async function whyRefused(request) {
  const wanted = new AbortController();
  try {
    const response = await once(request, wanted.signal, {});
    if (response.ok) return null;
    const error = await refusal(response);
    if (response.status === 401) onSignedOut(error);
    return error;
  } catch (error) {
    return error;
  } finally {
    wanted.abort();
  }
}

/** Who is there: `{key_id, scopes}`. */
export async function session() {
  const found = await get("/api/v1/session");
  csrfToken = found.csrf_token;
  return found;
}

/** Exchange a key for a cookie that no script can read; the key is not kept. */
export async function signIn(key) {
  const found = await send({ method: "POST", path: "/api/v1/session" }, { headers: { "X-API-Key": key } });
  csrfToken = found.csrf_token;
  return found;
}

/** End the session. */
export async function signOut() {
  await send({ method: "DELETE", path: "/api/v1/session" });
  csrfToken = null;
}

async function once(request, signal, headers) {
  const isWrite = request.method !== "GET";
  const sent = { Accept: "application/json", ...headers };
  if (request.body !== undefined) sent["Content-Type"] = "application/json";
  if (isWrite && csrfToken) sent["X-CSRF-Token"] = csrfToken;
  try {
    return await fetch(address(request), {
      method: request.method,
      headers: sent,
      body: request.body === undefined ? undefined : JSON.stringify(request.body),
      credentials: "same-origin",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The API cannot be reached; the page tries again by itself.");
  }
}

async function refusal(response) {
  try {
    const problem = await response.json();
    return new ApiError(problem.detail || problem.title || `The API answered ${response.status}.`, response.status, problem);
  } catch {
    return new ApiError(`The API answered ${response.status}.`, response.status);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("no longer wanted", "AbortError"));
    });
  });
}
