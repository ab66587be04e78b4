/** One stream, watched: the picture, what is known of it, and the truth when there is nothing to see. */

import { useEffect, useState } from "preact/hooks";
import { Problem, type Stream } from "../../client";
import { Icon } from "../../parts/icon";
import { state_words, viewer_words } from "../../parts/live_words";
import type { PlaybackView } from "../../parts/playing";
import { Page } from "../../parts/page";
import { whep_url } from "../../parts/whep";
import { Failed, Loading } from "../../parts/states";
import { ago, words_of } from "../../parts/words";
import { to } from "../../shell/router";
import type { PageProps } from "../../shell/routes";
import { useSession } from "../../shell/session";
import { LivePlayer } from "./player";
import { ChatColumn } from "./chat_column";
import { Recordings } from "./recordings";
import { own_origin, usePerson, useStream } from "./stream";

/** How often the stream's state is read: who waits for a broadcast waits no longer than this for it to begin. */
const LOOK_EVERY_MS = 3_000;

export function Watch({ params }: PageProps) {
  const id = params["stream"] ?? "";
  const { stream, error, reload } = useStream(id, LOOK_EVERY_MS);
  if (!stream) {
    const missing = error instanceof Problem && error.status === 404;
    return (
      <Page title={missing ? "There is no such stream" : "Live"}>
        {error === null ? (
          <Loading what="Looking for the stream" />
        ) : missing ? (
          <p>
            It was deleted, or the address is not complete. <a href={to("/live")}>See what is on the air</a>.
          </p>
        ) : (
          <Failed title="The stream could not be read" words={words_of(error)} action={{ label: "Try again", run: reload }} />
        )}
      </Page>
    );
  }
  return <Theatre stream={stream} look={reload} key={stream.id} />;
}

function Theatre({ stream, look }: { stream: Stream; look(): void }) {
  const owner = usePerson(stream.owner);
  const mine = useSession()?.user_id === stream.owner;
  const [view, set_view] = useState<PlaybackView | null>(null);
  /** Told by the chat's connection as it changes; the stream itself is read more seldom. */
  const [viewers, set_viewers] = useState<number | null>(null);
  // Each broadcast is played by a player of its own; one that has shown its end stays until the next begins.
  const broadcast = stream.state === "live" ? (stream.started_at ?? null) : null;
  // Its address stays the one it began with: what is signed is signed anew whenever the stream is read.
  const [playing, set_playing] = useState(broadcast === null ? null : { broadcast, url: own_origin(stream.playback_url) });
  useEffect(() => {
    if (broadcast !== null && broadcast !== playing?.broadcast) {
      set_view(null);
      set_playing({ broadcast, url: own_origin(stream.playback_url) });
    }
  }, [broadcast]);

  // Who watches over WebRTC is not told the end, only that nothing comes.
  const starves = stream.state === "ended" && (view?.state === "waiting" || view?.state === "loading");
  const over = view?.state === "ended" || view?.state === "absent" || starves;
  const shown = playing !== null && !over;
  return (
    <div class="page theatre">
      <div class="seats">
        {shown ? (
          <LivePlayer
            url={playing.url}
            whep={whep_url(own_origin(stream.playback_url))}
            title={stream.title}
            on_view={set_view}
            on_starving={look}
            key={playing.broadcast}
          />
        ) : (
          <Curtain stream={stream} />
        )}
        <div class="about">
          <h1 tabIndex={-1}>{stream.title}</h1>
          <p class="facts">
            <span class={stream.state === "live" ? "badge on-air" : "badge"}>{state_words(stream.state)}</span>
            {stream.state === "live" && (
              <span id="viewers">
                <Icon name="eye" /> {viewer_words(viewers ?? stream.viewers)}
              </span>
            )}
            {stream.state === "live" && stream.started_at && <span>began {ago(stream.started_at)}</span>}
            {owner && <span>by {owner.display_name}</span>}
            {mine && <a href={to(`/live/studio/${stream.id}`)}>Your desk</a>}
          </p>
        </div>
        <Recordings stream={stream} />
      </div>
      <ChatColumn stream={stream} on_viewers={set_viewers} />
    </div>
  );
}

/** What stands in the picture's place. */
function Curtain({ stream }: { stream: Stream }) {
  return (
    <div class="stage curtain" role="status">
      <div>
        <Icon name="live" />
        {stream.state === "idle" && (
          <>
            <h2>Not live yet</h2>
            <p>This page begins by itself when the broadcast does.</p>
          </>
        )}
        {stream.state === "ended" && (
          <>
            <h2>The broadcast has ended</h2>
            <p>
              {stream.ended_at && `It was over ${ago(stream.ended_at)}. `}This page begins by itself when there is another.
            </p>
          </>
        )}
        {stream.state === "live" && (
          <>
            <h2>The broadcast has ended</h2>
            <p>Its last moment was just shown.</p>
          </>
        )}
      </div>
    </div>
  );
}
