/**
 * What people in a call talk about besides speaking: topics, each with its own promise, over data channels.
 *
 * ```ts
 * const chat = call.topic("chat");
 * const pointer = call.topic("pointer", { lossy: true });    // what the next message makes worthless
 * chat.hear(({ participant, text }) => show(participant, text));
 * if (!chat.say("good morning")) later();                    // not open yet, too long, or too much waits
 * ```
 *
 * Everybody else in the call who has opened the topic hears what is said there. A topic lives as long as its call, over lost
 * connections too; what is said while there is none is lost.
 */

/** Bytes the engine takes of one message. */
const MESSAGE_BYTES_MAX = 16 << 10;
/** Bytes that may wait to be sent. */
const WAITING_BYTES_MAX = 256 << 10;
/** A channel that is there so that the offer has a line for all that come; nobody opens it. */
const PLACEHOLDER = 62;

export interface TopicOptions {
  /** Messages may be lost, and overtake each other. */
  lossy?: boolean;
}

/** What somebody said. */
export interface Said {
  participant: number;
  /** A string, as it was sent; or else `bytes`. */
  text?: string;
  bytes?: Uint8Array;
}

export class Topic {
  readonly name: string;
  readonly lossy: boolean;
  readonly #heard = new Set<(said: Said) => void>();
  readonly #changed = new Set<() => void>();
  #channel: RTCDataChannel | null = null;

  constructor(name: string, options: TopicOptions) {
    this.name = name;
    this.lossy = options.lossy ?? false;
  }

  /** Whether something can be said. */
  get open(): boolean {
    return this.#channel?.readyState === "open";
  }

  /** Says something to the others; false when it cannot be said now. */
  say(message: string | Uint8Array<ArrayBuffer>): boolean {
    const channel = this.#channel;
    if (channel?.readyState !== "open" || channel.bufferedAmount > WAITING_BYTES_MAX) return false;
    const bytes = typeof message === "string" ? new TextEncoder().encode(message) : message;
    if (bytes.length > MESSAGE_BYTES_MAX) return false;
    if (typeof message === "string") channel.send(message);
    else channel.send(bytes);
    return true;
  }

  /** Hears what the others say. */
  hear(heard: (said: Said) => void): () => void {
    this.#heard.add(heard);
    return () => this.#heard.delete(heard);
  }

  /** Told when it opens or closes. */
  watch(changed: () => void): () => void {
    this.#changed.add(changed);
    return () => this.#changed.delete(changed);
  }

  /** Takes part over this connection. */
  attach(pc: RTCPeerConnection): void {
    const channel = pc.createDataChannel(this.name, this.lossy ? { ordered: false, maxRetransmits: 0 } : {});
    channel.binaryType = "arraybuffer";
    this.#channel = channel;
    const changed = () => {
      if (this.#channel === channel) for (const one of this.#changed) one();
    };
    channel.onopen = changed;
    channel.onclose = changed;
    channel.onmessage = ({ data }) => {
      const said = this.#channel === channel ? said_in(data) : null;
      if (said) for (const heard of this.#heard) heard(said);
    };
  }

  /** Nothing is said any more. */
  detach(): void {
    this.#channel?.close();
    this.#channel = null;
    for (const changed of this.#changed) changed();
  }
}

/** All topics of a call. */
export class Topics {
  readonly #topics = new Map<string, Topic>();
  #pc: RTCPeerConnection | null = null;

  open(name: string, options: TopicOptions): Topic {
    const known = this.#topics.get(name);
    if (known) return known;
    const topic = new Topic(name, options);
    this.#topics.set(name, topic);
    if (this.#pc) topic.attach(this.#pc);
    return topic;
  }

  /** Over another connection. */
  attach(pc: RTCPeerConnection): void {
    this.#pc = pc;
    pc.createDataChannel("", { negotiated: true, id: PLACEHOLDER });
    for (const topic of this.#topics.values()) topic.attach(pc);
  }

  /** The engine has ended them. */
  end(): void {
    this.#pc = null;
    for (const topic of this.#topics.values()) topic.detach();
  }
}

/** Whose a message is stands before it: `12 good morning`, or the number in four bytes. */
export function said_in(data: string | ArrayBuffer): Said | null {
  if (typeof data === "string") {
    const space = data.indexOf(" ");
    const participant = Number(data.slice(0, space));
    return space > 0 && Number.isInteger(participant) ? { participant, text: data.slice(space + 1) } : null;
  }
  if (data.byteLength < 4) return null;
  return { participant: new DataView(data).getUint32(0), bytes: new Uint8Array(data, 4) };
}
