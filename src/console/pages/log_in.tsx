import { useState } from "preact/hooks";
import { Problem } from "../client";
import { Field, Form, useSubmission } from "../parts/form";
import { Page } from "../parts/page";
import { Notice } from "../parts/states";
import { say } from "../parts/announce";
import { device_name } from "../parts/words";
import { next_of, place, to } from "../shell/router";
import { ending_words, nova } from "../shell/session";

/** Name and password, and a code where the account asks for one. */
export function LogIn() {
  const submission = useSubmission();
  const [wants_code, set_wants_code] = useState(false);
  const [told] = useState(ending_words);
  const { query } = place();
  const next = next_of(query);

  const log_in = async (value: (name: string) => string) => {
    const credentials = {
      login: value("login").trim(),
      password: value("password"),
      ...(wants_code ? { totp_code: value("code").trim() } : {}),
      device: { name: device_name(navigator.userAgent), platform: "web" },
    };
    try {
      // Where to go next is the shell's business: it sees that somebody is logged in.
      await nova.sessions.log_in(credentials);
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "totp_required") throw error;
      set_wants_code(true);
      say("A code from your authenticator is needed as well.");
    }
  };
  return (
    <Page title="Log in" lead="Welcome back.">
      {told && !submission.error && !wants_code && (
        <Notice kind="info">
          <p>{told}</p>
        </Notice>
      )}
      <Form submission={submission} fields={["login", "password", "code"]} action="Log in" acting="Logging in…" on_submit={log_in}>
        <Field
          name="login"
          label="Username or e-mail"
          autocomplete="username"
          autocapitalize="none"
          spellcheck={false}
          required
          maxLength={254}
          error={submission.of("login")}
        />
        <Field
          name="password"
          label="Password"
          type="password"
          autocomplete="current-password"
          required
          maxLength={256}
          error={submission.of("password")}
        />
        {wants_code && (
          <Field
            name="code"
            label="Code"
            hint="Six digits from your authenticator app. If you have lost it, type one of your recovery codes."
            autocomplete="one-time-code"
            autocapitalize="none"
            spellcheck={false}
            required
            maxLength={64}
            takes_focus
            error={submission.of("code")}
          />
        )}
      </Form>
      <p class="aside">
        No account yet? <a href={to(`/signup${next === "/" ? "" : `?next=${encodeURIComponent(next)}`}`)}>Sign up</a>
      </p>
    </Page>
  );
}
