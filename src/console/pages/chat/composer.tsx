/** Where one writes: Enter sends, Shift and Enter begin a new line, Escape leaves a reply or an edit. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Chat, Message, Writing } from "../../client";
import { message_words, mentioned, name_of, naming_at } from "../../parts/chat_words";
import { Icon } from "../../parts/icon";
import { words_of } from "../../parts/words";

/** What is written about: a message that is answered, or one that is changed. */
export interface Aim {
  what: "reply" | "edit";
  message: Message;
}

/** What the engine takes of one text, in bytes of UTF-8. */
const TEXT_BYTES_MAX = 32 << 10;
const NAMES_SHOWN = 6;

/** What was begun and not sent, by person and conversation, for as long as the page lives. */
const drafts = new Map<string, string>();

interface ComposerProps {
  chat: Chat;
  id: string;
  to_whom: string;
  names: ReadonlyMap<string, string>;
  aim: Aim | null;
  on_aim(aim: Aim | null): void;
  last_own(): Message | null;
}

export function Composer({ chat, id, to_whom, names, aim, on_aim, last_own }: ComposerProps) {
  const draft = `${chat.me} ${id}`;
  const field = useRef<HTMLTextAreaElement>(null);
  const [text, set_text] = useState(drafts.get(draft) ?? "");
  const [error, set_error] = useState<string | null>(null);
  const [naming, set_naming] = useState<{ start: number; part: string } | null>(null);
  const [chosen, set_chosen] = useState(0);
  const writing = useRef<Writing | null>(null);
  writing.current ??= chat.writing(id);
  const kept = useRef("");

  useEffect(() => () => writing.current?.stopped(), []);
  useEffect(() => {
    if (matchMedia("(pointer: fine)").matches) field.current?.focus({ preventScroll: true });
  }, []);
  useEffect(() => {
    if (!aim) return;
    if (aim.what === "edit") {
      kept.current = text;
      set_text(aim.message.text);
    }
    const element = field.current;
    element?.focus();
    requestAnimationFrame(() => element?.setSelectionRange(element.value.length, element.value.length));
  }, [aim]);
  // As high as what stands in it, up to a third of the window.
  useLayoutEffect(() => {
    const element = field.current;
    if (!element) return;
    element.rows = 1;
    const line = Number.parseFloat(getComputedStyle(element).lineHeight) || 24;
    const padding = element.offsetHeight - element.clientHeight + 16;
    const most = Math.max(3, Math.floor(innerHeight / 3 / line));
    element.rows = Math.max(1, Math.min(most, Math.round((element.scrollHeight - padding) / line)));
  }, [text]);

  const put = (value: string) => {
    set_text(value);
    set_error(null);
    if (aim?.what !== "edit") {
      if (value === "") drafts.delete(draft);
      else drafts.set(draft, value);
    }
    writing.current?.keyed(value.trim() === "");
  };
  const leave_aim = () => {
    if (aim?.what === "edit") set_text(kept.current);
    on_aim(null);
    set_error(null);
    field.current?.focus();
  };
  const found = naming
    ? [...names].filter(([name, user]) => user !== chat.me && (name.startsWith(naming.part.toLowerCase()) || name_of(chat.people.of(user)).toLowerCase().startsWith(naming.part.toLowerCase()))).slice(0, NAMES_SHOWN)
    : [];
  const pick = (nth: number) => {
    const name = found[nth]?.[0];
    const element = field.current;
    if (!name || !naming || !element) return;
    const person = chat.people.of(found[nth]?.[1] ?? "");
    const written = person && person !== "gone" ? person.username : name;
    const caret = naming.start + written.length + 2;
    put(`${text.slice(0, naming.start)}@${written} ${text.slice(element.selectionStart)}`);
    set_naming(null);
    requestAnimationFrame(() => element.setSelectionRange(caret, caret));
    element.focus();
  };
  const send = () => {
    const words = text.trim();
    if (words === "") return;
    if (new TextEncoder().encode(words).length > TEXT_BYTES_MAX) {
      return set_error("That is too long for one message. Cut it into several.");
    }
    try {
      if (aim?.what === "edit") {
        if (words !== aim.message.text) chat.edit(id, aim.message.seq, words);
        set_text(kept.current);
      } else {
        chat.say(id, words, { mentions: mentioned(words, names), ...(aim ? { reply_to: aim.message.seq } : {}) });
        set_text("");
        drafts.delete(draft);
      }
    } catch (caught) {
      return set_error(words_of(caught));
    }
    writing.current?.sent();
    set_error(null);
    set_naming(null);
    on_aim(null);
    field.current?.focus();
  };
  const on_key = (event: KeyboardEvent) => {
    if (event.isComposing) return;
    if (found.length > 0) {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        return set_chosen((chosen + (event.key === "ArrowDown" ? 1 : found.length - 1)) % found.length);
      }
      if (event.key === "Enter" || event.key === "Tab") {
        event.preventDefault();
        return pick(chosen);
      }
      if (event.key === "Escape") {
        event.preventDefault();
        return set_naming(null);
      }
    }
    if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey) {
      event.preventDefault();
      send();
    } else if (event.key === "Escape" && aim) {
      event.preventDefault();
      leave_aim();
    } else if (event.key === "ArrowUp" && text === "" && !aim) {
      const message = last_own();
      if (message) {
        event.preventDefault();
        on_aim({ what: "edit", message });
      }
    }
  };
  const look_for_name = () => {
    const element = field.current;
    set_naming(element && element.selectionStart === element.selectionEnd ? naming_at(element.value, element.selectionStart) : null);
    set_chosen(0);
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      {aim && (
        <div class="aim">
          <Icon name={aim.what === "reply" ? "reply" : "edit"} />
          <p>
            <strong>{aim.what === "edit" ? "Changing your message" : `Answering ${aim.message.sender === chat.me ? "yourself" : name_of(chat.people.of(aim.message.sender))}`}</strong>
            <span class="soft">{message_words({ text: aim.message.text, attachments: aim.message.attachments, location: aim.message.location })}</span>
          </p>
          <button type="button" class="quiet" aria-label={aim.what === "edit" ? "Do not change it" : "Do not answer it"} onClick={leave_aim}>
            <Icon name="close" />
          </button>
        </div>
      )}
      {error !== null && (
        <p class="wrong" role="alert">
          {error}
        </p>
      )}
      {found.length > 0 && (
        <ul class="names" role="listbox" id="names" aria-label="Members to name">
          {found.map(([name, user], nth) => (
            <li key={user} role="option" id={`name-${nth}`} aria-selected={nth === chosen} onMouseDown={(event) => (event.preventDefault(), pick(nth))}>
              {name_of(chat.people.of(user))} <span class="soft">@{name}</span>
            </li>
          ))}
        </ul>
      )}
      <div class="line">
        <textarea
          ref={field}
          id="message"
          rows={1}
          value={text}
          aria-label={`Message to ${to_whom}`}
          placeholder="Write a message"
          enterkeyhint="send"
          dir="auto"
          aria-autocomplete="list"
          aria-controls={found.length > 0 ? "names" : undefined}
          aria-activedescendant={found.length > 0 ? `name-${chosen}` : undefined}
          onInput={(event) => {
            put(event.currentTarget.value);
            look_for_name();
          }}
          onClick={look_for_name}
          onBlur={() => set_naming(null)}
          onKeyDown={on_key}
        />
        <button type="submit" class="primary" aria-label={aim?.what === "edit" ? "Save" : "Send"} title={aim?.what === "edit" ? "Save" : "Send"} disabled={text.trim() === ""}>
          <Icon name={aim?.what === "edit" ? "check" : "send"} />
        </button>
      </div>
    </form>
  );
}
