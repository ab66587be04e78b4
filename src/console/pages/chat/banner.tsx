/** The truth about the connection. */

import { useEffect, useState } from "preact/hooks";
import type { Chat } from "../../client";
import { connection_words } from "../../parts/chat_words";
import { Icon } from "../../parts/icon";
import { to } from "../../shell/router";

/** A connection that is made faster than this is nothing to tell of. */
const PATIENCE_MS = 700;

export function ConnectionBanner({ chat }: { chat: Chat }) {
  const state = chat.connection;
  const [now, set_now] = useState(Date.now());
  const [patient, set_patient] = useState(true);
  const told = connection_words(state, chat.unsent.waiting, now, chat.slow);

  useEffect(() => {
    if (state.name === "online") {
      set_patient(true);
      return undefined;
    }
    const impatient = setTimeout(() => set_patient(false), PATIENCE_MS);
    const tick = setInterval(() => set_now(Date.now()), 1_000);
    set_now(Date.now());
    return () => {
      clearTimeout(impatient);
      clearInterval(tick);
    };
  }, [state.name]);

  if (!told || (patient && told.kind === "wait")) return null;
  return (
    <div class={`connection ${told.kind}`} data-state={state.name}>
      {told.kind === "wait" ? <span class="spinner" aria-hidden="true" /> : <Icon name="warn" />}
      {/* The title alone is read out: the seconds beside it change all the time. */}
      <p>
        <strong role="status">{told.title}</strong> {told.words}
      </p>
      {told.action === "connect" && (
        <button type="button" onClick={() => chat.start()}>
          Use it here
        </button>
      )}
      {told.action === "log_in" && <a href={to("/login")}>Log in</a>}
    </div>
  );
}
