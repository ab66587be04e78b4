/** Who is in a call, to be seen and heard. */

import { useEffect, useRef } from "preact/hooks";
import type { Call, CallParticipant, CallTrack } from "../../client";
import { say } from "../../parts/announce";
import { Icon } from "../../parts/icon";
import { words_of } from "../../parts/words";

export function Tile({ call, person, wave }: { call: Call; person: CallParticipant; wave: string | undefined }) {
  const mine = [...call.tracks.values()].filter((track) => track.participant === person.participant);
  const camera = mine.find((track) => track.source === "camera");
  const microphone = mine.find((track) => track.source === "microphone");
  const paused = camera !== undefined && !camera.muted && call.paused.has(camera.track);
  const arriving = camera && !camera.muted && !paused ? call.arriving(camera.track) : null;
  const speaks = call.speakers.includes(person.participant);
  const host = call.participants.get(call.me ?? -1)?.role === "host";
  const name = person.name ?? "Somebody";
  return (
    <figure
      class={speaks ? "tile speaks" : "tile"}
      data-participant={person.participant}
      {...(camera && !camera.muted && { "data-track": camera.track })}
    >
      {arriving ? <Picture track={arriving} /> : <Initial name={name} />}
      {paused && <Paused />}
      <Wave wave={wave} />
      <figcaption>
        {(!microphone || microphone.muted) && <Icon name="mic_off" />}
        {person.hand && <Icon name="hand" />}
        <span>{name}</span>
        {host && (
          <span class="host">
            <button
              type="button"
              title={person.role === "listener" ? `Let ${name} speak` : `Let ${name} only listen`}
              aria-label={person.role === "listener" ? `Let ${name} speak` : `Let ${name} only listen`}
              onClick={() => told(call.set_role(person.participant, person.role === "listener" ? "speaker" : "listener"))}
            >
              <Icon name={person.role === "listener" ? "mic" : "eye"} />
            </button>
            <button type="button" title={`Mute ${name}`} aria-label={`Mute ${name}`} disabled={!microphone || microphone.muted} onClick={() => told(call.silence(person.participant))}>
              <Icon name="silent" />
            </button>
            <button type="button" title={`Remove ${name}`} aria-label={`Remove ${name}`} onClick={() => told(call.kick(person.participant))}>
              <Icon name="close" />
            </button>
          </span>
        )}
      </figcaption>
    </figure>
  );
}

/** Why the engine does not do what was asked, where it does not. */
function told(asked: Promise<void>): void {
  void asked.catch((error: unknown) => say(words_of(error)));
}

export function Screen({ call, track }: { call: Call; track: CallTrack }) {
  const paused = call.paused.has(track.track);
  const arriving = paused ? null : call.arriving(track.track);
  const name = call.participants.get(track.participant)?.name ?? "Somebody";
  return (
    <figure class="tile screen" data-track={track.track}>
      {arriving && <Picture track={arriving} />}
      {paused && <Paused />}
      <figcaption>
        <Icon name="laptop" />
        <span>{name} shares a screen</span>
      </figcaption>
    </figure>
  );
}

export function Mine({ call, name, hand, wave }: { call: Call; name: string; hand: boolean; wave: string | undefined }) {
  const camera = call.mine("camera");
  const [face] = call.local?.getVideoTracks() ?? [];
  return (
    <figure class="tile mine">
      {face && camera && !camera.muted ? <Picture track={face} /> : <Initial name={name} />}
      <Wave wave={wave} />
      <figcaption>
        {call.mine("microphone")?.muted && <Icon name="mic_off" />}
        {hand && <Icon name="hand" />}
        <span>You</span>
      </figcaption>
    </figure>
  );
}

/** The network carries nothing of it for now: better said than shown as a picture that stands still. */
function Paused() {
  return (
    <span class="paused">
      <Icon name="pause" />
      Paused: your connection is too slow for it
    </span>
  );
}

/** What somebody has just waved. */
function Wave({ wave }: { wave: string | undefined }) {
  return wave ? <span class="wave">{wave}</span> : null;
}

function Initial({ name }: { name: string }) {
  return (
    <span class="initial" aria-hidden="true">
      {[...name][0]?.toLocaleUpperCase() ?? "?"}
    </span>
  );
}

function Picture({ track }: { track: MediaStreamTrack }) {
  const video = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (video.current) video.current.srcObject = new MediaStream([track]);
  }, [track]);
  return <video ref={video} autoplay muted playsInline />;
}

export function Voice({ track }: { track: MediaStreamTrack }) {
  const audio = useRef<HTMLAudioElement>(null);
  useEffect(() => {
    if (audio.current) audio.current.srcObject = new MediaStream([track]);
  }, [track]);
  return <audio ref={audio} autoplay />;
}
