/** A post as it stands in a list, and what one does with it there. */

import { useState } from "preact/hooks";
import type { Author, Post } from "../../client";
import { say } from "../../parts/announce";
import { Dialog } from "../../parts/dialog";
import { Area, Form, useSubmission } from "../../parts/form";
import { Icon } from "../../parts/icon";
import { ago, words_of } from "../../parts/words";
import { to } from "../../shell/router";
import { nova } from "../../shell/session";
import { Face } from "../chat/face";

export const VISIBILITY = { public: "Everybody", followers: "Followers", private: "Only you" } as const;

/** A text with its tags and names set off; names lead to people. */
export function Words({ text }: { text: string }) {
  const parts = text.split(/((?<![\p{L}\p{N}\p{M}_])[#＃@＠][\p{L}\p{N}\p{M}_]+(?:[.-][\p{L}\p{N}\p{M}_]+)*)/u);
  return (
    <p class="words" dir="auto">
      {parts.map((part, nth) => {
        if (nth % 2 === 0) return part;
        if (/^[@＠]/.test(part)) return <a href={to(`/people/@${encodeURIComponent(part.slice(1))}`)}>{part}</a>;
        return <span class="tag">{part}</span>;
      })}
    </p>
  );
}

export function Name({ person }: { person: Author }) {
  return (
    <a class="who" href={to(`/people/${person.id}`)}>
      <bdi>{person.display_name}</bdi> <span class="soft">@{person.username}</span>
    </a>
  );
}

interface CardProps {
  post: Post;
  me: string;
  /** It is shown on a page of its own. */
  alone?: boolean;
  on_change(post: Post): void;
  on_gone(post: Post): void;
}

export function Card({ post, me, alone, on_change, on_gone }: CardProps) {
  const [liking, set_liking] = useState(false);
  const [error, set_error] = useState<string | null>(null);
  const [dialog, set_dialog] = useState<"edit" | "delete" | null>(null);
  const own = post.author.id === me;

  const like = async () => {
    if (liking) return;
    set_liking(true);
    set_error(null);
    const liked = !post.liked;
    // Shown at once; taken back when the engine says no.
    on_change({ ...post, liked, likes: post.likes + (liked ? 1 : -1) });
    try {
      on_change({ ...post, ...(await nova.posts.like(post.id, liked)) });
    } catch (refused) {
      on_change(post);
      set_error(words_of(refused));
    }
    set_liking(false);
  };

  return (
    <article class="post" data-post={post.id} aria-label={`Post by ${post.author.display_name}`}>
      <Face name={post.author.display_name} id={post.author.id} />
      <div class="body">
        <header>
          <Name person={post.author} />
          <a class="when soft" href={to(`/posts/${post.id}`)}>
            <time dateTime={post.created_at} title={new Date(post.created_at).toLocaleString("en-GB")}>
              {ago(post.created_at)}
            </time>
            {post.edited_at && " · edited"}
          </a>
          {post.visibility !== "public" && (
            <span class="badge">
              <Icon name="lock" /> {VISIBILITY[post.visibility]}
            </span>
          )}
        </header>
        <Words text={post.text} />
        <footer>
          <button type="button" class={post.liked ? "quiet like on" : "quiet like"} aria-pressed={post.liked} onClick={() => void like()}>
            <Icon name="heart" filled={post.liked} />
            <span class="unseen">{post.liked ? "Liked, " : "Like, "}</span>
            {post.likes}
          </button>
          {alone ? (
            <span class="answers soft">
              <Icon name="chat" /> {post.comments}
            </span>
          ) : (
            <a class="answers" href={to(`/posts/${post.id}`)} aria-label={`${post.comments} comments`}>
              <Icon name="chat" /> {post.comments}
            </a>
          )}
          {own && (
            <>
              <button type="button" class="quiet" aria-label="Edit this post" title="Edit" onClick={() => set_dialog("edit")}>
                <Icon name="edit" />
              </button>
              <button type="button" class="quiet" aria-label="Delete this post" title="Delete" onClick={() => set_dialog("delete")}>
                <Icon name="bin" />
              </button>
            </>
          )}
        </footer>
        {error !== null && (
          <p class="wrong" role="alert">
            {error}
          </p>
        )}
      </div>
      {dialog === "edit" && <Edit post={post} on_close={() => set_dialog(null)} on_done={(edited) => (set_dialog(null), on_change(edited))} />}
      {dialog === "delete" && <Delete post={post} on_close={() => set_dialog(null)} on_done={() => (set_dialog(null), on_gone(post))} />}
    </article>
  );
}

function Edit({ post, on_close, on_done }: { post: Post; on_close(): void; on_done(post: Post): void }) {
  const submission = useSubmission();
  const [text, set_text] = useState(post.text);
  return (
    <Dialog title="Edit this post" on_close={on_close}>
      <Form
        submission={submission}
        fields={["text"]}
        action="Save"
        acting="Saving…"
        on_submit={async () => {
          on_done(await nova.posts.edit(post.id, { text }, { if_match: `"v${post.version}"` }));
          say("Saved.");
        }}
        extra={
          <button type="button" onClick={on_close}>
            Leave it as it is
          </button>
        }
      >
        <Area name="text" label="Text" rows={5} value={text} required maxLength={5000} error={submission.of("text")} onInput={(event) => set_text(event.currentTarget.value)} />
      </Form>
    </Dialog>
  );
}

function Delete({ post, on_close, on_done }: { post: Post; on_close(): void; on_done(): void }) {
  const submission = useSubmission();
  return (
    <Dialog title="Delete this post?" on_close={on_close}>
      <p>It is gone for everybody at once, with its comments and likes.</p>
      <Form
        submission={submission}
        fields={[]}
        action="Delete it"
        acting="Deleting…"
        danger
        on_submit={async () => {
          await nova.posts.remove(post.id);
          on_done();
          say("Deleted.");
        }}
        extra={
          <button type="button" onClick={on_close}>
            Keep it
          </button>
        }
      >
        {null}
      </Form>
    </Dialog>
  );
}
