import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { is_muted, unread_of, type Chat, type Summary } from "../../client";
import { last_words, moment_words, title_of, typing_words, name_of } from "../../parts/chat_words";
import { Icon } from "../../parts/icon";
import { Failed, Loading } from "../../parts/states";
import { words_of } from "../../parts/words";
import { to } from "../../shell/router";
import { TalkFace } from "./face";

/** The presence of so many of the liveliest conversations is watched. */
const WATCHED = 50;
/** Where the list was scrolled to: it is drawn anew with every conversation that is opened. */
let scrolled_to = 0;

export function InboxList({ chat, open, on_begin }: { chat: Chat; open: string | null; on_begin(): void }) {
  const list = useRef<HTMLUListElement>(null);
  const all = chat.inbox.sorted;
  const peers = all.slice(0, WATCHED).flatMap((one) => (one.peer === null ? [] : [one.peer]));
  useEffect(() => chat.presences.want(InboxList, peers), [chat, peers.join()]);
  useEffect(() => () => chat.presences.want(InboxList, []), [chat]);
  useLayoutEffect(() => {
    if (list.current) list.current.scrollTop = scrolled_to;
  }, []);

  const { name, error } = chat.inbox_state;
  if (all.length === 0) {
    if (name === "loading") return <Loading what="Reading your conversations" />;
    if (name === "failed") {
      return <Failed title="Your conversations could not be read" words={words_of(error)} action={{ label: "Try again", run: () => void chat.read_inbox() }} />;
    }
    return (
      <div class="empty">
        <p>No conversations yet.</p>
        <button type="button" class="primary" onClick={on_begin}>
          Begin one
        </button>
      </div>
    );
  }
  return (
    <ul class="talks" ref={list} onScroll={(event) => (scrolled_to = event.currentTarget.scrollTop)}>
      {all.map((summary) => (
        <Line key={summary.id} chat={chat} summary={summary} open={summary.id === open} />
      ))}
    </ul>
  );
}

function Line({ chat, summary, open }: { chat: Chat; summary: Summary; open: boolean }) {
  const person = (id: string) => chat.people.of(id);
  const unread = unread_of(summary);
  const muted = is_muted(summary, Date.now());
  const writing = typing_words(chat.typing.of(summary.id).map((id) => name_of(person(id))));
  const failed = chat.unsent.of(summary.id).some((one) => one.failed !== null);
  const online = summary.peer !== null && chat.presences.of(summary.peer)?.state === "online";
  return (
    <li>
      <a href={to(`/chat/${summary.id}`)} aria-current={open ? "page" : undefined} data-conversation={summary.id}>
        <TalkFace chat={chat} summary={summary} />
        <span class="text">
          <span class="name">
            {title_of(summary, person)}
            {online && <span class="unseen">, online</span>}
            {muted && <Icon name="muted" />}
            {muted && <span class="unseen">, muted</span>}
          </span>
          <span class={unread > 0 ? "last unread" : "last"}>
            {failed ? <span class="wrong">A message was not sent</span> : writing || last_words(summary.last, chat.me, person, summary.kind === "direct")}
          </span>
        </span>
        <span class="side">
          <time dateTime={summary.last_at}>{moment_words(summary.last_at, Date.now())}</time>
          {unread > 0 && (
            <span class={muted ? "count muted" : "count"}>
              {unread > 99 ? "99+" : unread}
              <span class="unseen"> unread</span>
            </span>
          )}
        </span>
      </a>
    </li>
  );
}
