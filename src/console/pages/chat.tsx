/** Chat: the inbox beside the open conversation; on a phone one of the two. */

import { useEffect, useState } from "preact/hooks";
import { ConnectionBanner } from "./chat/banner";
import { Conversation } from "./chat/conversation";
import { InboxList } from "./chat/inbox";
import { NewConversation } from "./chat/new_conversation";
import { Icon } from "../parts/icon";
import { useChat } from "../shell/live";
import type { PageProps } from "../shell/routes";

export function ChatPage({ params }: PageProps) {
  const chat = useChat();
  const open = params["conversation"] ?? null;
  const [beginning, set_beginning] = useState(false);
  const unread = chat.inbox.unread(Date.now());
  useEffect(() => {
    if (open === null) document.title = `${unread > 0 ? `(${unread}) ` : ""}Chat · Nova`;
  }, [open, unread]);

  return (
    <div class={open === null ? "chat" : "chat with-talk"}>
      <section class="inbox" aria-label="Conversations">
        <header>
          {open === null ? <h1 tabIndex={-1}>Chat</h1> : <h2>Chat</h2>}
          <button type="button" class="quiet" id="new-conversation" aria-label="New conversation" title="New conversation" onClick={() => set_beginning(true)}>
            <Icon name="plus" />
          </button>
        </header>
        {open === null && <ConnectionBanner chat={chat} />}
        <InboxList chat={chat} open={open} on_begin={() => set_beginning(true)} />
      </section>
      {open === null ? (
        <div class="talk nothing">
          <p class="soft">Choose a conversation, or begin a new one.</p>
        </div>
      ) : (
        <Conversation chat={chat} id={open} key={`${chat.me} ${open}`} />
      )}
      {beginning && <NewConversation chat={chat} on_close={() => set_beginning(false)} />}
    </div>
  );
}
