import { useState } from "preact/hooks";
import { NovaError, Problem, type Chat, type User } from "../../client";
import { Dialog } from "../../parts/dialog";
import { Field, Form, useSubmission } from "../../parts/form";
import { go } from "../../shell/router";
import { nova } from "../../shell/session";

/** The people of these names; says which of them nobody has. */
export async function people_named(text: string): Promise<User[]> {
  const names = [...new Set(text.split(/[\s,;]+/).map((name) => name.replace(/^@/, "").trim()).filter(Boolean))];
  if (names.length === 0) throw new NovaError("invalid_fields", "Type at least one username.");
  const found: User[] = [];
  for (const name of names) {
    try {
      found.push((await nova.users.get(`@${name}`)).data);
    } catch (error) {
      if (error instanceof Problem && error.status === 404) throw new NovaError("no_such_user", `Nobody is called @${name}. Check how it is written.`);
      throw error;
    }
  }
  return found;
}

export function NewConversation({ chat, on_close }: { chat: Chat; on_close(): void }) {
  const submission = useSubmission();
  const [kind, set_kind] = useState<"direct" | "group">("direct");
  const begin = async (value: (name: string) => string) => {
    const people = await people_named(value("members"));
    for (const one of people) chat.people.learn(one);
    const members = people.map((one) => one.id);
    if (kind === "direct") {
      if (members.length > 1) throw new NovaError("invalid_fields", "A direct conversation is with one person. Make a group for more.");
      if (members[0] === chat.me) throw new NovaError("invalid_fields", "That is you. Type the name of somebody else.");
    }
    const title = value("title").trim();
    const id = await chat.create({ kind, members, ...(kind === "group" && title !== "" ? { title } : {}) });
    on_close();
    go(`/chat/${id}`);
  };
  return (
    <Dialog title="New conversation" on_close={on_close}>
      <fieldset class="choice">
        <legend class="unseen">With whom</legend>
        {(["direct", "group"] as const).map((one) => (
          <label key={one}>
            <input type="radio" class="unseen" name="kind" checked={kind === one} onChange={() => (set_kind(one), submission.clear())} />
            {one === "direct" ? "One person" : "A group"}
          </label>
        ))}
      </fieldset>
      <Form
        submission={submission}
        fields={["members", "title"]}
        action="Begin"
        acting="One moment…"
        on_submit={begin}
        extra={
          <button type="button" onClick={on_close}>
            Cancel
          </button>
        }
      >
        {kind === "group" && <Field name="title" label="Title" maxLength={100} autocomplete="off" error={submission.of("title")} key="title" />}
        <Field
          name="members"
          key="members"
          label={kind === "direct" ? "Username" : "Usernames"}
          {...(kind === "group" ? { hint: "Several names are told apart by commas." } : {})}
          autocomplete="off"
          autocapitalize="none"
          spellcheck={false}
          required
          takes_focus
          error={submission.of("members")}
        />
      </Form>
    </Dialog>
  );
}
