/**
 * The living connection to the engine: one WebSocket at a time, opened again when it ends, for as long as the engine
 * wants this client back.
 *
 * ```ts
 * socket.watch((state) => show(state));
 * socket.on("entry", (entry) => put(entry));
 * socket.start();
 * await socket.ask("send", { conversation, client_msg_id, text }, { resend: true });
 * ```
 */

import { NovaError, Refused } from "./problem";
import { Outbox, type AskOptions } from "./outbox";
import { Pace } from "./pace";
import { backoff_ms, type Timers } from "./timers";
import type { Session } from "./tokens";
import {
  CLOSE,
  close_reason,
  SUBPROTOCOL,
  type Connected,
  type Goodbye,
  type Notices,
  type Pushes,
  type Requests,
} from "./wire";

/** What is known of the connection. `at` and `retry_at` are milliseconds since 1970. */
export type SocketState =
  | { name: "idle" }
  | { name: "connecting"; attempt: number }
  | { name: "online"; at: number; connected: Connected }
  | { name: "offline"; reason: string; code: number | null; retry_at: number }
  | { name: "gone"; reason: string; code: number | null };

/** The part of `WebSocket` that is used. */
export interface WebSocketLike {
  readonly protocol: string;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

/** Where tokens come from and who says that they changed; {@link Tokens} is one. */
export interface SocketTokens {
  readonly session: Session | null;
  access(): Promise<string | null>;
  renew(refused: string): Promise<string | null>;
  watch(changed: (session: Session | null) => void): () => void;
}

export interface SocketParts {
  url: string;
  tokens: SocketTokens;
  timers: Timers;
  open(url: string, subprotocol: string): WebSocketLike;
  /** Names this program to the engine. */
  client?: string;
  /** Calls back when the network or the person returns: then waiting has no sense. Answers how to stop it. */
  awake?(back: () => void): () => void;
}

const WAIT = { first_ms: 500, longest_ms: 30_000 };
/** From dialling to `connected`; the engine itself allows 10 s for the first message. */
const CONNECT_MS = 15_000;
/** The same for another node that the engine has sent us to: when that one is gone, back is where help is. */
const MOVE_MS = 3_000;
/** A pong that takes longer means that the path is dead: half-open connections are never closed by themselves. */
const PONG_MS = 10_000;
/** A connection that held this long was a good one: the next failure starts counting anew. */
const STEADY_MS = 10_000;
/** Typing hints and acknowledgements that wait for their turn; when full the oldest is forgotten, they are all soon said again. */
const NOTICES_MAX = 64;
/** Codes of a refused `connect`, and the close code that says the same. */
const REFUSED_CONNECT: Record<string, number> = {
  token_expired: CLOSE.token_expired,
  invalid_token: CLOSE.bad_token,
  bad_token: CLOSE.bad_token,
  unauthenticated: CLOSE.bad_token,
  session_revoked: CLOSE.session_revoked,
  account_suspended: CLOSE.banned,
  banned: CLOSE.banned,
};

/** One connection's own things; all of them end with it. */
interface Link {
  ws: WebSocketLike;
  token: string;
  connect_ref: number;
  goodbye: Goodbye | null;
  pace: Pace | null;
  timers: Set<() => void>;
}

export class Socket {
  readonly #parts: SocketParts;
  readonly #outbox: Outbox;
  readonly #states = new Set<(state: SocketState) => void>();
  readonly #pushes = new Map<string, Set<(push: never) => void>>();
  #notices: string[] = [];
  #state: SocketState = { name: "idle" };
  #link: Link | null = null;
  /** Grows with every dialling, so that what an older one still answers is not listened to. */
  #dialling = 0;
  #attempt = 0;
  /** The token the engine called expired: the next dialling brings another. */
  #spent_token: string | null = null;
  #user: string | null = null;
  /** The node we were sent to, instead of the one this was made for. */
  #elsewhere: string | null = null;
  #cancel_wait = () => {};
  #cancel_flush = () => {};
  #unwatch: (() => void)[] = [];

  constructor(parts: SocketParts) {
    this.#parts = parts;
    this.#outbox = new Outbox(parts.timers);
  }

  get state(): SocketState {
    return this.#state;
  }

  /** Told of every change of {@link state}. */
  watch(changed: (state: SocketState) => void): () => void {
    this.#states.add(changed);
    return () => this.#states.delete(changed);
  }

  /** Told of every push of this type. */
  on<K extends keyof Pushes>(type: K, heard: (push: Pushes[K]) => void): () => void {
    const set = this.#pushes.get(type) ?? new Set();
    this.#pushes.set(type, set);
    set.add(heard as (push: never) => void);
    return () => set.delete(heard as (push: never) => void);
  }

  /** Connects, and keeps connected until {@link stop} or until the engine sends us away. */
  start(): void {
    if (this.#state.name !== "idle" && this.#state.name !== "gone") return;
    this.#attempt = 0;
    this.#spent_token = null;
    this.#unwatch = [
      this.#parts.tokens.watch((session) => this.#tokens_changed(session)),
      this.#parts.awake?.(() => this.#awake()) ?? (() => {}),
    ];
    void this.#dial();
  }

  /** Goes on with the node at `base_url`, because a call is there; when that cannot be had any more, with the one this was made for. */
  move(base_url: string): void {
    if (this.#state.name === "idle" || this.#state.name === "gone") return;
    const url = new URL(this.#parts.url);
    const there = new URL(base_url);
    url.protocol = there.protocol.replace("http", "ws");
    url.host = there.host;
    this.#elsewhere = url.href === this.#parts.url ? null : url.href;
    this.#again();
  }

  /** The network has changed, somebody knows: this connection is on the old one, and another is opened at once. */
  redial(): void {
    if (this.#state.name !== "idle" && this.#state.name !== "gone") this.#again();
  }

  #again(): void {
    this.#drop_link(1000);
    this.#outbox.disconnected();
    void this.#dial();
  }

  /** Ends the connection; requests that wait are refused with `stopped`. */
  stop(): void {
    if (this.#state.name === "idle") return;
    this.#end({ name: "idle" }, "stopped");
  }

  /** Asks, and gives the answer; {@link Refused} when there is none or it is a refusal. Waits for a connection. */
  ask<K extends keyof Requests>(type: K, fields: Requests[K]["ask"], options?: AskOptions): Promise<Requests[K]["answer"]> {
    if (this.#state.name === "idle" || this.#state.name === "gone") {
      return Promise.reject(new Refused("not_connected", "There is no connection to the engine."));
    }
    const answer = this.#outbox.add<Requests[K]["answer"]>(type, fields, options);
    this.#flush();
    return answer;
  }

  /** Says something that has no answer. False when there is no connection: then it is not said later either. */
  tell<K extends keyof Notices>(type: K, fields: Notices[K]): boolean {
    if (this.#state.name !== "online") return false;
    if (this.#notices.length >= NOTICES_MAX) this.#notices.shift();
    this.#notices.push(JSON.stringify({ ...fields, type }));
    this.#flush();
    return true;
  }

  async #dial(): Promise<void> {
    const dialling = ++this.#dialling;
    const { tokens } = this.#parts;
    this.#cancel_wait();
    this.#enter({ name: "connecting", attempt: this.#attempt });
    let token: string | null;
    try {
      token = await tokens.access();
      if (token !== null && token === this.#spent_token) token = await tokens.renew(token);
    } catch (error) {
      if (dialling === this.#dialling) this.#wait(error instanceof NovaError ? error.code : "unreachable", null, 0);
      return;
    }
    if (dialling !== this.#dialling) return;
    if (token === null) return this.#end({ name: "gone", reason: "logged_out", code: null }, "logged_out");

    const connect_ref = this.#outbox.next_ref();
    this.#user = tokens.session?.user_id ?? null;
    let ws: WebSocketLike;
    try {
      ws = this.#parts.open(this.#elsewhere ?? this.#parts.url, SUBPROTOCOL);
    } catch {
      return this.#wait("unreachable", null, 0);
    }
    const link: Link = { ws, token, connect_ref, goodbye: null, pace: null, timers: new Set() };
    this.#link = link;
    this.#later(link, this.#elsewhere ? MOVE_MS : CONNECT_MS, () => this.#lost(link, null, "timed_out"));
    ws.onopen = () => {
      if (ws.protocol !== SUBPROTOCOL) return this.#lost(link, CLOSE.protocol_error, "protocol_error");
      const client = this.#parts.client;
      ws.send(JSON.stringify({ type: "connect", ref: connect_ref, token, ...(client === undefined ? {} : { client }) }));
    };
    ws.onmessage = (event) => this.#heard(link, event.data);
    ws.onclose = (event) => this.#lost(link, event.code, event.reason || close_reason(event.code));
  }

  #heard(link: Link, data: unknown): void {
    if (link !== this.#link) return;
    let message: { type: string; ref?: unknown } & Record<string, unknown>;
    try {
      message = JSON.parse(String(data));
      if (typeof message?.type !== "string") throw new TypeError("no type");
    } catch {
      // What is not ours cannot be made sense of; a new connection may be.
      return this.#lost(link, null, "bad_message");
    }
    if (message.ref === link.connect_ref) {
      if (message.type === "connected") return this.#connected(link, message as unknown as Connected);
      const code = String(message["code"] ?? "refused");
      const after_ms = typeof message["retry_after_ms"] === "number" ? message["retry_after_ms"] : 0;
      return this.#lost(link, REFUSED_CONNECT[code] ?? null, code, after_ms);
    }
    if (typeof message.ref === "number") {
      this.#outbox.answered(message.ref, message);
      return this.#flush();
    }
    if (message.type === "goodbye") link.goodbye = message as unknown as Goodbye;
    for (const heard of [...(this.#pushes.get(message.type) ?? [])]) guarded(() => heard(message as never));
  }

  #connected(link: Link, connected: Connected): void {
    for (const cancel of link.timers) cancel();
    link.timers.clear();
    link.pace = new Pace(connected.limits.requests_per_s, this.#parts.timers);
    this.#spent_token = null;
    this.#later(link, STEADY_MS, () => {
      this.#attempt = 0;
    });
    this.#ping_later(link, connected.ping_interval_ms);
    this.#renew_later(link);
    this.#enter({ name: "online", at: this.#parts.timers.now(), connected });
    this.#flush();
    // The token may have been renewed while this connection was being made.
    this.#tokens_changed(this.#parts.tokens.session);
  }

  #ping_later(link: Link, interval_ms: number): void {
    this.#later(link, interval_ms, () => this.#ping(link, interval_ms));
  }

  #ping(link: Link, interval_ms: number | null): void {
    const silent = this.#later(link, PONG_MS, () => this.#lost(link, CLOSE.ping_timeout, "ping_timeout"));
    this.#outbox
      .add("ping", {})
      .finally(() => {
        silent();
        if (interval_ms !== null && link === this.#link) this.#ping_later(link, interval_ms);
      })
      .catch(() => {});
    this.#flush();
  }

  /** Asks for the next token before this one ends; the answer arrives through the tokens' own watch. */
  #renew_later(link: Link): void {
    const { tokens, timers } = this.#parts;
    const session = tokens.session;
    if (!session) return;
    this.#later(link, Math.max(1_000, session.renew_at - timers.now()), () => {
      tokens
        .access()
        .catch(() => null)
        .finally(() => {
          if (link === this.#link) this.#renew_later(link);
        });
    });
  }

  #tokens_changed(session: Session | null): void {
    const link = this.#link;
    if (!session) {
      if (this.#state.name !== "gone") this.#end({ name: "gone", reason: "logged_out", code: null }, "logged_out");
    } else if (link && session.user_id !== this.#user) {
      // Somebody else is logged in by now: nothing of this connection is theirs.
      this.#drop_link(1000);
      this.#outbox.close("logged_out");
      void this.#dial();
    } else if (link && this.#state.name === "online" && session.access_token !== link.token) {
      link.token = session.access_token;
      this.#outbox.add("refresh", { token: session.access_token }).catch(() => {});
      this.#flush();
    }
  }

  #awake(): void {
    if (this.#state.name === "offline") {
      // A node that asked for time gets it; an empty room does not.
      if (this.#state.code === null || this.#state.code < 4000) void this.#dial();
    } else if (this.#state.name === "online" && this.#link) {
      this.#ping(this.#link, null);
    }
  }

  /** This connection is over. `code` null means that it was given up from here. */
  #lost(link: Link, code: number | null, reason: string, after_ms = 0): void {
    if (link !== this.#link) return;
    const goodbye = link.goodbye;
    this.#drop_link(code === CLOSE.ping_timeout ? CLOSE.ping_timeout : 1000);
    const number = goodbye?.code ?? code;
    const words = goodbye?.reason ?? reason;
    if (number === CLOSE.token_expired) {
      // Staying away is meant for the token, not for the person: with another one we may return.
      this.#spent_token = link.token;
      return this.#wait(words, number, goodbye?.after_ms ?? 0);
    }
    const back = goodbye ? goodbye.reconnect : !(number !== null && number >= 4500 && number <= 4999);
    if (back) return this.#wait(words, number, goodbye?.after_ms ?? after_ms);
    this.#end({ name: "gone", reason: words, code: number }, words);
    // If the whole session is over, the rest of the program learns it now and not at its next request.
    if (number === CLOSE.session_revoked) this.#parts.tokens.renew(link.token).catch(() => {});
  }

  #wait(reason: string, code: number | null, after_ms: number): void {
    const { timers } = this.#parts;
    this.#elsewhere = null;
    const wait_ms = Math.max(after_ms, backoff_ms(this.#attempt, WAIT, timers));
    this.#attempt += 1;
    this.#outbox.disconnected();
    this.#cancel_wait();
    this.#cancel_wait = timers.after(wait_ms, () => void this.#dial());
    this.#enter({ name: "offline", reason, code, retry_at: timers.now() + wait_ms });
  }

  #end(state: SocketState, refusal: string): void {
    this.#dialling += 1;
    this.#elsewhere = null;
    this.#cancel_wait();
    this.#drop_link(1000);
    for (const unwatch of this.#unwatch) unwatch();
    this.#unwatch = [];
    this.#outbox.close(refusal);
    this.#enter(state);
  }

  #drop_link(code: number): void {
    const link = this.#link;
    if (!link) return;
    this.#link = null;
    this.#cancel_flush();
    this.#notices = [];
    for (const cancel of link.timers) cancel();
    link.ws.onopen = link.ws.onmessage = link.ws.onclose = null;
    try {
      link.ws.close(code);
    } catch {
      // It was never open.
    }
  }

  /** Sends what waits, as fast as the engine allows. */
  #flush(): void {
    const link = this.#link;
    if (!link?.pace || this.#state.name !== "online") return;
    const { pace, ws } = link;
    const { message_bytes } = this.#state.connected.limits;
    this.#cancel_flush();
    const send = (text: string, ref: number): number => {
      if (new TextEncoder().encode(text).length > message_bytes) {
        this.#outbox.refuse(ref, new Refused("too_large", `A message may have ${message_bytes} bytes.`));
        return 0;
      }
      const wait_ms = pace.take();
      if (wait_ms === 0) ws.send(text);
      return wait_ms;
    };
    let again_ms = this.#outbox.flush(send);
    while (again_ms === null && this.#notices.length > 0) {
      const wait_ms = pace.take();
      if (wait_ms > 0) again_ms = wait_ms;
      else ws.send(this.#notices.shift() ?? "");
    }
    if (again_ms !== null) this.#cancel_flush = this.#later(link, again_ms, () => this.#flush());
  }

  /** A timer that ends with its connection. */
  #later(link: Link, delay_ms: number, work: () => void): () => void {
    const cancel = this.#parts.timers.after(delay_ms, () => {
      link.timers.delete(cancel);
      work();
    });
    link.timers.add(cancel);
    return () => {
      link.timers.delete(cancel);
      cancel();
    };
  }

  #enter(state: SocketState): void {
    this.#state = state;
    for (const changed of [...this.#states]) guarded(() => changed(state));
  }
}

/** A listener that throws is reported, and its neighbours are still told. */
function guarded(tell: () => void): void {
  try {
    tell();
  } catch (error) {
    if (typeof reportError === "function") reportError(error);
    else console.error(error);
  }
}
