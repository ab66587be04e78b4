/** Somebody: what they tell about themself, what they post, and how one stands to them. */

import { useState } from "preact/hooks";
import { Problem, type Profile } from "../client";
import { PostList, usePosts } from "./feed/list";
import { Face } from "./chat/face";
import { say } from "../parts/announce";
import { Page } from "../parts/page";
import { useResource } from "../parts/resource";
import { Failed, Loading } from "../parts/states";
import { day, words_of } from "../parts/words";
import { to } from "../shell/router";
import type { PageProps } from "../shell/routes";
import { nova, useSession } from "../shell/session";

export function PersonPage({ params }: PageProps) {
  const who = params["user"] ?? "";
  const me = useSession()?.user_id ?? "";
  const profile = useResource(async () => (await nova.users.get(who)).data);

  if (profile.error instanceof Problem && profile.error.status === 404) {
    return (
      <Page title="There is nobody of this name">
        <p>The account was deleted, or the address is not right.</p>
      </Page>
    );
  }
  const person = profile.data;
  return (
    <Page title={person?.display_name ?? "Profile"}>
      {profile.error !== null && (
        <Failed title="The profile could not be read" words={words_of(profile.error)} action={{ label: "Try again", run: profile.reload }} />
      )}
      {!person && profile.loading && <Loading what="Reading the profile" />}
      {person && <About person={person} me={me} on_change={profile.put} />}
      {person && <Theirs key={`${person.id} ${person.relation.following}`} person={person} me={me} />}
    </Page>
  );
}

function About({ person, me, on_change }: { person: Profile; me: string; on_change(person: Profile): void }) {
  const [busy, set_busy] = useState(false);
  const [error, set_error] = useState<string | null>(null);
  const { relation } = person;
  const address = to(`/people/${person.id}`);

  const act = async (work: () => Promise<void>, words: string) => {
    if (busy) return;
    set_busy(true);
    set_error(null);
    try {
      await work();
      on_change((await nova.users.get(person.id)).data);
      say(words);
    } catch (refused) {
      set_error(words_of(refused));
    }
    set_busy(false);
  };
  return (
    <section class="person-head">
      <Face name={person.display_name} id={person.id} />
      <div>
        <p class="soft">
          @{person.username} · here since {day(person.created_at)}
          {relation.followed_by && <span class="badge">Follows you</span>}
        </p>
        {person.bio && (
          <p class="words" dir="auto">
            {person.bio}
          </p>
        )}
        <p class="numbers">
          <span>
            <strong>{person.posts}</strong> posts
          </span>
          <a href={`${address}/followers`}>
            <strong>{person.followers}</strong> {person.followers === 1 ? "follower" : "followers"}
          </a>
          <a href={`${address}/following`}>
            <strong>{person.following}</strong> following
          </a>
        </p>
        {person.id === me ? (
          <a class="button" href={to("/profile")}>
            Edit your profile
          </a>
        ) : (
          <div class="actions">
            {relation.blocked ? null : relation.following ? (
              <button type="button" aria-disabled={busy} onClick={() => void act(() => nova.users.follow(person.id, false), `You follow ${person.display_name} no longer.`)}>
                Unfollow
              </button>
            ) : (
              <button type="button" class="primary" aria-disabled={busy} onClick={() => void act(() => nova.users.follow(person.id, true), `You follow ${person.display_name}.`)}>
                Follow
              </button>
            )}
            {!relation.blocked && (
              <button type="button" class="quiet" aria-disabled={busy} onClick={() => void act(() => nova.users.mute(person.id, !relation.muted), relation.muted ? "Shown in your feed again." : "No longer shown in your feed.")}>
                {relation.muted ? "Unmute" : "Mute"}
              </button>
            )}
            <button type="button" class="quiet" aria-disabled={busy} onClick={() => void act(() => (relation.blocked ? nova.users.unblock(person.id) : nova.users.block(person.id)), relation.blocked ? "Not blocked any more." : "Blocked. Neither of you sees the other.")}>
              {relation.blocked ? "Unblock" : "Block"}
            </button>
          </div>
        )}
        {error !== null && (
          <p class="wrong" role="alert">
            {error}
          </p>
        )}
      </div>
    </section>
  );
}

function Theirs({ person, me }: { person: Profile; me: string }) {
  const list = usePosts((cursor) => nova.posts.of(person.id, cursor === undefined ? {} : { cursor }));
  return (
    <section aria-labelledby="posts-head">
      <h2 id="posts-head">Posts</h2>
      <PostList list={list} me={me} empty={person.relation.blocked ? "You have blocked each other's view." : "Nothing posted yet."} />
    </section>
  );
}
