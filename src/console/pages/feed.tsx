/** The home feed: posts of those one follows, with a word when there are newer ones. */

import { useEffect, useRef, useState } from "preact/hooks";
import { PostComposer } from "./feed/composer";
import { PostList, usePosts } from "./feed/list";
import type { Post } from "../client";
import { Icon } from "../parts/icon";
import { Page } from "../parts/page";
import { nova, useSession } from "../shell/session";

/** How often it is asked for newer posts while somebody looks at it. */
const LOOK_EVERY_MS = 15_000;

export function FeedPage() {
  const [posted, set_posted] = useState<Post | null>(null);
  return (
    <Page title="Feed">
      <PostComposer on_posted={set_posted} />
      <OneFeed posted={posted} />
    </Page>
  );
}

/** The feed, with a word when there are newer posts than it shows. */
function OneFeed({ posted }: { posted: Post | null }) {
  const me = useSession()?.user_id ?? "";
  const list = usePosts((cursor) => nova.posts.home(cursor === undefined ? {} : { cursor }));
  const newest = list.posts[0]?.id ?? "";
  const [newer, set_newer] = useState(0);
  const seen = useRef(posted?.id);

  useEffect(() => {
    if (posted && posted.id !== seen.current) list.add(posted);
    seen.current = posted?.id;
  }, [posted]);
  useEffect(() => {
    set_newer(0);
    let here = true;
    const look = async () => {
      if (document.hidden || list.loading) return;
      try {
        const page = await nova.posts.home({ limit: 10 }, { tries: 1 });
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
      <div class="pill-place" role="status">
        {newer > 0 && (
          <button type="button" class="pill" onClick={show_newer}>
            <Icon name="arrow" />
            {newer === 1 ? "One new post" : newer >= 10 ? "Many new posts" : `${newer} new posts`}
          </button>
        )}
      </div>
      <PostList list={list} me={me} empty="Nothing here yet. Post something, or follow somebody from their profile." />
    </>
  );
}
