/** Where one posts. */

import { useRef, useState } from "preact/hooks";
import { fresh_id, type Post, type Visibility } from "../../client";
import { say } from "../../parts/announce";
import { Form, useSubmission } from "../../parts/form";
import { nova } from "../../shell/session";
import { VISIBILITY } from "./card";

const CHARS_MAX = 5_000;
/** From here on one is told how much room is left. */
const NEAR = 500;

export function PostComposer({ on_posted }: { on_posted(post: Post): void }) {
  const submission = useSubmission();
  const [text, set_text] = useState("");
  const [visibility, set_visibility] = useState<Visibility>("public");
  // One key for one post: pressed twice, or sent again after no answer came, it is posted once.
  const key = useRef(fresh_id());
  const left = CHARS_MAX - [...text].length;
  return (
    <section class="composer-post" aria-label="New post">
      <Form
        submission={submission}
        fields={["text"]}
        action="Post"
        acting="Posting…"
        disabled={text.trim() === "" || left < 0}
        on_submit={async () => {
          const post = await nova.posts.create({ text, visibility }, { idempotency_key: key.current });
          key.current = fresh_id();
          set_text("");
          on_posted(post);
          say("Posted.");
        }}
        extra={
          <>
            <label class="visibility">
              <span class="unseen">Who may read it</span>
              <select value={visibility} onChange={(event) => set_visibility(event.currentTarget.value as Visibility)}>
                {Object.entries(VISIBILITY).map(([value, label]) => (
                  <option key={value} value={value}>
                    {label}
                  </option>
                ))}
              </select>
            </label>
            {left < NEAR && (
              <span class={left < 0 ? "wrong" : "soft"} role="status">
                {left < 0 ? `${-left} characters too many` : `${left} characters left`}
              </span>
            )}
          </>
        }
      >
        <div class="field">
          <label class="unseen" for="post-text">
            What do you want to tell?
          </label>
          <textarea
            id="post-text"
            rows={3}
            dir="auto"
            placeholder="What do you want to tell?"
            value={text}
            aria-invalid={submission.of("text") ? "true" : undefined}
            aria-describedby={submission.of("text") ? "post-text-error" : undefined}
            onInput={(event) => {
              // Another text is another post.
              key.current = fresh_id();
              set_text(event.currentTarget.value);
            }}
          />
          {submission.of("text") && (
            <p class="wrong" id="post-text-error">
              {submission.of("text")}
            </p>
          )}
        </div>
      </Form>
    </section>
  );
}
