/** One message, with everything that can be done to it. */

import { useState } from "preact/hooks";
import type { Chat, Message, Talk, Unsent } from "../../client";
import { attachment_words, message_words, name_of, pieces_of, time_words } from "../../parts/chat_words";
import { Icon } from "../../parts/icon";
import { sentence } from "../../parts/words";
import { Face } from "./face";

/** Offered first; any other that somebody put there can be joined. */
const EMOJI = ["👍", "❤️", "😂", "🎉", "😮", "😢", "🙏", "👀"];

/** What this device has said about a message and the engine has not confirmed. */
export interface Changes {
  text: string | null;
  deleted: boolean;
  reactions: { emoji: string; on: boolean }[];
  failed: Unsent | null;
}

interface BubbleProps {
  chat: Chat;
  talk: Talk;
  message: Message;
  changes: Changes | undefined;
  names: ReadonlyMap<string, string>;
  together: boolean;
  direct: boolean;
  last_own: boolean;
  focusable: boolean;
  on_active(seq: number | null): void;
  on_reply(message: Message): void;
  on_edit(message: Message): void;
  on_delete(message: Message): void;
  on_show(seq: number): void;
}

export function Bubble(props: BubbleProps) {
  const { chat, talk, message, changes, names, together, direct, last_own, focusable, on_active, on_reply, on_edit, on_delete, on_show } = props;
  const [choosing, set_choosing] = useState(false);
  const mine = message.sender === chat.me;
  const who = name_of(chat.people.of(message.sender));
  const deleted = message.deleted || changes?.deleted === true;
  const text = changes?.text ?? message.text;
  const me_named = !mine && message.mentions.includes(chat.me);
  const role = talk.members?.find((one) => one.user === chat.me)?.role;
  const may_delete = mine || role === "owner" || role === "admin";
  const reactions = with_changes(message, changes, chat.me);

  const react = (emoji: string, on: boolean) => {
    set_choosing(false);
    chat.react(talk.id, message.seq, emoji, on);
  };
  const tools = !deleted && (
    <div class="tools" role="group" aria-label="What to do with this message">
      {choosing ? (
        <>
          {EMOJI.map((emoji) => (
            <button type="button" key={emoji} class="quiet emoji" aria-label={`React with ${emoji}`} onClick={() => react(emoji, !reactions.some((one) => one.emoji === emoji && one.mine))}>
              {emoji}
            </button>
          ))}
          <button type="button" class="quiet" aria-label="No reaction" title="No reaction" onClick={() => set_choosing(false)}>
            <Icon name="close" />
          </button>
        </>
      ) : (
        <>
          <button type="button" class="quiet" aria-label="React" title="React" onClick={() => set_choosing(true)}>
            <Icon name="smile" />
          </button>
          <button type="button" class="quiet" aria-label="Reply" title="Reply" onClick={() => on_reply(message)}>
            <Icon name="reply" />
          </button>
          {mine && message.text !== "" && (
            <button type="button" class="quiet" aria-label="Edit" title="Edit" onClick={() => on_edit(message)}>
              <Icon name="edit" />
            </button>
          )}
          {may_delete && (
            <button type="button" class="quiet" aria-label="Delete" title="Delete" onClick={() => on_delete(message)}>
              <Icon name="bin" />
            </button>
          )}
        </>
      )}
    </div>
  );
  return (
    <li
      class={`entry${mine ? " own" : ""}${together ? " together" : ""}${choosing ? " choosing" : ""}`}
      data-seq={message.seq}
      tabIndex={focusable ? 0 : -1}
      onFocus={() => on_active(message.seq)}
      onKeyDown={(event) => {
        if (event.key === "Escape" && choosing) {
          set_choosing(false);
          event.stopPropagation();
        }
      }}
    >
      {!mine && !direct && <span class="gutter">{!together && <Face name={who} id={message.sender} />}</span>}
      <div class="stack">
        {!together && <span class={mine || direct ? "unseen" : "author"}>{mine ? "You" : who}</span>}
        <div class={`bubble${deleted ? " deleted" : ""}${me_named ? " named" : ""}`}>
          {message.reply_to !== null && !deleted && <Quote chat={chat} talk={talk} seq={message.reply_to} on_show={on_show} />}
          {deleted ? <p class="words soft">Message deleted</p> : <Words text={text} names={names} me={chat.me} message={message} />}
          <span class="meta">
            {message.edited !== null && !deleted && <span>edited</span>}
            {(changes?.text !== null && changes?.text !== undefined) || (changes?.deleted && !message.deleted) ? <span>saving…</span> : null}
            <time dateTime={message.at}>{time_words(message.at)}</time>
            {mine && !deleted && <Marks chat={chat} talk={talk} seq={message.seq} told={last_own} />}
          </span>
        </div>
        {changes?.failed && <NotSent chat={chat} one={changes.failed} what={WHAT[changes.failed.type]} />}
        {reactions.length > 0 && (
          <div class="reactions">
            {reactions.map((one) => (
              <button
                type="button"
                key={one.emoji}
                aria-pressed={one.mine}
                title={one.users.map((user) => (user === chat.me ? "You" : name_of(chat.people.of(user)))).join(", ")}
                aria-label={`${one.emoji}, ${one.users.length}`}
                onClick={() => react(one.emoji, !one.mine)}
              >
                {one.emoji} <span>{one.users.length}</span>
              </button>
            ))}
          </div>
        )}
      </div>
      {tools}
    </li>
  );
}

const WHAT: Record<Unsent["type"], string> = { send: "Not sent", edit: "Not changed", delete: "Not deleted", react: "Reaction not sent" };

function with_changes(message: Message, changes: Changes | undefined, me: string): { emoji: string; users: string[]; mine: boolean }[] {
  if (message.deleted || changes?.deleted) return [];
  const found = new Map(message.reactions.map((one) => [one.emoji, one.users.filter((user) => user !== me)]));
  const mine = new Set(message.reactions.filter((one) => one.users.includes(me)).map((one) => one.emoji));
  for (const change of changes?.reactions ?? []) {
    if (change.on) mine.add(change.emoji);
    else mine.delete(change.emoji);
    if (!found.has(change.emoji)) found.set(change.emoji, []);
  }
  const all = [...found].map(([emoji, users]) => ({ emoji, users: mine.has(emoji) ? [...users, me] : users, mine: mine.has(emoji) }));
  return all.filter((one) => one.users.length > 0);
}

/** A message that the engine has not confirmed, or will not take. */
export function UnsentBubble({ chat, talk, one, names, on_show }: { chat: Chat; talk: Talk; one: Unsent; names: ReadonlyMap<string, string>; on_show(seq: number): void }) {
  const { reply_to, text } = one.fields;
  return (
    <li class={one.failed ? "entry own unsent failed" : "entry own unsent"} data-unsent={one.client_msg_id}>
      <div class="stack">
        <span class="unseen">You</span>
        <div class="bubble">
          {typeof reply_to === "number" && <Quote chat={chat} talk={talk} seq={reply_to} on_show={on_show} />}
          <Words text={String(text ?? "")} names={names} me={chat.me} />
          <span class="meta">
            <time dateTime={new Date(one.written_at).toISOString()}>{time_words(one.written_at)}</time>
            {!one.failed && (
              <span class="mark" title={one.sent ? "Sent" : "Waiting to be sent"}>
                <Icon name={one.sent ? "check" : "clock"} />
                <span class={one.sent || chat.connection.name === "online" ? "unseen" : ""}>{one.sent ? "Sent" : "Waiting"}</span>
              </span>
            )}
          </span>
        </div>
        {one.failed && <NotSent chat={chat} one={one} what={WHAT.send} />}
      </div>
    </li>
  );
}

function NotSent({ chat, one, what }: { chat: Chat; one: Unsent; what: string }) {
  return (
    <p class="not-sent" role="alert">
      <Icon name="warn" />
      <span>
        {what}: {sentence(one.failed?.words ?? "")}
      </span>
      <button type="button" class="plain-link" onClick={() => chat.unsent.retry(one.client_msg_id)}>
        Try again
      </button>
      <button type="button" class="plain-link" onClick={() => chat.unsent.discard(one.client_msg_id)}>
        Discard
      </button>
    </p>
  );
}

function Words({ text, names, me, message }: { text: string; names: ReadonlyMap<string, string>; me: string; message?: Message }) {
  return (
    <>
      {text !== "" && (
        <p class="words" dir="auto">
          {pieces_of(text, names, me).map((piece) =>
            piece.what === "link" ? (
              <a href={piece.href} target="_blank" rel="noopener noreferrer nofollow">
                {piece.text}
              </a>
            ) : piece.what === "mention" ? (
              <span class={piece.me ? "mention me" : "mention"}>{piece.text}</span>
            ) : (
              piece.text
            ),
          )}
        </p>
      )}
      {message && message.attachments.length > 0 && <p class="words soft">{attachment_words(message.attachments)}</p>}
      {message?.location ? <Place location={message.location as Record<string, unknown>} /> : null}
      {message && text === "" && message.attachments.length === 0 && !message.location && <p class="words soft">A message that is not shown to you</p>}
    </>
  );
}

function Place({ location }: { location: Record<string, unknown> }) {
  if (location["ended"] === true) return <p class="words soft">A place that was shown for a while and is no longer</p>;
  const degrees = (name: string) => Number(location[name]).toFixed(5);
  return (
    <p class="words">
      A place: {degrees("latitude")}, {degrees("longitude")}
      {typeof location["until"] === "string" && <span class="soft"> until {time_words(location["until"])}</span>}
    </p>
  );
}

function Quote({ chat, talk, seq, on_show }: { chat: Chat; talk: Talk; seq: number; on_show(seq: number): void }) {
  const item = talk.log.item(seq);
  const quoted = item?.what === "message" ? item : null;
  return (
    <button type="button" class="quote" onClick={() => on_show(seq)}>
      <span class="who">{quoted ? (quoted.sender === chat.me ? "You" : name_of(chat.people.of(quoted.sender))) : "An earlier message"}</span>
      {quoted && <span class="what">{quoted.deleted ? "Message deleted" : message_words({ text: quoted.text, attachments: quoted.attachments, location: quoted.location })}</span>}
    </button>
  );
}

/** How far one's own message has come. */
function Marks({ chat, talk, seq, told }: { chat: Chat; talk: Talk; seq: number; told: boolean }) {
  const receipts = chat.receipts.of(talk.id);
  const summary = chat.inbox.get(talk.id);
  const others = summary?.peer ? [summary.peer] : (talk.members ?? []).map((one) => one.user).filter((user) => user !== chat.me);
  const read = others.filter((user) => (receipts.get(user)?.read ?? 0) >= seq).length;
  const delivered = others.filter((user) => (receipts.get(user)?.delivered ?? 0) >= seq).length;
  const all = others.length;
  const words =
    all > 0 && read === all ? "Read" : read > 0 ? `Read by ${read} of ${all}` : all > 0 && delivered === all ? "Delivered" : delivered > 0 ? `Delivered to ${delivered} of ${all}` : "Sent";
  return (
    <span class={all > 0 && read === all ? "mark read" : "mark"} title={words} data-mark={words}>
      <Icon name={delivered > 0 ? "ticks" : "check"} />
      <span class={told ? "" : "unseen"}>{words}</span>
    </span>
  );
}
