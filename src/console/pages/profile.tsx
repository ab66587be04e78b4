import { useEffect, useState } from "preact/hooks";
import { Problem, type Answer, type Me } from "../client";
import { say } from "../parts/announce";
import { Dialog } from "../parts/dialog";
import { Area, Field, Form, useSubmission } from "../parts/form";
import { Page } from "../parts/page";
import { useResource } from "../parts/resource";
import { Failed, Loading, Notice } from "../parts/states";
import { day, words_of } from "../parts/words";
import { nova } from "../shell/session";

const BIO_MAX = 500;

/** What others see of an account, and its end. */
export function Profile() {
  const account = useResource(() => nova.accounts.me());
  return (
    <Page title="Profile" lead="What others see of you.">
      {!account.data && account.error !== null && (
        <Failed title="Your profile could not be read" words={words_of(account.error)} action={{ label: "Try again", run: account.reload }} />
      )}
      {!account.data && account.loading && <Loading what="Reading your profile" />}
      {account.data && <Editor account={account.data} on_change={account.put} />}
    </Page>
  );
}

function Editor({ account, on_change }: { account: Answer<Me>; on_change(account: Answer<Me>): void }) {
  const me = account.data;
  const submission = useSubmission();
  const [draft, set_draft] = useState({ display_name: me.display_name, bio: me.bio });
  const [saved, set_saved] = useState(false);
  const [newer, set_newer] = useState<Answer<Me> | null>(null);
  const changed = draft.display_name !== me.display_name || draft.bio !== me.bio;

  useEffect(() => {
    if (newer) document.getElementById("conflict")?.focus();
  }, [newer]);

  const type = (change: Partial<typeof draft>) => {
    set_saved(false);
    set_draft((before) => ({ ...before, ...change }));
  };
  const save = async () => {
    try {
      const answer = await nova.accounts.change({ display_name: draft.display_name.trim(), bio: draft.bio.trim() }, account.etag);
      on_change(answer);
      set_draft({ display_name: answer.data.display_name, bio: answer.data.bio });
      set_newer(null);
      set_saved(true);
      say("Your profile is saved.");
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "precondition_failed") throw error;
      // Somebody, probably the same person elsewhere, was quicker: show theirs and let them choose.
      set_newer(await nova.accounts.me());
    }
  };
  return (
    <>
      <section class="card wide">
        {newer && (
          <Notice kind="warn" id="conflict">
            <p>
              <strong>Your profile was changed elsewhere since you opened this page.</strong> There it now says:
            </p>
            <blockquote>
              <p>{newer.data.display_name}</p>
              <p class="soft">{newer.data.bio || "(nothing about you)"}</p>
            </blockquote>
            <div class="actions">
              <button
                type="button"
                onClick={() => {
                  on_change(newer);
                  set_draft({ display_name: newer.data.display_name, bio: newer.data.bio });
                  set_newer(null);
                }}
              >
                Take that one
              </button>
              <button
                type="button"
                onClick={() => {
                  on_change(newer);
                  set_newer(null);
                  say("Your text is kept. Save it to replace the other.");
                }}
              >
                Keep mine, to save it over that
              </button>
            </div>
          </Notice>
        )}
        <Form
          submission={submission}
          fields={["display_name", "bio"]}
          action="Save"
          acting="Saving…"
          disabled={!changed || newer !== null}
          on_submit={save}
          extra={saved && !changed ? <span class="done">Saved</span> : null}
        >
          <Field
            name="display_name"
            label="Display name"
            autocomplete="name"
            required
            maxLength={50}
            value={draft.display_name}
            onInput={(event) => type({ display_name: event.currentTarget.value })}
            error={submission.of("display_name")}
          />
          <Area
            name="bio"
            label="About you"
            hint={`${[...draft.bio].length} of ${BIO_MAX} characters`}
            rows={4}
            maxLength={BIO_MAX}
            value={draft.bio}
            onInput={(event) => type({ bio: event.currentTarget.value })}
            error={submission.of("bio")}
          />
        </Form>
      </section>
      <section class="card wide">
        <h2>Account</h2>
        <dl>
          <dt>Username</dt>
          <dd>@{me.username}</dd>
          <dt>E-mail</dt>
          <dd>{me.email}</dd>
          <dt>Member since</dt>
          <dd>{day(me.created_at)}</dd>
        </dl>
      </section>
      <Ending me={me} />
    </>
  );
}

function Ending({ me }: { me: Me }) {
  const [asking, set_asking] = useState(false);
  const submission = useSubmission();
  const [typed, set_typed] = useState("");
  return (
    <section class="card wide">
      <h2>Delete the account</h2>
      <p class="soft">Your profile, your devices and what you posted go away. This cannot be taken back.</p>
      <div class="actions">
        <button type="button" class="danger ghost" onClick={() => set_asking(true)}>
          Delete my account…
        </button>
      </div>
      {asking && (
        <Dialog title="Delete your account for good?" on_close={() => set_asking(false)}>
          <p>
            Type your username, <strong>{me.username}</strong>, and your password.
          </p>
          <Form
            submission={submission}
            fields={["password", "code"]}
            action="Delete my account"
            acting="Deleting…"
            danger
            disabled={typed.trim() !== me.username}
            on_submit={async (value) => {
              const code = value("code").trim();
              await nova.accounts.delete({ password: value("password"), ...(code ? { totp_code: code } : {}) });
            }}
            extra={
              <button type="button" onClick={() => set_asking(false)}>
                Keep it
              </button>
            }
          >
            <Field
              name="confirm_username"
              label="Username"
              autocomplete="off"
              autocapitalize="none"
              spellcheck={false}
              required
              value={typed}
              onInput={(event) => set_typed(event.currentTarget.value)}
            />
            <Field name="password" label="Password" type="password" autocomplete="current-password" required error={submission.of("password")} />
            {me.totp_enabled && (
              <Field
                name="code"
                label="Code"
                hint="From your authenticator, or a recovery code."
                autocomplete="one-time-code"
                required
                error={submission.of("code")}
              />
            )}
          </Form>
        </Dialog>
      )}
    </section>
  );
}
