/** What one wants of a room, said until the engine has heard it. */

import { Refused } from "../problem";
import { pause, type Timers } from "../timers";

/** Something is asked again for about so long, while the engine is busy or the connection to it away. */
export const TRIES_MAX = 40;
export const AGAIN_MS = 500;
/** Refusals that pass by themselves. */
const PASSING = new Set(["disconnected", "no_answer", "unavailable", "overloaded", "rate_limited", "draining"]);

export function passes(error: unknown): error is Refused {
  return error instanceof Refused && PASSING.has(error.code);
}

/** Asks whenever `ready`, until there is an answer or a refusal for good; null once it is not `wanted` any more. */
export async function insist<T>(timers: Timers, ready: () => Promise<void>, wanted: () => boolean, ask: () => Promise<T> | null): Promise<T | null> {
  for (let tried = 0; ; tried++) {
    await ready();
    if (!wanted()) return null;
    try {
      return await ask();
    } catch (error) {
      if (!wanted()) return null;
      if (!passes(error) || tried >= TRIES_MAX) throw error;
      await pause(timers, error.retry_after_ms ?? AGAIN_MS);
    }
  }
}

export class Wishes {
  readonly #timers: Timers;
  /** Resolves when the room can be asked. */
  readonly #ready: () => Promise<void>;
  /** The newest wish about each thing. */
  readonly #newest = new Map<string, object>();

  constructor(timers: Timers, ready: () => Promise<void>) {
    this.#timers = timers;
    this.#ready = ready;
  }

  /**
   * Has `ask` heard, over however many connections. Resolves also when it has lost its sense: `ask` answers null, or another wish about the
   * same is newer. Rejects with the `Refused` that does not pass.
   */
  async say(about: string, ask: () => Promise<unknown> | null): Promise<void> {
    const wish = {};
    this.#newest.set(about, wish);
    const is_newest = () => this.#newest.get(about) === wish;
    try {
      await insist(this.#timers, this.#ready, is_newest, ask);
    } finally {
      if (is_newest()) this.#newest.delete(about);
    }
  }

  /** Whether something about this has been said, and not been heard yet. */
  has(about: string): boolean {
    return this.#newest.has(about);
  }

  /** It is not repeated. */
  drop(about: string): void {
    this.#newest.delete(about);
  }

  /** Nothing is: the room is left. */
  clear(): void {
    this.#newest.clear();
  }
}
