/** A broadcast that was kept, played with the browser's own buttons. */

import { useEffect, useRef, useState } from "preact/hooks";
import { Problem, type Recording } from "../../client";
import { say } from "../../parts/announce";
import { Dialog } from "../../parts/dialog";
import { Form, useSubmission } from "../../parts/form";
import { size_words, span_words } from "../../parts/live_words";
import { Page } from "../../parts/page";
import { Playback } from "../../parts/playback";
import type { PlaybackState } from "../../parts/playing";
import { useResource } from "../../parts/resource";
import { Failed, Loading } from "../../parts/states";
import { day, words_of } from "../../parts/words";
import { go, to } from "../../shell/router";
import type { PageProps } from "../../shell/routes";
import { nova, useSession } from "../../shell/session";
import { own_origin } from "./stream";

export function RecordingPage({ params }: PageProps) {
  const [stream_id, id] = [params["stream"] ?? "", params["recording"] ?? ""];
  const found = useResource(async () => {
    const [recording, stream] = await Promise.all([nova.streams.recording(id), nova.streams.get(stream_id)]);
    return { recording, stream: stream.data };
  });
  const me = useSession()?.user_id;
  if (!found.data) {
    const missing = found.error instanceof Problem && found.error.status === 404;
    return (
      <Page title={missing ? "There is no such recording" : "Recording"}>
        {found.error === null && <Loading what="Looking for the recording" />}
        {missing && (
          <p>
            It was deleted, or the address is not complete. <a href={to(`/live/${stream_id}`)}>To the stream</a>.
          </p>
        )}
        {found.error !== null && !missing && <Failed title="The recording could not be read" words={words_of(found.error)} action={{ label: "Try again", run: found.reload }} />}
      </Page>
    );
  }
  const { recording, stream } = found.data;
  return (
    <div class="page theatre">
      <div class="seats">
        {recording.playback_url ? (
          <Screen url={own_origin(recording.playback_url)} title={recording.title} />
        ) : (
          <div class="stage curtain" role="status">
            <div>
              <h2>The broadcast goes on</h2>
              <p>What is kept of it can be played when it is over.</p>
            </div>
          </div>
        )}
        <div class="about">
          <h1 tabIndex={-1}>{recording.title}</h1>
          <p class="facts">
            <span>Broadcast on {day(recording.started_at)}</span>
            {recording.duration_ms > 0 && <span>{span_words(recording.duration_ms / 1_000)}</span>}
            {recording.size_bytes > 0 && <span>{size_words(recording.size_bytes)}</span>}
            <a href={to(`/live/${stream.id}`)}>To the stream</a>
          </p>
          {me === stream.owner && <Deleting recording={recording} />}
        </div>
      </div>
    </div>
  );
}

function Screen({ url, title }: { url: string; title: string }) {
  const video = useRef<HTMLVideoElement>(null);
  const [state, set_state] = useState<PlaybackState>("loading");
  useEffect(() => {
    if (!video.current) return undefined;
    const playback = new Playback({ video: video.current, url, live: false, changed: (view) => set_state(view.state) });
    return () => playback.destroy();
  }, [url]);
  return (
    <div class="stage" data-state={state}>
      <video ref={video} controls playsInline aria-label={`Recording: ${title}`} />
      {(state === "absent" || state === "failed") && (
        <p class="over" role="status">
          {state === "absent" ? "The recording is not there any more." : "This browser cannot play the recording. A newer one, or another, will."}
        </p>
      )}
    </div>
  );
}

function Deleting({ recording }: { recording: Recording }) {
  const submission = useSubmission();
  const [asking, set_asking] = useState(false);
  return (
    <div class="actions">
      <button type="button" class="danger ghost" onClick={() => set_asking(true)}>
        Delete this recording…
      </button>
      {asking && (
        <Dialog title="Delete this recording for good?" on_close={() => set_asking(false)}>
          <Form
            submission={submission}
            fields={[]}
            action="Delete it"
            acting="Deleting…"
            danger
            on_submit={async () => {
              await nova.streams.delete_recording(recording.id);
              go(`/live/${recording.stream}`, { replace: true });
              say("The recording is deleted.");
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
    </div>
  );
}
