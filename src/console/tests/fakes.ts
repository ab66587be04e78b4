/** A world to test the client in: time that moves when told, an engine that answers what a test says, a network that can be cut. */

import type { Timers } from "../client/timers";
import type { SignedIn } from "../client/types";
import type { WebSocketLike } from "../client/socket";

/** Lets everything that is ready run; nothing here waits for more than a few promises. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 25; turn += 1) await Promise.resolve();
}

/** The same numbers for the same seed (mulberry32). */
export function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export class FakeTimers implements Timers {
  #now = 1_800_000_000_000;
  #waiting: { at: number; work: () => void }[] = [];
  /** What `random()` answers. */
  chance = 0.5;

  now(): number {
    return this.#now;
  }

  random(): number {
    return this.chance;
  }

  after(delay_ms: number, work: () => void): () => void {
    const one = { at: this.#now + delay_ms, work };
    this.#waiting.push(one);
    return () => {
      this.#waiting = this.#waiting.filter((other) => other !== one);
    };
  }

  /** How long until the next timer, or null. */
  next_ms(): number | null {
    return this.#waiting.length === 0 ? null : Math.min(...this.#waiting.map((one) => one.at)) - this.#now;
  }

  /** Lets `ms` pass, timer by timer. */
  async pass(ms: number): Promise<void> {
    const until = this.#now + ms;
    await settle();
    for (;;) {
      const due = this.#waiting.filter((one) => one.at <= until).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.#waiting = this.#waiting.filter((one) => one !== due);
      this.#now = Math.max(this.#now, due.at);
      due.work();
      await settle();
    }
    this.#now = until;
  }
}

export interface Seen {
  method: string;
  path: string;
  headers: Headers;
  body: unknown;
}

type Reply = Response | Error | ((seen: Seen) => Response | Error | Promise<Response>);

/** Answers requests from a list, in order, and keeps what was asked. */
export class FakeEngine {
  readonly seen: Seen[] = [];
  readonly #replies: Reply[];

  constructor(...replies: Reply[]) {
    this.#replies = replies;
  }

  then(...replies: Reply[]): void {
    this.#replies.push(...replies);
  }

  readonly fetch: typeof fetch = async (input, init) => {
    const seen: Seen = {
      method: init?.method ?? "GET",
      path: String(input),
      headers: new Headers(init?.headers),
      body: typeof init?.body === "string" ? JSON.parse(init.body) : undefined,
    };
    this.seen.push(seen);
    const reply = this.#replies.shift();
    if (reply === undefined) throw new Error(`nothing is prepared for ${seen.method} ${seen.path}`);
    const outcome = typeof reply === "function" ? await reply(seen) : reply;
    if (outcome instanceof Error) throw outcome;
    return outcome;
  };

  header(index: number, name: string): string | null {
    return this.seen[index]?.headers.get(name) ?? null;
  }
}

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json", ...headers } });
}

export function refusal(status: number, code: string, headers: Record<string, string> = {}): Response {
  const body = { type: `/docs/errors#${code}`, title: code, status, detail: `about ${code}`, code, request_id: "req_1" };
  return new Response(JSON.stringify(body), { status, headers: { "content-type": "application/problem+json", ...headers } });
}

export const network_down = () => new TypeError("Failed to fetch");

export function signed_in(nth: number, expires_in = 900): SignedIn {
  const user = { id: "user_ann", username: "ann", display_name: "Ann", bio: "", created_at: "2026-01-01T00:00:00.000Z", updated_at: "2026-01-01T00:00:00.000Z", email: "ann@example.org", totp_enabled: false, roles: [] };
  return { user, device_id: "device_1", access_token: `access-${nth}`, refresh_token: `refresh-${nth}`, expires_in };
}

/** A browser's storage; several tabs may share one. */
export function fake_storage(): Storage {
  const kept = new Map<string, string>();
  return {
    get length() {
      return kept.size;
    },
    clear: () => kept.clear(),
    getItem: (key) => kept.get(key) ?? null,
    key: (index) => [...kept.keys()][index] ?? null,
    removeItem: (key) => void kept.delete(key),
    setItem: (key, value) => void kept.set(key, String(value)),
  };
}

export class FakeSocket implements WebSocketLike {
  protocol = "nova.v1";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  readonly sent: ({ type: string; ref?: number } & Record<string, unknown>)[] = [];
  closed_with: number | undefined;

  constructor(
    readonly url: string,
    readonly asked_protocol: string,
  ) {}

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(code?: number): void {
    this.closed_with = code ?? 1005;
  }

  /** The newest message of this type. */
  last(type: string): { type: string; ref?: number } & Record<string, unknown> {
    const found = this.sent.filter((one) => one.type === type).at(-1);
    if (!found) throw new Error(`no ${type} was sent`);
    return found;
  }

  count(type: string): number {
    return this.sent.filter((one) => one.type === type).length;
  }

  says(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  answers(type: string, message: object): void {
    this.says({ ref: this.last(type).ref, ...message });
  }

  opens(): void {
    this.onopen?.(undefined as never);
  }

  ends(code: number, reason = ""): void {
    this.onclose?.({ code, reason });
  }
}
