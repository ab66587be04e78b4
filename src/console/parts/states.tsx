/** The other states of a page: loading, failed, told. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Icon, type IconName } from "./icon";

/** Shown after a moment only: what comes at once should not flicker. */
export function Loading({ what = "Loading" }: { what?: string }) {
  const [late, set] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => set(true), 150);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div class="loading" aria-busy="true">
      {late && (
        <>
          <span class="spinner" aria-hidden="true" />
          <span role="status">{what}…</span>
        </>
      )}
    </div>
  );
}

/** Something did not work, and what to do about it. */
export function Failed({ title, words, action }: { title: string; words: string; action?: { label: string; run(): void } }) {
  return (
    <div class="failed" role="alert">
      <Icon name="warn" />
      <div>
        <h2>{title}</h2>
        <p>{words}</p>
        {action && (
          <button type="button" onClick={action.run}>
            {action.label}
          </button>
        )}
      </div>
    </div>
  );
}

/** A word in between: `bad` interrupts a screen reader, the others wait their turn. */
export function Notice({ kind, icon, id, children }: { kind: "good" | "bad" | "warn" | "info"; icon?: IconName; id?: string; children: ComponentChildren }) {
  const drawn = icon ?? (kind === "good" ? "check" : kind === "info" ? null : "warn");
  return (
    <div class={`notice ${kind}`} id={id} role={kind === "bad" ? "alert" : "status"} tabIndex={-1}>
      {drawn && <Icon name={drawn} />}
      <div>{children}</div>
    </div>
  );
}
