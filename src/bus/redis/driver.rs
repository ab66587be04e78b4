//! Keeps the two connections, and moves messages between them and the node.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use nova_actors::id::RequestId;
use nova_actors::port::{BusError, BusHealth};
use rand::Rng;
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{AsyncConnectionConfig, Client, ErrorKind, Msg, RedisError, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{Change, Hub, Outgoing, RedisRefusal, unavailable};

/// Messages sent in one go. More would make the first of them wait for the last.
const BATCH_LEN_MAX: usize = 512;

/// And their bytes, about what a socket's buffer takes.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Channels named in one SUBSCRIBE.
const SUBSCRIBE_LEN_MAX: usize = 512;

/// The oldest Redis we work with: TIME and SET in one script, and what its ACLs know of channels.
const VERSION_MIN: (u32, u32) = (6, 2);

/// Why a pair of connections ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Refused(#[from] RedisRefusal),
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("no answer in time")]
    Late,
    #[error("the connection was closed")]
    Closed,
    #[error("no probe was heard for {} ms", .0.as_millis())]
    Silence(Duration),
    /// The node has no use for the bus any more.
    #[error("the bus is closing")]
    Unwanted,
}

/// The connections while they work.
struct Link {
    speaking: MultiplexedConnection,
    sink: PubSubSink,
    stream: PubSubStream,
}

pub(super) struct Driver {
    client: Client,
    hub: Arc<Hub>,
    outgoing: mpsc::Receiver<Outgoing>,
    changes: mpsc::Receiver<Change>,
    /// Only this node hears it: its own name is in it.
    probe_channel: String,
}

impl Driver {
    pub(super) fn new(
        client: Client,
        hub: Arc<Hub>,
        outgoing: mpsc::Receiver<Outgoing>,
        changes: mpsc::Receiver<Change>,
    ) -> Driver {
        let probe_channel = format!("{}:probe:{}", hub.config.namespace, RequestId::generate());
        Driver { client, hub, outgoing, changes, probe_channel }
    }

    /// Makes the first attempt, and lives on as a task unless waiting would not help.
    pub(super) async fn start(self) -> Result<(), RedisRefusal> {
        match self.connect().await {
            Ok(link) => {
                let (mut health, limit) = (self.hub.health.subscribe(), self.hub.config.command_max);
                tokio::spawn(self.run(Some(link)));
                // Whoever is late is late for the whole node; it goes on connecting.
                let _connected = timeout(limit, health.wait_for(|health| health.connected)).await;
            }
            Err(Broken::Refused(refusal)) => return Err(refusal),
            Err(error) => {
                tracing::warn!(%error, "Redis cannot be reached; this node starts without its neighbours");
                tokio::spawn(self.run(None));
            }
        }
        Ok(())
    }

    async fn run(mut self, mut link: Option<Link>) {
        let mut failures = 0_u32;
        loop {
            if let Some(link) = link.take() {
                let began = Instant::now();
                let broken = self.work(link).await;
                self.lose();
                if matches!(broken, Broken::Unwanted) {
                    return;
                }
                tracing::warn!(error = %broken, "the connection to Redis is lost");
                failures = if began.elapsed() > self.hub.config.pause_max { 0 } else { failures };
            }
            let pause = jittered(self.hub.config.pause_min, self.hub.config.pause_max, failures);
            failures = failures.saturating_add(1);
            let connected = {
                let Driver { client, hub, outgoing, .. } = &mut self;
                let attempt = async {
                    sleep(pause).await;
                    connect(client, hub).await
                };
                tokio::select! {
                    connected = attempt => connected,
                    () = refuse_all(outgoing) => return,
                }
            };
            match connected {
                Ok(connected) => link = Some(connected),
                Err(error) if failures.is_power_of_two() => {
                    tracing::warn!(%error, failures, "Redis cannot be reached");
                }
                Err(error) => tracing::debug!(%error, failures, "Redis cannot be reached"),
            }
        }
    }

    async fn connect(&self) -> Result<Link, Broken> {
        connect(&self.client, &self.hub).await
    }

    /// Everything there is to do while both connections work.
    async fn work(&mut self, link: Link) -> Broken {
        let Driver { hub, outgoing, changes, probe_channel, .. } = self;
        let Link { speaking, mut sink, stream } = link;
        if let Err(broken) = resume(hub, &mut sink, probe_channel).await {
            return broken;
        }
        *hub.speaking.write().unwrap_or_else(PoisonError::into_inner) = Some(speaking.clone());
        hub.health.send_replace(BusHealth { connected: true, lag: None });
        let (unwanted, mut unheard) = mpsc::channel(SUBSCRIBE_LEN_MAX);
        let (heard, probes) = mpsc::channel(PROBES_LEN_MAX);
        tokio::select! {
            broken = hear(hub, stream, probe_channel, &heard, &unwanted) => broken,
            broken = change(hub, sink, changes, &mut unheard) => broken,
            broken = speak(hub, speaking.clone(), outgoing) => broken,
            broken = probe(hub, speaking, probe_channel, probes) => broken,
        }
    }

    /// From now on nobody is served until the next pair of connections.
    fn lose(&mut self) {
        self.hub.topics().live = false;
        *self.hub.speaking.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.hub.health.send_modify(|health| health.connected = false);
        // Who waits for a confirmation is answered by the gap that follows; dropping the sender says so.
        while self.changes.try_recv().is_ok() {}
    }
}

/// Probes that were heard and not yet looked at: one a second.
const PROBES_LEN_MAX: usize = 16;

async fn connect(client: &Client, hub: &Hub) -> Result<Link, Broken> {
    let limits = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(hub.config.connect_max))
        .set_response_timeout(Some(hub.config.command_max));
    let attempt = async {
        let mut speaking = client.get_multiplexed_async_connection_with_config(&limits).await?;
        check_version(&mut speaking).await?;
        let (sink, stream) = client.get_async_pubsub().await?.split();
        Ok(Link { speaking, sink, stream })
    };
    match timeout(hub.config.connect_max, attempt).await {
        Ok(Err(Broken::Redis(error))) => Err(judge(error)),
        Ok(linked) => linked,
        Err(_late) => Err(Broken::Late),
    }
}

/// Sorts what waiting does not heal from what it may.
fn judge(error: RedisError) -> Broken {
    let denied = ["NOAUTH", "WRONGPASS", "NOPERM"].iter().any(|code| error.code() == Some(code));
    match error.kind() {
        _ if denied => Broken::Refused(RedisRefusal::Denied(error)),
        ErrorKind::AuthenticationFailed => Broken::Refused(RedisRefusal::Denied(error)),
        ErrorKind::InvalidClientConfig => Broken::Refused(RedisRefusal::Url(error)),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            Broken::Refused(RedisRefusal::NotRedis(error.to_string()))
        }
        _ => Broken::Redis(error),
    }
}

/// HELLO (since 6.0) tells the version; unlike INFO it is allowed to everybody who may connect.
async fn check_version(speaking: &mut MultiplexedConnection) -> Result<(), Broken> {
    let hello = redis::cmd("HELLO").query_async::<HashMap<String, Value>>(speaking).await;
    let found = match hello {
        Ok(fields) => match fields.get("version") {
            Some(Value::BulkString(text)) => String::from_utf8_lossy(text).into_owned(),
            Some(Value::SimpleString(text)) => text.clone(),
            _ => return Err(RedisRefusal::NotRedis("it does not tell its version".to_owned()).into()),
        },
        Err(error) if error.to_string().contains("unknown command") => "5 or older".to_owned(),
        Err(error) => return Err(error.into()),
    };
    let mut numbers = found.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    match (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default()) {
        version if version >= VERSION_MIN => Ok(()),
        _ => Err(RedisRefusal::TooOld { found }.into()),
    }
}

/// Subscribes to every topic there is, then tells each subscriber that something may have been missed.
async fn resume(hub: &Hub, sink: &mut PubSubSink, probe_channel: &str) -> Result<(), Broken> {
    let inlets: Vec<_> = {
        let mut topics = hub.topics();
        // Who comes from now on asks for its topic itself.
        topics.live = true;
        topics.inlets.iter().map(|(channel, inlets)| (channel.clone(), inlets.clone())).collect()
    };
    let channels: Vec<&str> =
        inlets.iter().map(|(channel, _)| channel.as_str()).chain([probe_channel]).collect();
    for some in channels.chunks(SUBSCRIBE_LEN_MAX) {
        in_time(hub, sink.subscribe(some)).await?;
    }
    for (_, inlet) in inlets.iter().flat_map(|(_, inlets)| inlets) {
        inlet.gap();
    }
    Ok(())
}

async fn in_time<T>(hub: &Hub, asked: impl Future<Output = Result<T, RedisError>>) -> Result<T, Broken> {
    match timeout(hub.config.command_max, asked).await {
        Ok(answer) => answer.map_err(Broken::Redis),
        Err(_late) => Err(Broken::Late),
    }
}

/// Gives what Redis says to those who subscribed.
async fn hear(
    hub: &Hub,
    mut stream: PubSubStream,
    probe_channel: &str,
    probes: &mpsc::Sender<(u64, Instant)>,
    unwanted: &mpsc::Sender<String>,
) -> Broken {
    while let Some(message) = stream.next().await {
        let channel = message.get_channel_name();
        if channel == probe_channel {
            // A probe that finds no room is only late in being looked at: others wait before it.
            let _others_wait = probe_number(&message).map(|number| probes.try_send((number, Instant::now())));
            continue;
        }
        let heard = match hub.topics().inlets.get(channel) {
            Some(inlets) => {
                let payload = bytes::Bytes::copy_from_slice(message.get_payload_bytes());
                // Pushing never waits; a queue that is full becomes a gap.
                for (_, inlet) in inlets {
                    inlet.message(payload.clone());
                }
                true
            }
            None => false,
        };
        if !heard {
            let _again_with_the_next = unwanted.try_send(channel.to_owned());
        }
    }
    Broken::Closed
}

/// Carries out changes of subscriptions, those that wait together in one command each.
async fn change(
    hub: &Hub,
    mut sink: PubSubSink,
    changes: &mut mpsc::Receiver<Change>,
    unheard: &mut mpsc::Receiver<String>,
) -> Broken {
    let mut some = Vec::new();
    loop {
        tokio::select! {
            count = changes.recv_many(&mut some, SUBSCRIBE_LEN_MAX) => if count == 0 {
                return Broken::Unwanted;
            },
            Some(channel) = unheard.recv() => some.push(Change::Unsubscribe(channel)),
        }
        let (mut wanted, mut confirms, mut unwanted) = (Vec::new(), Vec::new(), Vec::new());
        for change in some.drain(..) {
            match change {
                Change::Subscribe(channel, confirm) => {
                    wanted.push(channel.clone());
                    confirms.push((channel, confirm));
                }
                Change::Unsubscribe(channel) => unwanted.push(channel),
            }
        }
        if !wanted.is_empty() {
            if let Err(broken) = in_time(hub, sink.subscribe(&wanted)).await {
                return broken;
            }
            for (channel, confirm) in confirms {
                if confirm.send(()).is_err() {
                    // Who went on without us must hear that something was missed.
                    hub.topics().inlets.get(&channel).into_iter().flatten().for_each(|(_, inlet)| {
                        inlet.gap();
                    });
                }
            }
        }
        // Asked last, and only of what nobody wants at this moment: who came back meanwhile keeps its topic.
        unwanted.retain(|channel| !hub.topics().inlets.contains_key(channel));
        if !unwanted.is_empty()
            && let Err(broken) = in_time(hub, sink.unsubscribe(&unwanted)).await
        {
            return broken;
        }
    }
}

/// Sends what is to be published, in the order it came. While one batch is on its way the next gathers.
async fn speak(
    hub: &Hub,
    mut speaking: MultiplexedConnection,
    outgoing: &mut mpsc::Receiver<Outgoing>,
) -> Broken {
    let mut gathered: VecDeque<Outgoing> = VecDeque::new();
    let mut more = Vec::new();
    loop {
        if gathered.is_empty() {
            if outgoing.recv_many(&mut more, BATCH_LEN_MAX).await == 0 {
                return Broken::Unwanted;
            }
            gathered.extend(more.drain(..));
        }
        let mut pipeline = redis::Pipeline::with_capacity(gathered.len());
        let (mut batch, mut bytes) = (Vec::with_capacity(gathered.len()), 0);
        while bytes < BATCH_BYTES_MAX
            && let Some(next) = gathered.pop_front()
        {
            bytes += next.payload.len();
            pipeline.cmd("PUBLISH").arg(next.channel.as_str()).arg(next.payload.as_ref()).ignore();
            batch.push(next);
        }
        let sent = in_time(hub, pipeline.query_async::<()>(&mut speaking)).await;
        let result = sent.as_ref().copied().map_err(unavailable);
        for message in batch {
            let _who_gave_up = message.taken.send(result.clone());
        }
        // A slow answer may still come and a refusal leaves the connection whole; the probe tells when it is time to give up.
        if let Err(Broken::Redis(error)) = sent
            && error.is_unrecoverable_error()
            && !error.is_timeout()
        {
            return Broken::Redis(error);
        }
    }
}

/// Sends a number to this node once in a while and sees how long it takes.
async fn probe(
    hub: &Hub,
    mut speaking: MultiplexedConnection,
    probe_channel: &str,
    mut heard: mpsc::Receiver<(u64, Instant)>,
) -> Broken {
    let config = &hub.config;
    let began = Instant::now();
    let micros = |at: Instant| u64::try_from(at.duration_since(began).as_micros()).unwrap_or(u64::MAX);
    let mut every = interval(config.probe_every);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last_heard, mut overdue) = (began, None::<Instant>);
    loop {
        let late_at = overdue.unwrap_or(last_heard + config.silence_max);
        tokio::select! {
            Some((sent_micros, at)) = heard.recv() => {
                let lag = Duration::from_micros(micros(at).saturating_sub(sent_micros));
                (last_heard, overdue) = (at, None);
                hub.health.send_replace(BusHealth { connected: true, lag: Some(lag) });
            }
            _ = every.tick() => {
                let now = Instant::now();
                overdue.get_or_insert(now + config.command_max);
                let mut send = redis::cmd("PUBLISH");
                send.arg(probe_channel).arg(micros(now));
                // A refusal or a late answer shows as silence.
                let sent = in_time(hub, send.query_async::<()>(&mut speaking)).await;
                if let Err(Broken::Redis(error)) = sent && error.is_unrecoverable_error() && !error.is_timeout() {
                    return Broken::Redis(error);
                }
            }
            () = tokio::time::sleep_until(late_at) => {
                hub.health.send_if_modified(|health| std::mem::take(&mut health.connected));
                let silence = last_heard.elapsed();
                if silence > config.silence_max {
                    return Broken::Silence(silence);
                }
                overdue = Some(last_heard + config.silence_max + Duration::from_millis(1));
            }
        }
    }
}

fn probe_number(message: &Msg) -> Option<u64> {
    std::str::from_utf8(message.get_payload_bytes()).ok()?.parse().ok()
}

/// Tells every publisher that nobody is there; returns when there are no publishers any more.
async fn refuse_all(outgoing: &mut mpsc::Receiver<Outgoing>) {
    while let Some(message) = outgoing.recv().await {
        let _who_gave_up = message.taken.send(Err::<(), BusError>(unavailable("not connected")));
    }
}

/// A pause between half and all of what the number of failures says, so that nodes do not come back in step.
fn jittered(min: Duration, max: Duration, failures: u32) -> Duration {
    let whole = min.saturating_mul(1 << failures.min(16)).min(max);
    whole.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_are_never_in_step() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(5));
        for failures in [0, 1, 5, 10, 31, u32::MAX] {
            let whole = min.saturating_mul(1 << failures.min(16)).min(max);
            let pauses: Vec<Duration> = (0..50).map(|_| jittered(min, max, failures)).collect();
            assert!(pauses.iter().all(|pause| (whole / 2..=whole).contains(pause)), "{failures}: {pauses:?}");
            assert!(pauses.iter().any(|pause| pause != &pauses[0]), "{failures}: in step");
        }
    }
}
