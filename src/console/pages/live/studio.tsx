/** Where a broadcast begins: one's own streams, and a new one with its key. */

import { useState } from "preact/hooks";
import { take, type Publishing } from "../../client";
import { Check, Field, Form, useSubmission } from "../../parts/form";
import { Icon } from "../../parts/icon";
import { state_words, viewer_words } from "../../parts/live_words";
import { Page } from "../../parts/page";
import { useResource } from "../../parts/resource";
import { Failed, Loading } from "../../parts/states";
import { ago, words_of } from "../../parts/words";
import { to } from "../../shell/router";
import { nova } from "../../shell/session";
import { HowToPublish } from "./publish";

/** The engine lets nobody have more. */
const STREAMS_MAX = 100;

export function Studio() {
  const list = useResource(() => take(nova.streams.own(), STREAMS_MAX));
  const submission = useSubmission();
  const [made, set_made] = useState<Publishing | null>(null);
  const make = async (value: (name: string) => string) => {
    const publishing = await nova.streams.create({ title: value("title").trim(), record: value("record") === "on" });
    set_made(publishing);
    list.put([publishing.stream, ...(list.data ?? [])]);
  };
  return (
    <Page title="Go live" lead="Point OBS, FFmpeg or any encoder that speaks RTMP at this engine.">
      {made ? (
        <section class="card wide">
          <h2>
            <Icon name="key" /> {made.stream.title}
          </h2>
          <HowToPublish publishing={made} />
          <div class="actions">
            <a class="button primary" href={to(`/live/studio/${made.stream.id}`)}>
              I have kept it, on to the desk
            </a>
          </div>
        </section>
      ) : (
        <section class="card wide">
          <h2>A new stream</h2>
          <Form submission={submission} fields={["title", "record"]} action="Make it" acting="Making…" on_submit={make}>
            <Field name="title" label="Title" hint="What viewers read below the picture." autocomplete="off" required maxLength={140} error={submission.of("title")} />
            <Check name="record" label="Keep what is broadcast" hint="Each broadcast can then be watched afterwards." />
          </Form>
        </section>
      )}
      <section class="card wide">
        <h2>Your streams</h2>
        {list.error !== null && <Failed title="Your streams could not be read" words={words_of(list.error)} action={{ label: "Try again", run: list.reload }} />}
        {!list.data && list.loading && <Loading what="Reading your streams" />}
        {list.data?.length === 0 && <p class="soft">You have none yet. One stream serves for any number of broadcasts.</p>}
        {list.data && list.data.length > 0 && (
          <ul class="rows">
            {list.data.map((stream) => (
              <li key={stream.id} class="row" data-stream={stream.id}>
                <div class="text">
                  <p class="name">
                    <a href={to(`/live/studio/${stream.id}`)}>{stream.title}</a>
                    <span class={stream.state === "live" ? "badge on-air" : "badge"}>{state_words(stream.state)}</span>
                  </p>
                  <p class="soft">
                    {stream.state === "live" && viewer_words(stream.viewers)}
                    {stream.state === "ended" && stream.ended_at && `Last broadcast ${ago(stream.ended_at)}`}
                    {stream.state === "idle" && `Made ${ago(stream.created_at)}`}
                    {stream.record && " · kept"}
                  </p>
                </div>
              </li>
            ))}
          </ul>
        )}
      </section>
    </Page>
  );
}
