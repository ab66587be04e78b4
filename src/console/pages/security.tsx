import { useState } from "preact/hooks";
import type { TotpSecret } from "../client";
import { say } from "../parts/announce";
import { Field, Form, useSubmission } from "../parts/form";
import { Icon } from "../parts/icon";
import { Page } from "../parts/page";
import { QrCode } from "../parts/qr_code";
import { useResource } from "../parts/resource";
import { Failed, Loading, Notice } from "../parts/states";
import { words_of } from "../parts/words";
import { nova } from "../shell/session";

/** How somebody proves who they are: the second factor with its recovery codes, and the password. */
export function Security() {
  const account = useResource(async () => (await nova.accounts.me()).data);
  const [codes, set_codes] = useState<string[] | null>(null);
  const enabled = account.data?.totp_enabled ?? false;
  const put = (totp_enabled: boolean) => account.data && account.put({ ...account.data, totp_enabled });
  return (
    <Page title="Security" lead="How you prove that it is you.">
      {!account.data && account.error !== null && (
        <Failed title="Your account could not be read" words={words_of(account.error)} action={{ label: "Try again", run: account.reload }} />
      )}
      {!account.data && account.loading && <Loading what="Reading your account" />}
      {account.data && codes && <RecoveryCodes codes={codes} username={account.data.username} on_kept={() => set_codes(null)} />}
      {account.data && !codes && enabled && <On on_disabled={() => put(false)} />}
      {account.data && !codes && !enabled && (
        <SetUp
          on_confirmed={(given) => {
            put(true);
            set_codes(given);
            say("Two-factor log-in is on. Keep the recovery codes that are shown now.");
          }}
        />
      )}
      {account.data && !codes && <Password totp_enabled={enabled} />}
    </Page>
  );
}

function SetUp({ on_confirmed }: { on_confirmed(codes: string[]): void }) {
  const beginning = useSubmission();
  const confirming = useSubmission();
  const [secret, set_secret] = useState<TotpSecret | null>(null);
  if (!secret) {
    return (
      <section class="card wide">
        <h2>
          Two-factor log-in <span class="badge">Off</span>
        </h2>
        <p class="soft">
          Besides your password, a code from an authenticator app on your phone. Whoever steals the password alone stays outside. Any app
          that makes six-digit codes will do.
        </p>
        <Form
          submission={beginning}
          fields={[]}
          action="Set it up"
          on_submit={async () => set_secret(await nova.totp.begin())}
        >
          {null}
        </Form>
      </section>
    );
  }
  return (
    <section class="card wide">
      <ol class="steps">
        <li>
          <h2>Show this to your authenticator app</h2>
          <div class="scan">
            <QrCode text={secret.otpauth_url} label="The key for your authenticator as a QR code; the same key stands beside it as text." />
            <div>
              <p class="soft">Or type this key into it:</p>
              <p class="secret" id="totp-secret">
                {secret.secret.replace(/(.{4})(?=.)/g, "$1 ")}
              </p>
              <p>
                <a href={secret.otpauth_url}>Open in an app on this device</a>
              </p>
            </div>
          </div>
        </li>
        <li>
          <h2>Type the code it shows</h2>
          <Form
            submission={confirming}
            fields={["code"]}
            action="Switch it on"
            acting="Checking…"
            on_submit={async (value) => on_confirmed(await nova.totp.confirm(value("code").replace(/\s/g, "")))}
            extra={
              <button type="button" onClick={() => set_secret(null)}>
                Not now
              </button>
            }
          >
            <Field
              name="code"
              label="Six-digit code"
              inputMode="numeric"
              autocomplete="one-time-code"
              pattern="[0-9 ]{6,7}"
              title="Six digits"
              required
              maxLength={7}
              takes_focus
              error={confirming.of("code")}
            />
          </Form>
        </li>
      </ol>
    </section>
  );
}

function RecoveryCodes({ codes, username, on_kept }: { codes: string[]; username: string; on_kept(): void }) {
  const [copied, set_copied] = useState<boolean | null>(null);
  const text = `Recovery codes of ${username} at ${location.host}\nEach opens the account once, in place of the authenticator.\n\n${codes.join("\n")}\n`;
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      set_copied(true);
    } catch {
      // Not on HTTPS, or not allowed: the codes can still be selected by hand.
      set_copied(false);
    }
  };
  const download = () => {
    const address = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    const link = document.createElement("a");
    link.href = address;
    link.download = `nova-recovery-codes-${username}.txt`;
    link.click();
    URL.revokeObjectURL(address);
  };
  return (
    <section class="card wide">
      <Notice kind="good">
        <p>
          <strong>Two-factor log-in is on.</strong>
        </p>
      </Notice>
      <h2>Keep these recovery codes</h2>
      <p>
        If you lose your phone, each of them lets you in once. They are shown only now: put them where you keep your passwords, or print them.
      </p>
      <ul class="codes" id="recovery-codes">
        {codes.map((code) => (
          <li key={code}>
            <code>{code}</code>
          </li>
        ))}
      </ul>
      <div class="actions">
        <button type="button" onClick={() => void copy()}>
          <Icon name="copy" /> Copy
        </button>
        <button type="button" onClick={download}>
          <Icon name="download" /> Download
        </button>
        <span role="status" class={copied === false ? "wrong" : "done"}>
          {copied === true ? "Copied" : copied === false ? "Copying is not allowed here: select them, or download." : ""}
        </span>
      </div>
      <div class="actions">
        <button type="button" class="primary" onClick={on_kept}>
          I have kept them
        </button>
      </div>
    </section>
  );
}

function On({ on_disabled }: { on_disabled(): void }) {
  const submission = useSubmission();
  const [asking, set_asking] = useState(false);
  return (
    <section class="card wide">
      <h2>
        Two-factor log-in <span class="badge good">On</span>
      </h2>
      <p class="soft">You are asked for a code whenever you log in on a device.</p>
      {asking ? (
        <Form
          submission={submission}
          fields={["code"]}
          action="Switch it off"
          acting="Switching off…"
          danger
          on_submit={async (value) => {
            await nova.totp.disable(value("code").trim());
            on_disabled();
            say("Two-factor log-in is off.");
          }}
          extra={
            <button type="button" onClick={() => set_asking(false)}>
              Keep it on
            </button>
          }
        >
          <Field
            name="code"
            label="Code"
            hint="From your authenticator, or a recovery code."
            autocomplete="one-time-code"
            autocapitalize="none"
            required
            maxLength={64}
            takes_focus
            error={submission.of("code")}
          />
        </Form>
      ) : (
        <div class="actions">
          <button type="button" class="danger ghost" onClick={() => set_asking(true)}>
            Switch it off…
          </button>
        </div>
      )}
    </section>
  );
}

function Password({ totp_enabled }: { totp_enabled: boolean }) {
  const submission = useSubmission();
  const [asking, set_asking] = useState(false);
  const [changed, set_changed] = useState(false);
  return (
    <section class="card wide">
      <h2>Password</h2>
      {changed && (
        <Notice kind="good">
          <p>Your password is changed. Every other device was logged out.</p>
        </Notice>
      )}
      {!asking && (
        <>
          <p class="soft">Another password logs out every other device.</p>
          <div class="actions">
            <button type="button" onClick={() => set_asking(true)}>
              Change the password…
            </button>
          </div>
        </>
      )}
      {asking && (
        <Form
          submission={submission}
          fields={["current_password", "password", "totp_code"]}
          action="Change it"
          acting="Changing…"
          on_submit={async (value) => {
            const code = totp_enabled ? { totp_code: value("totp_code").trim() } : {};
            await nova.accounts.change_password({ password: value("current_password"), ...code }, value("password"));
            set_asking(false);
            set_changed(true);
          }}
          extra={
            <button type="button" onClick={() => set_asking(false)}>
              Keep the old one
            </button>
          }
        >
          <Field
            name="current_password"
            label="Password until now"
            type="password"
            autocomplete="current-password"
            required
            maxLength={256}
            takes_focus
            error={submission.of("current_password")}
          />
          <Field
            name="password"
            label="New password"
            hint="At least eight characters. A few words in a row are easier to keep than signs."
            type="password"
            autocomplete="new-password"
            required
            minLength={8}
            maxLength={256}
            error={submission.of("password")}
          />
          {totp_enabled && (
            <Field
              name="totp_code"
              label="Code"
              hint="From your authenticator, or a recovery code."
              autocomplete="one-time-code"
              autocapitalize="none"
              required
              maxLength={64}
              error={submission.of("totp_code")}
            />
          )}
        </Form>
      )}
    </section>
  );
}
