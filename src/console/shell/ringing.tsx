/** Somebody calls: on every page, until it is answered here or anywhere. */

import { useEffect } from "preact/hooks";
import type { CallNews } from "../client";
import { say } from "../parts/announce";
import { name_of } from "../parts/chat_words";
import { Dialog } from "../parts/dialog";
import { Icon } from "../parts/icon";
import { words_of } from "../parts/words";
import { useChat, useRings } from "./live";
import { go } from "./router";

/** Seconds from one ring to the next. */
const TONE_EVERY_S = 3;

export function Ringing() {
  const chat = useChat();
  const rings = useRings();
  const [call] = rings.ringing;
  useTone(call?.call ?? null);
  if (!call) return null;

  const who = name_of(chat.people.of(call.caller));
  const summary = chat.inbox.get(call.conversation);
  const accept = async (media: CallNews["media"]) => {
    try {
      const { room } = await rings.accept(call.call);
      go(`/calls/${room}?join=${media}`);
    } catch (error) {
      rings.silence(call.call);
      say(words_of(error));
    }
  };
  return (
    <Dialog title={`${who} is calling`} on_close={() => rings.silence(call.call)}>
      <p>
        {call.media === "video" ? "A video call" : "A voice call"}
        {summary?.title ? ` in “${summary.title}”` : ""}.
      </p>
      <div class="actions ring">
        <button type="button" class="primary" onClick={() => void accept(call.media)}>
          <Icon name={call.media === "video" ? "camera" : "call"} />
          Answer
        </button>
        {call.media === "video" && (
          <button type="button" onClick={() => void accept("audio")}>
            <Icon name="call" />
            Voice only
          </button>
        )}
        <button type="button" class="danger" onClick={() => void rings.decline(call.call).catch(() => {})}>
          Decline
        </button>
      </div>
    </Dialog>
  );
}

/** Two soft tones again and again; without a sign of life in this page browsers allow no sound, and then it only shows. */
function useTone(call: string | null): void {
  useEffect(() => {
    if (call === null || !navigator.userActivation?.hasBeenActive) return undefined;
    const context = new AudioContext();
    const ring = () => {
      for (const [at, hertz] of [[0, 660], [0.35, 550]] as const) {
        const tone = context.createOscillator();
        const loudness = context.createGain();
        const start = context.currentTime + at;
        tone.frequency.value = hertz;
        loudness.gain.setValueAtTime(0, start);
        loudness.gain.linearRampToValueAtTime(0.15, start + 0.03);
        loudness.gain.exponentialRampToValueAtTime(0.001, start + 0.8);
        tone.connect(loudness).connect(context.destination);
        tone.start(start);
        tone.stop(start + 0.8);
      }
    };
    ring();
    const timer = setInterval(ring, TONE_EVERY_S * 1000);
    return () => {
      clearInterval(timer);
      void context.close();
    };
  }, [call]);
}
