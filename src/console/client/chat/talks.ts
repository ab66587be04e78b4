/**
 * The conversations somebody looks at: each with its log, loaded, kept complete, and read upwards when wanted.
 *
 * What is missing (a hole, a connection that was away, a queue too long to push) is pulled; when the history itself is
 * another one (the epoch), everything is read anew.
 */

import type { Conversation, Conversations, Member } from "../conversations";
import { NovaError, Problem, Refused } from "../problem";
import type { Socket } from "../socket";
import { backoff_ms, type Timers } from "../timers";
import type { Entry } from "../wire";
import { Log } from "./log";

/** Entries of one page of history. */
const PAGE = 50;
/** Entries of one `pull`. */
const PULL = 200;
/** Further behind than this, the newest page is read instead, and the rest when somebody scrolls up. */
const CATCH_UP_MAX = 1_000;
/** A hole that an entry on its way fills by itself is not worth a question. */
const HOLE_MS = 300;
/** An engine whose answers do not fit together after so many is asked again later. */
const ROUNDS_MAX = 8;
const WAIT = { first_ms: 1_000, longest_ms: 30_000 };
/** Conversations that stay loaded after they were closed, and entries kept of each: going back and forth is instant. */
const CLOSED_MAX = 12;
const CLOSED_ENTRIES_MAX = 200;
/** Refusals that say: this is not (or no longer) a conversation of yours. */
export const NOT_OURS = new Set(["not_a_member", "not_found", "no_such_conversation", "forbidden"]);

/** A conversation somebody looks at. */
export interface Talk {
  readonly id: string;
  readonly log: Log;
  /** `loading` until the newest entries are there; `failed` while they cannot be read; `closed` when it is not ours. */
  readonly state: "loading" | "ready" | "failed" | "closed";
  /** Why it failed. */
  readonly error: unknown;
  /** Older entries are being read. */
  readonly reading_older: boolean;
  /** Who is in it, once known. */
  readonly members: readonly Member[] | null;
}

interface Open extends Talk {
  state: Talk["state"];
  error: unknown;
  reading_older: boolean;
  members: readonly Member[] | null;
  /** How many look at it. */
  looking: number;
  catching_up: boolean;
  once_more: boolean;
  attempt: number;
  cancel: () => void;
}

export interface TalksParts {
  socket: Socket;
  conversations: Conversations;
  timers: Timers;
  /** Told after every change of anything here. */
  changed(): void;
  /** A conversation was read. */
  learnt(conversation: Conversation): void;
  /** So was who is in it. */
  met(id: string, members: readonly Member[]): void;
  /** An entry was pulled. */
  pulled(entry: Entry): void;
  /** The log of a conversation is longer: these entries are new to this device. */
  advanced(talk: Talk, entries: readonly Entry[]): void;
  /** The newest page of a conversation was loaded. */
  loaded(talk: Talk): void;
}

export class Talks {
  readonly #parts: TalksParts;
  readonly #open = new Map<string, Open>();

  constructor(parts: TalksParts) {
    this.#parts = parts;
  }

  get(id: string): Talk | null {
    return this.#open.get(id) ?? null;
  }

  /** Those that somebody looks at now. */
  get looked_at(): string[] {
    return [...this.#open.values()].filter((one) => one.looking > 0).map((one) => one.id);
  }

  /** Somebody looks at a conversation: its newest entries are loaded and kept complete until `close`. */
  open(id: string): { talk: Talk; close(): void } {
    let one = this.#open.get(id);
    if (one) {
      // Last in the order of what may be forgotten.
      this.#open.delete(id);
    } else {
      one = {
        id,
        log: new Log(),
        state: "loading",
        error: null,
        reading_older: false,
        members: null,
        looking: 0,
        catching_up: false,
        once_more: false,
        attempt: 0,
        cancel: () => {},
      };
    }
    this.#open.set(id, one);
    const open = one;
    open.looking += 1;
    if (open.state === "closed") open.state = open.log.epoch === null ? "loading" : "ready";
    void this.#catch_up(open);
    void this.read_members(id);
    let closed = false;
    return {
      talk: open,
      close: () => {
        if (closed) return;
        closed = true;
        open.looking -= 1;
        if (open.looking === 0) open.log.trim(CLOSED_ENTRIES_MAX);
        const idle = [...this.#open.values()].filter((other) => other.looking === 0);
        for (const other of idle.slice(0, Math.max(0, idle.length - CLOSED_MAX))) {
          other.cancel();
          this.#open.delete(other.id);
        }
      },
    };
  }

  /** Reads the page before the oldest known entry. */
  async read_older(id: string): Promise<void> {
    const open = this.#open.get(id);
    if (!open || open.reading_older || open.state !== "ready" || open.log.complete) return;
    open.reading_older = true;
    this.#parts.changed();
    const { epoch, low } = open.log;
    try {
      const entries = await this.#parts.conversations.entries(id, { before: low }, PAGE);
      if (open.log.epoch === epoch && open.log.low === low) open.log.prepend(entries, entries.length < PAGE);
    } finally {
      open.reading_older = false;
      this.#parts.changed();
    }
  }

  /** Reads who is in a conversation. */
  async read_members(id: string): Promise<void> {
    const members: Member[] = [];
    try {
      for await (const member of this.#parts.conversations.members(id)) {
        members.push(member);
      }
    } catch {
      // Who is in it is read again with the next connection and the next change.
      return;
    }
    const open = this.#open.get(id);
    if (open) open.members = members;
    this.#parts.met(id, members);
    this.#parts.changed();
  }

  /** Takes an entry that was pushed, or that this device knows of from a confirmation. */
  put(entry: Entry, provisional: boolean): void {
    const open = this.#open.get(entry.conversation);
    if (!open) return;
    const before = open.log.high;
    const outcome = open.log.put(entry, provisional);
    if (outcome === "other_epoch") this.restart(entry.conversation);
    else if (outcome === "held" && open.log.epoch !== null) this.#mind_hole(open);
    else if (outcome === "new") this.#advanced(open, before);
  }

  /** Makes everything that is looked at complete: the connection is back. */
  catch_up_all(): void {
    for (const open of this.#open.values()) {
      if (open.looking === 0) continue;
      void this.#catch_up(open);
      void this.read_members(open.id);
    }
  }

  /** Makes one conversation complete, if it is open. */
  catch_up(id: string): void {
    const open = this.#open.get(id);
    if (open) void this.#catch_up(open);
  }

  /** It is not a conversation of ours any more. */
  close(id: string): void {
    const open = this.#open.get(id);
    if (open) open.state = "closed";
  }

  stop(): void {
    for (const one of this.#open.values()) one.cancel();
  }

  #advanced(open: Open, before: number): void {
    const entries: Entry[] = [];
    for (let seq = before + 1; seq <= open.log.high; seq += 1) {
      const entry = open.log.entry(seq);
      if (entry) entries.push(entry);
    }
    this.#parts.advanced(open, entries);
  }

  #mind_hole(open: Open): void {
    if (open.catching_up) return;
    open.cancel();
    open.cancel = this.#parts.timers.after(HOLE_MS, () => {
      if (open.log.hole) void this.#catch_up(open);
    });
  }

  /** Its history is another one: it is read anew. */
  restart(id: string): void {
    const open = this.#open.get(id);
    if (!open || open.log.epoch === null) return;
    open.log.reset();
    open.state = "loading";
    void this.#catch_up(open);
  }

  /** Makes the log of an open conversation complete up to the newest entry. One at a time for each conversation. */
  async #catch_up(open: Open): Promise<void> {
    if (open.catching_up) {
      open.once_more = true;
      return;
    }
    open.catching_up = true;
    open.cancel();
    try {
      let round = 0;
      do {
        round += 1;
        if (round > ROUNDS_MAX) throw new NovaError("unexpected_answer", "The conversation's history does not fit together.");
        open.once_more = false;
        if (open.log.epoch === null) await this.#load(open);
        else await this.#pull(open);
      } while (open.once_more || open.log.epoch === null || open.log.hole !== null);
      open.state = "ready";
      open.error = null;
      open.attempt = 0;
    } catch (error) {
      if (error instanceof NovaError && NOT_OURS.has(error.code)) {
        open.state = "closed";
      } else {
        if (open.log.epoch === null) open.state = "failed";
        open.error = error;
        const asked_ms = error instanceof Problem || error instanceof Refused ? (error.retry_after_ms ?? 0) : 0;
        const wait_ms = Math.max(asked_ms, backoff_ms(open.attempt, WAIT, this.#parts.timers));
        open.attempt += 1;
        open.cancel = this.#parts.timers.after(wait_ms, () => void this.#catch_up(open));
      }
    } finally {
      open.catching_up = false;
      this.#parts.changed();
    }
  }

  async #load(open: Open): Promise<void> {
    const { conversations } = this.#parts;
    const conversation = (await conversations.get(open.id)).data;
    const top = conversation.last_seq;
    const entries = top === 0 ? [] : await conversations.entries(open.id, { before: top + 1 }, PAGE);
    // Another history began while the two were read: both are read again.
    if (entries.some((entry) => entry.epoch !== conversation.epoch)) return;
    open.log.start(conversation.epoch, entries, top, entries.length < PAGE);
    this.#parts.learnt(conversation);
    this.#parts.loaded(open);
  }

  async #pull(open: Open): Promise<void> {
    const { socket } = this.#parts;
    // Without a connection there is nothing to ask; with the next one everybody catches up.
    if (socket.state.name !== "online") return this.#pull_over_rest(open);
    const { log } = open;
    for (;;) {
      const { epoch, high } = log;
      if (epoch === null) return;
      const answer = await socket.ask("pull", { conversation: open.id, epoch, after: high, limit: PULL });
      const first = answer.entries[0]?.seq;
      const broken = first !== undefined ? first > log.high + 1 : answer.top > log.high;
      if (!answer.recovered || answer.epoch !== log.epoch || broken || answer.top - log.high > CATCH_UP_MAX) {
        log.reset();
        open.state = "loading";
        return;
      }
      const before = log.high;
      for (const entry of answer.entries) {
        this.#parts.pulled(entry);
        log.put(entry);
      }
      if (log.high > before) this.#advanced(open, before);
      this.#parts.changed();
      if (answer.entries.length === 0 || log.high >= answer.top) return;
    }
  }

  /** A loaded conversation is looked at again while the socket is away: REST may still answer. */
  async #pull_over_rest(open: Open): Promise<void> {
    const { log } = open;
    for (;;) {
      const before = log.high;
      const entries = await this.#parts.conversations.entries(open.id, { after: before }, PAGE);
      for (const entry of entries) {
        this.#parts.pulled(entry);
        if (log.put(entry) === "other_epoch") return log.reset();
      }
      // Something is missing before them: retention took it.
      if (log.hole !== null && entries.length > 0) return log.reset();
      if (log.high > before) this.#advanced(open, before);
      this.#parts.changed();
      if (entries.length < PAGE) return;
    }
  }
}
