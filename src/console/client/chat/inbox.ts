/** The conversations of one person: what was said last, what is unread, the liveliest first. Plain state. */

import type { Conversation } from "../conversations";
import type { Entry } from "../wire";

/** One line of the inbox. A new object whenever it changes. */
export interface Summary {
  readonly id: string;
  readonly kind: Conversation["kind"];
  /** Null where none was given; a direct conversation is called after the other person. */
  readonly title: string | null;
  readonly epoch: Entry["epoch"];
  /** The newest sequence. */
  readonly top: number;
  /** How far this person has read. */
  readonly read: number;
  readonly last: Entry | null;
  readonly role: Conversation["role"];
  readonly muted_until: string | null;
  /** The other person of a direct conversation. */
  readonly peer: string | null;
  /** Where this person came in; what lies before is history. */
  readonly joined: number;
  /** When the newest entry was written. */
  readonly last_at: string;
}

/** How many entries this person has not seen. */
export function unread_of(summary: Summary): number {
  return Math.max(0, summary.top - Math.max(summary.read, summary.joined));
}

/** Whether it stays silent now. */
export function is_muted(summary: Summary, now_ms: number): boolean {
  return summary.muted_until !== null && Date.parse(summary.muted_until) > now_ms;
}

export class Inbox {
  readonly #me: string;
  readonly #summaries = new Map<string, Summary>();
  #sorted: readonly Summary[] | null = null;

  constructor(me: string) {
    this.#me = me;
  }

  /** All of them, those with the newest entry first. The same array until something changes. */
  get sorted(): readonly Summary[] {
    this.#sorted ??= [...this.#summaries.values()].sort((a, b) => {
      return a.last_at === b.last_at ? (a.id < b.id ? 1 : -1) : a.last_at < b.last_at ? 1 : -1;
    });
    return this.#sorted;
  }

  get(id: string): Summary | null {
    return this.#summaries.get(id) ?? null;
  }

  /** Takes what the engine tells of a conversation. What was pushed since it was read is not undone. */
  learn(told: Conversation): void {
    const before = this.#summaries.get(told.id);
    const same = before !== undefined && before.epoch === told.epoch;
    const newer = same && before.top > told.last_seq;
    this.#put({
      id: told.id,
      kind: told.kind,
      title: told.title ?? null,
      epoch: told.epoch,
      top: newer ? before.top : told.last_seq,
      read: Math.max(told.read_seq, same ? before.read : 0),
      last: newer ? before.last : (told.last_entry ?? null),
      role: told.role,
      muted_until: told.muted_until ?? null,
      peer: told.peer ?? null,
      joined: told.joined_seq,
      last_at: newer ? before.last_at : told.last_at,
    });
  }

  /** Takes an entry; false when its conversation is not known, or known with another history: it is to be asked for. */
  put(entry: Entry): boolean {
    const before = this.#summaries.get(entry.conversation);
    if (!before || before.epoch !== entry.epoch) return false;
    if (entry.seq < before.top) return true;
    // Who writes has seen what came before.
    const read = entry.sender === this.#me ? Math.max(before.read, entry.seq) : before.read;
    const title = entry.kind === "title" && "title" in entry.body ? ((entry.body["title"] as string | null) ?? null) : before.title;
    this.#put({ ...before, top: entry.seq, read, last: entry, last_at: entry.at, title });
    return true;
  }

  /** There are entries up to `top` that were not pushed. */
  heard_of(id: string, top: number): void {
    const before = this.#summaries.get(id);
    if (before && top > before.top) this.#put({ ...before, top });
  }

  /** This person has read up to here, on this device or another. Forward only. */
  read(id: string, seq: number): void {
    const before = this.#summaries.get(id);
    if (before && seq > before.read) this.#put({ ...before, read: seq });
  }

  remove(id: string): void {
    if (this.#summaries.delete(id)) this.#sorted = null;
  }

  /** Those that the engine no longer lists are gone, except what was learnt after it was asked. */
  keep_only(listed: ReadonlySet<string>, known_before: ReadonlySet<string>): void {
    for (const id of [...this.#summaries.keys()]) if (!listed.has(id) && known_before.has(id)) this.remove(id);
  }

  /** How many conversations have something unread that is not muted. */
  unread(now_ms: number): number {
    return this.sorted.filter((one) => unread_of(one) > 0 && !is_muted(one, now_ms)).length;
  }

  #put(summary: Summary): void {
    this.#summaries.set(summary.id, summary);
    this.#sorted = null;
  }
}
