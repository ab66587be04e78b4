/** Turns between tabs: who holds a name works, everybody else waits. */

import { fresh_id } from "./ids";
import { pause, type Timers } from "./timers";

export interface Locks {
  /** Runs `work` while nobody else, in this tab or another, holds `name`. */
  hold<T>(name: string, work: () => Promise<T>): Promise<T>;
}

/** Turns within this program alone: for servers, tests and applications with a single window. */
export function local_locks(): Locks {
  const tails = new Map<string, Promise<unknown>>();
  return {
    hold(name, work) {
      const turn = (tails.get(name) ?? Promise.resolve()).then(work, work);
      const settled = turn.catch(() => undefined);
      tails.set(name, settled);
      void settled.then(() => {
        if (tails.get(name) === settled) tails.delete(name);
      });
      return turn;
    },
  };
}

/** The browser's own locks; they are there on HTTPS and on localhost only. */
export function web_locks(manager: LockManager): Locks {
  return {
    async hold<T>(name: string, work: () => Promise<T>): Promise<T> {
      return (await manager.request(name, work)) as T;
    },
  };
}

/** How long a holder is believed alive after its last word; longer than a request with all its repetitions pauses. */
const LEASE_MS = 10_000;
/** A claim counts once it stood unchallenged for so long: far more than storage needs to reach another tab. */
const SETTLE_MS = 60;
/** How often a waiting tab looks again. */
const LOOK_MS = 120;

/**
 * Turns by way of `localStorage`, for plain HTTP in a local network, where browsers hold back their own locks. A claim
 * is written, given time to be seen, and stands if nobody wrote over it; a holder renews its lease until it is done,
 * and one that vanished is forgotten after {@link LEASE_MS}.
 */
export function storage_locks(storage: Storage, timers: Timers): Locks {
  const me = fresh_id();
  const within = local_locks();
  const holder = (key: string): { who: string; until: number } | null => {
    try {
      const lease = JSON.parse(storage.getItem(key) ?? "null");
      return lease && lease.until > timers.now() && lease.until < timers.now() + 2 * LEASE_MS ? lease : null;
    } catch {
      return null;
    }
  };
  const claim = (key: string) => storage.setItem(key, JSON.stringify({ who: me, until: timers.now() + LEASE_MS }));

  return {
    hold: (name, work) =>
      within.hold(name, async () => {
        const key = `lock:${name}`;
        for (;;) {
          if (holder(key) === null) {
            claim(key);
            await pause(timers, SETTLE_MS * (1 + timers.random()));
            if (holder(key)?.who === me) break;
          }
          await pause(timers, LOOK_MS * (1 + timers.random()));
        }
        let stop_renewing = () => {};
        const renew = () => {
          stop_renewing = timers.after(LEASE_MS / 3, () => {
            claim(key);
            renew();
          });
        };
        renew();
        try {
          return await work();
        } finally {
          stop_renewing();
          if (holder(key)?.who === me) storage.removeItem(key);
        }
      }),
  };
}
