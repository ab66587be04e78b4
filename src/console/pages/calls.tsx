/** Where a call begins: a new room, or one whose address somebody sent. */

import { useState } from "preact/hooks";
import { Check, Field, Form, useSubmission } from "../parts/form";
import { Page } from "../parts/page";
import { go } from "../shell/router";
import { nova } from "../shell/session";

export function CallsPage() {
  const submission = useSubmission();
  const joining = useSubmission();
  const [unknown, set_unknown] = useState(false);
  const make = async (value: (name: string) => string) => {
    const title = value("title").trim();
    const lobby = value("lobby") === "on";
    const room = await nova.calls.create({ ...(title && { title }), ...(lobby && { lobby }) });
    go(`/calls/${room.id}`);
  };
  const join = async (value: (name: string) => string) => {
    const id = /room_[0-9a-z]{26}/.exec(value("room"))?.[0];
    set_unknown(!id);
    if (id) go(`/calls/${id}`);
  };
  return (
    <Page title="Calls" lead="See and hear each other. Whoever has the address of a room can come in.">
      <section class="card wide">
        <h2>A new call</h2>
        <Form submission={submission} fields={["title"]} action="Start the call" acting="Starting…" on_submit={make}>
          <Field name="title" label="What it is about" hint="May stay empty." autocomplete="off" maxLength={140} error={submission.of("title")} />
          <Check name="lobby" label="Ask me before anybody comes in" />
        </Form>
      </section>
      <section class="card wide">
        <h2>Come into one</h2>
        <Form submission={joining} fields={["room"]} action="Go there" acting="Going…" on_submit={join}>
          <Field
            name="room"
            label="Address or id of the room"
            autocomplete="off"
            required
            error={unknown ? "An address or id has `room_` and 26 letters and digits in it." : joining.of("room")}
          />
        </Form>
      </section>
    </Page>
  );
}
