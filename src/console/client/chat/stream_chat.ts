/**
 * The chat beside a broadcast: what is said while somebody looks.
 *
 * A firehose and not a log: whoever comes sees the latest lines and then what is said; nothing is acknowledged, nothing waits for
 * those who are away, and when more is said than can be shown the oldest goes.
 */

import type { Conversations } from "../conversations";
import { fresh_id } from "../ids";
import { Refused } from "../problem";
import type { Socket } from "../socket";
import type { Entry } from "../wire";

/** Lines that are kept; nobody reads further up in a chat that runs. */
const LINES_MAX = 200;
/** Lines that are read when one comes in. */
const HISTORY = 50;

export interface ChatLine {
  seq: number;
  sender: string;
  at: string;
  text: string;
  edited: boolean;
}

/** `closed`: the engine has no chat for us there, for the reason beside it. */
export type StreamChatState = "connecting" | "open" | "closed";

export interface StreamChatParts {
  stream: string;
  socket: Pick<Socket, "state" | "watch" | "on" | "ask">;
  conversations: Pick<Conversations, "entries">;
  /** Told after every change. */
  changed(): void;
  /** Told which conversation the chat is, before anything of it is read. */
  entered?(conversation: string): void;
}

export class StreamChat {
  readonly #parts: StreamChatParts;
  #chat: string | null = null;
  #state: StreamChatState = "connecting";
  #refusal: Refused | null = null;
  #viewers: number | null = null;
  #lines: ChatLine[] = [];
  #off: (() => void)[] = [];
  /** Grows with every entrance, so that what an older one still answers is not listened to. */
  #entrance = 0;

  constructor(parts: StreamChatParts) {
    this.#parts = parts;
  }

  get state(): StreamChatState {
    return this.#state;
  }

  /** Why it is closed. */
  get refusal(): Refused | null {
    return this.#refusal;
  }

  /** How many watch the stream; null until it is known. */
  get viewers(): number | null {
    return this.#viewers;
  }

  /** The oldest first. */
  get lines(): readonly ChatLine[] {
    return this.#lines;
  }

  /** Comes in, and comes in again whenever the connection was away. */
  start(): void {
    const { socket, stream } = this.#parts;
    this.#off = [
      socket.on("entry", (entry) => this.#heard(entry)),
      socket.on("viewers", (told) => {
        if (told.stream !== stream) return;
        this.#viewers = told.count;
        this.#parts.changed();
      }),
      socket.watch((state) => {
        if (state.name === "online") void this.#enter();
        else this.#become("connecting");
      }),
    ];
    if (socket.state.name === "online") void this.#enter();
  }

  /** Leaves. */
  stop(): void {
    for (const off of this.#off) off();
    this.#off = [];
    this.#entrance += 1;
    const { socket, stream } = this.#parts;
    // Whoever is not connected watches nothing.
    if (this.#chat !== null && socket.state.name === "online") socket.ask("unwatch", { stream }).catch(() => {});
    this.#chat = null;
  }

  /** Says something; throws what the engine says to that. */
  async say(text: string): Promise<void> {
    if (this.#chat === null) throw new Refused("not_connected", "The chat is not connected.");
    await this.#parts.socket.ask("send", { conversation: this.#chat, client_msg_id: fresh_id(), text }, { resend: true });
  }

  async #enter(): Promise<void> {
    const { socket, conversations, stream } = this.#parts;
    const mine = ++this.#entrance;
    try {
      const told = await socket.ask("watch", { stream });
      if (mine !== this.#entrance) return;
      if (this.#chat !== told.chat) this.#lines = [];
      this.#chat = told.chat;
      this.#parts.entered?.(told.chat);
      this.#viewers = told.viewers;
      this.#refusal = null;
      this.#become("open");
      // What was said before is a courtesy: without it the chat begins now.
      const before = await conversations.entries(told.chat, { before: Number.MAX_SAFE_INTEGER }, HISTORY).catch(() => []);
      if (mine !== this.#entrance) return;
      for (const entry of before) this.#put(entry);
      this.#parts.changed();
    } catch (error) {
      if (mine !== this.#entrance || !(error instanceof Refused)) return;
      // A connection that ended meanwhile asks again by itself.
      if (socket.state.name !== "online") return;
      this.#refusal = error;
      this.#become("closed");
    }
  }

  #heard(entry: Entry): void {
    if (entry.conversation !== this.#chat) return;
    this.#put(entry);
    this.#parts.changed();
  }

  #put(entry: Entry): void {
    const target = Number(entry.body["target"]);
    const text = typeof entry.body["text"] === "string" ? entry.body["text"] : "";
    switch (entry.kind) {
      case "message": {
        if (text === "" || entry.body["deleted"] !== undefined || this.#lines.some((line) => line.seq === entry.seq)) return;
        this.#lines = [...this.#lines, { seq: entry.seq, sender: entry.sender, at: entry.at, text, edited: false }]
          .sort((a, b) => a.seq - b.seq)
          .slice(-LINES_MAX);
        return;
      }
      case "edit":
        this.#lines = this.#lines.map((line) => (line.seq === target ? { ...line, text, edited: true } : line));
        return;
      case "delete":
        this.#lines = this.#lines.filter((line) => line.seq !== target);
        return;
    }
  }

  #become(state: StreamChatState): void {
    this.#state = state;
    this.#parts.changed();
  }
}
