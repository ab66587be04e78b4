/** What is true for a moment only: who is writing, who is awake, who has read how far. */

import type { Timers } from "../timers";
import type { Presence } from "../wire";

/** Somebody who said nothing more for so long has stopped writing, whatever the network lost. */
const TYPING_MS = 6_000;
/** While one writes, others are told this often. */
const TELL_MS = 3_000;
/** A pause this long is told as one. */
const PAUSE_MS = 5_000;

/** Who is writing where. */
export class Typing {
  readonly #timers: Timers;
  readonly #changed: () => void;
  readonly #cancels = new Map<string, Map<string, () => void>>();

  constructor(timers: Timers, changed: () => void) {
    this.#timers = timers;
    this.#changed = changed;
  }

  /** Who is writing in this conversation, the first to begin first. */
  of(conversation: string): string[] {
    return [...(this.#cancels.get(conversation)?.keys() ?? [])];
  }

  put(conversation: string, user: string, on: boolean): void {
    const writers = this.#cancels.get(conversation) ?? new Map<string, () => void>();
    const before = writers.get(user);
    before?.();
    if (on) {
      this.#cancels.set(conversation, writers);
      writers.set(user, this.#timers.after(TYPING_MS, () => this.put(conversation, user, false)));
    } else {
      writers.delete(user);
      if (writers.size === 0) this.#cancels.delete(conversation);
    }
    if (on !== (before !== undefined)) this.#changed();
  }

  /** The connection ended: what was true then is not known now. */
  clear(): void {
    if (this.#cancels.size === 0) return;
    for (const writers of this.#cancels.values()) for (const cancel of writers.values()) cancel();
    this.#cancels.clear();
    this.#changed();
  }
}

/** Tells that this person is writing: at the first key, again while they go on, and when they stop. */
export class Writing {
  readonly #timers: Timers;
  readonly #tell: (on: boolean) => void;
  #told_at: number | null = null;
  #cancel_pause = () => {};

  constructor(timers: Timers, tell: (on: boolean) => void) {
    this.#timers = timers;
    this.#tell = tell;
  }

  /** A key was pressed; `empty` when nothing stands in the field any more. */
  keyed(empty: boolean): void {
    if (empty) return this.stopped();
    const now = this.#timers.now();
    if (this.#told_at === null || now - this.#told_at >= TELL_MS) {
      this.#told_at = now;
      this.#tell(true);
    }
    this.#cancel_pause();
    this.#cancel_pause = this.#timers.after(PAUSE_MS, () => this.stopped());
  }

  /** Nothing more is being written: taken back, or left. */
  stopped(): void {
    this.#cancel_pause();
    if (this.#told_at === null) return;
    this.#told_at = null;
    this.#tell(false);
  }

  /** It was sent: the message itself says that the writing is over. */
  sent(): void {
    this.#cancel_pause();
    this.#told_at = null;
  }
}

/** Whose presence is wanted, by whom in the program, and what is known. */
export class Presences {
  readonly #ask: (watch: string[]) => Promise<Presence[]>;
  readonly #timers: Timers;
  readonly #changed: () => void;
  readonly #interests = new Map<object, readonly string[]>();
  readonly #known = new Map<string, Presence>();
  #asked = "";
  #cancel = () => {};

  /** What fits into one request; those beyond are not watched. */
  static readonly WATCHED_MAX = 200;

  constructor(parts: { timers: Timers; ask: (watch: string[]) => Promise<Presence[]>; changed: () => void }) {
    this.#ask = parts.ask;
    this.#timers = parts.timers;
    this.#changed = parts.changed;
  }

  /** What is known of somebody; null when nothing is. */
  of(user: string): Presence | null {
    return this.#known.get(user) ?? null;
  }

  /** From now on `who` looks at these people, and at nobody else. */
  want(who: object, users: readonly string[]): void {
    if (users.length === 0) this.#interests.delete(who);
    else this.#interests.set(who, users);
    this.#cancel();
    // Pages come and go together; one request is enough for all of them.
    this.#cancel = this.#timers.after(0, () => void this.#watch());
  }

  put(presence: Presence): void {
    if (!this.#watched().includes(presence.user)) return;
    this.#known.set(presence.user, presence);
    this.#changed();
  }

  /** A new connection knows nothing of whom the old one watched. */
  connected(): void {
    this.#asked = "";
    void this.#watch();
  }

  /** Nothing is known while there is no connection. */
  disconnected(): void {
    this.#asked = "";
    if (this.#known.size === 0) return;
    this.#known.clear();
    this.#changed();
  }

  #watched(): string[] {
    return [...new Set([...this.#interests.values()].flat())].sort().slice(0, Presences.WATCHED_MAX);
  }

  async #watch(): Promise<void> {
    const watch = this.#watched();
    const asked = watch.join();
    if (asked === this.#asked) return;
    this.#asked = asked;
    try {
      const users = await this.#ask(watch);
      if (asked !== this.#asked) return;
      const before = new Set(this.#known.keys());
      for (const one of users) this.#known.set(one.user, one);
      for (const user of before) if (!watch.includes(user)) this.#known.delete(user);
      this.#changed();
    } catch {
      // Asked again with the next connection or the next change of interest.
      if (asked === this.#asked) this.#asked = "";
    }
  }
}

/** How far somebody's devices and eyes have come, as sequences. */
export interface Receipt {
  readonly delivered: number;
  readonly read: number;
}

/** Receipts of all members of all conversations; they only ever go forward. */
export class Receipts {
  readonly #by_conversation = new Map<string, Map<string, Receipt>>();

  /** Answers whether anything changed. */
  put(conversation: string, user: string, delivered: number | undefined, read: number | undefined): boolean {
    const members = this.#by_conversation.get(conversation) ?? new Map<string, Receipt>();
    this.#by_conversation.set(conversation, members);
    const before = members.get(user) ?? { delivered: 0, read: 0 };
    const now_read = Math.max(before.read, read ?? 0);
    // Who has read it, has it.
    const now_delivered = Math.max(before.delivered, delivered ?? 0, now_read);
    if (now_read === before.read && now_delivered === before.delivered) return false;
    members.set(user, { delivered: now_delivered, read: now_read });
    return true;
  }

  of(conversation: string): ReadonlyMap<string, Receipt> {
    return this.#by_conversation.get(conversation) ?? new Map();
  }

  forget(conversation: string): void {
    this.#by_conversation.delete(conversation);
  }
}
