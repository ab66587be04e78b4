/**
 * Calls in conversations, from their first ring to their end: what rings here, and how to call, answer and decline.
 *
 * ```ts
 * const rings = nova.rings(socket);
 * rings.watch(() => show(rings.ringing));
 * const { room } = await rings.start(conversation, "video");   // rings on all their devices
 * await nova.calls.call(socket, room).join(local);
 * ```
 *
 * A ring stops by whatever comes first: a push, the entry in the conversation, or the time that came with it.
 */

import type { Socket } from "./socket";
import type { Timers } from "./timers";
import type { CallNews, Entry } from "./wire";

/** Calls that are remembered; when full the oldest is forgotten. */
const KNOWN_MAX = 50;

export class Rings {
  readonly #socket: Socket;
  readonly #timers: Timers;
  readonly #me: string;
  readonly #watchers = new Set<() => void>();
  readonly #known = new Map<string, CallNews>();
  /** Silenced on this device only. */
  readonly #silenced = new Set<string>();
  readonly #unwatch: (() => void)[];
  #cancel = () => {};

  constructor(parts: { socket: Socket; timers: Timers; me: string }) {
    this.#socket = parts.socket;
    this.#timers = parts.timers;
    this.#me = parts.me;
    this.#unwatch = [
      parts.socket.on("call", (news) => this.#heard(news)),
      parts.socket.on("entry", (entry) => this.#read(entry)),
    ];
  }

  /** Told after everything that happens. */
  watch(changed: () => void): () => void {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  }

  stop(): void {
    for (const unwatch of this.#unwatch) unwatch();
    this.#cancel();
  }

  /** What rings here now, the oldest first. */
  get ringing(): CallNews[] {
    const now = this.#timers.now();
    return [...this.#known.values()].filter((call) => this.#rings(call, now));
  }

  /** How the call in a room is, as far as is known. */
  in_room(room: string): CallNews | null {
    return [...this.#known.values()].find((call) => call.room === room) ?? null;
  }

  /** Calls everybody in a conversation, or joins the call that goes on there. */
  async start(conversation: string, media: CallNews["media"]): Promise<CallNews> {
    const call = await this.#socket.ask("call.start", { conversation, media }, { resend: true });
    this.#heard(call);
    return call;
  }

  /** Answers on this device; the others stop ringing. */
  async accept(call: string): Promise<CallNews> {
    const news = await this.#socket.ask("call.accept", { call }, { resend: true });
    this.#heard(news);
    return news;
  }

  async decline(call: string): Promise<void> {
    this.silence(call);
    await this.#socket.ask("call.decline", { call });
  }

  async cancel(call: string): Promise<void> {
    await this.#socket.ask("call.cancel", { call });
  }

  /** It may ring elsewhere, not here. */
  silence(call: string): void {
    this.#silenced.add(call);
    this.#changed();
  }

  #rings(call: CallNews, now: number): boolean {
    const mine = call.caller === this.#me || call.declined.includes(this.#me);
    return call.state === "ringing" && !mine && !this.#silenced.has(call.call) && Date.parse(call.ring_until ?? "") > now;
  }

  #heard(news: CallNews): void {
    // An answer may come behind the push of what happened after it.
    const order = { ringing: 0, active: 1, ended: 2 };
    const before = this.#known.get(news.call);
    if (before && order[before.state] > order[news.state]) return;
    this.#known.delete(news.call);
    this.#known.set(news.call, news);
    const [oldest] = this.#known.keys();
    if (this.#known.size > KNOWN_MAX && oldest !== undefined) {
      this.#known.delete(oldest);
      this.#silenced.delete(oldest);
    }
    this.#changed();
  }

  #read(entry: Entry): void {
    if (entry.kind !== "call") return;
    const known = this.#known.get(String(entry.body["call"]));
    const state = entry.body["state"];
    if (!known || (state !== "active" && state !== "ended")) return;
    const outcome = entry.body["outcome"] as CallNews["outcome"];
    this.#heard({ ...known, state, ...(outcome && { outcome }) });
  }

  #changed(): void {
    this.#cancel();
    const now = this.#timers.now();
    const ends = this.ringing.map((call) => Date.parse(call.ring_until ?? "") - now);
    if (ends.length > 0) this.#cancel = this.#timers.after(Math.max(0, Math.min(...ends)) + 1, () => this.#changed());
    for (const changed of [...this.#watchers]) changed();
  }
}
