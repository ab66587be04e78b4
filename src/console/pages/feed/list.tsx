/** Posts one below the other, page after page. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { Page, Post, Ranking } from "../../client";
import { Failed, Loading } from "../../parts/states";
import { words_of } from "../../parts/words";
import { Card } from "./card";
import { useWatched } from "./watch";

export interface Posts {
  posts: Post[];
  loading: boolean;
  error: unknown;
  ended: boolean;
  more(): void;
  /** Begins the list again. */
  again(): void;
  put(post: Post): void;
  add(post: Post): void;
  remove(post: Post): void;
}

/** The pages of a list as one; `page_at` may be asked again for a page that failed. */
export function usePosts(page_at: (cursor: string | undefined) => Promise<Page<Post>>): Posts {
  const [posts, set_posts] = useState<Post[]>([]);
  const [error, set_error] = useState<unknown>(null);
  const [loading, set_loading] = useState(true);
  const [ended, set_ended] = useState(false);
  const cursor = useRef<string | undefined>(undefined);
  const round = useRef(0);
  const busy = useRef(false);

  const load = async (first: boolean) => {
    if (busy.current && !first) return;
    busy.current = true;
    const mine = first ? ++round.current : round.current;
    set_loading(true);
    set_error(null);
    try {
      const page = await page_at(first ? undefined : cursor.current);
      if (mine !== round.current) return;
      cursor.current = page.next_cursor ?? undefined;
      set_ended(cursor.current === undefined);
      set_posts((before) => {
        if (first) return page.items;
        const known = new Set(before.map((post) => post.id));
        return [...before, ...page.items.filter((post) => !known.has(post.id))];
      });
    } catch (failed) {
      if (mine === round.current) set_error(failed);
    }
    if (mine === round.current) {
      busy.current = false;
      set_loading(false);
    }
  };
  useEffect(() => {
    void load(true);
    return () => {
      round.current += 1;
    };
  }, []);
  return {
    posts,
    error,
    loading,
    ended,
    more: () => void load(false),
    again: () => void load(true),
    put: (post) => set_posts((before) => before.map((one) => (one.id === post.id ? post : one))),
    add: (post) => set_posts((before) => [post, ...before.filter((one) => one.id !== post.id)]),
    remove: (post) => set_posts((before) => before.filter((one) => one.id !== post.id)),
  };
}

interface PostListProps {
  list: Posts;
  me: string;
  empty: string;
  /** How the list came to be, when it is a feed: then what the reader does with it is told. */
  ranking?: Ranking | null;
}

export function PostList({ list, me, empty, ranking }: PostListProps) {
  const { posts, loading, error, ended } = list;
  const watched = useWatched(ranking ?? null, posts);
  const put = (post: Post) => {
    const before = posts.find((one) => one.id === post.id);
    if (before && post.liked && !before.liked) watched.liked(post.id);
    list.put(post);
  };
  return (
    <>
      {posts.length === 0 && !loading && error === null && <p class="soft none">{empty}</p>}
      <div class="posts" role="feed" aria-busy={loading} ref={watched.list}>
        {posts.map((post) => (
          <Card key={post.id} post={post} me={me} on_change={put} on_gone={list.remove} />
        ))}
      </div>
      {error !== null && (
        <Failed
          title="The posts could not be read"
          words={words_of(error)}
          action={{ label: "Try again", run: posts.length === 0 ? list.again : list.more }}
        />
      )}
      {loading && <Loading what="Reading posts" />}
      {!loading && !ended && error === null && (
        <button type="button" class="more" onClick={list.more}>
          Show older posts
        </button>
      )}
    </>
  );
}
