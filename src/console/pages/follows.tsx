/** Who follows somebody, or whom they follow. */

import { useState } from "preact/hooks";
import { Problem, type Follow } from "../client";
import { Face } from "./chat/face";
import { Name } from "./feed/card";
import { Missing } from "./missing";
import { Page } from "../parts/page";
import { useResource } from "../parts/resource";
import { Failed, Loading } from "../parts/states";
import { day, words_of } from "../parts/words";
import type { PageProps } from "../shell/routes";
import { nova, useSession } from "../shell/session";

export function FollowsPage({ params }: PageProps) {
  const user = params["user"] ?? "";
  switch (params["list"]) {
    case "followers":
      return <Follows user={user} title="Followers" empty="Nobody follows them yet." read={(cursor) => nova.users.followers(user, cursor)} />;
    case "following":
      return <Follows user={user} title="Following" empty="They follow nobody yet." read={(cursor) => nova.users.following(user, cursor)} />;
    default:
      return <Missing />;
  }
}

interface FollowsProps {
  user: string;
  title: string;
  empty: string;
  read(page: { cursor?: string }): Promise<{ items: Follow[]; next_cursor?: string | null }>;
}

function Follows({ title, empty, read }: FollowsProps) {
  const me = useSession()?.user_id ?? "";
  const list = useResource(() => read({}));
  const [error, set_error] = useState<string | null>(null);
  const items = list.data?.items ?? [];

  const act = async (work: () => Promise<void>) => {
    set_error(null);
    try {
      await work();
    } catch (refused) {
      set_error(words_of(refused));
    }
  };
  const more = async () => {
    const cursor = list.data?.next_cursor;
    if (!cursor) return;
    const page = await read({ cursor });
    list.put({ ...page, items: [...items, ...page.items] });
  };
  const follow = async (one: Follow) => {
    await nova.users.follow(one.user.id, !one.followed_by_me);
    list.put({ ...list.data, items: items.map((other) => (other === one ? { ...one, followed_by_me: !one.followed_by_me } : other)) });
  };
  if (list.error instanceof Problem && list.error.status === 404) return <Missing />;
  return (
    <Page title={title}>
      {list.error !== null && <Failed title="The list could not be read" words={words_of(list.error)} action={{ label: "Try again", run: list.reload }} />}
      {!list.data && list.loading && <Loading what="Reading the list" />}
      {list.data && items.length === 0 && <p class="soft none">{empty}</p>}
      {error !== null && (
        <p class="wrong" role="alert">
          {error}
        </p>
      )}
      <ul class="rows">
        {items.map((one) => (
          <li key={one.user.id} class="row">
            <Face name={one.user.display_name} id={one.user.id} />
            <div class="text">
              <Name person={one.user} />
              <p class="soft">Since {day(one.since)}</p>
            </div>
            {one.user.id !== me && (
              <button type="button" aria-label={`${one.followed_by_me ? "Unfollow" : "Follow"} ${one.user.display_name}`} onClick={() => void act(() => follow(one))}>
                {one.followed_by_me ? "Unfollow" : "Follow"}
              </button>
            )}
          </li>
        ))}
      </ul>
      {list.data?.next_cursor && (
        <button type="button" class="more" onClick={() => void act(more)}>
          Show more
        </button>
      )}
    </Page>
  );
}
