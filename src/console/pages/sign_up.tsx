import { Field, Form, useSubmission } from "../parts/form";
import { Page } from "../parts/page";
import { device_name } from "../parts/words";
import { next_of, place, to } from "../shell/router";
import { nova } from "../shell/session";

/** A new account; whoever makes it is logged in. */
export function SignUp() {
  const submission = useSubmission();
  const next = next_of(place().query);
  const sign_up = async (value: (name: string) => string) => {
    const display_name = value("display_name").trim();
    await nova.accounts.sign_up({
      username: value("username").trim(),
      email: value("email").trim(),
      password: value("password"),
      ...(display_name ? { display_name } : {}),
      device: { name: device_name(navigator.userAgent), platform: "web" },
    });
  };
  return (
    <Page title="Sign up" lead="An account for chat, streams, calls and feeds on this engine.">
      <Form
        submission={submission}
        fields={["username", "email", "password", "display_name"]}
        action="Create the account"
        acting="Creating…"
        on_submit={sign_up}
      >
        <Field
          name="username"
          label="Username"
          hint="How others find and mention you."
          autocomplete="username"
          autocapitalize="none"
          spellcheck={false}
          required
          minLength={3}
          maxLength={30}
          error={submission.of("username")}
        />
        <Field
          name="email"
          label="E-mail"
          type="email"
          autocomplete="email"
          required
          maxLength={254}
          error={submission.of("email")}
        />
        <Field
          name="display_name"
          label="Display name (optional)"
          hint="What others see; your username when left empty."
          autocomplete="name"
          maxLength={50}
          error={submission.of("display_name")}
        />
        <Field
          name="password"
          label="Password"
          hint="At least eight characters. A few words in a row are easier to keep than signs."
          type="password"
          autocomplete="new-password"
          required
          minLength={8}
          maxLength={256}
          error={submission.of("password")}
        />
      </Form>
      <p class="aside">
        You have an account? <a href={to(`/login${next === "/" ? "" : `?next=${encodeURIComponent(next)}`}`)}>Log in</a>
      </p>
    </Page>
  );
}
