/** What is on the air. */

import { useRef, useState } from "preact/hooks";
import type { Stream } from "../client";
import { Icon } from "../parts/icon";
import { viewer_words } from "../parts/live_words";
import { Thumbnail } from "./live/thumbnail";
import { Page } from "../parts/page";
import { Failed, Loading } from "../parts/states";
import { ago, words_of } from "../parts/words";
import { to } from "../shell/router";
import { nova } from "../shell/session";
import { useEvery, usePerson } from "./live/stream";

const LOOK_EVERY_MS = 10_000;
/** More than this many streams are a matter for search. */
const STREAMS_SHOWN = 60;

export function Live() {
  const [list, set_list] = useState<{ streams: Stream[] | null; more: boolean; error: unknown }>({ streams: null, more: false, error: null });
  const round = useRef(0);
  const look = async () => {
    const mine = ++round.current;
    try {
      const streams: Stream[] = [];
      let more = false;
      for await (const stream of nova.streams.live()) {
        more = streams.length === STREAMS_SHOWN;
        if (more) break;
        streams.push(stream);
      }
      if (mine === round.current) set_list({ streams, more, error: null });
    } catch (error) {
      if (mine === round.current) set_list((before) => ({ ...before, error }));
    }
  };
  useEvery(LOOK_EVERY_MS, () => void look());
  const { streams, more, error } = list;
  return (
    <Page title="Live" lead="What is on the air now.">
      <div class="actions">
        <a class="button primary" href={to("/live/studio")}>
          <Icon name="live" /> Go live
        </a>
      </div>
      {!streams && error === null && <Loading what="Looking for broadcasts" />}
      {error !== null && <Failed title="The list could not be read" words={words_of(error)} action={{ label: "Try again", run: () => void look() }} />}
      {streams?.length === 0 && <p class="soft">Nobody is live at the moment. This page notices when somebody is.</p>}
      {streams && streams.length > 0 && (
        <ul class="programme">
          {streams.map((stream) => (
            <Card stream={stream} key={stream.id} />
          ))}
        </ul>
      )}
      {more && <p class="soft">There are more than can be shown here.</p>}
    </Page>
  );
}

function Card({ stream }: { stream: Stream }) {
  const owner = usePerson(stream.owner);
  return (
    <li data-stream={stream.id}>
      <a href={to(`/live/${stream.id}`)}>
        <Thumbnail address={stream.thumbnail_url} />
        <span class="badge on-air">Live</span>
        <span class="name">{stream.title}</span>
      </a>
      <p class="soft">
        {owner ? `${owner.display_name} · ` : ""}
        {viewer_words(stream.viewers)}
        {stream.started_at ? ` · began ${ago(stream.started_at)}` : ""}
      </p>
    </li>
  );
}
