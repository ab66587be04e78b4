/**
 * What one conversation's entries add up to: messages with their edits, deletes and reactions, and the notices between.
 *
 * Entries may be given in any order and any number of times; the outcome is the same. Shown is the gapless stretch that
 * is known, `low` to `high`; what lies past a hole is held until the hole is filled (see {@link Log.hole}). Nothing here
 * knows a network or a clock.
 */

import type { Entry } from "../wire";

/** Which history a sequence belongs to; another epoch means that everything known is void. */
export type Epoch = Entry["epoch"];

/** An emoji under a message and who put it there, in the order in which they did. */
export interface Reaction {
  readonly emoji: string;
  readonly users: readonly string[];
}

/** What a person wrote, as it stands now. A new object whenever it changes. */
export interface Message {
  readonly what: "message";
  readonly seq: number;
  readonly sender: string;
  /** RFC 3339. */
  readonly at: string;
  readonly client_msg_id: string | null;
  readonly text: string;
  /** The sequence of the edit that gave it its present text; null when it is as first written. */
  readonly edited: number | null;
  readonly deleted: boolean;
  /** The sequence of the message that it answers. */
  readonly reply_to: number | null;
  readonly mentions: readonly string[];
  readonly attachments: readonly unknown[];
  readonly location: unknown;
  readonly reactions: readonly Reaction[];
}

/** An entry that is shown in its own right and is nobody's message: somebody came or went, the title changed, a call, a stream. */
export interface Notice {
  readonly what: "notice";
  readonly seq: number;
  readonly sender: string;
  readonly at: string;
  readonly kind: string;
  readonly body: Readonly<Record<string, unknown>>;
}

export type Item = Message | Notice;

/** Entries past a hole that are kept until it is filled. A longer tail is forgotten: pulling the hole brings it again. */
const HELD_MAX = 1_000;

/** What later entries did to one message; the newest sequence wins, so the order of arrival does not matter. */
interface Effects {
  edit: { seq: number; text: string } | null;
  deleted: boolean;
  reactions: Map<string, { emoji: string; user: string; seq: number; on: boolean }>;
}

const CHANGES = new Set(["edit", "delete", "reaction"]);

export class Log {
  #epoch: Epoch | null = null;
  #low = 1;
  #high = 0;
  /** There is nothing older than `low`. */
  #complete = false;
  #entries = new Map<number, Entry>();
  #held = new Map<number, Entry>();
  /** Known from the engine's confirmation only; the entry itself replaces them. */
  #provisional = new Set<number>();
  #effects = new Map<number, Effects>();
  #messages = new Map<number, Message>();
  #items: readonly Item[] | null = null;

  /** Null until {@link start}. */
  get epoch(): Epoch | null {
    return this.#epoch;
  }

  /** The oldest sequence that is known; one more than {@link high} when nothing is. */
  get low(): number {
    return this.#low;
  }

  /** The newest sequence up to which nothing is missing. */
  get high(): number {
    return this.#high;
  }

  /** Whether the beginning of the conversation is known. */
  get complete(): boolean {
    return this.#complete;
  }

  /** The sequence up to which something is missing, where entries lie past a hole; null where none do. */
  get hole(): { after: number; before: number } | null {
    if (this.#epoch === null || this.#held.size === 0) return null;
    return { after: this.#high, before: Math.min(...this.#held.keys()) };
  }

  /** What is shown, oldest first. The same array until something changes. */
  get items(): readonly Item[] {
    if (this.#items) return this.#items;
    const items: Item[] = [];
    for (let seq = this.#low; seq <= this.#high; seq += 1) {
      const item = this.item(seq);
      if (item) items.push(item);
    }
    this.#items = items;
    return items;
  }

  /** The entry `seq` as it came, where it is known and nothing before it is missing. */
  entry(seq: number): Entry | null {
    return this.#entries.get(seq) ?? null;
  }

  /** What is shown of the entry `seq`: null when it is not known, or a change to another entry. */
  item(seq: number): Item | null {
    const entry = this.#entries.get(seq);
    if (!entry || CHANGES.has(entry.kind)) return null;
    if (entry.kind !== "message") {
      return { what: "notice", seq, sender: entry.sender, at: entry.at, kind: entry.kind, body: entry.body };
    }
    let message = this.#messages.get(seq);
    if (!message) {
      message = message_of(entry, this.#effects.get(seq));
      this.#messages.set(seq, message);
    }
    return message;
  }

  /**
   * Begins anew with the newest entries of the conversation, gapless and in order; `top` is the newest sequence there
   * is, `complete` that nothing is older. What was held of the same epoch is kept.
   */
  start(epoch: Epoch, entries: readonly Entry[], top: number, complete: boolean): void {
    const held = [...this.#held.values()].filter((entry) => entry.epoch === epoch && entry.seq > top);
    this.#epoch = epoch;
    this.#high = entries.at(-1)?.seq ?? top;
    this.#low = entries[0]?.seq ?? top + 1;
    this.#complete = complete;
    this.#entries.clear();
    this.#effects.clear();
    this.#messages.clear();
    this.#held.clear();
    this.#provisional.clear();
    for (const entry of entries) this.#take(entry);
    for (const entry of held) this.#held.set(entry.seq, entry);
    this.#advance();
    this.#items = null;
  }

  /** Forgets everything, until the next {@link start}; entries that come meanwhile are held. */
  reset(): void {
    this.start(0, [], 0, false);
    this.#epoch = null;
  }

  /**
   * Takes an entry: `new` when it is shown from now on, `held` when something before it is missing, `known` when it
   * was there already or lies before what is loaded, `other_epoch` when it belongs to another history. `provisional` is
   * what this device knows of its own entry from the confirmation; the entry as the engine tells it takes its place.
   */
  put(entry: Entry, provisional = false): "new" | "held" | "known" | "other_epoch" {
    if (this.#epoch === null) {
      this.#hold(entry);
      return "held";
    }
    if (entry.epoch !== this.#epoch) return "other_epoch";
    if (entry.seq <= this.#high || this.#held.has(entry.seq)) {
      if (!provisional && this.#provisional.delete(entry.seq)) this.#replace(entry);
      return "known";
    }
    if (provisional) this.#provisional.add(entry.seq);
    this.#hold(entry);
    const before = this.#high;
    this.#advance();
    return this.#high > before ? "new" : "held";
  }

  /** Puts older entries before what is known: gapless up to `low - 1`; `complete` when nothing is older than they. */
  prepend(entries: readonly Entry[], complete: boolean): void {
    const older = entries.filter((entry) => entry.epoch === this.#epoch && entry.seq < this.#low);
    for (const entry of older) this.#take(entry);
    this.#low = Math.min(this.#low, ...older.map((entry) => entry.seq));
    this.#complete ||= complete;
    this.#items = null;
  }

  /** Forgets the oldest entries but `keep`: for conversations nobody looks at any more. */
  trim(keep: number): void {
    const low = this.#high - keep + 1;
    if (low <= this.#low) return;
    for (let seq = this.#low; seq < low; seq += 1) {
      this.#entries.delete(seq);
      this.#provisional.delete(seq);
      this.#effects.delete(seq);
      this.#messages.delete(seq);
    }
    this.#low = low;
    this.#complete = false;
    this.#items = null;
  }

  #hold(entry: Entry): void {
    this.#held.set(entry.seq, entry);
    // The furthest ones are the least useful: the pull that fills the hole goes on to them anyway.
    if (this.#held.size > HELD_MAX) this.#held.delete(Math.max(...this.#held.keys()));
  }

  #replace(entry: Entry): void {
    if (this.#held.has(entry.seq)) this.#held.set(entry.seq, entry);
    else this.#take(entry);
    this.#messages.delete(entry.seq);
    this.#items = null;
  }

  #advance(): void {
    for (;;) {
      const next = this.#held.get(this.#high + 1);
      if (!next) break;
      this.#held.delete(next.seq);
      this.#high = next.seq;
      this.#take(next);
      this.#items = null;
    }
    for (const seq of [...this.#held.keys()]) if (seq <= this.#high) this.#held.delete(seq);
  }

  #take(entry: Entry): void {
    this.#entries.set(entry.seq, entry);
    if (!CHANGES.has(entry.kind)) return;
    const target = Number(entry.body["target"]);
    const effects = this.#effects.get(target) ?? { edit: null, deleted: false, reactions: new Map() };
    this.#effects.set(target, effects);
    this.#messages.delete(target);
    if (entry.kind === "edit") {
      // What an edit said is gone with its message.
      if (entry.body["deleted"] !== undefined) effects.deleted = true;
      else if (entry.seq > (effects.edit?.seq ?? 0)) effects.edit = { seq: entry.seq, text: String(entry.body["text"] ?? "") };
    } else if (entry.kind === "delete") {
      effects.deleted = true;
    } else {
      const emoji = String(entry.body["emoji"] ?? "");
      const key = `${entry.sender} ${emoji}`;
      if (entry.seq > (effects.reactions.get(key)?.seq ?? 0)) {
        effects.reactions.set(key, { emoji, user: entry.sender, seq: entry.seq, on: entry.body["on"] !== false });
      }
    }
  }
}

/** A message as its entry and what came after make it. */
export function message_of(entry: Entry, effects?: Effects): Message {
  const { body } = entry;
  const deleted = effects?.deleted === true || (body["deleted"] !== undefined && body["deleted"] !== false && body["deleted"] !== null);
  // What is read later than it was changed comes changed, with the sequence of the change.
  const rewritten = typeof body["edited"] === "number" ? body["edited"] : 0;
  const edit = effects?.edit && effects.edit.seq > rewritten ? effects.edit : null;
  const edited = edit?.seq ?? (rewritten || null);
  const list = (name: string): unknown[] => (deleted || !Array.isArray(body[name]) ? [] : (body[name] as unknown[]));
  return {
    what: "message",
    seq: entry.seq,
    sender: entry.sender,
    at: entry.at,
    client_msg_id: entry.client_msg_id ?? null,
    text: deleted ? "" : (edit?.text ?? String(body["text"] ?? "")),
    edited: deleted ? null : edited,
    deleted,
    reply_to: typeof body["reply_to"] === "number" ? body["reply_to"] : null,
    mentions: list("mentions").map(String),
    attachments: list("attachments"),
    location: deleted ? null : (body["location"] ?? null),
    reactions: deleted ? [] : reactions_of(effects),
  };
}

function reactions_of(effects: Effects | undefined): Reaction[] {
  const by_emoji = new Map<string, string[]>();
  const on = [...(effects?.reactions.values() ?? [])].filter((one) => one.on).sort((a, b) => a.seq - b.seq);
  for (const one of on) by_emoji.set(one.emoji, [...(by_emoji.get(one.emoji) ?? []), one.user]);
  return [...by_emoji].map(([emoji, users]) => ({ emoji, users }));
}
