/** Initials in a circle, with a dot for who is here. */

import type { Chat, Summary } from "../../client";
import { title_of } from "../../parts/chat_words";
import { Icon } from "../../parts/icon";

const TINTS = 6;

export function Face({ name, id, online, group }: { name: string; id: string; online?: boolean | undefined; group?: boolean }) {
  let sum = 0;
  for (const character of id) sum = (sum * 31 + character.charCodeAt(0)) % 9_973;
  const initials = [...name.replace(/[^\p{L}\p{N} ]/gu, "")].filter((_, nth, all) => nth === 0 || all[nth - 1] === " ").slice(0, 2).join("");
  return (
    <span class={`face tint-${sum % TINTS}`} aria-hidden="true">
      {group ? <Icon name="people" /> : initials.toUpperCase() || "·"}
      {online !== undefined && <span class={online ? "dot on" : "dot"} />}
    </span>
  );
}

export function TalkFace({ chat, summary }: { chat: Chat; summary: Summary }) {
  const name = title_of(summary, (id) => chat.people.of(id));
  const presence = summary.peer === null ? null : chat.presences.of(summary.peer);
  return <Face name={name} id={summary.peer ?? summary.id} online={presence ? presence.state === "online" : undefined} group={summary.peer === null} />;
}
