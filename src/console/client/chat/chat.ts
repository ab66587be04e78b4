/**
 * Chat as an application needs it: the inbox, open conversations, and saying things, over one socket and REST.
 *
 * ```ts
 * const chat = nova.chat();                 // for whoever is logged in
 * chat.watch(() => draw(chat));             // told after every change, once per turn
 * chat.start();
 * const talk = chat.open(conversation);     // loads the newest entries and keeps them complete
 * chat.say(conversation, "hello");          // at once, later, or after a reload: but once
 * talk.close();
 * ```
 *
 * What is shown of an open conversation is always a gapless stretch of its log. Entries come as pushes; what is missing
 * (a hole, a connection that was away, a queue too long to push) is pulled; when the history itself is another one (the
 * epoch), everything is read anew.
 */

import type { Conversation, Conversations, Role } from "../conversations";
import { NovaError } from "../problem";
import type { Socket, SocketState } from "../socket";
import { backoff_ms, type Timers } from "../timers";
import type { Users } from "../users";
import type { Entry } from "../wire";
import { Carrier } from "./carrier";
import { Presences, Receipts, Typing, Writing } from "./hints";
import { Inbox, type Summary } from "./inbox";
import type { Epoch } from "./log";
import { People } from "./people";
import { Acks, Reads } from "./positions";
import { StreamChat } from "./stream_chat";
import { NOT_OURS, Talks, type Talk } from "./talks";
import { UnsentQueue, type Unsent } from "./unsent";

/** While there is no live connection, everything is fetched this often. */
const POLL_MS = 5_000;
/** How long to wait before the inbox is read again. */
const WAIT = { first_ms: 1_000, longest_ms: 30_000 };

export interface ChatParts {
  /** Whose chat it is. */
  me: string;
  socket: Socket;
  conversations: Conversations;
  users: Users;
  timers: Timers;
  /** Where what is unsent waits; null keeps it in memory only. */
  storage: Storage | null;
}

export class Chat {
  readonly me: string;
  readonly inbox: Inbox;
  readonly people: People;
  readonly presences: Presences;
  readonly typing: Typing;
  readonly receipts = new Receipts();
  readonly unsent: UnsentQueue;
  readonly #parts: ChatParts;
  readonly #acks: Acks;
  readonly #reads: Reads;
  readonly #talks: Talks;
  readonly #carrier: Carrier;
  readonly #asked_for = new Set<string>();
  /** Chats beside streams: they are in no inbox, and nothing in them is acknowledged. */
  readonly #beside = new Set<string>();
  readonly #watchers = new Set<() => void>();
  readonly #arrivals = new Set<(entry: Entry) => void>();
  #unwatch: (() => void)[] = [];
  #told = false;
  /** Whether the inbox was read at least once, and why it could not be. */
  #inbox_state: "loading" | "ready" | "failed" = "loading";
  #inbox_error: unknown = null;
  #inbox_attempt = 0;
  #reading_inbox = false;
  #cancel_inbox = () => {};
  #cancel_poll = () => {};
  /** The engine answered over REST while the socket was away. */
  #answered = false;

  constructor(parts: ChatParts) {
    const { socket, timers } = parts;
    const changed = () => this.#changed();
    this.me = parts.me;
    this.#parts = parts;
    this.inbox = new Inbox(parts.me);
    this.people = new People(parts.users, changed);
    this.presences = new Presences({ timers, changed, ask: async (watch) => (await socket.ask("presence", { watch })).users });
    this.typing = new Typing(timers, changed);
    this.#carrier = new Carrier({ socket, timers, conversations: parts.conversations });
    this.#acks = new Acks(timers, (conversation, seq) => socket.tell("ack", { conversation, seq }));
    this.#reads = new Reads(timers, (conversation, seq) => {
      if (socket.state.name !== "online") {
        if (!this.#carrier.away) return false;
        parts.conversations.read(conversation, seq).catch(() => {});
        return true;
      }
      // What is refused was about a conversation that is no longer ours.
      socket.ask("read", { conversation, seq }, { resend: true }).catch(() => {});
      return true;
    });
    this.#talks = new Talks({
      socket,
      timers,
      conversations: parts.conversations,
      changed,
      learnt: (conversation) => void this.learn(conversation),
      met: (id, members) => {
        for (const one of members) this.receipts.put(id, one.user, one.delivered_seq, one.read_seq);
      },
      pulled: (entry) => void this.inbox.put(entry),
      advanced: (talk, entries) => {
        for (const entry of entries) this.#arrived(entry);
        this.#acks.note(talk.id, talk.log.high);
        this.#tidy(talk);
      },
      loaded: (talk) => {
        this.inbox.heard_of(talk.id, talk.log.high);
        this.#acks.note(talk.id, talk.log.high);
        this.#tidy(talk);
      },
    });
    this.unsent = new UnsentQueue({
      user: parts.me,
      carrier: this.#carrier,
      timers,
      storage: parts.storage,
      changed,
      confirmed: (one) => this.#confirmed(one),
    });
  }

  /** The chat beside a stream, for as long as somebody looks at it: whoever asked starts and stops it. */
  beside(stream: string, changed: () => void): StreamChat {
    const { socket, conversations } = this.#parts;
    return new StreamChat({ stream, socket, conversations, changed, entered: (conversation) => void this.#beside.add(conversation) });
  }

  /** Told after every change of anything here, once per turn of the event loop. */
  watch(changed: () => void): () => void {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  }

  /** Told of every entry that is new to this device, in order for each conversation that is open. */
  on_arrival(heard: (entry: Entry) => void): () => void {
    this.#arrivals.add(heard);
    return () => this.#arrivals.delete(heard);
  }

  get connection(): SocketState {
    return this.#parts.socket.state;
  }

  /** There is no live connection, but the engine answers: everything goes slower, and still goes. */
  get slow(): boolean {
    return this.#carrier.away && this.#answered;
  }

  get inbox_state(): { name: "loading" | "ready" | "failed"; error: unknown } {
    return { name: this.#inbox_state, error: this.#inbox_error };
  }

  /** Connects and stays connected. */
  start(): void {
    const { socket } = this.#parts;
    if (this.#unwatch.length === 0) {
      this.#unwatch = [
        socket.watch((state) => this.#moved(state)),
        this.#carrier.watch(() => this.#went_round()),
        socket.on("entry", (entry) => this.#heard(entry)),
        socket.on("gap", (gap) => this.#gap(gap)),
        socket.on("drained", () => this.#acks.flush()),
        socket.on("receipt", (one) => {
          const changed = this.receipts.put(one.conversation, one.user, one.delivered, one.read);
          if (one.user === this.me && one.read !== undefined) this.inbox.read(one.conversation, one.read);
          if (changed) this.#changed();
        }),
        socket.on("typing", (one) => {
          if (one.user !== this.me) this.typing.put(one.conversation, one.user, one.on);
        }),
        socket.on("presence", (one) => this.presences.put(one)),
        watch_storage(this.#parts.storage, (key, value) => this.unsent.noticed(key, value)),
      ];
    }
    void this.read_inbox();
    socket.start();
  }

  /** Ends the connection. What is unsent stays where it is kept. */
  stop(): void {
    this.unsent.stop();
    for (const unwatch of this.#unwatch) unwatch();
    this.#unwatch = [];
    this.#cancel_inbox();
    this.#cancel_poll();
    this.#carrier.stop();
    this.#talks.stop();
    this.typing.clear();
    this.#parts.socket.stop();
  }

  /** Reads the inbox anew. */
  async read_inbox(): Promise<void> {
    if (this.#reading_inbox) return;
    this.#reading_inbox = true;
    this.#cancel_inbox();
    try {
      // What somebody looks at is asked for by itself: one that is blocked is not listed, and still theirs.
      const looked_at = this.#talks.looked_at;
      const known_before = new Set(this.inbox.sorted.map((one) => one.id).filter((id) => !looked_at.includes(id)));
      const listed = new Set<string>();
      for await (const conversation of this.#parts.conversations.list()) {
        listed.add(conversation.id);
        this.learn(conversation);
      }
      this.inbox.keep_only(listed, known_before);
      for (const id of looked_at) if (!listed.has(id)) void this.#ask_for(id);
      this.#inbox_state = "ready";
      this.#answered = true;
      this.#inbox_error = null;
      this.#inbox_attempt = 0;
    } catch (error) {
      this.#inbox_error = error;
      this.#answered = false;
      if (this.#inbox_state === "loading") this.#inbox_state = "failed";
      this.#cancel_inbox = this.#parts.timers.after(backoff_ms(this.#inbox_attempt, WAIT, this.#parts.timers), () => void this.read_inbox());
      this.#inbox_attempt += 1;
    } finally {
      this.#reading_inbox = false;
      this.#changed();
    }
  }

  /** Takes what an answer told of a conversation. */
  learn(conversation: Conversation): Summary | null {
    const before = this.inbox.get(conversation.id);
    this.inbox.learn(conversation);
    this.receipts.put(conversation.id, this.me, undefined, conversation.read_seq);
    if (before && before.epoch !== conversation.epoch) this.#talks.restart(conversation.id);
    this.#changed();
    return this.inbox.get(conversation.id);
  }

  /** Somebody looks at a conversation: its newest entries are loaded and kept complete until `close`. */
  open(id: string): { talk: Talk; close(): void } {
    return this.#talks.open(id);
  }

  /** Reads the page before the oldest known entry. */
  read_older(id: string): Promise<void> {
    return this.#talks.read_older(id);
  }

  /** Says something. It is kept until the engine has it. */
  say(conversation: string, text: string, more: { reply_to?: number; mentions?: string[] } = {}): Unsent {
    const { reply_to, mentions } = more;
    return this.unsent.add("send", conversation, {
      text,
      ...(reply_to === undefined ? {} : { reply_to }),
      ...(mentions === undefined || mentions.length === 0 ? {} : { mentions }),
    });
  }

  edit(conversation: string, target: number, text: string): Unsent {
    return this.unsent.add("edit", conversation, { target, text });
  }

  delete(conversation: string, target: number): Unsent {
    return this.unsent.add("delete", conversation, { target });
  }

  react(conversation: string, target: number, emoji: string, on: boolean): Unsent {
    return this.unsent.add("react", conversation, { target, emoji, on });
  }

  /** This person has everything up to `seq` before their eyes. */
  seen(conversation: string, seq: number): void {
    const summary = this.inbox.get(conversation);
    if (!summary || seq <= summary.read) return;
    this.inbox.read(conversation, seq);
    this.#reads.note(conversation, seq);
    this.#changed();
  }

  /** Tells the others of a conversation that this person is writing. */
  writing(conversation: string): Writing {
    return new Writing(this.#parts.timers, (on) => void this.#parts.socket.tell("typing", { conversation, on }));
  }

  /** Makes or finds a conversation. */
  async create(wanted: { kind: "direct" | "group"; members: string[]; title?: string }): Promise<string> {
    const conversation = await this.#parts.conversations.create(wanted);
    this.learn(conversation);
    return conversation.id;
  }

  async rename(id: string, title: string): Promise<void> {
    this.learn(await this.#parts.conversations.change(id, { title }));
  }

  /** Keeps it silent until then; null lets it speak again. */
  async mute(id: string, until: string | null | "for good"): Promise<void> {
    const { conversations } = this.#parts;
    if (until === null) await conversations.unmute(id);
    else await conversations.mute(id, until === "for good" ? undefined : until);
    this.learn((await conversations.get(id)).data);
  }

  /** Adds somebody, or changes what they may do. */
  async put_member(id: string, user: string, role?: Role): Promise<void> {
    await this.#parts.conversations.put_member(id, user, role);
    await this.#talks.read_members(id);
  }

  async remove_member(id: string, user: string): Promise<void> {
    await this.#parts.conversations.remove_member(id, user);
    if (user === this.me) this.#not_ours(id);
    else await this.#talks.read_members(id);
  }

  #moved(state: SocketState): void {
    if (state.name === "online") {
      this.presences.connected();
      this.people.again();
      this.#acks.flush();
      this.#reads.flush();
      this.unsent.pump();
      void this.read_inbox();
      this.#talks.catch_up_all();
    } else {
      this.#acks.disconnected();
      this.presences.disconnected();
      this.typing.clear();
    }
    this.#changed();
  }

  /** The socket has been away for long, or is back: meanwhile everything is fetched. */
  #went_round(): void {
    this.#cancel_poll();
    this.#answered = false;
    if (this.#carrier.away) this.#poll();
    this.#changed();
  }

  #poll(): void {
    void this.read_inbox();
    this.people.again();
    this.#talks.catch_up_all();
    this.#reads.flush();
    this.#cancel_poll = this.#parts.timers.after(POLL_MS, () => this.#poll());
  }

  #heard(entry: Entry): void {
    const { conversation } = entry;
    if (this.#beside.has(conversation)) return;
    if (entry.client_msg_id !== undefined && entry.sender === this.me) this.#told_of(entry.client_msg_id);
    if (entry.kind === "message") this.typing.put(conversation, entry.sender, false);
    this.#take(entry, false);
    const log = this.#talks.get(conversation)?.log;
    this.#acks.note(conversation, log && log.epoch !== null ? log.high : entry.seq);
    this.#changed();
  }

  #take(entry: Entry, provisional: boolean): void {
    const { conversation } = entry;
    const fresh = entry.seq > (this.inbox.get(conversation)?.top ?? 0);
    if (!this.inbox.put(entry)) void this.#ask_for(conversation);
    if (this.#talks.get(conversation)) this.#talks.put(entry, provisional);
    else if (fresh) this.#arrived(entry);
    if (entry.kind === "member" && fresh) {
      if (entry.body["user"] === this.me && (entry.body["action"] === "left" || entry.body["action"] === "removed")) return this.#not_ours(conversation);
      void this.#ask_for(conversation);
      if (this.#talks.get(conversation)) void this.#talks.read_members(conversation);
    }
  }

  /** What is confirmed and in the log is no longer unsent. */
  #tidy(talk: Talk): void {
    for (const one of this.unsent.of(talk.id)) {
      if (one.sent && (one.sent.epoch !== talk.log.epoch || one.sent.seq <= talk.log.high)) this.unsent.arrived(one.client_msg_id);
    }
  }

  #told_of(client_msg_id: string): void {
    const one = this.unsent.of().find((other) => other.client_msg_id === client_msg_id);
    const log = one && this.#talks.get(one.conversation)?.log;
    // Where it is looked at, it stays in sight until the log shows it: see `#tidy`.
    if (!log || one.sent === null) this.unsent.arrived(client_msg_id);
  }

  #confirmed(one: Unsent): void {
    const { sent } = one;
    if (!sent) return;
    const kind = { send: "message", edit: "edit", delete: "delete", react: "reaction" }[one.type];
    const entry: Entry = {
      conversation: one.conversation,
      epoch: sent.epoch,
      seq: sent.seq,
      kind,
      sender: this.me,
      at: sent.at,
      client_msg_id: one.client_msg_id,
      body: { ...one.fields },
    };
    this.#take(entry, true);
    const talk = this.#talks.get(one.conversation);
    if (talk && talk.log.epoch !== null) this.#tidy(talk);
    else this.unsent.arrived(one.client_msg_id);
    this.#changed();
  }

  #gap(gap: { conversation: string; epoch: Epoch; to: number }): void {
    const { conversation, to } = gap;
    this.inbox.heard_of(conversation, to);
    void this.#ask_for(conversation);
    this.#talks.catch_up(conversation);
    // What lies in it is asked for when somebody looks, so the engine need not keep it for this device.
    this.#acks.note(conversation, to);
    this.#changed();
  }

  /** Reads a conversation that is new here, or of which more is to be known. */
  async #ask_for(id: string): Promise<void> {
    if (this.#asked_for.has(id)) return;
    this.#asked_for.add(id);
    try {
      this.learn((await this.#parts.conversations.get(id)).data);
    } catch (error) {
      if (error instanceof NovaError && NOT_OURS.has(error.code)) this.#not_ours(id);
    } finally {
      this.#asked_for.delete(id);
    }
  }

  #not_ours(id: string): void {
    this.inbox.remove(id);
    this.#acks.forget(id);
    this.#reads.forget(id);
    this.#talks.close(id);
    this.#changed();
  }

  #arrived(entry: Entry): void {
    for (const heard of [...this.#arrivals]) heard(entry);
  }

  #changed(): void {
    if (this.#told) return;
    this.#told = true;
    queueMicrotask(() => {
      this.#told = false;
      for (const changed of [...this.#watchers]) changed();
    });
  }
}

/** What another tab of this browser puts into the storage, or takes out. */
function watch_storage(storage: Storage | null, changed: (key: string, value: string | null) => void): () => void {
  if (!storage || typeof addEventListener !== "function") return () => {};
  const heard = (event: StorageEvent) => {
    if (event.storageArea === storage && event.key !== null) changed(event.key, event.newValue);
  };
  addEventListener("storage", heard);
  return () => removeEventListener("storage", heard);
}
