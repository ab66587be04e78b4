/** How far this device has received and this person has read, told to the engine seldom enough. */

import type { Timers } from "../timers";

/** Acknowledgements of a burst travel together; the engine forgets nothing meanwhile. */
const ACK_MS = 300;
/** Scrolling through a conversation is one reading, not fifty. */
const READ_MS = 250;

/** Told at once at most: a queue that replays over hundreds of conversations must not crowd out what a person sends. */
const ROUND_MAX = 32;

/** One forward-only number for each conversation, of which the newest is told after a moment. */
class Forward {
  readonly #wanted = new Map<string, number>();
  readonly #told = new Map<string, number>();
  #cancel: (() => void) | null = null;

  constructor(
    private readonly timers: Timers,
    private readonly delay_ms: number,
    /** False when it could not be told. */
    private readonly tell: (conversation: string, seq: number) => boolean,
  ) {}

  note(conversation: string, seq: number): void {
    if (seq <= Math.max(this.#wanted.get(conversation) ?? 0, this.#told.get(conversation) ?? 0)) return;
    this.#wanted.set(conversation, seq);
    this.#cancel ??= this.timers.after(this.delay_ms, () => this.flush());
  }

  flush(): void {
    this.#cancel?.();
    this.#cancel = null;
    let round = 0;
    for (const [conversation, seq] of [...this.#wanted]) {
      if (round >= ROUND_MAX) {
        this.#cancel = this.timers.after(this.delay_ms, () => this.flush());
        break;
      }
      if (!this.tell(conversation, seq)) break;
      round += 1;
      this.#wanted.delete(conversation);
      this.#told.set(conversation, seq);
    }
  }

  /** What was told on a connection that ended may not have arrived: what comes again is told again. */
  disconnected(): void {
    this.#told.clear();
  }

  forget(conversation: string): void {
    this.#wanted.delete(conversation);
    this.#told.delete(conversation);
  }
}

/** `ack`: this device has everything up to here. */
export class Acks extends Forward {
  constructor(timers: Timers, tell: (conversation: string, seq: number) => boolean) {
    super(timers, ACK_MS, tell);
  }
}

/** `read`: this person has seen everything up to here. */
export class Reads extends Forward {
  constructor(timers: Timers, tell: (conversation: string, seq: number) => boolean) {
    super(timers, READ_MS, tell);
  }
}
