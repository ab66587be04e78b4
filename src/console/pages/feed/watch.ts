/** Sees which posts of a list are on the screen, and for how long. */

import { useEffect, useRef } from "preact/hooks";
import type { Ranking } from "../../client";
import { nova } from "../../shell/session";

/** Half of a post, for so long, has been seen. */
const SEEN_MS = 500;
/** A shorter look says nothing. */
const DWELL_MIN_MS = 1_000;

/** Follows the posts below the element it is given; `ranking` is how the list came to be, null for lists that are not a feed. */
export function useWatched(ranking: Ranking | null, posts: readonly { id: string }[]) {
  const list = useRef<HTMLDivElement>(null);
  const from = useRef(ranking);
  from.current = ranking;
  const seen = useRef(new Set<string>());

  useEffect(() => {
    const element = list.current;
    if (element === null || from.current === null || typeof IntersectionObserver === "undefined") return;
    const since = new Map<string, number>();
    const leaves = (post: string, position: number) => {
      const began = since.get(post);
      if (began === undefined) return;
      since.delete(post);
      const dwell_ms = Date.now() - began;
      const { level, model } = from.current ?? { level: "", model: "" };
      if (dwell_ms >= SEEN_MS && !seen.current.has(post)) {
        seen.current.add(post);
        nova.behaviour.note({ action: "impression", post, position, level, model });
      }
      if (dwell_ms >= DWELL_MIN_MS) nova.behaviour.note({ action: "dwell", post, position, level, model, dwell_ms });
    };
    const place = new Map(posts.map((post, nth) => [post.id, nth]));
    const observer = new IntersectionObserver(
      (changes) => {
        for (const { target, isIntersecting } of changes) {
          const post = (target as HTMLElement).dataset["post"] ?? "";
          if (isIntersecting && !document.hidden) since.set(post, since.get(post) ?? Date.now());
          else leaves(post, place.get(post) ?? 0);
        }
      },
      { threshold: 0.5 },
    );
    for (const card of element.querySelectorAll("[data-post]")) observer.observe(card);
    const all_leave = () => {
      for (const post of [...since.keys()]) leaves(post, place.get(post) ?? 0);
    };
    const hidden = () => {
      if (!document.hidden) return;
      all_leave();
      void nova.behaviour.flush();
    };
    // Who follows a link to the post opens it; who likes it does so here.
    const opened = (event: Event) => {
      const target = event.target as HTMLElement;
      const post = target.closest<HTMLElement>("[data-post]")?.dataset["post"];
      if (post === undefined || target.closest("a.when") === null) return;
      const { level, model } = from.current ?? { level: "", model: "" };
      nova.behaviour.note({ action: "open", post, position: place.get(post) ?? 0, level, model });
    };
    document.addEventListener("visibilitychange", hidden);
    element.addEventListener("click", opened);
    return () => {
      observer.disconnect();
      all_leave();
      document.removeEventListener("visibilitychange", hidden);
      element.removeEventListener("click", opened);
    };
  }, [posts.map((post) => post.id).join(), ranking === null]);

  /** The reader liked a post where it stands in the list. */
  const liked = (post: string) => {
    if (from.current === null) return;
    const { level, model } = from.current;
    nova.behaviour.note({ action: "like", post, position: posts.findIndex((one) => one.id === post), level, model });
  };
  return { list, liked };
}
