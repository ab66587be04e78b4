//! Janus beside the engine: the same peers, the same canned media, on the same machine, in its VideoRoom plugin.
//!
//! What differs: a participant has two connections there, one to publish on and one for all it receives; it picks no speakers, so
//! everybody is given the three who speak; and it tells nobody which layers are watched, so cameras of `room` are told by the bench not to
//! make the highest. It is asked for what makes it quick: one loop for each core, no events, no limit on bitrates.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nova_media::peer::{Fingerprint, Identity};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::peer::{self, PASSWORD, Shape, Tally, UFRAG};
use super::{CallsBench, Crowd, JOIN_MAX, Scenario, first_ssrc, joining, start_media};
use crate::bench::BenchError;
use crate::bench::client::{self, Heard, Reader, Writer};
use crate::bench::installation::{Folder, Process, free_port};

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(10);
/// Says that no other candidate comes: Janus finds a peer by its requests. This one leads nowhere.
const NO_CANDIDATE: &str = "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n";
/// Who speaks.
const SPEAKERS: usize = 3;
/// The layer of three that fits a tile.
const TILE_LAYER: usize = 1;

/// A Janus with rooms.
pub(super) struct Janus {
    pub(super) process: Process,
    addr: SocketAddr,
    /// Its configuration; removed with it.
    _folder: Folder,
}

impl Janus {
    /// Starts one with so many rooms, numbered from 1.
    pub(super) async fn start(rooms: usize) -> Result<Janus, BenchError> {
        let folder = Folder::new("bench-janus").map_err(BenchError::because)?;
        let port = free_port().map_err(BenchError::because)?;
        configure(folder.path(), port, rooms).map_err(BenchError::because)?;
        let mut command = tokio::process::Command::new("janus");
        command.arg("-F").arg(folder.path()).current_dir("/");
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let process = Process::start(command).map_err(|_| {
            BenchError::because("there is no Janus: install it (Debian's package is called janus)")
        })?;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let up = async {
            while tokio::net::TcpStream::connect(addr).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(START_MAX, up).await.map_err(|_| BenchError::because("Janus does not start"))?;
        Ok(Janus { process, addr, _folder: folder })
    }
}

fn configure(folder: &Path, port: u16, rooms: usize) -> std::io::Result<()> {
    let shown = folder.display();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let off =
        |names: &[&str]| names.iter().map(|name| format!("libjanus_{name}.so")).collect::<Vec<_>>().join(",");
    let plugins = off(&[
        "audiobridge",
        "duktape",
        "echotest",
        "lua",
        "nosip",
        "recordplay",
        "sip",
        "streaming",
        "textroom",
        "videocall",
        "voicemail",
    ]);
    let transports = off(&["http", "mqtt", "nanomsg", "pfunix", "rabbitmq"]);
    let main = format!(
        "general: {{ configs_folder = \"{shown}\", debug_level = 2, session_timeout = 0, event_loops = {cores} }}\n\
         media: {{ ipv6 = false }}\nnat: {{ ice_tcp = false }}\nevents: {{ broadcast = false }}\n\
         plugins: {{ disable = \"{plugins}\" }}\ntransports: {{ disable = \"{transports}\" }}\n"
    );
    std::fs::write(folder.join("janus.jcfg"), main)?;
    let door = format!(
        "general: {{ json = \"compact\", ws = true, ws_port = {port}, ws_interface = \"lo\", wss = false }}\n"
    );
    std::fs::write(folder.join("janus.transport.websockets.jcfg"), door)?;
    let mut all = String::new();
    for room in 1..=rooms {
        let _ = writeln!(
            all,
            "room-{room}: {{ publishers = 1000, bitrate = 0, audiocodec = \"opus\", videocodec = \"vp8\", audiolevel_event = false, \
             transport_wide_cc_ext = true }}"
        );
    }
    std::fs::write(folder.join("janus.plugin.videoroom.jcfg"), all)
}

/// The signalling of one participant.
struct Desk {
    writer: Writer,
    reader: Reader,
    session: u64,
    asked: u64,
}

impl Desk {
    async fn connect(addr: SocketAddr) -> Result<Desk, BenchError> {
        let dialled = client::dial(addr, "/", Some("janus-protocol")).await;
        let (writer, reader) = dialled.map_err(BenchError::because)?;
        let mut desk = Desk { writer, reader, session: 0, asked: 0 };
        desk.session = id_of(&desk.ask(json!({ "janus": "create" })).await?)?;
        Ok(desk)
    }

    /// A connection to be.
    async fn attach(&mut self) -> Result<u64, BenchError> {
        id_of(&self.ask(json!({ "janus": "attach", "plugin": "janus.plugin.videoroom" })).await?)
    }

    /// Asks the room something; what it says of it, and its side of a session.
    async fn tell(
        &mut self,
        handle: u64,
        body: Value,
        sdp: Option<(&str, String)>,
    ) -> Result<(Value, String), BenchError> {
        let mut request = json!({ "janus": "message", "handle_id": handle, "body": body });
        if let (Some((kind, sdp)), Some(fields)) = (sdp, request.as_object_mut()) {
            fields.insert("jsep".to_owned(), json!({ "type": kind, "sdp": sdp }));
        }
        let told = self.ask(request).await?;
        let said = told.pointer("/plugindata/data").cloned().unwrap_or_default();
        if let Some(error) = said.get("error") {
            return Err(BenchError::because(format!("Janus answered {body} with {error}")));
        }
        let sdp = told.pointer("/jsep/sdp").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok((said, sdp))
    }

    async fn ask(&mut self, mut request: Value) -> Result<Value, BenchError> {
        self.asked += 1;
        let transaction = self.asked.to_string();
        if let Some(fields) = request.as_object_mut() {
            fields.insert("transaction".to_owned(), transaction.clone().into());
            if self.session > 0 {
                fields.insert("session_id".to_owned(), self.session.into());
            }
        }
        self.writer.say(&request.to_string());
        let answered = async {
            loop {
                let mut all: Vec<Value> = Vec::new();
                let writer = &self.writer;
                let read = self.reader.read(|one| match one {
                    Heard::Text(text) => all.extend(serde_json::from_slice::<Value>(text)),
                    Heard::Ping(payload) => writer.pong(payload),
                    Heard::Close(_) => {}
                });
                read.await.map_err(BenchError::because)?;
                // It says at first that it has heard.
                let is_it = |told: &Value| {
                    told.get("transaction").and_then(Value::as_str) == Some(&transaction)
                        && told.get("janus").and_then(Value::as_str) != Some("ack")
                };
                if let Some(told) = all.into_iter().find(is_it) {
                    return match told.get("error") {
                        None => Ok(told),
                        Some(error) => {
                            Err(BenchError::because(format!("Janus answered {request} with {error}")))
                        }
                    };
                }
            }
        };
        timeout(JOIN_MAX, answered).await.map_err(|_| BenchError::because("Janus does not answer"))?
    }

    /// Hears what nobody waits for, until it is dropped.
    async fn listen(mut self) {
        let writer = self.writer.clone();
        let hear = |one: Heard<'_>| {
            if let Heard::Ping(payload) = one {
                writer.pong(payload);
            }
        };
        while self.reader.read(hear).await.is_ok() {}
    }
}

/// The layer of a tile for all pictures of a session.
fn tiles(session: &Value) -> Vec<Value> {
    let streams = session.get("streams").and_then(Value::as_array).into_iter().flatten();
    let pictures = streams.filter(|stream| stream.get("type").and_then(Value::as_str) == Some("video"));
    pictures.map(|stream| json!({ "mid": stream.get("mid"), "substream": TILE_LAYER })).collect()
}

fn id_of(told: &Value) -> Result<u64, BenchError> {
    let id = told.pointer("/data/id").and_then(Value::as_u64);
    id.ok_or_else(|| BenchError::because(format!("Janus says {told}")))
}

/// The answer to what Janus offers: everything is taken as it is, and nothing is sent.
fn answer(offer: &str, fingerprint: &Fingerprint) -> String {
    let mut digits = String::new();
    for (at, byte) in fingerprint.iter().enumerate() {
        let _ = write!(digits, "{}{byte:02X}", if at == 0 { "" } else { ":" });
    }
    let mut parts = offer.split("m=");
    let session = parts.next().unwrap_or_default();
    let bundle = session.lines().find(|line| line.starts_with("a=group:BUNDLE")).unwrap_or_default().trim();
    let mut out = format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{bundle}\r\na=fingerprint:sha-256 {digits}\r\n"
    );
    for part in parts {
        let mut lines = part.lines().map(str::trim);
        let _ = write!(
            out,
            "m={}\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{UFRAG}\r\na=ice-pwd:{PASSWORD}\r\na=setup:active\r\n{NO_CANDIDATE}a=rtcp-mux\r\na=recvonly\r\n",
            lines.next().unwrap_or_default()
        );
        for line in lines.filter(|line| {
            ["a=mid:", "a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().any(|key| line.starts_with(key))
        }) {
            let _ = write!(out, "{line}\r\n");
        }
    }
    out
}

impl CallsBench {
    /// Everybody comes to Janus's rooms and publishes, and then watches.
    pub(super) async fn gather_at_janus(
        &self,
        scenario: Scenario,
        janus: &Janus,
        rooms: usize,
        each: usize,
    ) -> Result<Crowd, BenchError> {
        let identity = Arc::new(Identity::generate().map_err(BenchError::because)?);
        let tally = Rc::new(Tally::default());
        let mut crowd = Crowd::new(&tally);
        let (identity, tally, began) = (&identity, &tally, Instant::now());
        let places = (0..rooms * each).map(|nth| (nth / each, nth % each));
        let coming = places.clone().map(|(room, place)| async move {
            let came = Instant::now();
            let mut desk = Desk::connect(janus.addr).await?;
            let shape = Shape { ears: 0, eyes: 0, ..self.shape(scenario, place) };
            if !shape.has_voice && shape.layers == 0 {
                return Ok((desk, None));
            }
            let offer = peer::offer(shape, &identity.fingerprint())
                .replace("a=setup:actpass\r\n", &format!("a=setup:active\r\n{NO_CANDIDATE}"));
            let handle = desk.attach().await?;
            let join = json!({ "request": "joinandconfigure", "ptype": "publisher", "room": room + 1, "id": place + 1 });
            let (_, sdp) = desk.tell(handle, join, Some(("offer", offer))).await?;
            let publisher = joining::connected(identity, &sdp, tally, began, self.loss).await?;
            start_media(&publisher, shape, first_ssrc(room * each + place), place, self.kbps);
            if shape.layers > 1 {
                publisher.watched(Some(TILE_LAYER));
            }
            Ok((desk, Some((publisher, u32::try_from(came.elapsed().as_micros()).unwrap_or(u32::MAX)))))
        });
        let there = joining::all(coming).await?;
        let watching = places.zip(there).map(|((room, place), (mut desk, published))| async move {
            let wanted = self.wanted(scenario, place, each);
            if wanted.is_empty() {
                return Ok((desk, published, None));
            }
            let handle = desk.attach().await?;
            let join =
                json!({ "request": "join", "ptype": "subscriber", "room": room + 1, "streams": wanted });
            let (told, offer) = desk.tell(handle, join, None).await?;
            let answer = answer(&offer, &identity.fingerprint());
            desk.tell(handle, json!({ "request": "start" }), Some(("answer", answer))).await?;
            let viewer = joining::connected(identity, &offer, tally, began, self.loss).await?;
            viewer.bind_all();
            if scenario == Scenario::Room {
                desk.tell(handle, json!({ "request": "configure", "streams": tiles(&told) }), None).await?;
            }
            Ok((desk, published, Some(viewer)))
        });
        for (desk, published, viewer) in joining::all(watching).await? {
            let (publisher, took) = published.unzip();
            crowd.joined_us.extend(took);
            crowd.peers.extend(publisher.into_iter().chain(viewer));
            crowd.tasks.spawn_local(desk.listen());
        }
        Ok(crowd)
    }

    /// What somebody is to receive, as Janus is asked for it.
    fn wanted(&self, scenario: Scenario, place: usize, each: usize) -> Vec<Value> {
        let voices = |most: usize| {
            (0..most.min(each)).filter(move |of| *of != place).map(|of| json!({ "feed": of + 1, "mid": "0" }))
        };
        match scenario {
            Scenario::Audio => voices(1).collect(),
            Scenario::Video if place == 0 => Vec::new(),
            Scenario::Video => vec![json!({ "feed": 1, "mid": "1" })],
            Scenario::Room => {
                let faces =
                    (1..=self.tiles as usize).map(|step| (place + step) % each).filter(|of| *of != place);
                let faces = faces.map(|of| json!({ "feed": of + 1, "mid": "1" }));
                voices(SPEAKERS).chain(faces).collect()
            }
            Scenario::Idle => Vec::new(),
        }
    }
}
