/** Everything that can go wrong between an application and the engine, as classes to branch on. */

/** The root of all errors of this library. `code` is stable and snake_case; `message` is a sentence for people. */
export class NovaError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** One field of a request that is not as it must be; `field` is a dotted path from the root of the body. */
export interface FieldError {
  field: string;
  message: string;
}

/** The engine answered and refused: the body of RFC 9457. */
export class Problem extends NovaError {
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  /** Names this request in the engine's logs. */
  readonly request_id: string | null;
  readonly errors: readonly FieldError[];
  /** How long the engine asks to be left alone, in milliseconds. */
  readonly retry_after_ms: number | null;

  constructor(status: number, body: Partial<ProblemBody>, retry_after_ms: number | null = null) {
    const title = body.title ?? `the engine answered ${status}`;
    super(body.code ?? "unexpected_answer", body.detail ?? title);
    this.status = status;
    this.title = title;
    this.detail = body.detail ?? title;
    this.request_id = body.request_id ?? null;
    this.errors = body.errors ?? [];
    this.retry_after_ms = retry_after_ms;
  }

  /** What is wrong with `field`, or null. */
  of(field: string): string | null {
    return this.errors.find((one) => one.field === field)?.message ?? null;
  }
}

/** `application/problem+json` as it travels. */
export interface ProblemBody {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: string;
  request_id: string;
  errors: FieldError[];
}

/** No answer came: the network is away, the engine is, or it took longer than `timeout_ms`. */
export class Unreachable extends NovaError {
  constructor(code: "unreachable" | "timed_out", message: string, options?: ErrorOptions) {
    super(code, message, options);
  }
}

/** A request on the socket was refused, or the connection ended before its answer came (`disconnected`). */
export class Refused extends NovaError {
  readonly retry_after_ms: number | null;

  constructor(code: string, message: string, retry_after_ms: number | null = null) {
    super(code, message);
    this.retry_after_ms = retry_after_ms;
  }
}

/**
 * Reads a refusal out of an HTTP answer. A body that is not a problem (a proxy's own page, say) still gives one, with
 * the code `unexpected_answer`.
 */
export async function problem_of(response: Response, now_ms: number): Promise<Problem> {
  const retry_after_ms = retry_after(response.headers.get("retry-after"), now_ms);
  let body: Partial<ProblemBody> = {};
  if (/\bjson\b/.test(response.headers.get("content-type") ?? "")) {
    try {
      const parsed: unknown = await response.json();
      if (typeof parsed === "object" && parsed !== null) body = parsed as Partial<ProblemBody>;
    } catch {
      // The status alone has to do.
    }
  }
  return new Problem(response.status, body, retry_after_ms);
}

/** `Retry-After` in milliseconds from now: seconds or a date (RFC 9110 section 10.2.3); null when absent or garbled. */
export function retry_after(header: string | null, now_ms: number): number | null {
  if (header === null) return null;
  if (/^\d+$/.test(header.trim())) return Number(header.trim()) * 1000;
  const at = Date.parse(header);
  return Number.isNaN(at) ? null : Math.max(0, at - now_ms);
}
