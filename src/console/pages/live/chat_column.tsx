/** The chat beside the picture. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Chat, Stream, StreamChat } from "../../client";
import { name_of } from "../../parts/chat_words";
import { Icon } from "../../parts/icon";
import { words_of } from "../../parts/words";
import { useChat } from "../../shell/live";

/** Nearer to the end than this counts as the end. */
const END_PX = 32;
/** What the engine takes of one line is more; what fits beside a picture is not. */
const TEXT_CHARS_MAX = 500;

export function ChatColumn({ stream, on_viewers }: { stream: Stream; on_viewers(count: number | null): void }) {
  const people = useChat();
  const [chat, set_chat] = useState<StreamChat | null>(null);
  const [, again] = useState(0);
  useEffect(() => {
    const mine = people.beside(stream.id, () => {
      again((before) => before + 1);
      on_viewers(mine.viewers);
    });
    mine.start();
    set_chat(mine);
    return () => {
      mine.stop();
      on_viewers(null);
    };
  }, [people, stream.id]);
  return (
    <section class="beside" aria-label="Chat of the stream" data-state={chat?.state}>
      <h2>Chat</h2>
      {chat && <Lines chat={chat} people={people} />}
      {chat?.state === "connecting" && (
        <p class="soft" role="status">
          Connecting…
        </p>
      )}
      {chat?.state === "closed" && (
        <p class="soft" role="status">
          The chat is closed. {chat.refusal && words_of(chat.refusal)}
        </p>
      )}
      {chat?.state === "open" && <Line chat={chat} />}
    </section>
  );
}

function Lines({ chat, people }: { chat: StreamChat; people: Chat }) {
  const box = useRef<HTMLDivElement>(null);
  const at_end = useRef(true);
  useLayoutEffect(() => {
    if (box.current && at_end.current) box.current.scrollTop = box.current.scrollHeight;
  }, [chat.lines]);
  const look = () => {
    const element = box.current;
    if (element) at_end.current = element.scrollHeight - element.scrollTop - element.clientHeight < END_PX;
  };
  return (
    <div class="lines" ref={box} onScroll={look} role="log" tabIndex={0}>
      {chat.state === "open" && chat.lines.length === 0 && <p class="soft">Nothing was said yet.</p>}
      {chat.lines.map((line) => (
        <p key={line.seq} data-seq={line.seq}>
          <strong>{name_of(people.people.of(line.sender))}</strong> <span dir="auto">{line.text}</span>
          {line.edited && <span class="soft"> (edited)</span>}
        </p>
      ))}
    </div>
  );
}

function Line({ chat }: { chat: StreamChat }) {
  const [text, set_text] = useState("");
  const [error, set_error] = useState<string | null>(null);
  const [busy, set_busy] = useState(false);
  const say = async (event: Event) => {
    event.preventDefault();
    const words = text.trim();
    if (words === "" || busy) return;
    set_busy(true);
    try {
      await chat.say(words);
      set_text("");
      set_error(null);
    } catch (caught) {
      set_error(words_of(caught));
    } finally {
      set_busy(false);
    }
  };
  return (
    <form class="line" onSubmit={(event) => void say(event)}>
      {error !== null && (
        <p class="wrong" role="alert">
          {error}
        </p>
      )}
      <div>
        <input
          id="stream-message"
          aria-label="Say something"
          placeholder="Say something"
          autocomplete="off"
          maxLength={TEXT_CHARS_MAX}
          value={text}
          onInput={(event) => set_text(event.currentTarget.value)}
        />
        <button type="submit" class="primary" aria-label="Send" title="Send" disabled={text.trim() === ""} aria-disabled={busy}>
          <Icon name="send" />
        </button>
      </div>
    </form>
  );
}
