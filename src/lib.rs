//! Nova is one program that holds an application's realtime side, with one identity, one permission model and
//! one way through. This page is the map of the house.
//!
//! # Rooms
//!
//! ```text
//! src      doors and adapters: everything that touches the world
//! actors   deciders: who gets what, in which order      (crate `nova-actors`)
//! media    instruments: bytes and time in, values out   (crate `nova-media`)
//! ```
//!
//! `src` uses `actors` and `media`, and nothing points back: cargo refuses the circle. A door takes something in,
//! an actor decides, a door gives it out. Doors never decide; actors know no SQL and no sockets; media knows no
//! users, no clock and no async.
//!
//! # Where things are
//!
//! | room | what it is |
//! |---|---|
//! | [`app`] | the one place where parts meet: configuration → running node → nothing |
//! | [`cli`], [`config`] | what the program can be asked to do, and everything an operator can decide |
//! | [`error`] | the one table of refusals: code, HTTP status, public words |
//! | [`rest`] | the REST door: one file per noun under `rest/`, the manner of the API beside them |
//! | [`chat`] | the WebSocket door: frames, handshakes, sockets, outboxes, one hub for each worker |
//! | [`conversations`] | what people do in conversations, the same over REST and over the socket; presence, and the chat beside streams |
//! | [`journal`] | where this node writes the logs of conversations, many entries in one commit |
//! | [`ingest`] | the RTMP door: broadcasters |
//! | [`playback`] | the viewers' door: low-latency HLS from memory |
//! | [`live`] | streams on this node, what their two doors share, and their thumbnails, which child processes make |
//! | [`ffmpeg`] | FFmpeg as a child process: bounded, spoken to over pipes; why it is no library |
//! | [`wish`] | live streams over WebRTC, negotiated with one HTTP request: WHIP and WHEP |
//! | [`recordings`] | what is kept of broadcasts, in the object store ([`objects`]) |
//! | [`calls`] | group calls on this node: rooms, and their signalling over the socket |
//! | [`rtc`] | the media door of calls: shards, their sockets and threads, on one port of UDP, and the same of TCP |
//! | [`egress`] | a room as a live stream: the stage and the voices, decoded, mixed and coded anew by child processes |
//! | [`identity`] | who is asking: passwords, tokens and their keys, second factors, revocations |
//! | [`events`] | the event log: outbox, sequencer, groups of consumers; its messages are in `proto/` |
//! | [`feeds`] | home feeds: heads that follow the event log, in memory or in Redis, ranking by models and experiments, the ladder of what to show when parts are away |
//! | [`social`] | what people post: what a text says, numbers without hot rows |
//! | [`console`] | the web console's files, embedded in the program |
//! | [`webhooks`] | what the operator's own servers are told, from an outbox |
//! | [`nodes`] | which nodes there are, and how they ask each other |
//! | [`store`] | PostgreSQL, one file per noun; [`postgres`] runs a private server when none is configured |
//! | [`bus`] | between nodes: the port is [`nova_actors::port::Bus`], its adapters are here |
//! | [`health`], [`telemetry`] | how the dependencies do; logs, metrics, traces |
//! | [`admin`] | what an operator does by hand |
//! | [`mod@bench`] | `nova bench`: what the engine promises in numbers, measured from outside |
//! | [`torture`] | `nova torture`: nodes that are killed, paused and cut off, and a judge of what people saw meanwhile |
//!
//! # Flows
//!
//! **A request.** Socket → `actix-http` → the manner ([`rest`]: request id, client address, limits, problem
//! documents) → identity (a token is verified here, on this node, without asking anybody) → a handler in `rest/`,
//! which reads like a sentence → one function of [`store`] → one transaction → the answer.
//!
//! **A message.** WebSocket → [`chat`] (frame, limits, parse) or [`rest`] → [`conversations`] (read and bound the draft) →
//! [`journal`] (a lane collects while its batch before is on its way) → `append_entries` in PostgreSQL, which locks the
//! conversation, judges, numbers without a hole and commits → the sender's answer; and [`conversations::relay`] → the hub of
//! every worker → sockets, encoded once, and over the [`bus`] → the relays of other nodes. What a bus loses is read from the
//! log: a relay and a socket each know the next number they are owed.
//!
//! **Somebody comes.** Socket → [`conversations::presence`] (who is where, on all nodes, in memory) → the bus, in batches; and the sockets
//! that watch them. A viewer's socket follows its stream's chat through [`conversations::watch`], as a sample nobody waits for.
//!
//! **A broadcast.** RTMP bytes → [`ingest`] → [`nova_media::rtmp`] (no socket, no clock) → the stream's actor judges the key →
//! frames → [`nova_media::hls`] cuts parts and renders one immutable snapshot for each → a watch channel → [`playback`] waits on
//! it and writes bytes. Viewers never enter a mailbox.
//!
//! **A call.** `room.join` with an offer over the socket → [`calls`] asks [`nova_actors::room`] whether → the room's shard of [`rtc`] answers
//! the offer → ICE, DTLS and SRTP on one port, whichever shard's room it is → [`nova_media::sfu`] opens each packet once and seals it for
//! each subscriber, on the shard's thread.
//! What happens there (slots, speakers) comes back as events, and is told as `room.event`. What people say on data channels goes the same
//! way, over SCTP ([`nova_media::data`]), to everybody who takes part in the topic.
//! A host makes it a live stream: [`egress`] listens at the shard as a participant would, decodes, mixes and codes anew in child processes,
//! and writes to the stream's broadcast as a publisher does.
//! Before that it may have rung: `call.start` → [`nova_actors::call`] decides in the transaction that writes the conversation's entry
//! ([`store::calls`]) → a push to every device concerned, here and over the [`bus`].
//!
//! **A start.** [`app::App::build`] binds the ports first, since a taken port is the most common mistake and the
//! cheapest to notice; then PostgreSQL (ours or the configured one), the schema under a lock, the bus, identity,
//! health, and the doors last: those of the node's roles ([`config::NodeRole`]). The ready line is printed when a request would be answered.
//!
//! **An end.** SIGTERM → readiness says `draining` → sockets hear their goodbye, publishers are sent elsewhere → no new
//! connections → open requests are answered, or cut off when the time for it is over → streams are given up → the pool
//! closes → the embedded PostgreSQL stops. A second signal ends the process at once. What was acknowledged is in
//! PostgreSQL, so an end at any instruction loses nothing: `kill -9` is a test, not an accident.
//!
//! # Invariants
//!
//! - Nothing is acknowledged before PostgreSQL has committed it, with `synchronous_commit` on.
//! - Everything that arrives from a network is bounded before it is parsed: size, depth, count, rate, time.
//! - Every queue says its bound, its reason and its answer to "full" where it is declared.
//! - No password is hashed and no file is read on a worker's thread.
//! - Only [`app`] knows which adapter stands behind a port.
//! - A metric, an error code, a configuration option each stand in exactly one list
//!   ([`telemetry::metrics`], [`error::Code`], [`config::Config`]).
//! - No unsafe code: the workspace forbids it.
//!
//! # Decisions that differ from what one might expect
//!
//! - **The HTTP door is `actix_http::HttpService` on `actix-server`**, not actix-web's `HttpServer`: only there a
//!   connection can be taken over whole, which the WebSocket door needs. actix-web's routing runs inside it. It is run outside of the actix
//!   system actors live in: workers that are arbiters would drop what they leave under way outside of any runtime.
//! - **Readiness fails without PostgreSQL, and only without it** (or while draining). Redis away is `degraded` and
//!   stays 200: the node serves everyone it holds. A node cut off from PostgreSQL can accept nothing durable.
//! - **What a node does not do it answers 421**, not 404: a client, or a balancer that sent it to the wrong node, is not told that something
//!   is not there.
//! - **A new epoch comes from the clock**, and by hand (`nova admin new-epoch`): the database cannot know that it was restored, and one that
//!   was restored twice would count to the same number twice.
//! - **Keys outlive retention**: of an entry that is taken away before it is a week old, what a retry is told by stays.
//! - **The configuration file supplies defaults to the command-line parser**, so precedence, bounds and words are
//!   the same wherever a value comes from, and no second description of the options exists.
//!
//! # Dependencies
//!
//! Versions stand once, in the workspace's `Cargo.toml`; licences are checked by a test.
//!
//! | crate | why it stands here |
//! |---|---|
//! | `actix`, `actix-rt` | actors with mailboxes on threads of their own |
//! | `actix-web`, `actix-http`, `actix-server`, `actix-service`, `actix-codec`, `actix-tls` | HTTP/1.1 and HTTP/2, routing; the upgrade hook of the WebSocket door |
//! | `tokio`, `futures-util`, `bytes`, `async-trait` | the runtime, its timers and channels, shared buffers, ports as trait objects |
//! | `sqlx` | PostgreSQL with queries checked while compiling, except the few of chat that hand arrays to a function |
//! | `object_store` | files and S3 behind one trait, with retries and signatures; its `ring` backend |
//! | `redis` | the wire to Redis; connections, reconnects and back-off are ours |
//! | `rtc-dtls`, `rtc-srtp`, `rtc-rtp`, `rtc-crypto`, `rtc-shared` | keys and seals of calls, as sans-IO parts of the `webrtc` family; a whole peer connection costs five times as much for each packet |
//! | `rtc-sctp` | data channels of calls, from the same family; what it trusts its peer with is guarded by us |
//! | `nix` | the one socket option `rustix` has not: which socket of a port the kernel gives a datagram to; `rtc-shared` needs it anyway |
//! | `quinn-udp` | many datagrams in one call to the kernel, without unsafe code of ours |
//! | `rustls`, `ring` | TLS, signatures, seals, digests of one audited library; `aws-lc` is outside our licence list |
//! | `argon2`, `totp-rs` | password hashing (RFC 9106) and one-time codes (RFC 6238) |
//! | `unicode-normalization`, `unicode-security` | names compared as people see them (UTS 39) |
//! | `governor`, `ipnet` | rate limits by GCRA; trusted networks |
//! | `quick_cache` | bounded caches of verified tokens and profiles |
//! | `serde`, `serde_json`, `serde_path_to_error`, `time`, `uuid`, `url`, `base64`, `percent-encoding` | values in and out of text |
//! | `utoipa` | the OpenAPI document, from the handlers themselves |
//! | `clap`, `toml` | flags, environment and file into one struct |
//! | `tracing`, `tracing-subscriber`, `tracing-opentelemetry`, `opentelemetry*`, `reqwest` | logs and traces, and sending them |
//! | `prometheus` | metrics |
//! | `rskafka` | the wire to Kafka, for the bridge of the event log: pure Rust with seven small crates below it, kept by InfluxData, where `rdkafka` builds the C library with cmake |
//! | `prost` | the bytes of events, as `proto/` describes them |
//! | `rustix` | signals, locks, priorities, limits and datagrams sent many at a time, without unsafe code |
//! | `socket2` | how much the kernel holds for a socket that takes nothing |
//! | `mimalloc` | an allocator that packs many small, short-lived buffers |
//! | `rand` | the order of things in `nova torture`, from a seed |
//! | `slab`, `smallvec` | places that stay where they are, short lists without a heap |
//! | `thiserror` | error enums with sentences |
//! | `brotli`, `flate2`, `sha2` (build) | the console's files are compressed and hashed while building; `flate2` compresses WebSocket messages |

pub mod admin;
pub mod app;
pub mod bench;
pub mod bus;
pub mod calls;
pub mod chat;
pub mod cli;
pub mod config;
pub mod console;
pub mod conversations;
pub mod egress;
pub mod error;
pub mod events;
pub mod feeds;
pub mod ffmpeg;
pub mod health;
pub mod identity;
pub mod ingest;
pub mod journal;
pub mod live;
pub mod nodes;
pub mod objects;
pub mod playback;
pub mod postgres;
pub mod recordings;
pub mod rest;
pub mod rtc;
pub mod social;
pub mod store;
pub mod telemetry;
pub mod torture;
pub mod webhooks;
pub mod wish;
