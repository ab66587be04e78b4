/**
 * Forms: labelled fields, one request at a time, and refusals put where they belong: beside the field they are about,
 * or above the form; the first of them takes the focus.
 */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Problem } from "../client";
import { Icon } from "./icon";
import { Notice } from "./states";
import { sentence, words_of } from "./words";

export interface Submission {
  busy: boolean;
  error: unknown;
  /** What is wrong with a field, by its name in the API. */
  of(field: string): string | null;
  run(work: () => Promise<void>): Promise<void>;
  clear(): void;
}

/** Which field each of these refusals is about. */
const FIELD_OF: Record<string, string[]> = {
  username_taken: ["username"],
  email_taken: ["email"],
  invalid_totp_code: ["code", "totp_code"],
};

/** One request at a time, and what became of it. */
export function useSubmission(): Submission {
  const [busy, set_busy] = useState(false);
  const [error, set_error] = useState<unknown>(null);
  const running = useRef(false);
  return {
    busy,
    error,
    of(field) {
      if (!(error instanceof Problem)) return null;
      if (FIELD_OF[error.code]?.includes(field)) return words_of(error);
      const wrong = error.of(field);
      return wrong && sentence(wrong);
    },
    async run(work) {
      if (running.current) return;
      running.current = true;
      set_busy(true);
      set_error(null);
      try {
        await work();
      } catch (caught) {
        if (!(caught instanceof Error)) throw caught;
        set_error(caught);
      } finally {
        running.current = false;
        set_busy(false);
      }
    },
    clear: () => set_error(null),
  };
}

interface FormProps {
  submission: Submission;
  /** The names of the fields, in order, whose refusals are shown beside them. */
  fields: string[];
  action: string;
  /** What the button says while the request is under way. */
  acting?: string;
  danger?: boolean;
  disabled?: boolean;
  on_submit(values: (name: string) => string): Promise<void>;
  /** Beside the button. */
  extra?: ComponentChildren;
  children: ComponentChildren;
}

export function Form({ submission, fields, action, acting, danger, disabled, on_submit, extra, children }: FormProps) {
  const form = useRef<HTMLFormElement>(null);
  const { error, busy } = submission;
  const beside = fields.some((field) => submission.of(field) !== null);
  const others =
    error instanceof Problem ? error.errors.filter((one) => !fields.includes(one.field)).map((one) => `${one.field}: ${one.message}`) : [];

  useEffect(() => {
    if (!error) return;
    const target = form.current?.querySelector<HTMLElement>('[aria-invalid="true"], .notice.bad');
    target?.focus();
  }, [error]);

  const submit = (event: Event) => {
    event.preventDefault();
    const element = event.currentTarget as HTMLFormElement;
    const data = new FormData(element);
    void submission.run(() => on_submit((name) => String(data.get(name) ?? "")));
  };
  return (
    <form ref={form} onSubmit={submit} noValidate={false} aria-busy={busy}>
      {error !== null && (!beside || others.length > 0) && (
        <Notice kind="bad">
          <p>{words_of(error)}</p>
          {others.map((other) => (
            <p key={other}>{sentence(other)}</p>
          ))}
        </Notice>
      )}
      {children}
      <div class="actions">
        <button type="submit" class={danger ? "danger" : "primary"} disabled={disabled} aria-disabled={busy}>
          {busy ? (acting ?? "One moment…") : action}
        </button>
        {extra}
      </div>
    </form>
  );
}

interface Described {
  /** The field's name in the API, and its id in the page. */
  name: string;
  label: string;
  hint?: ComponentChildren;
  error?: string | null;
  required?: boolean;
  maxLength?: number;
  value?: string;
}

interface FieldProps extends Described {
  type?: "text" | "email" | "password";
  autocomplete?: string;
  autocapitalize?: "none" | "sentences" | "words";
  spellcheck?: boolean;
  inputMode?: "numeric" | "text";
  minLength?: number;
  pattern?: string;
  title?: string;
  onInput?(event: { currentTarget: HTMLInputElement }): void;
  /** Takes the focus when it appears. */
  takes_focus?: boolean;
}

export function Field({ name, label, hint, error, takes_focus, type = "text", ...rest }: FieldProps) {
  const input = useRef<HTMLInputElement>(null);
  const [shown, set_shown] = useState(false);
  useEffect(() => {
    if (takes_focus) input.current?.focus();
  }, []);
  const described = [hint ? `${name}-hint` : "", error ? `${name}-error` : ""].filter(Boolean).join(" ");
  const secret = type === "password";
  return (
    <div class="field">
      <label for={name}>{label}</label>
      <div class={secret ? "input secret" : "input"}>
        <input
          {...({ ...rest, type: secret && shown ? "text" : type } as object)}
          ref={input}
          id={name}
          name={name}
          aria-invalid={error ? "true" : undefined}
          aria-describedby={described || undefined}
        />
        {secret && (
          <button type="button" class="quiet" aria-pressed={shown} aria-label="Show the password" onClick={() => set_shown(!shown)}>
            <Icon name="eye" />
          </button>
        )}
      </div>
      {hint && (
        <p class="hint" id={`${name}-hint`}>
          {hint}
        </p>
      )}
      {error && (
        <p class="wrong" id={`${name}-error`}>
          {error}
        </p>
      )}
    </div>
  );
}

interface AreaProps extends Described {
  rows: number;
  onInput?(event: { currentTarget: HTMLTextAreaElement }): void;
}

export function Area({ name, label, hint, error, ...rest }: AreaProps) {
  const described = [hint ? `${name}-hint` : "", error ? `${name}-error` : ""].filter(Boolean).join(" ");
  return (
    <div class="field">
      <label for={name}>{label}</label>
      <textarea {...(rest as object)} id={name} name={name} aria-invalid={error ? "true" : undefined} aria-describedby={described || undefined} />
      {hint && (
        <p class="hint" id={`${name}-hint`}>
          {hint}
        </p>
      )}
      {error && (
        <p class="wrong" id={`${name}-error`}>
          {error}
        </p>
      )}
    </div>
  );
}

interface CheckProps {
  name: string;
  label: string;
  hint?: ComponentChildren;
  checked?: boolean;
}

/** Yes or no; `on` when it is yes. */
export function Check({ name, label, hint, checked = false }: CheckProps) {
  return (
    <div class="check">
      <input type="checkbox" id={name} name={name} defaultChecked={checked} aria-describedby={hint ? `${name}-hint` : undefined} />
      <div>
        <label for={name}>{label}</label>
        {hint && (
          <p class="hint" id={`${name}-hint`}>
            {hint}
          </p>
        )}
      </div>
    </div>
  );
}
