/** Something a page shows that has to be fetched. */

import { useEffect, useState } from "preact/hooks";

export interface Resource<T> {
  /** What was fetched last; stays while it is fetched again. */
  data: T | null;
  error: unknown;
  loading: boolean;
  reload(): void;
  /** Puts something newer in its place. */
  put(data: T): void;
}

/** Fetches when the page opens and at every `reload`; what arrives after the page was left is dropped. */
export function useResource<T>(fetch_it: () => Promise<T>): Resource<T> {
  const [state, set] = useState<{ data: T | null; error: unknown; loading: boolean }>({ data: null, error: null, loading: true });
  const [round, set_round] = useState(0);
  useEffect(() => {
    let here = true;
    set((before) => ({ ...before, error: null, loading: true }));
    fetch_it().then(
      (data) => here && set({ data, error: null, loading: false }),
      (error: unknown) => here && set((before) => ({ ...before, error, loading: false })),
    );
    return () => {
      here = false;
    };
  }, [round]);
  return {
    ...state,
    reload: () => set_round((before) => before + 1),
    put: (data) => set({ data, error: null, loading: false }),
  };
}
