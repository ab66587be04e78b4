/** The broadcaster's desk: how it goes, and what can be changed. */

import { useState } from "preact/hooks";
import { Problem, type Publishing, type PublisherStats, type Stream, type StreamStats, type TranscodingStats } from "../../client";
import { say } from "../../parts/announce";
import { Dialog } from "../../parts/dialog";
import { Check, Field, Form, useSubmission } from "../../parts/form";
import { Icon } from "../../parts/icon";
import { findings_of, rate_words, span_words, state_words, viewer_words } from "../../parts/live_words";
import { Page } from "../../parts/page";
import { useResource } from "../../parts/resource";
import { Failed, Loading, Notice } from "../../parts/states";
import { words_of } from "../../parts/words";
import { go, to } from "../../shell/router";
import type { PageProps } from "../../shell/routes";
import { nova } from "../../shell/session";
import { HowToPublish } from "./publish";
import { useEvery } from "./stream";

const LOOK_EVERY_MS = 2_000;

export function Desk({ params }: PageProps) {
  const id = params["stream"] ?? "";
  const found = useResource(() => nova.streams.get(id));
  const stream = found.data?.data ?? null;
  /** How often somebody gave up what they had typed for what the engine has. */
  const [given_up, set_given_up] = useState(0);
  if (!stream) {
    const missing = found.error instanceof Problem && found.error.status === 404;
    return (
      <Page title={missing ? "There is no such stream" : "Desk"}>
        {found.error === null && <Loading what="Reading the stream" />}
        {missing && (
          <p>
            It was deleted, or the address is not complete. <a href={to("/live/studio")}>See your streams</a>.
          </p>
        )}
        {found.error !== null && !missing && <Failed title="The stream could not be read" words={words_of(found.error)} action={{ label: "Try again", run: found.reload }} />}
      </Page>
    );
  }
  return (
    <Page title={stream.title} lead={<a href={to(`/live/${stream.id}`)}>Watch it as viewers do</a>}>
      <Health stream={stream} />
      <Key stream={stream} on_replaced={found.reload} />
      <Settings
        stream={stream}
        etag={found.data?.etag ?? null}
        on_changed={found.put}
        on_stale={async () => {
          found.put(await nova.streams.get(id));
          set_given_up(given_up + 1);
        }}
        key={given_up}
      />
      <Ending stream={stream} />
    </Page>
  );
}

/** How the broadcast goes, as of two seconds ago. */
function Health({ stream }: { stream: Stream }) {
  const [stats, set_stats] = useState<StreamStats | null>(null);
  const [error, set_error] = useState<unknown>(null);
  const look = () => {
    nova.streams.stats(stream.id).then(
      (seen) => {
        set_stats(seen);
        set_error(null);
      },
      (failed: unknown) => set_error(failed),
    );
  };
  useEvery(LOOK_EVERY_MS, look, [stream.id]);
  const publisher = stats?.publisher;
  return (
    <section class="card wide" id="health" data-state={stats?.state}>
      <h2>
        How it goes {stats && <span class={stats.state === "live" ? "badge on-air" : "badge"}>{state_words(stats.state)}</span>}
      </h2>
      {error !== null && (
        <Notice kind="bad">
          <p>{error instanceof Problem && error.status === 403 ? "Only its owner sees how a broadcast goes." : words_of(error)}</p>
        </Notice>
      )}
      {!stats && error === null && <Loading what="Looking" />}
      {stats && !publisher && stats.state !== "live" && <p class="soft">No encoder is connected. Start it with this stream's key, and what arrives is shown here.</p>}
      {stats && stats.state === "live" && !publisher && <p>The encoder is gone. Viewers wait a moment for it to come back.</p>}
      {publisher && <Arrivals publisher={publisher} />}
      {stats?.transcoding && <Renditions transcoding={stats.transcoding} />}
      {stats && (
        <dl class="figures">
          <Figure name="Viewers" value={viewer_words(stats.viewers)} />
          <Figure name="Most at a time" value={stats.viewers_peak.toLocaleString("en")} />
          <Figure name="Watched by all" value={span_words(stats.watched_s)} />
        </dl>
      )}
    </section>
  );
}

function Arrivals({ publisher }: { publisher: PublisherStats }) {
  return (
    <>
      <ul class="findings">
        {findings_of(publisher).map((one) => (
          <li key={one.title}>
            <Notice kind={one.kind}>
              <p>
                <strong>{one.title}.</strong> {one.words}
              </p>
            </Notice>
          </li>
        ))}
      </ul>
      <dl class="figures">
        <Figure name="Connected" value={span_words(publisher.connected_s)} />
        <Figure name="Picture" value={rate_words(publisher.video_bitrate_bps)} />
        <Figure name="Sound" value={rate_words(publisher.audio_bitrate_bps)} />
        <Figure name="Pictures a second" value={publisher.frames_per_s.toFixed(1)} />
        <Figure name="Between keyframes" value={`${(publisher.gop_ms / 1_000).toFixed(1)} s`} />
        <Figure name="B-frames" value={publisher.b_frames ? "Yes" : "No"} />
        <Figure name="Unevenness" value={`${Math.round(publisher.jitter_ms)} ms`} />
        <Figure name="Left out by the encoder" value={publisher.frames_skipped.toLocaleString("en")} />
        <Figure name="Timestamps mended" value={publisher.timestamps_mended.toLocaleString("en")} />
        {publisher.encoder && <Figure name="Encoder" value={publisher.encoder} />}
      </dl>
    </>
  );
}

/** What viewers with less bandwidth get. */
function Renditions({ transcoding }: { transcoding: TranscodingStats }) {
  const { state, renditions, refused, reason } = transcoding;
  return (
    <div id="renditions" data-state={state}>
      <h3>Smaller renditions</h3>
      {state === "restarting" && (
        <Notice kind="warn">
          <p>They stopped and are about to go on; viewers of them get the source meanwhile{reason ? ` (${reason})` : ""}.</p>
        </Notice>
      )}
      {refused.length > 0 && (
        <Notice kind="warn">
          <p>
            The server has no room for {refused.join(", ")}
            {reason ? `: ${reason}` : ""}.
          </p>
        </Notice>
      )}
      {renditions.length > 0 && (
        <dl class="figures">
          {renditions.map((one) => (
            <Figure key={one.name} name={one.name} value={one.flowing ? rate_words(one.bitrate_bps) : "Missing"} />
          ))}
        </dl>
      )}
    </div>
  );
}

function Figure({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** Another key is another version of the stream: what is saved after it has to be for that one. */
function Key({ stream, on_replaced }: { stream: Stream; on_replaced(): void }) {
  const submission = useSubmission();
  const [asking, set_asking] = useState(false);
  const [fresh, set_fresh] = useState<Publishing | null>(null);
  return (
    <section class="card wide">
      <h2>
        <Icon name="key" /> Stream key
      </h2>
      {fresh ? (
        <HowToPublish publishing={fresh} />
      ) : (
        <>
          <p class="soft">It was shown when it was made. If you have lost it, make a new one; the old one is void at once, and an encoder that uses it is sent away.</p>
          <div class="actions">
            <button type="button" onClick={() => set_asking(true)}>
              Make a new key…
            </button>
          </div>
        </>
      )}
      {asking && (
        <Dialog title="Replace the stream key?" on_close={() => set_asking(false)}>
          <p>An encoder that publishes with the old key is cut off now, and has to be given the new one.</p>
          <Form
            submission={submission}
            fields={[]}
            action="Replace it"
            acting="Replacing…"
            on_submit={async () => {
              set_fresh(await nova.streams.rotate_key(stream.id));
              set_asking(false);
              on_replaced();
              say("There is a new key. It is shown only now.");
            }}
            extra={
              <button type="button" onClick={() => set_asking(false)}>
                Keep the old one
              </button>
            }
          >
            {null}
          </Form>
        </Dialog>
      )}
    </section>
  );
}

interface SettingsProps {
  stream: Stream;
  etag: string | null;
  on_changed(answer: Awaited<ReturnType<typeof nova.streams.change>>): void;
  /** Takes what the engine has in place of what was typed. */
  on_stale(): Promise<void>;
}

function Settings({ stream, etag, on_changed, on_stale }: SettingsProps) {
  const submission = useSubmission();
  const [title, set_title] = useState(stream.title);
  const stale = submission.error instanceof Problem && submission.error.code === "precondition_failed";
  return (
    <section class="card wide">
      <h2>Settings</h2>
      <Form
        submission={submission}
        fields={["title", "record"]}
        action="Save"
        acting="Saving…"
        on_submit={async (value) => {
          on_changed(await nova.streams.change(stream.id, { title: value("title").trim(), record: value("record") === "on" }, etag));
          say("Saved.");
        }}
        extra={
          stale && (
            <button type="button" onClick={() => void submission.run(on_stale)}>
              Read it again
            </button>
          )
        }
      >
        <Field name="title" label="Title" value={title} onInput={(event) => set_title(event.currentTarget.value)} autocomplete="off" required maxLength={140} error={submission.of("title")} />
        <Check name="record" label="Keep what is broadcast" hint="Counts from the next broadcast on." checked={stream.record} />
      </Form>
    </section>
  );
}

function Ending({ stream }: { stream: Stream }) {
  const submission = useSubmission();
  const [asking, set_asking] = useState(false);
  return (
    <section class="card wide">
      <h2>Delete the stream</h2>
      <p class="soft">Its key is void, and whoever publishes to it is sent away. This cannot be taken back.</p>
      <div class="actions">
        <button type="button" class="danger ghost" onClick={() => set_asking(true)}>
          Delete this stream…
        </button>
      </div>
      {asking && (
        <Dialog title={`Delete “${stream.title}” for good?`} on_close={() => set_asking(false)}>
          <Form
            submission={submission}
            fields={[]}
            action="Delete it"
            acting="Deleting…"
            danger
            on_submit={async () => {
              await nova.streams.delete(stream.id);
              go("/live/studio", { replace: true });
              say("The stream is deleted.");
            }}
            extra={
              <button type="button" onClick={() => set_asking(false)}>
                Keep it
              </button>
            }
          >
            {null}
          </Form>
        </Dialog>
      )}
    </section>
  );
}
