/** Which layers of a camera are made: those somebody watches. */

import { pause, type Timers } from "../timers";

/** A browser that refuses a change is asked again after a moment, so often. */
const TRIES_MAX = 5;
const AGAIN_MS = 200;

/**
 * One change after the other: a browser takes none while it carries out the one before, and what is watched may change twice within a
 * moment. The last word is what counts.
 */
export class Layers {
  readonly #sender: RTCRtpSender;
  readonly #timers: Timers;
  #wanted: number | null = null;
  #is_changing = false;

  constructor(sender: RTCRtpSender, timers: Timers) {
    this.#sender = sender;
    this.#timers = timers;
  }

  /** Makes the layers up to the highest that is watched, and no others; `null` is none at all. */
  async send(highest: number | null): Promise<void> {
    this.#wanted = highest;
    if (this.#is_changing) return;
    this.#is_changing = true;
    for (let tried = 0, sent: number | null | undefined; sent !== this.#wanted && tried < TRIES_MAX; ) {
      const now = this.#wanted;
      if (await this.#change(now)) {
        sent = now;
        tried = 0;
      } else {
        tried += 1;
        await pause(this.#timers, AGAIN_MS);
      }
    }
    this.#is_changing = false;
  }

  async #change(highest: number | null): Promise<boolean> {
    // Asked for each time: a browser takes back only what it gave last.
    const parameters = this.#sender.getParameters();
    parameters.encodings.forEach((encoding, at) => (encoding.active = highest !== null && at <= highest));
    try {
      await this.#sender.setParameters(parameters);
      return true;
    } catch {
      return false;
    }
  }
}
