/** The one chat of this page: begun when somebody first looks at it, connected for as long as they are logged in. */

import { useEffect, useState } from "preact/hooks";
import type { Chat } from "../client";
import { nova } from "./session";

let chat: Chat | null = null;

nova.tokens.watch((session) => {
  if (chat && session?.user_id !== chat.me) {
    chat.stop();
    chat = null;
  }
});

/** The chat of whoever is logged in; throws when nobody is. */
export function the_chat(): Chat {
  if (!chat) {
    chat = nova.chat(nova.socket({ client: "nova-console" }));
    chat.start();
  }
  return chat;
}

/** The chat, drawn again after everything that happens in it. */
export function useChat(): Chat {
  const here = the_chat();
  const [, again] = useState(0);
  useEffect(() => {
    again((before) => before + 1);
    return here.watch(() => again((before) => before + 1));
  }, [here]);
  return here;
}
