/** The home feed: posts of those one follows, with a word when there are newer ones. */

import { useEffect, useRef, useState } from "preact/hooks";
import { PostComposer } from "./feed/composer";
import { ExplainDrawer } from "./feed/explain";
import { PostList, usePosts } from "./feed/list";
import { StoriesRow } from "./feed/stories";
import type { Feed, Post, Ranking } from "../client";
import { Icon } from "../parts/icon";
import { Page } from "../parts/page";
import { Notice } from "../parts/states";
import { ago } from "../parts/words";
import { useResource } from "../parts/resource";
import { the_socket } from "../shell/live";
import { nova, useSession } from "../shell/session";

/** The engine says over the socket when there is something newer; this is for what it could not say. */
const LOOK_EVERY_MS = 30_000;
/** Many posts in a moment are one look. */
const LOOK_AFTER_MS = 250;

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
  const [explaining, set_explaining] = useState(false);
  const me = useResource(async () => (await nova.accounts.me()).data);
  return (
    <Page title="Feed">
      <StoriesRow me={useSession()?.user_id ?? ""} />
      <PostComposer on_posted={set_posted} />
      <div class="switch" role="group" aria-label="Which posts">
        {(Object.keys(FEEDS) as Which[]).map((one) => (
          <button key={one} type="button" class="quiet" aria-pressed={which === one} onClick={() => set_which(one)}>
            {FEEDS[one]}
          </button>
        ))}
        {which !== "discover" && me.data?.roles.includes("admin") && (
          <button type="button" class="quiet why" onClick={() => set_explaining(true)}>
            Why these?
          </button>
        )}
      </div>
      {explaining && which !== "discover" && <ExplainDrawer mode={which} on_close={() => set_explaining(false)} />}
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
  // The newest post the engine has told of.
  const told = useRef("");

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
    let soon: ReturnType<typeof setTimeout> | undefined;
    const look_soon = () => {
      clearTimeout(soon);
      if (told.current > newest) soon = setTimeout(back, LOOK_AFTER_MS);
    };
    // What was told while the list was on its way may have come too late for it.
    if (!list.loading) look_soon();
    const deaf = the_socket().on("feed", (push) => {
      if (push.newest > told.current) told.current = push.newest;
      look_soon();
    });
    document.addEventListener("visibilitychange", back);
    addEventListener("focus", back);
    return () => {
      here = false;
      clearInterval(timer);
      clearTimeout(soon);
      deaf();
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
      <PostList list={list} me={me} empty={EMPTY[which]} ranking={ranking} />
    </>
  );
}
