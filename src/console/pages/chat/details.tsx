/** Who is in a conversation, what may be changed of it, and how to be left alone by it. */

import { useState } from "preact/hooks";
import { is_muted, type Chat, type Member, type Message, type Role, type Summary, type Talk } from "../../client";
import { say } from "../../parts/announce";
import { message_words, name_of } from "../../parts/chat_words";
import { Dialog } from "../../parts/dialog";
import { Field, Form, useSubmission, type Submission } from "../../parts/form";
import { Icon } from "../../parts/icon";
import { Loading, Notice } from "../../parts/states";
import { words_of } from "../../parts/words";
import { go } from "../../shell/router";
import { nova } from "../../shell/session";
import { Face } from "./face";
import { people_named } from "./new_conversation";

const HOUR_MS = 3_600_000;

export function Deleting({ message, on_delete, on_close }: { message: Message; on_delete(): void; on_close(): void }) {
  return (
    <Dialog title="Delete this message?" on_close={on_close}>
      <blockquote>{message_words({ text: message.text, attachments: message.attachments, location: message.location })}</blockquote>
      <p>It disappears for everybody in this conversation. That it was there stays visible.</p>
      <div class="actions">
        <button type="button" class="danger" onClick={on_delete}>
          Delete it
        </button>
        <button type="button" onClick={on_close}>
          Keep it
        </button>
      </div>
    </Dialog>
  );
}

export function Details({ chat, talk, summary, on_close }: { chat: Chat; talk: Talk; summary: Summary; on_close(): void }) {
  const submission = useSubmission();
  return (
    <Dialog title={summary.peer !== null ? name_of(chat.people.of(summary.peer)) : "About this group"} on_close={on_close}>
      <div class="details">
        {submission.error !== null && (
          <Notice kind="bad">
            <p>{words_of(submission.error)}</p>
          </Notice>
        )}
        {summary.kind === "group" && <Group chat={chat} talk={talk} summary={summary} />}
        <Muting chat={chat} summary={summary} submission={submission} />
        {summary.peer !== null && <Blocking peer={summary.peer} chat={chat} submission={submission} />}
        {summary.kind === "group" && <Leaving chat={chat} summary={summary} submission={submission} on_left={() => (on_close(), go("/chat"))} />}
        <div class="actions">
          <button type="button" onClick={on_close}>
            Close
          </button>
        </div>
      </div>
    </Dialog>
  );
}

function Group({ chat, talk, summary }: { chat: Chat; talk: Talk; summary: Summary }) {
  const titling = useSubmission();
  const adding = useSubmission();
  const [round, set_round] = useState(0);
  // What somebody types stays, whatever is drawn anew meanwhile.
  const [title, set_title] = useState(summary.title ?? "");
  const members = talk.members;
  const role = members?.find((one) => one.user === chat.me)?.role ?? summary.role;
  const leads = role !== "member";
  return (
    <>
      {leads ? (
        <Form
          submission={titling}
          fields={["title"]}
          action="Save the title"
          on_submit={async (value) => {
            await chat.rename(summary.id, value("title").trim());
            say("The title is saved.");
          }}
        >
          <Field name="title" label="Title" value={title} onInput={(event) => set_title(event.currentTarget.value)} maxLength={100} required autocomplete="off" error={titling.of("title")} />
        </Form>
      ) : (
        <p>
          <strong>{summary.title ?? "This group has no title"}</strong>
        </p>
      )}
      <h3>{members ? (members.length === 1 ? "One member" : `${members.length} members`) : "Members"}</h3>
      {members ? (
        <ul class="members">
          {[...members].sort(by_role).map((member) => (
            <MemberLine key={member.user} chat={chat} id={summary.id} member={member} mine={role} />
          ))}
        </ul>
      ) : (
        <Loading what="Reading who is here" />
      )}
      {leads && (
        <Form
          key={round}
          submission={adding}
          fields={["user"]}
          action="Add"
          on_submit={async (value) => {
            for (const person of await people_named(value("user"))) {
              chat.people.learn(person);
              await chat.put_member(summary.id, person.id);
              say(`${person.display_name} was added.`);
            }
            set_round(round + 1);
          }}
        >
          <Field name="user" label="Add somebody by username" autocomplete="off" autocapitalize="none" spellcheck={false} required error={adding.of("user")} />
        </Form>
      )}
    </>
  );
}

const RANK: Record<Role, number> = { owner: 0, admin: 1, member: 2 };

function by_role(a: Member, b: Member): number {
  return RANK[a.role] - RANK[b.role] || (a.joined_at < b.joined_at ? -1 : 1);
}

function MemberLine({ chat, id, member, mine }: { chat: Chat; id: string; member: Member; mine: Role }) {
  // One of its own: what is done to one member need not wait for another.
  const submission = useSubmission();
  const person = chat.people.of(member.user);
  const name = name_of(person);
  const me = member.user === chat.me;
  const presence = me ? null : chat.presences.of(member.user);
  const give = (role: Role) => submission.run(() => chat.put_member(id, member.user, role));
  const may_remove = !me && (mine === "owner" || (mine === "admin" && member.role === "member"));
  return (
    <li>
      <Face name={name} id={member.user} online={presence ? presence.state === "online" : undefined} />
      <span class="text">
        {name} {me && <span class="soft">(you)</span>}
        <span class="soft">
          {person && person !== "gone" && `@${person.username}`}
          {member.role !== "member" && ` · ${member.role === "owner" ? "owner" : "administrator"}`}
        </span>
      </span>
      {mine === "owner" && !me && (
        <button type="button" class="small" aria-label={member.role === "admin" ? `Make ${name} a plain member` : `Make ${name} an administrator`} onClick={() => void give(member.role === "admin" ? "member" : "admin")}>
          {member.role === "admin" ? "Make plain" : "Make admin"}
        </button>
      )}
      {may_remove && (
        <button
          type="button"
          class="small danger ghost"
          aria-label={`Remove ${name}`}
          onClick={() =>
            void submission.run(async () => {
              await chat.remove_member(id, member.user);
              say(`${name} was removed.`);
            })
          }
        >
          Remove
        </button>
      )}
      {submission.error !== null && (
        <p class="wrong" role="alert">
          {words_of(submission.error)}
        </p>
      )}
    </li>
  );
}

function Muting({ chat, summary, submission }: { chat: Chat; summary: Summary; submission: Submission }) {
  const muted = is_muted(summary, Date.now());
  const mute = (until: string | null) =>
    submission.run(async () => {
      await chat.mute(summary.id, until);
      say(until === null ? "No longer muted." : "Muted.");
    });
  return (
    <section>
      <h3>Muting</h3>
      <p class="soft">{muted ? "You are not notified of what is said here, and it does not count among what is new." : "A muted conversation goes on, but you are not notified of it and it does not count among what is new."}</p>
      <div class="actions">
        {muted ? (
          <button type="button" onClick={() => void mute(null)}>
            Let it speak again
          </button>
        ) : (
          <>
            <button type="button" onClick={() => void mute(new Date(Date.now() + 8 * HOUR_MS).toISOString())}>
              Mute for 8 hours
            </button>
            <button type="button" onClick={() => void mute("for good")}>
              Mute
            </button>
          </>
        )}
      </div>
    </section>
  );
}

function Blocking({ peer, chat, submission }: { peer: string; chat: Chat; submission: Submission }) {
  const [blocked, set_blocked] = useState(false);
  const name = name_of(chat.people.of(peer));
  const put = (on: boolean) =>
    submission.run(async () => {
      await (on ? nova.users.block(peer) : nova.users.unblock(peer));
      set_blocked(on);
      void chat.read_inbox();
      say(on ? `${name} is blocked.` : `${name} is no longer blocked.`);
    });
  return (
    <section>
      <h3>Blocking</h3>
      <p class="soft">
        {blocked ? `Neither of you can write to the other, and this conversation is gone from your list.` : `Neither of you can write to the other directly while ${name} is blocked.`}
      </p>
      <div class="actions">
        <button type="button" class={blocked ? "" : "danger ghost"} onClick={() => void put(!blocked)}>
          {blocked ? `Unblock ${name}` : `Block ${name}`}
        </button>
        {!blocked && (
          <button type="button" onClick={() => void put(false)}>
            Unblock {name}
          </button>
        )}
      </div>
    </section>
  );
}

function Leaving({ chat, summary, submission, on_left }: { chat: Chat; summary: Summary; submission: Submission; on_left(): void }) {
  const [sure, set_sure] = useState(false);
  return (
    <section>
      <h3>Leaving</h3>
      {sure ? (
        <div class="actions">
          <Icon name="warn" />
          <button
            type="button"
            class="danger"
            onClick={() =>
              void submission.run(async () => {
                await chat.remove_member(summary.id, chat.me);
                say("You left the group.");
                on_left();
              })
            }
          >
            Leave the group
          </button>
          <button type="button" onClick={() => set_sure(false)}>
            Stay
          </button>
        </div>
      ) : (
        <div class="actions">
          <button type="button" class="danger ghost" onClick={() => set_sure(true)}>
            Leave…
          </button>
        </div>
      )}
    </section>
  );
}
