/**
 * Who is logged in here, and a fresh access token whenever one is asked for.
 *
 * An access token lives minutes, a refresh token is used once: it buys a new pair, and showing it a second time ends
 * the whole session (the engine takes it for stolen). Two tabs must therefore never both spend the same one. Three
 * things see to that: renewals take turns across tabs ({@link Locks}); whoever gets its turn looks first whether
 * another tab has renewed meanwhile; and each refresh token has its own Idempotency-Key, made when the token was
 * received and kept beside it, so that a renewal whose answer was lost (a closed lid, a killed tab) is repeated and
 * answered with a good pair instead of being taken for theft, as long as that happens within two minutes.
 *
 * Where tokens lie: {@link storage_store} keeps them in `localStorage`, readable by every script of the origin. That
 * is sound for the engine's console, which shares its origin with nothing else and runs under a policy that admits no
 * foreign script. An application that shows other people's HTML, or loads scripts it does not control, should use
 * {@link memory_store} and keep the refresh token behind its own server.
 */

import { fresh_id } from "./ids";
import type { Locks } from "./locks";
import { Problem } from "./problem";
import type { Timers } from "./timers";
import type { SignedIn } from "./types";

/** What is kept of a log-in. Times are milliseconds since 1970 by this machine's clock. */
export interface Session {
  user_id: string;
  device_id: string;
  access_token: string;
  refresh_token: string;
  /** The Idempotency-Key under which `refresh_token` is spent. */
  refresh_key: string;
  expires_at: number;
  /** From here on a new token is fetched before the old one is used. */
  renew_at: number;
}

/** A place for one {@link Session}. */
export interface TokenStore {
  read(): Session | null;
  write(session: Session | null): void;
  /** Told when somebody else (another tab) wrote. */
  watch(changed: () => void): () => void;
}

/** Forgets with the program. */
export function memory_store(): TokenStore {
  let kept: Session | null = null;
  return {
    read: () => kept,
    write: (session) => {
      kept = session;
    },
    watch: () => () => {},
  };
}

/** Keeps the session in the browser's storage, shared by all tabs. */
export function storage_store(storage: Storage, key = "nova.session"): TokenStore {
  return {
    read() {
      try {
        const kept = JSON.parse(storage.getItem(key) ?? "null");
        return typeof kept?.refresh_token === "string" && typeof kept?.refresh_key === "string" ? kept : null;
      } catch {
        return null;
      }
    },
    write(session) {
      if (session) storage.setItem(key, JSON.stringify(session));
      else storage.removeItem(key);
    },
    watch(changed) {
      const heard = (event: StorageEvent) => {
        if (event.storageArea === storage && (event.key === key || event.key === null)) changed();
      };
      addEventListener("storage", heard);
      return () => removeEventListener("storage", heard);
    },
  };
}

/** Why there is no session any more: the person left, or the engine's code for ending it (`session_revoked`, …). */
export type Ending = "logged_out" | (string & {});

/** Buys a new pair for a refresh token, under the given Idempotency-Key. */
export type Exchange = (refresh_token: string, idempotency_key: string) => Promise<SignedIn>;

/** A token is renewed this long before it ends, or in the last quarter of a shorter life. */
const RENEW_EARLY_MS = 30_000;
const LOCK = "nova.session.renewal";

export class Tokens {
  readonly #store: TokenStore;
  readonly #locks: Locks;
  readonly #timers: Timers;
  readonly #exchange: Exchange;
  readonly #listeners = new Set<(session: Session | null, ending: Ending | null) => void>();
  #session: Session | null;
  #renewal: Promise<Session | null> | null = null;

  constructor(parts: { store: TokenStore; locks: Locks; timers: Timers; exchange: Exchange }) {
    this.#store = parts.store;
    this.#locks = parts.locks;
    this.#timers = parts.timers;
    this.#exchange = parts.exchange;
    this.#session = this.#store.read();
    this.#store.watch(() => this.#look());
  }

  /** Who is logged in, as far as is known without asking. */
  get session(): Session | null {
    return this.#session;
  }

  /** Told of every change: a log-in, a renewal, an end with its reason; by this tab or by another. */
  watch(changed: (session: Session | null, ending: Ending | null) => void): () => void {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  }

  /** Takes over what a sign-up, a log-in or a renewal answered. */
  adopt(answer: SignedIn): Session {
    const now = this.#timers.now();
    const life_ms = answer.expires_in * 1000;
    const session: Session = {
      user_id: answer.user.id,
      device_id: answer.device_id,
      access_token: answer.access_token,
      refresh_token: answer.refresh_token,
      refresh_key: fresh_id(),
      expires_at: now + life_ms,
      renew_at: now + life_ms - Math.min(RENEW_EARLY_MS, life_ms / 4),
    };
    this.#set(session, null);
    return session;
  }

  /** Forgets the session in all tabs. */
  drop(ending: Ending): void {
    this.#set(null, ending);
  }

  /**
   * A usable access token, renewed first where needed; null when nobody is logged in. Throws the engine's
   * {@link Problem} when the renewal was refused, which ends the session.
   */
  async access(): Promise<string | null> {
    const session = this.#session;
    if (!session) return null;
    if (this.#timers.now() < session.renew_at) return session.access_token;
    return (await this.#renew(session.access_token))?.access_token ?? null;
  }

  /** Another token than `refused`, which the engine did not take; otherwise as {@link access}. */
  async renew(refused: string): Promise<string | null> {
    return (await this.#renew(refused))?.access_token ?? null;
  }

  #renew(spent: string): Promise<Session | null> {
    this.#renewal ??= this.#locks
      .hold(LOCK, () => this.#renew_in_turn(spent))
      .finally(() => {
        this.#renewal = null;
      });
    return this.#renewal;
  }

  async #renew_in_turn(spent: string): Promise<Session | null> {
    // Another tab may have renewed, or left, while this one waited.
    this.#look();
    const session = this.#session;
    if (!session || session.access_token !== spent) return session;
    try {
      const answer = await this.#exchange(session.refresh_token, session.refresh_key);
      if (this.#store.read()?.refresh_token !== session.refresh_token) {
        // Somebody logged out, or in as somebody else, while the answer was on its way: that stands.
        this.#look();
        return this.#session;
      }
      return this.adopt(answer);
    } catch (error) {
      if (error instanceof Problem && is_final(error.status)) this.drop(error.code);
      throw error;
    }
  }

  #look(): void {
    const kept = this.#store.read();
    if (kept?.access_token === this.#session?.access_token) return;
    this.#session = kept;
    this.#tell(kept ? null : "logged_out");
  }

  #set(session: Session | null, ending: Ending | null): void {
    if (!session && !this.#session) return;
    this.#store.write(session);
    this.#session = session;
    this.#tell(ending);
  }

  #tell(ending: Ending | null): void {
    for (const listener of [...this.#listeners]) listener(this.#session, ending);
  }
}

/** A refusal that repeating cannot change: the token is spent, revoked or unknown. */
function is_final(status: number): boolean {
  return status >= 400 && status < 500 && ![408, 409, 425, 429].includes(status);
}
