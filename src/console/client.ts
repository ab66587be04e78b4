/**
 * The client library of the Nova engine: everything an application in a browser needs to talk to it.
 *
 * ```ts
 * import { Nova } from "./client";
 *
 * const nova = new Nova();                                  // this page's own origin, tokens kept across visits
 * await nova.sessions.log_in({ login: "ann", password });
 * const { data: me, etag } = await nova.accounts.me();
 * for await (const device of nova.sessions.devices()) show(device);
 *
 * const socket = nova.socket();
 * socket.on("entry", (entry) => put(entry));
 * socket.start();
 * ```
 *
 * Errors are classes: {@link Problem} when the engine refused (branch on `code`), {@link Unreachable} when no answer
 * came, {@link Refused} on the socket. What may be repeated without harm is repeated before you hear of it.
 * Where tokens lie, and when that is not enough, is told in `client/tokens.ts`.
 */

import { Accounts } from "./client/accounts";
import { Behaviour } from "./client/behaviour";
import { Calls } from "./client/calls";
import { Chat } from "./client/chat/chat";
import { Conversations } from "./client/conversations";
import { Http } from "./client/http";
import { Posts } from "./client/posts";
import { Rings } from "./client/rings";
import { NovaError } from "./client/problem";
import { local_locks, storage_locks, web_locks, type Locks } from "./client/locks";
import { Sessions } from "./client/sessions";
import { Stories } from "./client/stories";
import { Streams } from "./client/streams";
import { Socket, type SocketParts, type WebSocketLike } from "./client/socket";
import { systemTimers, type Timers } from "./client/timers";
import { memory_store, storage_store, Tokens, type TokenStore } from "./client/tokens";
import { Totp } from "./client/totp";
import type { SignedIn } from "./client/types";
import { Users } from "./client/users";

export * from "./client/behaviour";
export * from "./client/calls";
export * from "./client/chat/chat";
export * from "./client/chat/hints";
export * from "./client/chat/inbox";
export * from "./client/chat/log";
export * from "./client/chat/people";
export * from "./client/chat/stream_chat";
export type * from "./client/chat/talks";
export * from "./client/chat/unsent";
export * from "./client/conversations";
export * from "./client/http";
export * from "./client/ids";
export * from "./client/locks";
export * from "./client/outbox";
export * from "./client/paging";
export * from "./client/posts";
export * from "./client/problem";
export * from "./client/rings";
export * from "./client/socket";
export * from "./client/stories";
export type * from "./client/streams";
export * from "./client/timers";
export * from "./client/tokens";
export type * from "./client/types";
export * from "./client/wire";

export interface NovaOptions {
  /** The engine's address without a path; the page's own origin when absent. */
  base_url?: string;
  /** Where the session is kept; the browser's storage when absent, memory where there is none. */
  store?: TokenStore;
  /** Turns between tabs; the browser's own when absent. */
  locks?: Locks;
  fetch?: typeof fetch;
  timers?: Timers;
}

export class Nova {
  readonly tokens: Tokens;
  readonly http: Http;
  readonly accounts: Accounts;
  readonly sessions: Sessions;
  readonly totp: Totp;
  readonly users: Users;
  readonly posts: Posts;
  readonly stories: Stories;
  readonly behaviour: Behaviour;
  readonly conversations: Conversations;
  readonly calls: Calls;
  readonly streams: Streams;
  readonly #base_url: string;
  readonly #timers: Timers;

  constructor(options: NovaOptions = {}) {
    const timers = options.timers ?? systemTimers;
    const storage = browser_storage();
    const base_url = (options.base_url ?? "").replace(/\/+$/, "");
    this.#base_url = base_url;
    this.#timers = timers;
    // Calling the page's fetch through an object's field would give it the wrong `this`.
    const fetch: typeof globalThis.fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
    this.tokens = new Tokens({
      store: options.store ?? (storage ? storage_store(storage) : memory_store()),
      locks: options.locks ?? browser_locks(storage, timers),
      timers,
      exchange: async (refresh_token, idempotency_key) =>
        (await this.http.post<SignedIn>("/v1/sessions/refresh", { refresh_token }, { anonymous: true, idempotency_key })).data,
    });
    this.http = new Http({ base_url, fetch, timers, tokens: this.tokens });
    this.accounts = new Accounts(this.http, this.tokens);
    this.sessions = new Sessions(this.http, this.tokens);
    this.totp = new Totp(this.http);
    this.users = new Users(this.http);
    this.posts = new Posts(this.http);
    this.stories = new Stories(this.http);
    this.behaviour = new Behaviour(this.http, timers);
    this.conversations = new Conversations(this.http);
    this.calls = new Calls(this.http, timers);
    this.streams = new Streams(this.http);
  }

  /** Chat for whoever is logged in, over a socket of its own or the given one; `start()` connects it. */
  chat(socket: Socket = this.socket()): Chat {
    const me = this.tokens.session?.user_id;
    if (me === undefined) throw new NovaError("not_logged_in", "Nobody is logged in.");
    const { conversations, users } = this;
    return new Chat({ me, socket, conversations, users, timers: this.#timers, storage: browser_storage() });
  }

  /** Calls in conversations for whoever is logged in, over the same socket as their chat. */
  rings(socket: Socket): Rings {
    const me = this.tokens.session?.user_id;
    if (me === undefined) throw new NovaError("not_logged_in", "Nobody is logged in.");
    return new Rings({ me, socket, timers: this.#timers });
  }

  /** A new connection for chat, presence and everything else that comes unasked; `start()` opens it. */
  socket(parts: Partial<SocketParts> = {}): Socket {
    const url = new URL(`${this.#base_url}/v1/ws`, globalThis.location?.href);
    url.protocol = url.protocol.replace("http", "ws");
    return new Socket({
      url: url.href,
      tokens: this.tokens,
      timers: this.#timers,
      open: (address, subprotocol) => new WebSocket(address, subprotocol) as WebSocketLike,
      awake: browser_awake,
      ...parts,
    });
  }
}

function browser_storage(): Storage | null {
  try {
    const storage = globalThis.localStorage;
    storage.setItem("nova.probe", "1");
    storage.removeItem("nova.probe");
    return storage;
  } catch {
    // Absent, or closed to us: the session then lives as long as the page.
    return null;
  }
}

function browser_locks(storage: Storage | null, timers: Timers): Locks {
  const manager = globalThis.navigator?.locks as LockManager | undefined;
  if (manager) return web_locks(manager);
  return storage ? storage_locks(storage, timers) : local_locks();
}

/** The network came back, or the person did. */
function browser_awake(back: () => void): () => void {
  if (typeof document === "undefined") return () => {};
  const shown = () => {
    if (document.visibilityState === "visible") back();
  };
  addEventListener("online", back);
  document.addEventListener("visibilitychange", shown);
  return () => {
    removeEventListener("online", back);
    document.removeEventListener("visibilitychange", shown);
  };
}
