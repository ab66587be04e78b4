/** What is kept of a stream's broadcasts. */

import { useEffect } from "preact/hooks";
import { take, type Stream } from "../../client";
import { span_words } from "../../parts/live_words";
import { useResource } from "../../parts/resource";
import { Notice } from "../../parts/states";
import { ago, day, words_of } from "../../parts/words";
import { to } from "../../shell/router";
import { nova } from "../../shell/session";
import { Thumbnail } from "./thumbnail";

/** Shown of one stream; older ones are found through the API. */
const RECORDINGS_SHOWN = 24;
const SOON_MS = 2_000;

export function Recordings({ stream }: { stream: Stream }) {
  return <List stream={stream} key={`${stream.id} ${stream.ended_at ?? ""}`} />;
}

function List({ stream }: { stream: Stream }) {
  const list = useResource(() => take(nova.streams.recordings(stream.id), RECORDINGS_SHOWN));
  // One that is finished just now is ready in a moment.
  const soon = stream.state !== "live" && (list.data ?? []).some((one) => one.state !== "ready");
  useEffect(() => {
    if (!soon) return undefined;
    const timer = setTimeout(list.reload, SOON_MS);
    return () => clearTimeout(timer);
  }, [list.data, soon]);
  const ready = list.data?.filter((one) => one.state === "ready") ?? [];
  if (list.error !== null) {
    return (
      <Notice kind="warn">
        <p>The recordings could not be read. {words_of(list.error)}</p>
      </Notice>
    );
  }
  if (ready.length === 0) return null;
  return (
    <section class="kept" aria-label="Recordings">
      <h2>Recordings</h2>
      <ul class="programme">
        {ready.map((one) => (
          <li key={one.id} data-recording={one.id}>
            <a href={to(`/live/${stream.id}/recordings/${one.id}`)}>
              <Thumbnail address={one.thumbnail_url} />
              <span class="badge length">{span_words(one.duration_ms / 1_000)}</span>
              <span class="name">{one.title}</span>
            </a>
            <p class="soft" title={day(one.started_at)}>
              {ago(one.started_at)}
            </p>
          </li>
        ))}
      </ul>
    </section>
  );
}
