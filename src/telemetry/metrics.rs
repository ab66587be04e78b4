//! Every metric the engine has: one list of names, kinds, labels and meanings.
//!
//! A metric is a field of [`Families`]; it is registered when the struct is made, so a name that is not in this
//! list cannot appear at `/metrics`; what every process has
//! (`process_resident_memory_bytes`, `process_cpu_seconds_total` …) comes from the client library. Labels have few values, known in advance: never ids, never addresses.

use std::ops::Deref;
use std::sync::Arc;

use nova_actors::observer::Observer;
use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Upper bounds, in seconds, of the buckets of every duration histogram: from a cache hit to a time-out.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Upper bounds of the buckets of every histogram that counts things.
const COUNTS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_000.0, 10_000.0, 100_000.0];

/// Upper bounds, in seconds, of the buckets of what takes microseconds.
const SHORT_SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_15, 0.000_2, 0.000_25, 0.000_3, 0.000_4, 0.000_5, 0.000_75, 0.001, 0.001_5,
    0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0,
];

/// What a histogram measures is the last word of its name.
fn buckets(name: &str) -> Vec<f64> {
    if name == "nova_rtc_forward_duration_seconds" {
        return SHORT_SECONDS.to_vec();
    }
    if name.ends_with("_seconds") { SECONDS.to_vec() } else { COUNTS.to_vec() }
}

/// How a kind of metric is made from its name, help and labels.
trait Build: Collector + Clone + 'static {
    fn build(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self>;
}

macro_rules! build {
    ($($kind:ty: |$name:ident, $help:ident, $labels:ident| $make:expr;)*) => {
        $(impl Build for $kind {
            fn build($name: &str, $help: &str, $labels: &[&str]) -> prometheus::Result<Self> { $make }
        })*
    };
}

build! {
    IntCounter: |name, help, _labels| IntCounter::new(name, help);
    IntGauge: |name, help, _labels| IntGauge::new(name, help);
    Gauge: |name, help, _labels| Gauge::new(name, help);
    GaugeVec: |name, help, labels| GaugeVec::new(Opts::new(name, help), labels);
    Histogram: |name, help, _labels| Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets(name)));
    IntCounterVec: |name, help, labels| IntCounterVec::new(Opts::new(name, help), labels);
    IntGaugeVec: |name, help, labels| IntGaugeVec::new(Opts::new(name, help), labels);
    HistogramVec: |name, help, labels| HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets(name)), labels);
}

macro_rules! metrics {
    ($($field:ident: $kind:ty = $name:literal [$($label:literal)*] $help:literal;)*) => {
        /// The engine's metrics, each a field of [`Families`]. Cheap to clone: one count of references for all of them, because
        /// every request and every connection holds a clone.
        #[derive(Debug, Clone)]
        pub struct Metrics(Arc<Families>);

        /// What is counted and measured.
        #[derive(Debug)]
        pub struct Families {
            registry: Registry,
            $(#[doc = concat!("`", $name, "`: ", $help)] pub $field: $kind,)*
        }

        impl Deref for Metrics {
            type Target = Families;

            fn deref(&self) -> &Families {
                &self.0
            }
        }

        /// The names of all metrics, in the order of the list.
        pub const NAMES: &[&str] = &[$($name),*];

        impl Metrics {
            /// Makes and registers every metric of the list.
            pub fn new() -> Metrics {
                let registry = Registry::new();
                $(let $field = register::<$kind>(&registry, $name, $help, &[$($label),*]);)*
                Metrics(Arc::new(Families { registry, $($field),* }))
            }
        }
    };
}

metrics! {
    http_requests: IntCounterVec = "nova_http_requests_total" ["method" "route" "status"] "Requests answered.";
    http_request_duration: HistogramVec = "nova_http_request_duration_seconds" ["method" "route"] "From the request's head to the response's head.";
    http_requests_in_flight: IntGauge = "nova_http_requests_in_flight" [] "Requests being answered.";
    http_panics: IntCounter = "nova_http_panics_total" [] "Handlers that panicked and were answered 500.";
    rate_limited: IntCounterVec = "nova_rate_limited_total" ["limit"] "Requests refused with 429, by limit.";
    ws_connections: IntGauge = "nova_ws_connections" [] "WebSockets that are open.";
    ws_connects: IntCounterVec = "nova_ws_connects_total" ["outcome"] "WebSockets that said connect, or why they were refused.";
    ws_goodbyes: IntCounterVec = "nova_ws_goodbyes_total" ["code"] "WebSockets that ended, by the number of the goodbye; client: it closed by itself.";
    ws_frames: IntCounterVec = "nova_ws_frames_total" ["direction"] "Messages and control frames, in and out.";
    ws_outbox_bytes: IntGauge = "nova_ws_outbox_bytes" [] "What waits for sockets that take nothing, in bytes.";
    ws_shed: IntCounterVec = "nova_ws_shed_total" ["class"] "Messages dropped for devices that are too far behind.";
    ws_would_block: IntCounter = "nova_ws_write_would_block_total" [] "Writes that found the socket full.";
    ws_holes: IntCounter = "nova_ws_holes_total" [] "Deliveries that were missed on the way to a socket, and replayed.";
    ws_worker_panics: IntCounter = "nova_ws_worker_panics_total" [] "Messages a worker of the door failed over; it went on.";
    ws_resumes: IntCounterVec = "nova_ws_resumes_total" ["outcome"] "Devices that connected: nothing waited for them (current), entries did (replayed), or somewhere more than is pushed (gap).";
    ws_queue_entries: Histogram = "nova_ws_queue_entries" [] "Entries that waited for a device when it connected.";
    ws_delivery_duration: Histogram = "nova_ws_delivery_duration_seconds" [] "From an entry's commit, or word of it from another node, to the last socket of a worker.";
    bus_lag: Gauge = "nova_bus_lag_seconds" [] "How long the latest probe took from publishing to hearing it; 0 on the bus within the process.";
    actors: IntCounterVec = "nova_actors_total" ["kind" "event"] "Actors that were started, restarted, slept, stopped, crashed or contained.";
    actor_mailbox_len: HistogramVec = "nova_actor_mailbox_len" ["kind"] "Messages that waited when one was taken up, itself included.";
    actor_messages_refused: IntCounterVec = "nova_actor_messages_refused_total" ["kind"] "Messages refused because a mailbox was full.";
    actor_messages_lost: IntCounterVec = "nova_actor_messages_lost_total" ["kind"] "Messages that waited for an actor that ended.";
    presence_users: IntGaugeVec = "nova_presence_users" ["where"] "Users who are online: with a socket here, and everywhere as this node knows it.";
    presence_watched: IntGauge = "nova_presence_watched" [] "Users whose presence somebody on this node watches.";
    presence_changes: IntCounter = "nova_presence_changes_total" [] "Comings and goings told to those who watch.";
    live_entries_left_out: IntCounter = "nova_live_entries_left_out_total" [] "Entries of chats beside streams that were not shown here: too many at once, or a worker too busy.";
    dependency_up: IntGaugeVec = "nova_dependency_up" ["dependency"] "1 while a dependency answers, else 0.";
    dependency_check_duration: HistogramVec = "nova_dependency_check_duration_seconds" ["dependency"] "How long a dependency took to answer its check.";
    entries: IntCounterVec = "nova_entries_total" ["kind"] "Entries appended to conversations through the journal.";
    journal_batches: IntCounter = "nova_journal_batches_total" [] "Batches the journal wrote; entries by batches is the mean size of one.";
    journal_batch_entries: Histogram = "nova_journal_batch_entries" [] "Entries of a batch the journal wrote.";
    journal_batch_duration: Histogram = "nova_journal_batch_duration_seconds" [] "From the first try to write a batch to its answer.";
    journal_append_duration: Histogram = "nova_journal_append_duration_seconds" [] "From being given an entry to its commit.";
    journal_overloaded: IntCounter = "nova_journal_overloaded_total" [] "Entries refused because too many waited to be written.";
    journal_retries: IntCounter = "nova_journal_retries_total" [] "Batches that were written again.";
    streams_live: IntGauge = "nova_streams_live" [] "Streams on the air on this node.";
    viewers: IntGauge = "nova_viewers" [] "Viewers of all streams on this node, told apart by network and player.";
    rtc_rooms: IntGauge = "nova_rtc_rooms" [] "Rooms for calls on this node.";
    calls: IntCounterVec = "nova_calls_total" ["outcome"] "Calls in conversations that ended on this node's word: answered, missed, declined, cancelled, failed.";
    call_ring_duration: Histogram = "nova_call_ring_seconds" [] "How long calls rang before they were answered.";
    rtc_join_duration: Histogram = "nova_rtc_join_seconds" [] "From a request to join a room to its media being connected.";
    rtc_participants: IntGauge = "nova_rtc_participants" [] "Participants of calls and viewers over WebRTC on this node.";
    rtc_connected: IntCounter = "nova_rtc_connected_total" [] "Participants whose media could flow.";
    rtc_failed: IntCounterVec = "nova_rtc_failed_total" ["reason"] "Participants whose media path ended: no_path (ICE), no_keys (DTLS), silent, fault (the engine failed over them), moved (their media shard began anew).";
    rtc_panics: IntCounter = "nova_rtc_panics_total" [] "Panics over a participant of a call or an order, who was expelled while the others went on.";
    rtc_shard_restarts: IntCounter = "nova_rtc_shard_restarts_total" [] "Media shards that panicked and began anew; everybody on them was told to come again.";
    rtc_packets: IntCounterVec = "nova_rtc_packets_total" ["direction"] "RTP packets: in, out, again (asked for by a subscriber), unsent (the socket was full), silent (not sent, since they say nothing).";
    rtc_refused: IntCounterVec = "nova_rtc_refused_packets_total" ["reason"] "Packets of participants who sent more than they may: bitrate, sound, rtcp (reports, and what is asked for).";
    rtc_bytes: IntCounterVec = "nova_rtc_bytes_total" ["direction"] "Bytes of RTP payload, in and out.";
    rtc_nacks: IntCounter = "nova_rtc_nacks_total" [] "Packets publishers were asked for again.";
    rtc_keyframes: IntCounter = "nova_rtc_keyframe_requests_total" [] "Keyframes publishers were asked for.";
    rtc_wishes: IntCounterVec = "nova_rtc_wishes_total" ["kind"] "What subscribers asked for: nack (packets again), pli (keyframes).";
    rtc_probes: IntCounter = "nova_rtc_probes_total" [] "Packets that were sent once more, or with nothing in them, to see what a path carries.";
    rtc_forward_duration: Histogram = "nova_rtc_forward_duration_seconds" [] "From the kernel receiving a packet to its copy to a participant having been sent, each copy by itself.";
    rtc_estimate: Histogram = "nova_rtc_estimate_kbps" [] "What the path to each participant is believed to carry, looked at each second.";
    rtc_loss: Histogram = "nova_rtc_loss_percent" [] "Packets lost on the path to each participant lately, looked at each second.";
    rtc_paused: IntGauge = "nova_rtc_paused" [] "Tracks that are not sent to somebody because their path does not carry even the least of them.";
    rtc_shed_level: IntGaugeVec = "nova_rtc_shed_level" ["shard"] "How much a media shard sheds: 0 nothing, 1 and 2 faces, 3 and more also new rooms.";
    rtc_busy: GaugeVec = "nova_rtc_busy_ratio" ["shard"] "Share of the last second in which a media shard worked.";
    rtc_handed_over: IntCounterVec = "nova_rtc_handed_over_total" ["result"] "Datagrams that came to the socket of another media shard than their participant's: taken, lost (its queue was full).";
    rtc_steering: IntGauge = "nova_rtc_steering" [] "1 while the kernel gives datagrams to the socket of their participant's media shard. 0 where it refuses, which the log says, and where there is one shard.";
    rtc_steered_addresses: IntGauge = "nova_rtc_steered_addresses" [] "Addresses whose datagrams the kernel gives to the socket of their participant's media shard, where it would have chosen another.";
    rtc_tcp_connections: IntGauge = "nova_rtc_tcp_connections" [] "Connections of participants whose media comes over TCP.";
    rtc_tcp_lost: IntCounter = "nova_rtc_tcp_lost_total" [] "Datagrams for participants over TCP that were lost: they did not read, or have gone.";
    rtc_claimed_addresses: IntGauge = "nova_rtc_claimed_addresses" [] "Addresses of participants whose datagrams come to the socket of another media shard.";
    rtc_messages: IntCounterVec = "nova_rtc_messages_total" ["direction"] "Messages on data channels of calls: in, out (one for each receiver).";
    rtc_messages_lost: IntCounterVec = "nova_rtc_messages_lost_total" ["reason"] "Messages on data channels that went nowhere: too_fast (the sender), too_slow (the receiver), role (who only listens).";
    rtc_data_ended: IntCounterVec = "nova_rtc_data_ended_total" ["reason"] "Participants whose data channels were ended: slow, too_fast, too_large, too_many_channels, protocol.";
    rtc_unknown: IntCounter = "nova_rtc_unknown_total" [] "Datagrams from addresses nobody vouched for.";
    rtc_events_lost: IntCounter = "nova_rtc_events_lost_total" [] "Events of the media shards that nobody took in time.";
    whep_sessions: IntGauge = "nova_whep_sessions" [] "Viewers of streams over WebRTC who were let in, those who have not come yet included.";
    whep_offers: IntCounterVec = "nova_whep_offers_total" ["outcome"] "Offers of viewers over WebRTC: answered, moved to the publisher's node, or the code of the refusal.";
    whip_sessions: IntGauge = "nova_whip_sessions" [] "Publishers of streams over WebRTC who were let in.";
    opus_children: IntGauge = "nova_opus_children" [] "Child processes that make AAC Opus for viewers over WebRTC.";
    opus_restarts: IntCounter = "nova_opus_restarts_total" [] "Such children that were started again.";
    publishers: IntGauge = "nova_publishers" [] "Publishers that were let in and are connected.";
    rtmp_connections: IntGauge = "nova_rtmp_connections" [] "Connections to the RTMP door, those before their publish included.";
    rtmp_refused: IntCounterVec = "nova_rtmp_refused_total" ["reason"] "Connections and publishers turned away.";
    rtmp_ended: IntCounterVec = "nova_rtmp_ended_total" ["reason"] "Connections to the RTMP door that ended.";
    ingest_bytes: IntCounter = "nova_ingest_bytes_total" [] "Bytes received from publishers.";
    frames_sanitised: IntCounterVec = "nova_frames_sanitised_total" ["reason"] "Timestamps of publishers that were mended.";
    frames_dropped: IntCounterVec = "nova_frames_dropped_total" ["reason"] "Media of publishers that was not passed on.";
    hls_parts: IntCounter = "nova_hls_parts_total" [] "Parts that were cut.";
    hls_part_bytes: IntCounter = "nova_hls_part_bytes_total" [] "Their bytes.";
    hls_part_made: Histogram = "nova_hls_part_made_seconds" [] "From the frame that closes a part to its playlist being there.";
    thumbnails: IntCounterVec = "nova_thumbnails_total" ["result"] "Pictures of broadcasts that were made, or why they were not.";
    egress_rooms: IntGauge = "nova_egress_rooms" [] "Rooms that are made live streams on this node.";
    egress_restarts: IntCounterVec = "nova_egress_restarts_total" ["part"] "Child processes of such rooms that ended and had to be started again: picture and voice decode, pictures and sounds encode.";
    egress_late_ms: IntCounter = "nova_egress_late_milliseconds_total" [] "What is missing in the streams of such rooms because the machine stood still for half a second or more.";
    transcoders: IntGauge = "nova_transcoders" [] "Child processes that make renditions of broadcasts.";
    transcoder_restarts: IntCounterVec = "nova_transcoder_restarts_total" ["reason"] "Transcoders that ended and had to be started again, by why.";
    transcoder_refused: IntCounter = "nova_transcoder_refused_total" [] "Ladders that were not made, or not whole, for want of CPU; tried again every ten seconds.";
    transcoder_missed: IntCounter = "nova_transcoder_missed_total" [] "Times a transcoder was too slow and frames were left out up to the next keyframe.";
    transcoder_millicores: IntGauge = "nova_transcoder_millicores" [] "Thousandths of a core that transcoders use, as measured.";
    rendition_parts: IntCounter = "nova_rendition_parts_total" [] "Parts of renditions beside the source that were made.";
    rendition_part_bytes: IntCounter = "nova_rendition_part_bytes_total" [] "Their bytes.";
    rendition_gaps: IntCounter = "nova_rendition_gaps_total" [] "Parts of renditions beside the source that could not be made.";
    playback_bytes: IntCounterVec = "nova_playback_bytes_total" ["kind"] "Bytes handed to viewers, by what they are.";
    playback_waiting: IntGauge = "nova_playback_waiting" [] "Requests that wait for a part.";
    playback_wait: Histogram = "nova_playback_wait_seconds" [] "How long they waited.";
    relays: IntGauge = "nova_relays" [] "Streams of other nodes that are watched here.";
    relay_bytes: IntCounter = "nova_relay_bytes_total" [] "Bytes fetched from other nodes for viewers here, each file once.";
    recordings: IntGauge = "nova_recordings" [] "Broadcasts that are being kept.";
    recording_segments: IntCounterVec = "nova_recording_segments_total" ["outcome"] "Segments of broadcasts that are kept: kept, or lost because too many waited.";
    recording_bytes: IntCounter = "nova_recording_bytes_total" [] "Bytes of segments that were kept.";
    recording_kept: Histogram = "nova_recording_kept_seconds" [] "From a segment being whole to it being kept.";
    recording_lag: IntGauge = "nova_recording_lag_seconds" [] "How long the segment that was last tried has waited to be kept.";
    webhooks: IntCounterVec = "nova_webhooks_total" ["outcome"] "Attempts to tell an endpoint something: delivered, failed and to be tried again, given up.";
    feed_pages: IntCounterVec = "nova_feed_pages_total" ["level"] "Pages of feeds, by what gave them.";
    feed_level_failures: IntCounterVec = "nova_feed_level_failures_total" ["level" "reason"] "Pages of feeds a level did not give: failed, or too_slow.";
    feed_models_refused: IntCounter = "nova_feed_models_refused_total" [] "Files in the folder of models that were no model.";
    feed_heads_made: IntCounter = "nova_feed_heads_made_total" [] "Heads of readers that were made from PostgreSQL.";
    feed_heads_redis: IntCounterVec = "nova_feed_heads_redis_total" ["outcome"] "What happened to heads in Redis: found, none, void (too old, or what is followed has changed), made, forwarded, outrun (by another node), lie (no head, whatever it is), away (no answer in time), left_alone (it was away).";
    event_sequencer: IntGauge = "nova_event_sequencer" [] "1 on the node that gives events their places.";
    events_logged: IntCounter = "nova_events_logged_total" [] "Events this node has given their places.";
    events_consumed: IntCounterVec = "nova_events_consumed_total" ["group"] "Events a group has taken on this node.";
    event_turn_duration: HistogramVec = "nova_event_turn_duration_seconds" ["group"] "How long a group took for a batch.";
    event_failures: IntCounterVec = "nova_event_failures_total" ["group"] "Batches a group did not take.";
    event_dead_letters: IntCounterVec = "nova_event_dead_letters_total" ["group"] "Events a group could not take.";
    event_lag: IntGaugeVec = "nova_event_lag" ["group" "topic" "part"] "Events a group has not taken yet: exact, places are dense.";
    event_outbox: IntGauge = "nova_event_outbox" [] "Events that wait for their place.";
    event_dead_letters_kept: IntGaugeVec = "nova_event_dead_letters" ["group"] "Dead letters that wait for somebody to decide.";
    event_age: IntGaugeVec = "nova_event_age_seconds" ["group" "topic" "part"] "How long the next event of a group has waited.";
    build_info: IntGaugeVec = "nova_build_info" ["version"] "Always 1; the version is the label.";
}

/// What happens to actors, as metrics.
impl Observer for Metrics {
    fn started(&self, kind: &'static str) {
        self.actors.with_label_values(&[kind, "started"]).inc();
    }

    fn restarted(&self, kind: &'static str) {
        self.actors.with_label_values(&[kind, "restarted"]).inc();
    }

    fn slept(&self, kind: &'static str) {
        self.actors.with_label_values(&[kind, "slept"]).inc();
    }

    fn stopped(&self, kind: &'static str) {
        self.actors.with_label_values(&[kind, "stopped"]).inc();
    }

    fn crashed(&self, kind: &'static str) {
        self.actors.with_label_values(&[kind, "crashed"]).inc();
    }

    fn contained(&self, kind: &'static str) {
        self.actors.with_label_values(&[kind, "contained"]).inc();
    }

    fn mailbox_full(&self, kind: &'static str) {
        self.actor_messages_refused.with_label_values(&[kind]).inc();
    }

    fn mailbox_depth(&self, kind: &'static str, depth: usize) {
        self.actor_mailbox_len.with_label_values(&[kind]).observe(depth as f64);
    }

    fn lost(&self, kind: &'static str, messages: usize) {
        self.actor_messages_lost.with_label_values(&[kind]).inc_by(messages as u64);
    }
}

fn register<M: Build>(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> M {
    let metric = M::build(name, help, labels).expect("the list above holds valid names and labels");
    registry.register(Box::new(metric.clone())).expect("the list above holds each name once");
    metric
}

impl Default for Metrics {
    fn default() -> Metrics {
        let metrics = Metrics::new();
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        {
            let process = prometheus::process_collector::ProcessCollector::for_self();
            metrics.registry.register(Box::new(process)).expect("no metric of the list begins with process_");
        }
        metrics
    }
}

impl Metrics {
    /// The text a Prometheus server reads (text exposition format 0.0.4).
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 << 10);
        let families = self.registry.gather();
        TextEncoder::new().encode(&families, &mut text).expect("writing to memory does not fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_follows_the_rules_of_prometheus() {
        let mut seen = std::collections::BTreeSet::new();
        for name in NAMES {
            assert!(seen.insert(name), "{name} stands twice");
            assert!(name.starts_with("nova_"), "{name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
        }
    }

    #[test]
    fn what_happens_to_actors_is_counted() {
        let metrics = Metrics::new();
        metrics.started("talk");
        metrics.restarted("talk");
        metrics.crashed("talk");
        metrics.mailbox_full("talk");
        metrics.mailbox_depth("talk", 3);
        metrics.lost("talk", 2);
        let text = String::from_utf8(metrics.render()).expect("text");
        for line in [
            r#"nova_actors_total{event="restarted",kind="talk"} 1"#,
            r#"nova_actor_mailbox_len_bucket{kind="talk",le="2"} 0"#,
            r#"nova_actor_mailbox_len_bucket{kind="talk",le="4"} 1"#,
            r#"nova_actor_messages_refused_total{kind="talk"} 1"#,
            r#"nova_actor_messages_lost_total{kind="talk"} 2"#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is missing in {text}");
        }
    }

    #[test]
    fn the_process_is_measured() {
        let text = String::from_utf8(Metrics::default().render()).expect("text");
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
            line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse::<f64>().ok())
        };
        assert!(value("process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6), "{text}");
        assert!(value("process_open_fds").is_some_and(|open| open >= 3.0), "{text}");
        assert!(value("nova_build_info").is_some_and(|one| one == 1.0), "{text}");
    }
}
