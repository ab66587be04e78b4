/** One conversation: its history, what is being said, and the field to say something. */

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { is_muted, type CallNews, type Chat, type Item, type Message, type Talk, type Unsent } from "../../client";
import { say } from "../../parts/announce";
import { begins_day, day_words, message_words, name_of, notice_words, title_of, typing_words } from "../../parts/chat_words";
import { Icon } from "../../parts/icon";
import { Failed, Loading } from "../../parts/states";
import { ago, words_of } from "../../parts/words";
import { the_rings } from "../../shell/live";
import { go, moves, to } from "../../shell/router";
import { ConnectionBanner } from "./banner";
import { Composer, type Aim } from "./composer";
import { Deleting, Details } from "./details";
import { TalkFace } from "./face";
import { Bubble, UnsentBubble, type Changes } from "./message";

/** Nearer to the end than this counts as the end. */
const END_PX = 48;
/** Older entries are read when the beginning is this near. */
const OLDER_PX = 600;

export function Conversation({ chat, id }: { chat: Chat; id: string }) {
  const opened = useRef<{ talk: Talk; close(): void } | null>(null);
  opened.current ??= chat.open(id);
  useEffect(() => {
    const mine = opened.current ?? chat.open(id);
    opened.current = mine;
    return () => {
      mine.close();
      opened.current = null;
    };
  }, [chat, id]);
  const { talk } = opened.current;

  const summary = chat.inbox.get(id);
  const person = (user: string) => chat.people.of(user);
  const title = summary ? title_of(summary, person) : "Conversation";
  const heading = useRef<HTMLHeadingElement>(null);
  const [aim, set_aim] = useState<Aim | null>(null);
  const [deleting, set_deleting] = useState<Message | null>(null);
  const [shows_details, set_shows_details] = useState(false);

  useEffect(() => {
    document.title = `${title} · Nova`;
  }, [title]);
  useEffect(() => {
    // Where a keyboard is at hand the field takes the focus, elsewhere it would open the one on the screen.
    if (!matchMedia("(pointer: fine)").matches && moves() > 0) heading.current?.focus({ preventScroll: true });
  }, []);
  const watched = summary?.peer ? [summary.peer] : (talk.members ?? []).map((one) => one.user).filter((user) => user !== chat.me);
  const interest = useRef({});
  useEffect(() => chat.presences.want(interest.current, watched), [chat, watched.join()]);
  useEffect(() => () => chat.presences.want(interest.current, []), [chat]);
  // What others say while this is looked at is read out.
  useEffect(
    () =>
      chat.on_arrival((entry) => {
        if (entry.conversation === id && entry.kind === "message" && entry.sender !== chat.me && document.visibilityState === "visible") {
          say(`${name_of(chat.people.of(entry.sender))}: ${message_words(entry.body)}`);
        }
      }),
    [chat, id],
  );

  const names = useMemo(() => {
    const found = new Map<string, string>();
    for (const member of talk.members ?? []) {
      const one = chat.people.of(member.user);
      if (one && one !== "gone") found.set(one.username.toLowerCase(), one.id);
    }
    return found;
    // People are learnt one by one; counting them tells when to look again.
  }, [talk.members, (talk.members ?? []).filter((one) => chat.people.of(one.user) !== null).length]);

  const writers = chat.typing.of(id).map((user) => name_of(person(user)));
  const presence = summary?.peer ? chat.presences.of(summary.peer) : null;
  const online_count = watched.filter((user) => chat.presences.of(user)?.state === "online").length;
  const state_words =
    typing_words(writers) ||
    (summary?.peer
      ? presence === null
        ? ""
        : presence.state === "online"
          ? "Online"
          : presence.last_seen
            ? `Last here ${ago(presence.last_seen)}`
            : "Away"
      : talk.members
        ? `${talk.members.length === 1 ? "Only you" : `${talk.members.length} members`}${online_count > 0 ? `, ${online_count} online` : ""}`
        : "");

  return (
    <section class="talk" aria-label={title}>
      <header>
        <a class="back" href={to("/chat")} aria-label="All conversations">
          <Icon name="back" />
        </a>
        {summary && <TalkFace chat={chat} summary={summary} />}
        <div class="text">
          <h1 ref={heading} tabIndex={-1}>
            {title}
            {summary && is_muted(summary, Date.now()) && (
              <>
                <Icon name="muted" />
                <span class="unseen"> (muted)</span>
              </>
            )}
          </h1>
          <p class="soft state" data-typing={writers.length > 0}>
            {state_words}
          </p>
        </div>
        {summary && summary.kind !== "live" && talk.state !== "closed" && <CallButtons id={id} />}
        {summary && talk.state !== "closed" && (
          <button type="button" class="quiet" id="details" aria-label="Details and settings" title="Details and settings" onClick={() => set_shows_details(true)}>
            <Icon name="more" />
          </button>
        )}
      </header>
      <ConnectionBanner chat={chat} />
      <RunningCall items={talk.log.items} id={id} />
      {talk.state === "closed" ? (
        <div class="scroll centre">
          <Failed title="You are not in this conversation" words="You left it, were removed from it, or it does not exist." />
        </div>
      ) : talk.state === "failed" ? (
        <div class="scroll centre">
          <Failed title="This conversation could not be read" words={`${words_of(talk.error)} It is tried again by itself.`} />
        </div>
      ) : talk.state === "loading" ? (
        <div class="scroll centre">
          <Loading what="Reading the conversation" />
        </div>
      ) : (
        <History
          chat={chat}
          talk={talk}
          names={names}
          on_reply={(message) => set_aim({ what: "reply", message })}
          on_edit={(message) => set_aim({ what: "edit", message })}
          on_delete={set_deleting}
        />
      )}
      {talk.state !== "closed" && (
        <Composer
          chat={chat}
          id={id}
          to_whom={title}
          names={names}
          aim={aim}
          on_aim={set_aim}
          last_own={() => last_message(talk.log.items, (message) => message.sender === chat.me && !message.deleted && message.text !== "")}
        />
      )}
      {deleting && (
        <Deleting
          message={deleting}
          on_close={() => set_deleting(null)}
          on_delete={() => {
            chat.delete(id, deleting.seq);
            set_deleting(null);
          }}
        />
      )}
      {shows_details && summary && <Details chat={chat} talk={talk} summary={summary} on_close={() => set_shows_details(false)} />}
    </section>
  );
}

/** Calls, or joins the call that goes on. */
async function call_up(id: string, media: CallNews["media"]): Promise<void> {
  try {
    const { room } = await the_rings().start(id, media);
    go(`/calls/${room}?join=${media}`);
  } catch (error) {
    say(words_of(error));
  }
}

function CallButtons({ id }: { id: string }) {
  return (
    <>
      <button type="button" class="quiet" aria-label="Voice call" title="Voice call" onClick={() => void call_up(id, "audio")}>
        <Icon name="call" />
      </button>
      <button type="button" class="quiet" aria-label="Video call" title="Video call" onClick={() => void call_up(id, "video")}>
        <Icon name="camera" />
      </button>
    </>
  );
}

/** A call that goes on here, for whoever comes later. */
function RunningCall({ items, id }: { items: readonly Item[]; id: string }) {
  const last = items.filter((item) => item.what === "notice" && item.kind === "call").at(-1);
  if (last?.what !== "notice" || last.body["state"] !== "active") return null;
  return (
    <p class="running-call" role="status">
      <Icon name="call" />
      <span>A call goes on here.</span>
      <button type="button" class="primary" onClick={() => void call_up(id, last.body["media"] === "audio" ? "audio" : "video")}>
        Join
      </button>
    </p>
  );
}

interface HistoryProps {
  chat: Chat;
  talk: Talk;
  names: ReadonlyMap<string, string>;
  on_reply(message: Message): void;
  on_edit(message: Message): void;
  on_delete(message: Message): void;
}

/** What waits to be changed of messages that are shown, by their sequence. */
function changes_of(unsent: readonly Unsent[]): Map<number, Changes> {
  const found = new Map<number, Changes>();
  for (const one of unsent) {
    if (one.type === "send") continue;
    const target = Number(one.fields["target"]);
    const changes = found.get(target) ?? { text: null, deleted: false, reactions: [], failed: null };
    found.set(target, changes);
    if (one.failed) changes.failed = one;
    else if (one.type === "edit") changes.text = String(one.fields["text"]);
    else if (one.type === "delete") changes.deleted = true;
    else changes.reactions.push({ emoji: String(one.fields["emoji"]), on: one.fields["on"] === true });
  }
  return found;
}

function History({ chat, talk, names, on_reply, on_edit, on_delete }: HistoryProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLOListElement>(null);
  const { log, id } = talk;
  const items = log.items;
  const unsent = chat.unsent.of(id);
  const said = unsent.filter((one) => one.type === "send" && !(one.sent && one.sent.epoch === log.epoch && one.sent.seq <= log.high));
  const changes = changes_of(unsent);
  const summary = chat.inbox.get(id);
  const read = summary?.read ?? log.high;

  // Where reading began: the line above which everything was known when this was opened.
  const began_at = useRef(read);
  const first_new = items.find((item) => item.seq > began_at.current && item.sender !== chat.me)?.seq ?? null;
  const [at_end, set_at_end] = useState(true);
  const [active, set_active] = useState<number | null>(null);
  const [older_error, set_older_error] = useState<unknown>(null);
  const view = useRef({ placed: false, at_end: true, height: 0, window: 0, low: log.low, newest: "" });

  const newest = said.at(-1)?.client_msg_id ?? "";
  useLayoutEffect(() => {
    const box = scroller.current;
    if (!box) return;
    const before = view.current;
    if (!before.placed) {
      before.placed = true;
      box.scrollTop = box.scrollHeight;
      // Begin at what is new where it does not fit on the screen.
      const line = box.querySelector<HTMLElement>(".new-line");
      if (line && line.offsetTop < box.scrollTop) box.scrollTop = line.offsetTop - 16;
    } else if (newest !== before.newest && newest !== "") {
      // What one says oneself is always shown.
      box.scrollTop = box.scrollHeight;
    } else if (before.at_end) {
      box.scrollTop = box.scrollHeight;
    } else if (log.low < before.low) {
      // Older entries came in above: what is read stays where it is.
      box.scrollTop += box.scrollHeight - before.height;
    }
    before.height = box.scrollHeight;
    before.window = box.clientHeight;
    before.low = log.low;
    before.newest = newest;
    look();
  }, [items, newest, said.length, unsent.length]);

  // The field below grows, the window turns: whoever is at the end stays there.
  useEffect(() => {
    const box = scroller.current;
    if (!box) return undefined;
    const observer = new ResizeObserver(() => {
      if (view.current.at_end) box.scrollTop = box.scrollHeight;
      view.current.height = box.scrollHeight;
      view.current.window = box.clientHeight;
    });
    observer.observe(box);
    if (list.current) observer.observe(list.current);
    return () => observer.disconnect();
  }, []);

  // What stands before somebody's eyes is read.
  useEffect(() => {
    const seen = () => {
      if (view.current.at_end && document.visibilityState === "visible" && document.hasFocus()) chat.seen(id, log.high);
    };
    seen();
    addEventListener("focus", seen);
    document.addEventListener("visibilitychange", seen);
    return () => {
      removeEventListener("focus", seen);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [chat, id, items, at_end, summary?.top]);

  const look = () => {
    const box = scroller.current;
    if (!box) return;
    const before = view.current;
    if (before.at_end && (box.scrollHeight !== before.height || box.clientHeight !== before.window)) {
      // Not the person moved, but what is round them: a scroll event comes before the observer's word.
      box.scrollTop = box.scrollHeight;
      before.height = box.scrollHeight;
      before.window = box.clientHeight;
    }
    const end = box.scrollHeight - box.scrollTop - box.clientHeight < END_PX;
    view.current.at_end = end;
    if (end !== at_end) set_at_end(end);
    if (box.scrollTop < OLDER_PX && !log.complete && !talk.reading_older && older_error === null) read_older();
  };
  const read_older = () => {
    set_older_error(null);
    chat.read_older(id).catch(set_older_error);
  };
  const to_end = () => {
    const box = scroller.current;
    if (!box) return;
    box.scrollTop = box.scrollHeight;
    look();
  };
  const show = (seq: number) => {
    const target = list.current?.querySelector<HTMLElement>(`[data-seq="${seq}"]`);
    if (!target) return say("That message is further up. Scroll up to load it.");
    set_active(seq);
    target.scrollIntoView({ block: "center" });
    target.focus({ preventScroll: true });
  };
  const on_key = (event: KeyboardEvent) => {
    const rows = [...(list.current?.querySelectorAll<HTMLElement>("[data-seq]") ?? [])];
    const here = rows.findIndex((row) => row === document.activeElement);
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key] ?? 0;
    const next = event.key === "End" ? rows.length - 1 : event.key === "Home" ? 0 : here + step;
    if (here < 0 || (step === 0 && event.key !== "End" && event.key !== "Home")) return;
    const row = rows[Math.max(0, Math.min(rows.length - 1, next))];
    if (!row) return;
    event.preventDefault();
    row.focus();
    row.scrollIntoView({ block: "nearest" });
  };

  const below = items.filter((item) => item.what === "message" && item.sender !== chat.me && item.seq > read).length;
  const now = Date.now();
  const focusable = active !== null && log.item(active) ? active : (last_message(items)?.seq ?? null);
  const direct = summary?.kind === "direct";
  const last_own = last_message(items, (message) => message.sender === chat.me)?.seq ?? null;
  return (
    <div class="history">
      <div class="scroll" ref={scroller} onScroll={look}>
        {/* A list with a name; new entries are read out by the announcer, so that older ones are not when they are loaded. */}
        <ol class="entries" ref={list} aria-label="Messages" onKeyDown={on_key}>
          {!log.complete && (
            <li class="older">
              {older_error !== null ? (
                <>
                  <span class="wrong">{words_of(older_error)}</span>{" "}
                  <button type="button" onClick={read_older}>
                    Try again
                  </button>
                </>
              ) : (
                <button type="button" class="quiet" aria-disabled={talk.reading_older} onClick={read_older}>
                  {talk.reading_older ? "Reading older messages…" : "Show older messages"}
                </button>
              )}
            </li>
          )}
          {log.complete && items.length === 0 && said.length === 0 && <li class="notice-line">Nothing was said yet. Say hello.</li>}
          {items.map((item, nth) => {
            const before = items[nth - 1];
            const day = begins_day(item, before);
            const fresh = item.seq === first_new;
            const together = !day && !fresh && follows(item, before);
            return [
              day && (
                <li class="day-line" key={`day-${item.seq}`}>
                  <span>{day_words(item.at, now)}</span>
                </li>
              ),
              fresh && (
                <li class="new-line" key="new">
                  <span>New</span>
                </li>
              ),
              item.what === "notice" ? (
                <li class="notice-line" key={item.seq}>
                  {notice_words(item, chat.me, (user) => chat.people.of(user))}
                </li>
              ) : (
                <Bubble
                  key={item.seq}
                  chat={chat}
                  talk={talk}
                  message={item}
                  changes={changes.get(item.seq)}
                  names={names}
                  together={together}
                  direct={direct}
                  last_own={item.seq === last_own}
                  focusable={item.seq === focusable}
                  on_active={set_active}
                  on_reply={on_reply}
                  on_edit={on_edit}
                  on_delete={on_delete}
                  on_show={show}
                />
              ),
            ];
          })}
          {said.map((one) => (
            <UnsentBubble key={one.client_msg_id} chat={chat} talk={talk} one={one} names={names} on_show={show} />
          ))}
        </ol>
      </div>
      {!at_end && (
        <button type="button" class="to-end" onClick={to_end}>
          <Icon name="down" />
          {below > 0 ? `${below} new ${below === 1 ? "message" : "messages"}` : "Newest"}
        </button>
      )}
    </div>
  );
}

/** Whether a message belongs to the one before it: the same person, within five minutes. */
function follows(item: Item, before: Item | undefined): boolean {
  if (!before || before.what !== "message" || item.what !== "message" || before.sender !== item.sender) return false;
  return Date.parse(item.at) - Date.parse(before.at) < 300_000;
}

/** The newest message that passes. */
function last_message(items: readonly Item[], passes: (message: Message) => boolean = () => true): Message | null {
  for (let nth = items.length - 1; nth >= 0; nth -= 1) {
    const item = items[nth];
    if (item?.what === "message" && passes(item)) return item;
  }
  return null;
}
