/** What people tell for a day: a row of faces, and one story after the other when a face is pressed. */

import { useEffect, useRef, useState } from "preact/hooks";
import { fresh_id, type Story, type Telling, type Viewing, type Visibility } from "../../client";
import { say } from "../../parts/announce";
import { Dialog } from "../../parts/dialog";
import { Area, Form, useSubmission } from "../../parts/form";
import { Icon } from "../../parts/icon";
import { useResource } from "../../parts/resource";
import { ago, words_of } from "../../parts/words";
import { nova } from "../../shell/session";
import { Face } from "../chat/face";
import { Name, VISIBILITY, Words } from "./card";

export function StoriesRow({ me }: { me: string }) {
  const tellings = useResource(() => nova.stories.followed({ limit: 50 }));
  const [open, set_open] = useState<string | null>(null);
  const [telling, set_telling] = useState(false);
  const all = tellings.data?.items ?? [];
  const shown = all.find((one) => one.author.id === open);

  const seen = (story: Story) => {
    if (!tellings.data) return;
    const items = all.map((one) => {
      if (one.author.id !== story.author.id) return one;
      const stories = one.stories.map((other) => (other.id === story.id ? { ...other, seen: true } : other));
      return { ...one, stories, seen: stories.every((other) => other.seen) };
    });
    tellings.put({ ...tellings.data, items });
  };
  return (
    <section class="stories" aria-label="Stories">
      <ul>
        <li>
          <button type="button" class="story-face" onClick={() => set_telling(true)}>
            <span class="ring add">
              <Icon name="plus" />
            </span>
            <span class="name">New story</span>
          </button>
        </li>
        {all.map((one) => (
          <li key={one.author.id}>
            <button
              type="button"
              class="story-face"
              data-author={one.author.id}
              aria-label={`${one.author.id === me ? "Your stories" : `Stories of ${one.author.display_name}`}, ${one.seen ? "seen" : "new"}`}
              onClick={() => set_open(one.author.id)}
            >
              <span class={one.seen ? "ring" : "ring new"}>
                <Face name={one.author.display_name} id={one.author.id} />
              </span>
              <span class="name">
                <bdi>{one.author.id === me ? "You" : one.author.display_name}</bdi>
              </span>
            </button>
          </li>
        ))}
      </ul>
      {tellings.error !== null && (
        <p class="soft">
          Stories could not be read: {words_of(tellings.error)}{" "}
          <button type="button" class="quiet" onClick={tellings.reload}>
            Try again
          </button>
        </p>
      )}
      {telling && (
        <Tell
          on_close={() => set_telling(false)}
          on_told={() => {
            set_telling(false);
            tellings.reload();
          }}
        />
      )}
      {shown && (
        <Viewer
          key={shown.author.id}
          telling={shown}
          me={me}
          on_seen={seen}
          on_close={() => set_open(null)}
          on_gone={() => {
            set_open(null);
            tellings.reload();
          }}
        />
      )}
    </section>
  );
}

function Tell({ on_close, on_told }: { on_close(): void; on_told(): void }) {
  const submission = useSubmission();
  const [text, set_text] = useState("");
  const [visibility, set_visibility] = useState<Visibility>("followers");
  // Pressed twice, or sent again after no answer came, it is told once.
  const key = useRef(fresh_id());
  return (
    <Dialog title="Tell a story" on_close={on_close}>
      <p class="soft">It is gone after 24 hours, for everybody.</p>
      <Form
        submission={submission}
        fields={["text"]}
        action="Tell it"
        acting="Telling…"
        disabled={text.trim() === ""}
        on_submit={async () => {
          await nova.stories.tell({ text, visibility }, { idempotency_key: key.current });
          on_told();
          say("Told.");
        }}
        extra={
          <button type="button" onClick={on_close}>
            Not now
          </button>
        }
      >
        <Area
          name="text"
          label="What happens?"
          rows={4}
          required
          maxLength={500}
          value={text}
          error={submission.of("text")}
          onInput={(event) => {
            key.current = fresh_id();
            set_text(event.currentTarget.value);
          }}
        />
        <div class="field">
          <label for="story-visibility">Who may see it</label>
          <select id="story-visibility" value={visibility} onChange={(event) => set_visibility(event.currentTarget.value as Visibility)}>
            {Object.entries(VISIBILITY).map(([value, label]) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        </div>
      </Form>
    </Dialog>
  );
}

interface ViewerProps {
  telling: Telling;
  me: string;
  on_seen(story: Story): void;
  on_close(): void;
  on_gone(): void;
}

function Viewer({ telling, me, on_seen, on_close, on_gone }: ViewerProps) {
  const { author, stories } = telling;
  const own = author.id === me;
  const [nth, set_nth] = useState(() => Math.max(0, stories.findIndex((story) => !story.seen && !own)));
  const [error, set_error] = useState<string | null>(null);
  const story = stories[Math.min(nth, stories.length - 1)];
  const is_last = nth >= stories.length - 1;

  useEffect(() => {
    if (!story || own || story.seen) return;
    nova.stories.view(story.id).then(
      () => on_seen(story),
      (failed: unknown) => set_error(words_of(failed)),
    );
  }, [story?.id]);
  if (!story) return null;
  const remove = async () => {
    try {
      await nova.stories.remove(story.id);
      say("Deleted.");
      on_gone();
    } catch (failed) {
      set_error(words_of(failed));
    }
  };
  return (
    <Dialog title={own ? "Your stories" : `Stories of ${author.display_name}`} on_close={on_close}>
      <ol class="story-marks" aria-label={`Story ${nth + 1} of ${stories.length}`}>
        {stories.map((one, at) => (
          <li key={one.id} class={at <= nth ? "on" : ""} />
        ))}
      </ol>
      <article class="story" data-story={story.id}>
        <p class="soft">
          <Name person={author} /> · {ago(story.created_at)}
          {story.visibility !== "public" && ` · ${VISIBILITY[story.visibility]}`}
        </p>
        <Words text={story.text} />
      </article>
      {own && <Viewers key={story.id} story={story} />}
      {error !== null && (
        <p class="wrong" role="alert">
          {error}
        </p>
      )}
      <div class="actions">
        <button type="button" class="primary" onClick={() => (is_last ? on_close() : set_nth(nth + 1))}>
          {is_last ? "Done" : "Next"}
        </button>
        {nth > 0 && (
          <button type="button" onClick={() => set_nth(nth - 1)}>
            Back
          </button>
        )}
        {own && (
          <button type="button" class="quiet" onClick={() => void remove()}>
            Delete this story
          </button>
        )}
      </div>
    </Dialog>
  );
}

/** Who has looked at one's own story. */
function Viewers({ story }: { story: Story }) {
  const viewers = useResource(() => nova.stories.viewers(story.id, { limit: 100 }));
  const items: Viewing[] = viewers.data?.items ?? [];
  const count = story.views ?? items.length;
  return (
    <div class="story-viewers">
      <p>
        <Icon name="eye" /> {count === 0 ? "Nobody has looked yet." : `${count} ${count === 1 ? "person has" : "people have"} looked.`}
      </p>
      {viewers.error !== null && <p class="wrong">{words_of(viewers.error)}</p>}
      <ul>
        {items.map((one) => (
          <li key={one.user.id}>
            <Name person={one.user} /> <span class="soft">{ago(one.viewed_at)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}
