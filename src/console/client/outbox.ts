/** Requests that wait for their answer, or for a connection to ask over. */

import { Refused } from "./problem";
import type { Timers } from "./timers";

/** Far more than a person has under way; when full, the next request is refused with `outbox_full`. */
const WAITING_MAX = 512;
/** An answer that takes longer on a living connection will not come. */
const ANSWER_MS = 15_000;

export interface AskOptions {
  /**
   * Keep it when the connection ends and ask again on the next one. Only for what the engine recognises when it comes
   * twice: `send` does, by its `client_msg_id`; so does everything that sets a state.
   */
  resend?: boolean;
  signal?: AbortSignal;
}

interface Waiting {
  type: string;
  fields: object;
  resend: boolean;
  sent: boolean;
  not_before: number;
  settle(outcome: { answer: unknown } | { error: unknown }): void;
}

export class Outbox {
  readonly #timers: Timers;
  readonly #waiting = new Map<number, Waiting>();
  #last_ref = 0;

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  next_ref(): number {
    return ++this.#last_ref;
  }

  /** Puts a request in; the promise is its answer. */
  add<T>(type: string, fields: object, { resend = false, signal }: AskOptions = {}): Promise<T> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      if (this.#waiting.size >= WAITING_MAX) {
        return reject(new Refused("outbox_full", "Too much is waiting to be sent; wait for the connection."));
      }
      const ref = this.next_ref();
      const cancel = resend
        ? () => {}
        : this.#timers.after(ANSWER_MS, () => give_up(new Refused("no_answer", "The engine did not answer in time.")));
      const give_up = (error: unknown) => this.#waiting.get(ref)?.settle({ error });
      const leave = () => give_up(signal?.reason);
      signal?.addEventListener("abort", leave, { once: true });
      this.#waiting.set(ref, {
        type,
        fields,
        resend,
        sent: false,
        not_before: 0,
        settle: (outcome) => {
          this.#waiting.delete(ref);
          cancel();
          signal?.removeEventListener("abort", leave);
          if ("error" in outcome) reject(outcome.error);
          else resolve(outcome.answer as T);
        },
      });
    });
  }

  /**
   * Hands what has not been sent to `send`, oldest first, until it names a time to wait. Answers how long until there
   * is something to do again, or null.
   */
  flush(send: (text: string, ref: number) => number): number | null {
    let again_ms: number | null = null;
    for (const [ref, one] of [...this.#waiting]) {
      if (one.sent) continue;
      const early_ms = one.not_before - this.#timers.now();
      const wait_ms = early_ms > 0 ? early_ms : send(JSON.stringify({ ...one.fields, type: one.type, ref }), ref);
      if (wait_ms > 0) again_ms = Math.min(again_ms ?? wait_ms, wait_ms);
      else if (this.#waiting.has(ref)) one.sent = true;
      if (wait_ms > 0 && early_ms <= 0) break;
    }
    return again_ms;
  }

  /** Delivers the answer to the request `ref`. */
  answered(ref: number, message: { type: string } & Record<string, unknown>): void {
    const one = this.#waiting.get(ref);
    if (!one) return;
    if (message.type !== "error") return one.settle({ answer: message });
    const retry_after_ms = typeof message["retry_after_ms"] === "number" ? message["retry_after_ms"] : null;
    if (one.resend && retry_after_ms !== null) {
      one.sent = false;
      one.not_before = this.#timers.now() + retry_after_ms;
      return;
    }
    const code = String(message["code"] ?? "refused");
    one.settle({ error: new Refused(code, String(message["detail"] ?? code), retry_after_ms) });
  }

  /** Refuses the request `ref` without asking. */
  refuse(ref: number, error: Refused): void {
    this.#waiting.get(ref)?.settle({ error });
  }

  /** The connection ended: what may be asked again waits for the next one, the rest is refused. */
  disconnected(): void {
    for (const one of [...this.#waiting.values()]) {
      if (one.resend) one.sent = false;
      else one.settle({ error: new Refused("disconnected", "The connection ended before the answer came.") });
    }
  }

  /** There will be no next connection. */
  close(code: string): void {
    for (const one of [...this.#waiting.values()]) {
      one.settle({ error: new Refused(code, "The connection has ended for good.") });
    }
  }
}
