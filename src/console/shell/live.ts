/** The one chat of this page: begun when somebody first looks at it, connected for as long as they are logged in. */

import { useEffect, useState } from "preact/hooks";
import type { Chat, Socket } from "../client";
import { nova } from "./session";

let chat: Chat | null = null;
let socket: Socket | null = null;

nova.tokens.watch((session) => {
  if (chat && session?.user_id !== chat.me) {
    chat.stop();
    chat = null;
    socket = null;
  }
});

/** The chat of whoever is logged in; throws when nobody is. */
export function the_chat(): Chat {
  if (!chat) {
    socket = nova.socket({ client: "nova-console" });
    chat = nova.chat(socket);
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

/** The one connection of this page; a device has no second. */
export function the_socket(): Socket {
  the_chat();
  if (!socket) throw new Error("the chat has begun, so its socket is there");
  return socket;
}
