/** What a reader does with what they are shown, told to the engine in batches and in their own time. */

import type { Http } from "./http";
import { Problem } from "./problem";
import type { Timers } from "./timers";

export type Action = "impression" | "open" | "like" | "hide" | "dwell";

export interface Observed {
  action: Action;
  post: string;
  /** Where in the list it stood; 0 is the first. */
  position?: number;
  /** The level and the model of the page it came from. */
  level?: string;
  model?: string;
  /** How long it was looked at; of `dwell` alone. */
  dwell_ms?: number;
}

/** As much as the engine takes at once. */
const BATCH_MAX = 100;
/** What waits while the engine is away; the oldest goes first, it is worth the least. */
const WAITING_MAX = 500;
/** Events are gathered for so long. */
const EVERY_MS = 5_000;
/** Longer than anybody looks. */
const DWELL_MAX_MS = 3_600_000;

export class Behaviour {
  #waiting: (Observed & { id: string; at: string })[] = [];
  #cancel: (() => void) | null = null;
  #sending = false;

  constructor(
    private readonly http: Http,
    private readonly timers: Timers,
  ) {}

  /** Keeps it for the next batch. */
  note(observed: Observed): void {
    const { dwell_ms } = observed;
    if (dwell_ms !== undefined) observed = { ...observed, dwell_ms: Math.min(DWELL_MAX_MS, Math.max(1, Math.round(dwell_ms))) };
    const now = this.timers.now();
    this.#waiting.push({ ...observed, id: event_id(now), at: new Date(now).toISOString() });
    if (this.#waiting.length > WAITING_MAX) this.#waiting.splice(0, this.#waiting.length - WAITING_MAX);
    if (this.#waiting.length >= BATCH_MAX) void this.flush();
    else this.#cancel ??= this.timers.after(EVERY_MS, () => void this.flush());
  }

  /** Sends what waits. It never throws: what cannot be sent is tried with the next batch, what is refused is dropped. */
  async flush(): Promise<void> {
    this.#cancel?.();
    this.#cancel = null;
    if (this.#sending) return;
    this.#sending = true;
    let again = false;
    while (this.#waiting.length > 0 && !again) {
      const batch = this.#waiting.slice(0, BATCH_MAX);
      let done = true;
      try {
        await this.http.post("/v1/events", { events: batch }, { tries: 1 });
      } catch (error) {
        // Sent again it would be refused again; anything else may have been a moment's.
        done = error instanceof Problem && error.status < 500 && error.status !== 429 && error.status !== 401;
        again = !done;
      }
      if (done) {
        const sent = new Set(batch.map((one) => one.id));
        this.#waiting = this.#waiting.filter((one) => !sent.has(one.id));
      }
    }
    this.#sending = false;
    if (this.#waiting.length > 0) this.#cancel ??= this.timers.after(EVERY_MS, () => void this.flush());
  }
}

/** The letters of Crockford's base 32. */
const LETTERS = "0123456789abcdefghjkmnpqrstvwxyz";

/** A new TypeID `event_…`: a UUID version 7 (RFC 9562) of that millisecond. */
export function event_id(now_ms: number): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  for (let at = 0; at < 6; at += 1) bytes[at] = Math.floor(now_ms / 2 ** (8 * (5 - at))) % 256;
  bytes[6] = (bytes[6]! & 0x0f) | 0x70;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  // 130 bits in 26 letters: two zeros first.
  const value = bytes.reduce((all, byte) => (all << 8n) | BigInt(byte), 0n);
  let word = "";
  for (let nth = 25n; nth >= 0n; nth -= 1n) word += LETTERS[Number((value >> (nth * 5n)) & 31n)];
  return `event_${word}`;
}
