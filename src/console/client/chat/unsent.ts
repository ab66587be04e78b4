/**
 * What this device has to say and the engine has not yet confirmed: messages, edits, deletes and reactions. It is kept
 * in the browser's storage, so that closing the tab, losing the network or the end of the battery lose nothing, and every
 * piece has its `client_msg_id` from the beginning, so that saying it again is never saying it twice.
 *
 * Within a conversation things are said one after the other, in the order in which they were written. Two tabs may say
 * the same thing: the engine gives both the same sequence.
 *
 * Each piece has a key of its own in the storage; tabs never write over each other's. The storage belongs to the
 * browser's profile: whoever can open it can read what waits there. {@link forget_unsent} takes it away.
 */

import { fresh_id } from "../ids";
import { NovaError, Problem, Refused } from "../problem";
import { backoff_ms, type Timers } from "../timers";
import type { Sent } from "../wire";

/** The requests that wait here. */
export type Saying = "send" | "edit" | "delete" | "react";

/** One piece. A new object whenever it changes. */
export interface Unsent {
  readonly client_msg_id: string;
  readonly conversation: string;
  readonly type: Saying;
  /** The other fields of the request. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** When it was written; milliseconds since 1970. */
  readonly written_at: number;
  /** Why the engine will not take it as it is; null while it still may. */
  readonly failed: { readonly code: string; readonly words: string } | null;
  /** What the engine confirmed, until its entry has arrived too. */
  readonly sent: { readonly epoch: Sent["epoch"]; readonly seq: number; readonly at: string } | null;
}

/** Pieces of one user that wait at once, far more than anybody writes while offline; then {@link UnsentQueue.add} refuses with `outbox_full`. */
const WAITING_MAX = 200;
/** Refusals that pass by themselves are answered by trying again, this often before a person is asked. */
const TRIES = 6;
const WAIT = { first_ms: 1_000, longest_ms: 20_000 };
const PASSING = new Set(["overloaded", "unavailable", "internal", "draining", "rate_limited", "timed_out"]);

/** Who carries it to the engine; {@link Carrier} does. */
export interface Carries {
  /** Whether there is any way, sooner or later. */
  readonly ready: boolean;
  say(one: Unsent): Promise<Sent>;
}

export interface UnsentParts {
  user: string;
  carrier: Carries;
  timers: Timers;
  storage: Storage | null;
  changed(): void;
  /** Told of every confirmation. */
  confirmed(one: Unsent): void;
}

const PREFIX = "nova.unsent.";

/** Takes what waits of this user out of the storage. */
export function forget_unsent(storage: Storage, user: string): void {
  for (const key of keys_of(storage, user)) storage.removeItem(key);
}

export class UnsentQueue {
  readonly #parts: UnsentParts;
  readonly #all = new Map<string, Unsent>();
  /** What is being said now, one per conversation. */
  readonly #under_way = new Map<string, string>();
  readonly #tries = new Map<string, number>();
  #stopped = false;

  constructor(parts: UnsentParts) {
    this.#parts = parts;
    const { storage, user } = parts;
    const found: Unsent[] = [];
    for (const key of storage ? keys_of(storage, user) : []) {
      const one = read(storage?.getItem(key) ?? null);
      if (one) found.push(one);
      else storage?.removeItem(key);
    }
    // The time of writing gives the order; within the same millisecond the name does.
    found.sort((a, b) => a.written_at - b.written_at || (a.client_msg_id < b.client_msg_id ? -1 : 1));
    for (const one of found) this.#all.set(one.client_msg_id, one);
  }

  /** Everything that waits in this conversation, or at all, in the order of writing. */
  of(conversation?: string): Unsent[] {
    const all = [...this.#all.values()];
    return conversation === undefined ? all : all.filter((one) => one.conversation === conversation);
  }

  /** How much still has to be said, not counting what a person has to decide about. */
  get waiting(): number {
    return this.of().filter((one) => one.failed === null && one.sent === null).length;
  }

  /** Puts a piece in; it is kept before this returns. Throws `outbox_full`. */
  add(type: Saying, conversation: string, fields: Record<string, unknown>): Unsent {
    if (this.#all.size >= WAITING_MAX) {
      throw new NovaError("outbox_full", `${WAITING_MAX} messages wait to be sent already. Wait for the connection, or discard some.`);
    }
    const newest = Math.max(0, ...this.of().map((one) => one.written_at));
    const one: Unsent = {
      client_msg_id: fresh_id(),
      conversation,
      type,
      fields,
      // Later than everything before it, also when the clock is set back.
      written_at: Math.max(this.#parts.timers.now(), newest + 1),
      failed: null,
      sent: null,
    };
    this.#put(one);
    this.pump();
    return one;
  }

  /** Tries what failed once more. */
  retry(client_msg_id: string): void {
    const one = this.#all.get(client_msg_id);
    if (!one?.failed) return;
    this.#tries.delete(client_msg_id);
    this.#put({ ...one, failed: null });
    this.pump();
  }

  /** Gives up what failed or waits. What is under way may have arrived all the same. */
  discard(client_msg_id: string): void {
    this.#remove(client_msg_id);
    this.pump();
  }

  /** An entry of ours has arrived: it needs no more saying. */
  arrived(client_msg_id: string): void {
    if (this.#all.has(client_msg_id)) this.#remove(client_msg_id);
  }

  /** What another tab put in or took out. */
  noticed(key: string, value: string | null): void {
    const prefix = `${PREFIX}${this.#parts.user}.`;
    if (!key.startsWith(prefix)) return;
    const client_msg_id = key.slice(prefix.length);
    const one = read(value);
    if (one) {
      if (!this.#all.has(client_msg_id)) this.#all.set(client_msg_id, one);
    } else if (!this.#all.get(client_msg_id)?.sent) {
      this.#all.delete(client_msg_id);
    }
    this.#parts.changed();
  }

  /** Says whatever may be said now. */
  pump(): void {
    if (this.#stopped || !this.#parts.carrier.ready) return;
    for (const one of this.#all.values()) {
      if (one.failed || one.sent || this.#under_way.has(lane_of(one))) continue;
      this.#under_way.set(lane_of(one), one.client_msg_id);
      void this.#say(one);
    }
  }

  /** Says nothing more; what waits stays in the storage. */
  stop(): void {
    this.#stopped = true;
  }

  async #say(one: Unsent): Promise<void> {
    let again_ms: number | null = 0;
    try {
      this.#confirm(one, await this.#parts.carrier.say(one));
    } catch (error) {
      again_ms = this.#refused(one, error);
    }
    const next = () => {
      if (this.#under_way.get(lane_of(one)) === one.client_msg_id) this.#under_way.delete(lane_of(one));
      this.pump();
    };
    // Nothing of this conversation may overtake what is tried again.
    if (again_ms !== null && again_ms > 0) this.#parts.timers.after(again_ms, next);
    else {
      if (again_ms === null) this.#under_way.delete(lane_of(one));
      else next();
    }
  }

  #confirm(one: Unsent, sent: Sent): void {
    this.#tries.delete(one.client_msg_id);
    this.#unkeep(one.client_msg_id);
    // Its entry may have come first.
    if (!this.#all.has(one.client_msg_id)) return;
    const confirmed: Unsent = { ...one, sent: { epoch: sent.epoch, seq: sent.seq, at: sent.at } };
    this.#all.set(one.client_msg_id, confirmed);
    this.#parts.confirmed(confirmed);
    this.#parts.changed();
  }

  /** How long to wait before trying again; 0 to go on with the next, null when there is no connection to try over. */
  #refused(one: Unsent, error: unknown): number | null {
    const { carrier, timers } = this.#parts;
    if (this.#stopped || !carrier.ready) return null;
    const code = error instanceof NovaError ? error.code : "internal";
    const tried = (this.#tries.get(one.client_msg_id) ?? 0) + 1;
    if (PASSING.has(code) && tried < TRIES) {
      this.#tries.set(one.client_msg_id, tried);
      const asked_ms = error instanceof Refused || error instanceof Problem ? (error.retry_after_ms ?? 0) : 0;
      return Math.max(asked_ms, backoff_ms(tried - 1, WAIT, timers));
    }
    // Gone is gone, whoever did it.
    if (one.type === "delete" && code === "target_deleted") this.#remove(one.client_msg_id);
    // What was taken away meanwhile needs no verdict.
    if (this.#all.has(one.client_msg_id)) {
      const words = error instanceof Error ? error.message : code;
      this.#put({ ...one, failed: { code, words } });
    }
    return 0;
  }

  #put(one: Unsent): void {
    this.#all.set(one.client_msg_id, one);
    try {
      this.#parts.storage?.setItem(this.#key(one.client_msg_id), JSON.stringify(one));
    } catch {
      // A full or closed storage costs the memory of it, not the sending.
    }
    this.#parts.changed();
  }

  #remove(client_msg_id: string): void {
    this.#all.delete(client_msg_id);
    this.#tries.delete(client_msg_id);
    this.#unkeep(client_msg_id);
    this.#parts.changed();
  }

  #unkeep(client_msg_id: string): void {
    try {
      this.#parts.storage?.removeItem(this.#key(client_msg_id));
    } catch {
      // Saying it once more after a reload does no harm.
    }
  }

  #key(client_msg_id: string): string {
    return `${PREFIX}${this.#parts.user}.${client_msg_id}`;
  }
}

/** What is said one after the other: what is written in a conversation, and the reactions beside it. */
function lane_of(one: Unsent): string {
  return one.type === "react" ? `${one.conversation} reactions` : one.conversation;
}

function keys_of(storage: Storage, user: string): string[] {
  const keys: string[] = [];
  for (let nth = 0; nth < storage.length; nth += 1) {
    const key = storage.key(nth);
    if (key?.startsWith(`${PREFIX}${user}.`)) keys.push(key);
  }
  return keys;
}

function read(text: string | null): Unsent | null {
  try {
    const one = JSON.parse(text ?? "null");
    const good =
      typeof one?.client_msg_id === "string" &&
      typeof one.conversation === "string" &&
      ["send", "edit", "delete", "react"].includes(one.type) &&
      typeof one.fields === "object" &&
      one.fields !== null &&
      typeof one.written_at === "number";
    return good ? { ...one, failed: one.failed ?? null, sent: null } : null;
  } catch {
    return null;
  }
}
