//! A decider for tests and measurements: one conversation whose log is in memory, and everybody hears it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_http::HttpService;
use futures_util::future::LocalBoxFuture;
use nova::chat::Door;
use nova::chat::encoded::{Class, Encoded};
use nova::chat::goodbye::Goodbye;
use nova::chat::order::Cutover;
use nova::chat::seam::{
    Believed, Deciders, Delivery, DeviceHandle, Gone, Hearing, Opening, Refusal, Tokens, Topic, Welcome,
};
use nova::chat::upgrade;
use nova::chat::wire::{self, Answer, Entry, FromDevice, Push};
use nova::config::Config;
use nova::error::Code;
use nova::telemetry::Metrics;
use nova_actors::clock::{Clock as _, SystemClock};
use nova_actors::id::{ConversationId, DeviceId, UserId};
use serde_json::value::RawValue;

/// Entries of one page of a replay.
const PAGE: usize = 50;

/// One conversation for everybody.
#[derive(Clone)]
pub struct Crier(Arc<World>);

struct World {
    conversation: ConversationId,
    log: Mutex<Vec<Encoded>>,
    door: std::sync::OnceLock<Door>,
    closed: Mutex<Vec<DeviceId>>,
    /// Whether the next hole breaks the decider.
    breaks: std::sync::atomic::AtomicBool,
    /// Whether those who connect follow the conversation.
    follows: bool,
}

impl Crier {
    pub fn new(follows: bool) -> Crier {
        Crier(Arc::new(World {
            conversation: ConversationId::generate(),
            log: Mutex::default(),
            door: std::sync::OnceLock::new(),
            closed: Mutex::default(),
            breaks: std::sync::atomic::AtomicBool::default(),
            follows,
        }))
    }

    pub fn conversation(&self) -> ConversationId {
        self.0.conversation
    }

    pub fn closed(&self) -> Vec<DeviceId> {
        self.0.closed.lock().expect("unharmed").clone()
    }

    /// The next hole breaks the decider.
    pub fn break_once(&self) {
        self.0.breaks.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    pub fn topic(&self) -> Topic {
        self.0.conversation.into()
    }

    pub fn top(&self) -> u64 {
        self.0.log.lock().expect("unharmed").len() as u64
    }

    /// Commits an entry; gives its delivery.
    pub fn commit(&self, text: &str) -> Delivery {
        let mut log = self.0.log.lock().expect("unharmed");
        let seq = log.len() as u64 + 1;
        let body = serde_json::json!({ "text": text }).to_string();
        let message = wire::push(&Push::Entry(Entry {
            conversation: self.0.conversation,
            epoch: 1,
            seq,
            kind: "message".to_owned(),
            sender: None,
            at: SystemClock.now(),
            client_msg_id: None,
            body: RawValue::from_string(body).expect("JSON").into(),
        }));
        log.push(message.clone());
        Delivery {
            topic: self.topic(),
            seq: Some(seq),
            class: Class::Durable,
            slot: None,
            message,
            except: None,
        }
    }

    async fn replay(self, device: DeviceHandle, mut next: u64) -> Result<(), Gone> {
        loop {
            let (page, top) = {
                let log = self.0.log.lock().expect("unharmed");
                let page: Vec<_> =
                    (next..).zip(log.iter().skip(next as usize - 1).take(PAGE).cloned()).collect();
                (page, log.len() as u64)
            };
            next += page.len() as u64;
            if !page.is_empty() {
                device.room().await?;
                device.replay(self.topic(), page).await?;
            }
            if next > top {
                match device.cutover(self.topic(), top).await? {
                    Cutover::Live { .. } | Cutover::NotReplaying => return Ok(()),
                    Cutover::Behind { next: from, .. } => next = from,
                }
            }
        }
    }
}

impl Tokens for Crier {
    /// A token is `user device seconds`.
    fn verify(&self, token: String) -> LocalBoxFuture<'static, Result<Believed, Goodbye>> {
        Box::pin(async move {
            let mut parts = token.split(' ');
            let mut next = || parts.next().ok_or(Goodbye::BadToken);
            let user = next()?.parse().map_err(|_| Goodbye::BadToken)?;
            let device = next()?.parse().map_err(|_| Goodbye::BadToken)?;
            let seconds: u64 = next()?.parse().map_err(|_| Goodbye::BadToken)?;
            Ok(Believed { user, device, expires_at: SystemClock.now() + Duration::from_secs(seconds) })
        })
    }
}

impl Deciders for Crier {
    fn open(&self, opening: Opening) -> LocalBoxFuture<'static, Result<Welcome, Goodbye>> {
        let (crier, device) = (self.clone(), opening.device);
        if !self.0.follows {
            return Box::pin(std::future::ready(Ok(Welcome::default())));
        }
        // What the client calls itself says where its cursor is.
        let cursor = opening.client.and_then(|client| client.parse().ok()).unwrap_or_else(|| self.top());
        Box::pin(async move {
            let queue = crier.top() - cursor;
            let then = async move {
                // A device that has left needs nothing more.
                let _: Result<(), Gone> = async {
                    device.subscribe(crier.topic(), cursor + 1).await?;
                    crier.clone().replay(device.clone(), cursor + 1).await?;
                    device.push(Class::Durable, None, wire::push(&Push::Drained { count: queue })).await
                }
                .await;
            };
            Ok(Welcome { queue, gaps: 0, then: Some(Box::pin(then)) })
        })
    }

    fn hear(&self, device: &DeviceHandle, request: FromDevice) -> Hearing {
        let crier = self.clone();
        match request {
            FromDevice::Send(draft) => {
                let delivery = crier.commit(&draft.text.unwrap_or_default());
                let sent = Answer::Sent {
                    conversation: crier.conversation(),
                    client_msg_id: draft.client_msg_id,
                    epoch: 1,
                    seq: delivery.seq.unwrap_or_default(),
                    at: SystemClock.now(),
                    duplicate: false,
                };
                Hearing::Later(Box::pin(async move {
                    crier.0.door.get().expect("the door is open").deliver(delivery).await;
                    Ok(Some(sent))
                }))
            }
            FromDevice::Typing(typing) => {
                let push =
                    Push::Typing { conversation: typing.conversation, user: device.user(), on: typing.on };
                let delivery = Delivery {
                    topic: crier.topic(),
                    seq: None,
                    class: Class::Typing,
                    slot: None,
                    message: wire::push(&push),
                    except: Some([device.user()].into()),
                };
                let taken = crier.0.door.get().expect("the door is open").try_deliver(&delivery);
                Hearing::Now(taken.map(|()| None).map_err(|_| Refusal::from(Code::Overloaded)))
            }
            FromDevice::Delete(_) => {
                Hearing::Later(Box::pin(async { panic!("a decider breaks on purpose") }))
            }
            _ => Hearing::Now(Ok(None)),
        }
    }

    fn hole(&self, device: &DeviceHandle, _: Topic, next: u64) {
        if self.0.breaks.swap(false, std::sync::atomic::Ordering::SeqCst) {
            panic!("a decider breaks on purpose");
        }
        let replay = self.clone().replay(device.clone(), next);
        actix_rt::spawn(async move {
            // A device that has left needs nothing more.
            let _: Result<(), Gone> = replay.await;
        });
    }

    fn closed(&self, device: &DeviceHandle) {
        self.0.closed.lock().expect("unharmed").push(device.device());
    }
}

/// A token for a user's device that is good for so long.
pub fn token(user: UserId, device: DeviceId, seconds: u64) -> String {
    format!("{user} {device} {seconds}")
}

/// What answers those who do not want a WebSocket.
async fn nothing_here(
    _: actix_http::Request,
) -> Result<actix_http::Response<&'static str>, actix_http::Error> {
    Ok(actix_http::Response::not_found().set_body("nothing here"))
}

/// A server with nothing but the door.
pub struct Server {
    pub addr: SocketAddr,
    pub door: Door,
    pub crier: Crier,
    pub metrics: Metrics,
    handle: actix_server::ServerHandle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Starts it on a free port, with `tls` if given.
    pub fn start(crier: Crier, config: &Config, tls: Option<rustls::ServerConfig>) -> Server {
        Server::start_ticking(crier, config, tls, Duration::from_secs(1))
    }

    /// As [`start`](Self::start), with seconds as long as `tick`.
    pub fn start_ticking(
        crier: Crier,
        config: &Config,
        tls: Option<rustls::ServerConfig>,
        tick: Duration,
    ) -> Server {
        let metrics = Metrics::new();
        let (tokens, deciders) = (Arc::new(crier.clone()), Arc::new(crier.clone()));
        let door =
            Door::new(&config.chat, &config.http, Arc::new(SystemClock), metrics.clone(), tokens, deciders)
                .ticking(tick);
        assert!(crier.0.door.set(door.clone()).is_ok(), "one crier, one door");
        let (tell, told) = std::sync::mpsc::channel();
        let (workers, opened) = (config.http.worker_count(), door.clone());
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
                let addr = listener.local_addr().expect("bound");
                let builder = actix_server::Server::build()
                    .workers(workers)
                    .backlog(4_096)
                    .max_concurrent_connections(25_000)
                    .shutdown_timeout(1)
                    .disable_signals();
                macro_rules! service {
                    () => {
                        HttpService::build().upgrade(upgrade::service(opened.clone())).finish(nothing_here)
                    };
                }
                let server = match tls {
                    None => builder.listen("ws", listener, move || service!().tcp()),
                    Some(tls) => builder.listen("wss", listener, move || service!().rustls_0_23(tls.clone())),
                };
                let server = server.expect("listens").run();
                tell.send((addr, server.handle())).expect("the starter waits");
                server.await.expect("ends well");
            });
        });
        let (addr, handle) = told.recv().expect("started");
        Server { addr, door, crier, metrics, handle, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The command is sent when `stop` is called; its future only waits.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok(), "the server's thread did not panic");
        }
    }
}
