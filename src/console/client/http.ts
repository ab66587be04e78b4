/** REST as the engine speaks it: typed answers, problems as errors, and repetition where it is safe. */

import { fresh_id } from "./ids";
import { NovaError, Problem, problem_of, Unreachable } from "./problem";
import { backoff_ms, pause, type Timers } from "./timers";

export type Method = "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
export type Query = Record<string, string | number | boolean | null | undefined>;

export interface RequestOptions {
  query?: Query;
  /** Travels as JSON. */
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** For a POST; a fresh one is made when none is given. Give one to survive the end of the program. */
  idempotency_key?: string;
  /** Change only this version (412 `precondition_failed` when it is another by now). */
  if_match?: string;
  /** Sent without a token, also when somebody is logged in. */
  anonymous?: boolean;
  /** How often to try at most; 1 never repeats. */
  tries?: number;
  /** Each try is given up after so long. */
  timeout_ms?: number;
}

/** What came back. `etag` names the version of what was read, for `if_match` and {@link Http.again}. */
export interface Answer<T> {
  status: number;
  data: T;
  etag: string | null;
  headers: Headers;
}

/** Where access tokens come from; {@link Tokens} is one. */
export interface TokenSource {
  access(): Promise<string | null>;
  renew(refused: string): Promise<string | null>;
}

export interface HttpParts {
  /** The engine's address without a path: `https://chat.example.org`. Empty for the page's own origin. */
  base_url: string;
  fetch: typeof fetch;
  timers: Timers;
  tokens?: TokenSource;
}

const TRIES = 4;
const TIMEOUT_MS = 15_000;
const WAIT = { first_ms: 300, longest_ms: 5_000 };
/** Asked to wait longer than this, the person is told instead of kept waiting. */
const WAIT_MAX_MS = 10_000;
/** The engine did nothing and says so: the same request may be sent again, whatever it is. */
const NOT_DONE = new Set([429, 503]);
/** Somebody between us and the engine gave up: it may have been done. */
const PERHAPS_DONE = new Set([502, 504]);
/** A token the engine does not take; everything else that is answered 401 is about what was typed. */
const TOKEN_REFUSED = new Set(["token_expired", "invalid_token", "unauthenticated", "session_revoked"]);

export class Http {
  readonly #parts: HttpParts;

  constructor(parts: HttpParts) {
    this.#parts = parts;
  }

  get<T>(path: string, options?: RequestOptions): Promise<Answer<T>> {
    return this.request("GET", path, options);
  }

  post<T>(path: string, body?: unknown, options?: RequestOptions): Promise<Answer<T>> {
    return this.request("POST", path, { ...options, body });
  }

  put<T>(path: string, body?: unknown, options?: RequestOptions): Promise<Answer<T>> {
    return this.request("PUT", path, { ...options, body });
  }

  patch<T>(path: string, body: unknown, options?: RequestOptions): Promise<Answer<T>> {
    return this.request("PATCH", path, { ...options, body });
  }

  delete<T = void>(path: string, options?: RequestOptions): Promise<Answer<T>> {
    return this.request("DELETE", path, options);
  }

  /** Reads again what was read before: the same answer object when nothing changed (304). */
  async again<T>(path: string, before: Answer<T>, options: RequestOptions = {}): Promise<Answer<T>> {
    if (before.etag === null) return this.get<T>(path, options);
    const headers = { ...options.headers, "if-none-match": before.etag };
    const answer = await this.request<T>("GET", path, { ...options, headers });
    return answer.status === 304 ? before : answer;
  }

  /**
   * One request, with its repetitions. Throws {@link Problem} when the engine refused, {@link Unreachable} when no
   * answer came, and the signal's reason when that ended it.
   *
   * Repeated are: anything the engine says it did not do (429, 503, a POST whose first try still runs), after the
   * time it names; and what may be repeated without harm after no answer at all: GET, PUT, a DELETE without a body
   * (where 404 then means done), and a POST, whose Idempotency-Key makes the engine answer as it did the first time.
   */
  async request<T>(method: Method, path: string, options: RequestOptions = {}): Promise<Answer<T>> {
    const { timers, tokens } = this.#parts;
    const idempotency_key = method === "POST" ? (options.idempotency_key ?? fresh_id()) : null;
    const harmless = method !== "PATCH" && !(method === "DELETE" && options.body !== undefined);
    const tries = options.tries ?? TRIES;
    let renewed = false;
    let perhaps_done = false;
    for (let attempt = 0; ; ) {
      const token = options.anonymous ? null : ((await tokens?.access()) ?? null);
      try {
        return await this.#once<T>(method, path, options, token, idempotency_key);
      } catch (error) {
        if (!(error instanceof NovaError)) throw error;
        if (error instanceof Problem) {
          if (perhaps_done && method === "DELETE" && error.status === 404) {
            return { status: 204, data: undefined as T, etag: null, headers: new Headers() };
          }
          if (error.status === 401 && token !== null && !renewed && TOKEN_REFUSED.has(error.code)) {
            renewed = true;
            if ((await tokens?.renew(token)) ?? null) continue;
            throw error;
          }
        }
        const wait_ms = this.#wait_ms(error, attempt, harmless);
        if (wait_ms === null || attempt + 1 >= tries) throw error;
        perhaps_done ||= !(error instanceof Problem) || PERHAPS_DONE.has(error.status);
        attempt += 1;
        await pause(timers, wait_ms, options.signal);
      }
    }
  }

  /** How long until the next try; null when there must not be one. */
  #wait_ms(error: NovaError, attempt: number, harmless: boolean): number | null {
    const own_ms = backoff_ms(attempt, WAIT, this.#parts.timers);
    if (!(error instanceof Problem)) return error instanceof Unreachable && harmless ? own_ms : null;
    const asked_ms = error.retry_after_ms;
    if (asked_ms !== null && asked_ms > WAIT_MAX_MS) return null;
    if (NOT_DONE.has(error.status) || error.code === "request_in_progress") {
      // A little later than asked, and not all at once.
      return asked_ms === null ? own_ms : asked_ms + own_ms / 2;
    }
    return PERHAPS_DONE.has(error.status) && harmless ? own_ms : null;
  }

  async #once<T>(
    method: Method,
    path: string,
    options: RequestOptions,
    token: string | null,
    idempotency_key: string | null,
  ): Promise<Answer<T>> {
    const { base_url, timers } = this.#parts;
    const headers: Record<string, string> = { accept: "application/json, application/problem+json" };
    if (options.body !== undefined) headers["content-type"] = "application/json";
    if (token !== null) headers["authorization"] = `Bearer ${token}`;
    if (idempotency_key !== null) headers["idempotency-key"] = idempotency_key;
    if (options.if_match !== undefined) headers["if-match"] = options.if_match;
    Object.assign(headers, options.headers);

    const abort = new AbortController();
    const timed_out = new Unreachable("timed_out", "The engine took too long to answer.");
    const cancel = timers.after(options.timeout_ms ?? TIMEOUT_MS, () => abort.abort(timed_out));
    const leave = () => abort.abort(options.signal?.reason);
    if (options.signal?.aborted) leave();
    options.signal?.addEventListener("abort", leave, { once: true });
    try {
      const response = await this.#parts.fetch(base_url + path + query_of(options.query), {
        method,
        headers,
        body: options.body === undefined ? null : JSON.stringify(options.body),
        signal: abort.signal,
        // Versions are asked for by hand, and identity travels in the header alone.
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
      });
      if (!response.ok && response.status !== 304) throw await problem_of(response, timers.now());
      const text = response.status === 204 || response.status === 304 ? "" : await response.text();
      return { status: response.status, data: read<T>(text), etag: response.headers.get("etag"), headers: response.headers };
    } catch (error) {
      if (error instanceof NovaError) throw error;
      if (abort.signal.aborted) throw abort.signal.reason;
      throw new Unreachable("unreachable", "The engine cannot be reached.", { cause: error });
    } finally {
      cancel();
      options.signal?.removeEventListener("abort", leave);
    }
  }
}

function read<T>(text: string): T {
  if (text === "") return undefined as T;
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw new NovaError("unexpected_answer", "The answer is not what the engine sends; is something in between?", { cause });
  }
}

function query_of(query: Query | undefined): string {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined) pairs.set(name, String(value));
  }
  const text = pairs.toString();
  return text && `?${text}`;
}
