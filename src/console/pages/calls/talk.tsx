/** What is written and waved in a call: for who is there, and kept nowhere. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { Call, Topic } from "../../client";
import { Icon } from "../../parts/icon";

/** Messages that are shown; older ones are gone. */
const LINES_MAX = 200;
const TEXT_CHARS_MAX = 2_000;
const WAVED_MS = 4_000;
const WAVES = ["👍", "❤️", "😂", "👏", "🎉", "🤔"];

const TROUBLES: Record<string, string> = {
  role_too_low: "You only listen here: nobody reads what you write until a host lets you speak.",
  slow: "Messages have ended for you, because your connection is too slow for them. Leave and join again to have them back.",
};
const ENDED = "Messages have ended for you. Leave and join again to have them back.";

interface Line {
  nth: number;
  name: string;
  text: string;
}

/** What was written and waved in a call. */
export interface Talking {
  lines: Line[];
  unread: number;
  /** Who waves what. */
  waves: ReadonlyMap<number, string>;
  open: boolean;
  /** False when it could not be said. */
  write(text: string): boolean;
  wave(what: string): void;
  looked(): void;
}

export function useTalk(call: Call): Talking {
  const [lines, set_lines] = useState<Line[]>([]);
  const [unread, set_unread] = useState(0);
  const [waves, set_waves] = useState<ReadonlyMap<number, string>>(new Map());
  const [open, set_open] = useState(false);
  const nth = useRef(0);
  const topics = useRef<{ written: Topic; waved: Topic } | null>(null);
  topics.current ??= { written: call.topic("chat"), waved: call.topic("reactions", { lossy: true }) };
  const { written, waved } = topics.current;

  const put = (participant: number | null, text: string) => {
    const mine = participant === call.me;
    const name = mine ? "You" : (call.participants.get(participant ?? -1)?.name ?? "Somebody");
    const line = { nth: nth.current++, name, text: text.slice(0, TEXT_CHARS_MAX) };
    set_lines((before) => [...before, line].slice(-LINES_MAX));
    if (!mine) set_unread((before) => before + 1);
  };
  const show = (participant: number, what: string) => {
    if (!WAVES.includes(what)) return;
    set_waves((before) => new Map(before).set(participant, what));
    setTimeout(() => {
      set_waves((before) => {
        const after = new Map(before);
        if (after.get(participant) === what) after.delete(participant);
        return after;
      });
    }, WAVED_MS);
  };
  useEffect(() => {
    set_open(written.open);
    const unwatch = [
      written.hear(({ participant, text }) => text !== undefined && put(participant, text)),
      waved.hear(({ participant, text }) => text !== undefined && show(participant, text)),
      written.watch(() => set_open(written.open)),
    ];
    return () => {
      for (const one of unwatch) one();
    };
  }, [written, waved]);

  return {
    lines,
    unread,
    waves,
    open,
    write: (text) => {
      const said = written.say(text);
      if (said) put(call.me, text);
      return said;
    },
    wave: (what) => {
      if (call.me !== null && waved.say(what)) show(call.me, what);
    },
    looked: () => set_unread(0),
  };
}

export function Talk({ call, talk }: { call: Call; talk: Talking }) {
  const [text, set_text] = useState("");
  const log = useRef<HTMLDivElement>(null);
  const listens = call.participants.get(call.me ?? -1)?.role === "listener";
  const trouble = listens ? "role_too_low" : call.trouble;
  useEffect(() => {
    talk.looked();
    log.current?.scrollTo({ top: log.current.scrollHeight });
  }, [talk.lines.length]);
  return (
    <section class="talk" aria-label="Messages in this call">
      <div ref={log} role="log" tabIndex={0} aria-label="Messages">
        {talk.lines.length === 0 && <p class="soft">Who is in this call reads what is written here; it is kept nowhere.</p>}
        {talk.lines.map((line) => (
          <p key={line.nth} class="line">
            <b>{line.name}</b> <span>{line.text}</span>
          </p>
        ))}
      </div>
      {trouble && (
        <p class="soft" role="status">
          {TROUBLES[trouble] ?? ENDED}
        </p>
      )}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (text.trim() && talk.write(text.trim())) set_text("");
        }}
      >
        <input
          aria-label="Write to everybody here"
          id="line"
          autocomplete="off"
          maxLength={TEXT_CHARS_MAX}
          value={text}
          disabled={listens}
          onInput={(event) => set_text(event.currentTarget.value)}
        />
        <button type="submit" class="primary" disabled={!talk.open || listens || !text.trim()} aria-label="Send to everybody here">
          <Icon name="send" />
        </button>
      </form>
    </section>
  );
}

export function Waves({ talk }: { talk: Talking }) {
  return (
    <div class="waves" role="toolbar" aria-label="Reactions">
      {WAVES.map((what) => (
        <button type="button" key={what} disabled={!talk.open} aria-label={`React with ${what}`} onClick={() => talk.wave(what)}>
          {what}
        </button>
      ))}
    </div>
  );
}
