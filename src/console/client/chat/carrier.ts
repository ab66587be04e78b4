/**
 * Carries what is said: over the socket, and over REST for as long as the socket cannot be had though the engine can
 * (a proxy that lets no WebSockets through, say). Both doors know a piece by its `client_msg_id`, so one that went
 * through the first and is tried at the second arrives once.
 */

import type { Conversations } from "../conversations";
import { Unreachable } from "../problem";
import type { Socket, SocketState } from "../socket";
import { pause, type Timers } from "../timers";
import type { Sent } from "../wire";
import type { Unsent } from "./unsent";

/** A socket that is away for longer is gone round. */
const AWAY_MS = 4_000;
/** When REST cannot be reached either, both are tried again after so long. */
const AGAIN_MS = 3_000;

/** Why a wait at one door was ended: the other is to be tried. */
const OTHER_DOOR = Symbol("the other door");

export class Carrier {
  readonly #socket: Socket;
  readonly #conversations: Conversations;
  readonly #timers: Timers;
  readonly #watchers = new Set<() => void>();
  #away = false;
  /** Takes back the wait that began when the socket went; null when there is none. */
  #cancel: (() => void) | null = null;
  readonly #unwatch: () => void;

  constructor(parts: { socket: Socket; conversations: Conversations; timers: Timers }) {
    this.#socket = parts.socket;
    this.#conversations = parts.conversations;
    this.#timers = parts.timers;
    this.#unwatch = parts.socket.watch((state) => this.#moved(state));
  }

  /** Whether the socket has been away for so long that REST is used. */
  get away(): boolean {
    return this.#away;
  }

  /** Whether anything can be carried at all, sooner or later. */
  get ready(): boolean {
    const { name } = this.#socket.state;
    return name !== "idle" && name !== "gone";
  }

  /** Told when {@link away} changes. */
  watch(changed: () => void): () => void {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  }

  stop(): void {
    this.#unwatch();
    this.#cancel?.();
  }

  /** Carries one piece, however long that takes; throws what the engine refuses it with. */
  async say(one: Unsent): Promise<Sent> {
    for (;;) {
      // Reactions have no door but the socket.
      const over_rest = this.#away && one.type !== "react";
      const door = new AbortController();
      const unwatch = this.watch(() => one.type !== "react" && door.abort(OTHER_DOOR));
      try {
        return await (over_rest ? this.#over_rest(one, door.signal) : this.#over_socket(one, door.signal));
      } catch (error) {
        if (error !== OTHER_DOOR) throw error;
      } finally {
        unwatch();
      }
    }
  }

  #over_socket(one: Unsent, signal: AbortSignal): Promise<Sent> {
    const fields = { ...one.fields, conversation: one.conversation, client_msg_id: one.client_msg_id };
    return this.#socket.ask(one.type, fields as never, { resend: true, signal }) as Promise<Sent>;
  }

  async #over_rest(one: Unsent, signal: AbortSignal): Promise<Sent> {
    const { client_msg_id, conversation, fields } = one;
    for (;;) {
      try {
        if (one.type === "send") return await this.#conversations.send(conversation, { ...fields, client_msg_id }, { signal });
        const target = Number(fields["target"]);
        if (one.type === "delete") return await this.#conversations.delete_message(conversation, target, { signal });
        return await this.#conversations.edit_message(conversation, target, { text: String(fields["text"]), client_msg_id }, { signal });
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        await pause(this.#timers, AGAIN_MS, signal);
      }
    }
  }

  #moved(state: SocketState): void {
    if (state.name === "connecting" || state.name === "offline") {
      if (this.#away) return;
      // One wait from the moment it went, however often it is dialled meanwhile.
      this.#cancel ??= this.#timers.after(AWAY_MS, () => {
        this.#cancel = null;
        this.#set(true);
      });
    } else {
      this.#cancel?.();
      this.#cancel = null;
      this.#set(false);
    }
  }

  #set(away: boolean): void {
    if (away === this.#away) return;
    this.#away = away;
    for (const changed of [...this.#watchers]) changed();
  }
}
