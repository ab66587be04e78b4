/** A stream that is looked at, read again and again; and the names of those it belongs to. */

import { useEffect, useState } from "preact/hooks";
import type { Stream, User } from "../../client";
import { nova } from "../../shell/session";

/** Calls `look` now and every `period_ms` while the page is seen, and at once when it is seen again. */
export function useEvery(period_ms: number, look: () => void, restart: unknown[] = []): void {
  useEffect(() => {
    look();
    const visible = () => document.visibilityState === "visible";
    const timer = setInterval(() => visible() && look(), period_ms);
    const shown = () => visible() && look();
    document.addEventListener("visibilitychange", shown);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, restart);
}

export interface Watched {
  stream: Stream | null;
  /** Of the last reading; what was read before stays. */
  error: unknown;
  reload(): void;
  put(stream: Stream): void;
}

/** The stream as it was a moment ago. */
export function useStream(id: string, period_ms: number): Watched {
  const [seen, set_seen] = useState<{ stream: Stream | null; error: unknown }>({ stream: null, error: null });
  const reload = () => {
    nova.streams.get(id).then(
      ({ data }) => set_seen({ stream: data, error: null }),
      (error: unknown) => set_seen((before) => ({ ...before, error })),
    );
  };
  useEvery(period_ms, reload, [id]);
  return { ...seen, reload, put: (stream) => set_seen({ stream, error: null }) };
}

const people = new Map<string, Promise<User | null>>();
/** Owners remembered by this page. When full, all are asked for again. */
const PEOPLE_MAX = 500;

/** Whoever has this id; null until it is known, and when nobody has it any more. */
export function usePerson(id: string | null): User | null {
  const [person, set] = useState<User | null>(null);
  useEffect(() => {
    let here = true;
    set(null);
    if (id === null) return undefined;
    if (people.size >= PEOPLE_MAX) people.clear();
    const asked = people.get(id) ?? nova.users.get(id).then(({ data }) => data, () => null);
    people.set(id, asked);
    void asked.then((found) => here && set(found));
    return () => {
      here = false;
    };
  }, [id]);
  return person;
}

/** An address of the engine as this page reaches it: nothing of ours may be asked of another origin. */
export function own_origin(address: string): string {
  const { pathname, search } = new URL(address, location.href);
  return pathname + search;
}
