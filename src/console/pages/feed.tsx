/** The home feed: posts of those one follows, with a word when there are newer ones. */

import { useEffect, useRef, useState } from "preact/hooks";
import { PostComposer } from "./feed/composer";
import { PostList, usePosts } from "./feed/list";
import type { Feed, Post, Ranking } from "../client";
import { Icon } from "../parts/icon";
import { Page } from "../parts/page";
import { Notice } from "../parts/states";
import { ago } from "../parts/words";
import { nova, useSession } from "../shell/session";

/** How often it is asked for newer posts while somebody looks at it. */
const LOOK_EVERY_MS = 15_000;

const FEEDS = { latest: "Latest", ranked: "For you", discover: "Discover" } as const;
type Which = keyof typeof FEEDS;

const EMPTY: Record<Which, string> = {
  latest: "Nothing here yet. Post something, or find somebody to follow under Discover.",
  ranked: "Nothing here yet. Post something, or find somebody to follow under Discover.",
  discover: "Nobody you do not follow has posted anything.",
};

export function FeedPage() {
  const [which, set_which] = useState<Which>("latest");
  const [posted, set_posted] = useState<Post | null>(null);
  return (
    <Page title="Feed">
      <PostComposer on_posted={set_posted} />
      <div class="switch" role="group" aria-label="Which posts">
        {(Object.keys(FEEDS) as Which[]).map((one) => (
          <button key={one} type="button" class="quiet" aria-pressed={which === one} onClick={() => set_which(one)}>
            {FEEDS[one]}
          </button>
        ))}
      </div>
      <OneFeed key={which} which={which} posted={posted} />
    </Page>
  );
}

/** One of the feeds, with a word when there are newer posts than it shows. */
function OneFeed({ which, posted }: { which: Which; posted: Post | null }) {
  const me = useSession()?.user_id ?? "";
  const [ranking, set_ranking] = useState<Ranking | null>(null);
  const read = (page: { cursor?: string; limit?: number }): Promise<Feed> =>
    which === "discover" ? nova.posts.discover(page) : nova.posts.home({ ...page, mode: which });
  const list = usePosts(async (cursor) => {
    const page = await read(cursor === undefined ? {} : { cursor });
    set_ranking(page.ranking);
    return page;
  });
  // The newest that was shown; in a ranked feed it need not be the first.
  const newest = list.posts.reduce((top, post) => (post.id > top ? post.id : top), "");
  const [newer, set_newer] = useState(0);
  const seen = useRef(posted?.id);

  useEffect(() => {
    if (posted && posted.id !== seen.current && which !== "discover") list.add(posted);
    seen.current = posted?.id;
  }, [posted]);
  useEffect(() => {
    set_newer(0);
    let here = true;
    const look = async () => {
      if (document.hidden || list.loading) return;
      try {
        const page = await (which === "discover" ? nova.posts.discover({ limit: 10 }) : nova.posts.home({ limit: 10 }, { tries: 1 }));
        // Ids sort by the time they were made.
        if (here) set_newer(page.items.filter((post) => post.id > newest && post.author.id !== me).length);
      } catch {
        // The next look says more; the list itself tells when the engine is away.
      }
    };
    const timer = setInterval(() => void look(), LOOK_EVERY_MS);
    const back = () => void look();
    document.addEventListener("visibilitychange", back);
    addEventListener("focus", back);
    return () => {
      here = false;
      clearInterval(timer);
      document.removeEventListener("visibilitychange", back);
      removeEventListener("focus", back);
    };
  }, [newest, list.loading]);

  const show_newer = () => {
    set_newer(0);
    list.again();
    scrollTo({ top: 0 });
    document.querySelector<HTMLElement>("h1")?.focus({ preventScroll: true });
  };
  return (
    <>
      {ranking?.level === "last_good" && (
        <Notice kind="warn">
          <p>What is kept cannot be reached right now. This is the feed as of {ago(ranking.fresh_as_of)}.</p>
        </Notice>
      )}
      <div class="pill-place" role="status">
        {newer > 0 && (
          <button type="button" class="pill" onClick={show_newer}>
            <Icon name="arrow" />
            {newer === 1 ? "One new post" : newer >= 10 ? "Many new posts" : `${newer} new posts`}
          </button>
        )}
      </div>
      <PostList list={list} me={me} empty={EMPTY[which]} />
    </>
  );
}
