/** Keeps a sender under the engine's limit, so that it is slowed down here instead of being cut off there. */

import type { Timers } from "./timers";

/** The part of the limit that is used: clocks drift, and messages bunch up on the way. */
const SHARE = 0.8;

export class Pace {
  readonly #timers: Timers;
  readonly #per_s: number;
  #saved: number;
  #at: number;

  /** `per_s` requests a second, and as many at once after a second of silence. */
  constructor(per_s: number, timers: Timers) {
    this.#timers = timers;
    this.#per_s = Math.max(1, per_s * SHARE);
    this.#saved = this.#per_s;
    this.#at = timers.now();
  }

  /** Takes leave to send one: 0 when it may go now, otherwise how many milliseconds to wait before asking again. */
  take(): number {
    const now = this.#timers.now();
    this.#saved = Math.min(this.#per_s, this.#saved + (Math.max(0, now - this.#at) / 1000) * this.#per_s);
    this.#at = now;
    if (this.#saved >= 1) {
      this.#saved -= 1;
      return 0;
    }
    return Math.ceil(((1 - this.#saved) / this.#per_s) * 1000);
  }
}
