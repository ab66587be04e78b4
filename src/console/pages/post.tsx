/** One post with what people say about it. */

import { useRef, useState } from "preact/hooks";
import { fresh_id, Problem, take, walk, type Comment } from "../client";
import { Card, Name, Words } from "./feed/card";
import { Face } from "./chat/face";
import { say } from "../parts/announce";
import { Form, useSubmission } from "../parts/form";
import { Page } from "../parts/page";
import { useResource } from "../parts/resource";
import { Failed, Loading } from "../parts/states";
import { ago, words_of } from "../parts/words";
import { go } from "../shell/router";
import type { PageProps } from "../shell/routes";
import { nova, useSession } from "../shell/session";

/** Comments shown at once; the rest is asked for. */
const PAGE = 50;

export function PostPage({ params }: PageProps) {
  const id = params["post"] ?? "";
  const me = useSession()?.user_id ?? "";
  const post = useResource(async () => (await nova.posts.get(id)).data);
  const comments = useResource(() => nova.posts.comments(id, { limit: PAGE }));

  if (post.error instanceof Problem && post.error.status === 404) {
    return (
      <Page title="There is no such post">
        <p>It was deleted, or it is not for you to read.</p>
      </Page>
    );
  }
  const more = async () => {
    const before = comments.data;
    const cursor = before?.next_cursor;
    if (!before || !cursor) return;
    const page = await nova.posts.comments(id, { cursor, limit: PAGE });
    comments.put({ ...page, items: [...before.items, ...page.items] });
  };
  const count = (by: number) => post.data && post.put({ ...post.data, comments: post.data.comments + by });
  const put = (items: Comment[]) => comments.put({ ...comments.data, items });
  const items = comments.data?.items ?? [];
  return (
    <Page title="Post">
      {post.error !== null && <Failed title="The post could not be read" words={words_of(post.error)} action={{ label: "Try again", run: post.reload }} />}
      {!post.data && post.loading && <Loading what="Reading the post" />}
      {post.data && (
        <>
          <div class="posts">
            <Card post={post.data} me={me} alone on_change={post.put} on_gone={() => go("/feed", { replace: true })} />
          </div>
          <section class="comments" aria-labelledby="comments-head">
            <h2 id="comments-head">Comments</h2>
            <Say post={id} label="What do you say to it?" on_said={(comment) => (put([...items, comment]), count(1))} />
            {comments.error !== null && (
              <Failed title="The comments could not be read" words={words_of(comments.error)} action={{ label: "Try again", run: comments.reload }} />
            )}
            {items.length === 0 && !comments.loading && <p class="soft none">Nobody has said anything yet.</p>}
            <ul>
              {items.map((comment) => (
                <Thread
                  key={comment.id}
                  comment={comment}
                  me={me}
                  mine={post.data?.author.id === me}
                  on_count={count}
                  on_change={(changed) => put(changed ? items.map((one) => (one.id === changed.id ? changed : one)) : items.filter((one) => one.id !== comment.id))}
                />
              ))}
            </ul>
            {comments.data?.next_cursor && (
              <button type="button" class="more" onClick={() => void more()}>
                Show more comments
              </button>
            )}
          </section>
        </>
      )}
    </Page>
  );
}

interface ThreadProps {
  comment: Comment;
  me: string;
  /** The post is one's own. */
  mine: boolean;
  on_count(by: number): void;
  /** What it has become; null when it is gone. */
  on_change(comment: Comment | null): void;
}

/** A comment with its replies. */
function Thread({ comment, me, mine, on_count, on_change }: ThreadProps) {
  const [replies, set_replies] = useState<Comment[] | null>(null);
  const [answering, set_answering] = useState(false);
  const [error, set_error] = useState<string | null>(null);

  const show = async () => {
    set_error(null);
    try {
      const { post, id } = comment;
      set_replies(await take(walk((cursor) => nova.posts.comments(post, cursor === undefined ? { parent: id } : { parent: id, cursor })), 500));
    } catch (failed) {
      set_error(words_of(failed));
    }
  };
  const remove = async (which: Comment) => {
    set_error(null);
    try {
      await nova.posts.remove_comment(which.id);
    } catch (failed) {
      set_error(words_of(failed));
      return;
    }
    on_count(-1);
    say("Deleted.");
    if (which.id !== comment.id) {
      set_replies((before) => before?.filter((one) => one.id !== which.id) ?? null);
      const left = comment.replies - 1;
      on_change(comment.deleted && left === 0 ? null : { ...comment, replies: left });
    } else if (comment.replies > 0) on_change({ ...comment, deleted: true, text: "" });
    else on_change(null);
  };
  const line = (one: Comment) => (
    <div class="comment" data-comment={one.id}>
      <Face name={one.author.display_name} id={one.author.id} />
      <div class="body">
        <header>
          <Name person={one.author} /> <span class="soft">{ago(one.created_at)}</span>
        </header>
        {one.deleted ? <p class="soft">This comment was deleted.</p> : <Words text={one.text} />}
        {!one.deleted && (
          <footer>
            <button type="button" class="quiet" onClick={() => set_answering(true)}>
              Reply
            </button>
            {(one.author.id === me || mine) && (
              <button type="button" class="quiet" aria-label={`Delete the comment by ${one.author.display_name}`} onClick={() => void remove(one)}>
                Delete
              </button>
            )}
          </footer>
        )}
      </div>
    </div>
  );
  return (
    <li>
      {line(comment)}
      <div class="replies">
        {replies?.map((reply) => <div key={reply.id}>{line(reply)}</div>)}
        {replies === null && comment.replies > 0 && (
          <button type="button" class="quiet" onClick={() => void show()}>
            {comment.replies === 1 ? "Show the reply" : `Show ${comment.replies} replies`}
          </button>
        )}
        {answering && (
          <Say
            post={comment.post}
            parent={comment.id}
            label={`Reply to ${comment.author.display_name}`}
            on_said={(reply) => {
              set_answering(false);
              set_replies((before) => [...(before ?? []), reply]);
              if (replies === null && comment.replies > 0) void show();
              on_change({ ...comment, replies: comment.replies + 1 });
              on_count(1);
            }}
          />
        )}
        {error !== null && (
          <p class="wrong" role="alert">
            {error}
          </p>
        )}
      </div>
    </li>
  );
}

function Say({ post, parent, label, on_said }: { post: string; parent?: string; label: string; on_said(comment: Comment): void }) {
  const submission = useSubmission();
  const [text, set_text] = useState("");
  const key = useRef(fresh_id());
  const name = parent === undefined ? "comment" : `reply-${parent}`;
  return (
    <Form
      submission={submission}
      fields={["text"]}
      action={parent === undefined ? "Comment" : "Send the reply"}
      acting="Sending…"
      disabled={text.trim() === ""}
      on_submit={async () => {
        const comment = await nova.posts.comment(post, text, parent, { idempotency_key: key.current });
        key.current = fresh_id();
        set_text("");
        on_said(comment);
      }}
    >
      <div class="field">
        <label for={name} class="unseen">
          {label}
        </label>
        <textarea
          id={name}
          rows={2}
          dir="auto"
          maxLength={2000}
          placeholder={label}
          value={text}
          onInput={(event) => {
            key.current = fresh_id();
            set_text(event.currentTarget.value);
          }}
        />
        {submission.of("text") && <p class="wrong">{submission.of("text")}</p>}
      </div>
    </Form>
  );
}
