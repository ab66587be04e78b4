/** The one chat of this page: begun when somebody first looks at it, connected for as long as they are logged in. */

import { useEffect, useState } from "preact/hooks";
import type { Chat, Rings, Socket } from "../client";
import { nova } from "./session";

let chat: Chat | null = null;
let socket: Socket | null = null;
let rings: Rings | null = null;

nova.tokens.watch((session) => {
  if (chat && session?.user_id !== chat.me) {
    chat.stop();
    rings?.stop();
    rings = null;
    chat = null;
    socket = null;
  }
});

/** The chat of whoever is logged in; throws when nobody is. */
export function the_chat(): Chat {
  if (!chat) {
    socket = nova.socket({ client: "nova-console" });
    chat = nova.chat(socket);
    rings = nova.rings(socket);
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

/** What rings on this page. */
export function the_rings(): Rings {
  the_chat();
  if (!rings) throw new Error("the chat has begun, so the rings are there");
  return rings;
}

/** What rings, drawn again after everything that happens to it. */
export function useRings(): Rings {
  const here = the_rings();
  const [, again] = useState(0);
  useEffect(() => here.watch(() => again((before) => before + 1)), [here]);
  return here;
}

/** The one connection of this page; a device has no second. */
export function the_socket(): Socket {
  the_chat();
  if (!socket) throw new Error("the chat has begun, so its socket is there");
  return socket;
}
