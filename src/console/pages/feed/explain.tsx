/** Why the posts of a page stand where they stand; for administrators. */

import type { FeedMode, Post } from "../../client";
import { Dialog } from "../../parts/dialog";
import { useResource } from "../../parts/resource";
import { Failed, Loading } from "../../parts/states";
import { ago, words_of } from "../../parts/words";
import { nova } from "../../shell/session";

const number = (value: number): string => value.toFixed(3);

export function ExplainDrawer({ mode, on_close }: { mode: FeedMode; on_close(): void }) {
  const feed = useResource(() => nova.posts.home({ mode, limit: 20, explain: true }));
  const ranking = feed.data?.ranking;
  const explain = ranking?.explain;
  const post_of = (id: string): Post | undefined => feed.data?.items.find((post) => post.id === id);
  return (
    <Dialog title="How this page was made" on_close={on_close}>
      {feed.error !== null && <Failed title="It could not be read" words={words_of(feed.error)} action={{ label: "Try again", run: feed.reload }} />}
      {feed.loading && <Loading what="Asking the engine" />}
      {ranking && explain && (
        <div class="explain">
          <dl>
            <dt>Level</dt>
            <dd>{ranking.level}</dd>
            <dt>Ordered by</dt>
            <dd>{ranking.model}</dd>
            {ranking.reason && (
              <>
                <dt>Because</dt>
                <dd>{ranking.reason}</dd>
              </>
            )}
            <dt>Fresh as of</dt>
            <dd>{ago(ranking.fresh_as_of)}</dd>
            {explain.experiment && (
              <>
                <dt>Experiment</dt>
                <dd>
                  {explain.experiment.name}, arm {explain.experiment.arm}
                </dd>
              </>
            )}
          </dl>
          <ul class="tried" aria-label="Levels that were tried">
            {explain.tried.map((one) => (
              <li key={one.level}>
                <strong>{one.level}</strong> {one.outcome} in {one.took_ms.toFixed(1)} of {one.budget_ms} ms
              </li>
            ))}
          </ul>
          <ol>
            {explain.posts.map((one) => (
              <li key={one.post}>
                <p class="line" dir="auto">
                  {post_of(one.post)?.text ?? one.post}
                </p>
                <p class="soft">
                  {one.score !== undefined && <>score {number(one.score)} · </>}
                  {Object.entries(one.parts ?? one.features)
                    .map(([name, value]) => `${name} ${number(value)}`)
                    .join(" · ")}
                </p>
              </li>
            ))}
          </ol>
        </div>
      )}
      <div class="actions">
        <button type="button" onClick={on_close}>
          Close
        </button>
      </div>
    </Dialog>
  );
}
