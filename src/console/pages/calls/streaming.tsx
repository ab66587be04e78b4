/** A call that is shown to people who are not in it: the host's dialog, and the sign for all. */

import { useState } from "preact/hooks";
import { take, type Call } from "../../client";
import { Dialog } from "../../parts/dialog";
import { Check, Field, Form, useSubmission } from "../../parts/form";
import { Icon } from "../../parts/icon";
import { useResource } from "../../parts/resource";
import { to } from "../../shell/router";
import { nova } from "../../shell/session";

/** The engine lets nobody have more. */
const STREAMS_MAX = 100;
const TITLE_MAX = 140;

const ENDINGS: Record<string, string> = {
  taken_over: "This call is live no more: somebody else publishes that stream now.",
  deleted: "This call is live no more: its stream was deleted, or its key was replaced.",
  restarted: "This call is live no more: the engine began anew. A host can go live again.",
};

/** Everybody in the call sees that others do, too. */
export function OnAir({ call }: { call: Call }) {
  const { streaming } = call;
  if (!streaming) {
    const words = call.stream_ended && ENDINGS[call.stream_ended];
    return words ? (
      <p class="banner" role="status">
        {words}
      </p>
    ) : null;
  }
  return (
    <p class="banner on-air" role="status" data-recorded={streaming.recorded}>
      <Icon name="live" />
      <span>
        <strong>{streaming.recorded ? "Live and recorded." : "Live."}</strong> People outside this call see whoever speaks, and hear everybody.
      </span>
      <a href={to(`/live/${streaming.stream}`)} target="_blank" rel="noopener">
        Watch
      </a>
    </p>
  );
}

/** The host chooses the stream: a new one, or one there is. */
export function GoLive({ call, on_close }: { call: Call; on_close(): void }) {
  const list = useResource(() => take(nova.streams.own(), STREAMS_MAX));
  const [chosen, choose] = useState("");
  const [title, set_title] = useState(call.title ?? "Call");
  const submission = useSubmission();
  const begin = async (value: (name: string) => string) => {
    let stream = chosen;
    if (stream === "") {
      const made = await nova.streams.create({ title: title.trim(), record: value("record") === "on" });
      // Should the rest fail, it is there to be chosen.
      stream = made.stream.id;
      list.put([made.stream, ...(list.data ?? [])]);
      choose(stream);
    }
    await call.stream(stream);
    on_close();
  };
  return (
    <Dialog title="Go live with this call" on_close={on_close}>
      <p class="soft">Whoever speaks is seen, everybody is heard, and all in the call are told.</p>
      <Form submission={submission} fields={["title", "record"]} action="Start the stream" acting="Starting…" on_submit={begin}>
        {(list.data?.length ?? 0) > 0 && (
          <div class="field">
            <label for="stream">Stream</label>
            <select id="stream" value={chosen} onChange={(event) => choose(event.currentTarget.value)}>
              <option value="">A new stream</option>
              {list.data?.map((stream) => (
                <option value={stream.id} key={stream.id}>
                  {stream.title}
                  {stream.record ? " (recorded)" : ""}
                </option>
              ))}
            </select>
          </div>
        )}
        {chosen === "" && (
          <>
            <Field
              name="title"
              label="Title"
              hint="What viewers read below the picture."
              value={title}
              onInput={(event) => set_title(event.currentTarget.value)}
              autocomplete="off"
              required
              maxLength={TITLE_MAX}
              error={submission.of("title")}
            />
            <Check name="record" label="Record it" hint="It can then be watched afterwards." />
          </>
        )}
      </Form>
    </Dialog>
  );
}
