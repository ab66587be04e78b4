/** Pages that are fetched when they are first opened. */

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Failed, Loading } from "./states";

export function lazy<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let loaded: ComponentType<P> | null = null;
  return function Lazy(props: P) {
    const [state, set] = useState<{ page: ComponentType<P> | null; failed: boolean }>({ page: loaded, failed: false });
    const fetch_page = () => {
      set({ page: null, failed: false });
      load().then(
        (page) => {
          loaded = page;
          set({ page, failed: false });
        },
        () => set({ page: null, failed: true }),
      );
    };
    useEffect(() => {
      if (!loaded) fetch_page();
    }, []);
    if (state.failed) {
      return (
        <Failed
          title="This page could not be loaded"
          words="The connection failed, or the engine was replaced by a newer one since this tab was opened. Reload to get the present version."
          action={{ label: "Reload", run: () => location.reload() }}
        />
      );
    }
    return state.page ? <state.page {...props} /> : <Loading />;
  };
}
