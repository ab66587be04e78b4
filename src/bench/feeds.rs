//! `nova bench feeds`: one scenario for each figure that is promised of posts and feeds.
//!
//! | scenario | what is done | what is told |
//! |---|---|---|
//! | `post` | 100 posts a second of well-known and unknown authors | time to the answer |
//! | `like` | 100 likes a second | time to the answer |
//! | `notified` | somebody likes a post, one after the other | until the author's notification is in `notification-events` |
//! | `fresh` | somebody with a thousand followers posts on one node; one of them asks another node without pause | until the post is on the page |
//! | `page` | 100 home pages of 20 posts a second; then as many as go | times; pages a second |
//! | `insert` | as many posts as go | posts a second |
//! | `cold` | heads made from nothing, for everybody and for who follows 1,800; the page without a head | times, memory of a head |
//! | `rank` | 400 candidates ordered; a post put on ten thousand heads (in this process) | times |
//!
//! The town is [`mod@seed`]'s. CPU is shared with PostgreSQL and the load.

pub mod seed;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::future::join_all;
use nova_actors::id::{PostId, UserId};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, sleep_until};

use super::BenchError;
use super::installation::{Installation, Node};
use super::measure::{Line, Processes, Times, load};
use super::people::Device;
use crate::events::{Event, Logged, Topic, id};
use crate::feeds::HEAD_POSTS;
use crate::feeds::features::{Features, NAMES};
use crate::feeds::heads::memory::Heads;
use crate::feeds::model::Model;
use crate::feeds::rank::Ranker;
use crate::store::events::Cursor;
use seed::{Seeded, Size, seed};
use wire::Wire;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// 100 posts a second.
    Post,
    /// 100 likes a second.
    Like,
    /// A like until its notification is told.
    Notified,
    /// A post until it is on another node's page.
    Fresh,
    /// Home pages.
    Page,
    /// As many posts as go.
    Insert,
    /// Heads made from nothing.
    Cold,
    /// Ordering and heads, in this process.
    Rank,
}

/// `nova bench feeds`.
#[derive(Debug, Args)]
pub struct FeedsBench {
    /// What to measure; default: everything, one after the other, in one town.
    #[arg(value_enum)]
    pub scenarios: Vec<Scenario>,

    /// How many there are.
    #[command(flatten)]
    pub size: Size,

    /// How long each is measured, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,

    /// Requests a second of the scenarios that have a rate.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,

    /// Connections of the scenarios that have none.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub connections: u32,

    /// Print rows of a table in Markdown.
    #[arg(long)]
    pub markdown: bool,

    /// Fail when a figure is not what is promised.
    #[arg(long)]
    pub strict: bool,
}

/// Where it is measured.
struct Place {
    installation: Installation,
    nodes: Vec<Node>,
    town: Seeded,
}

impl FeedsBench {
    /// Measures, and prints what is seen. Whether all promises that count were kept.
    pub async fn run(&self) -> Result<bool, BenchError> {
        const ALL: [Scenario; 8] = [
            Scenario::Rank,
            Scenario::Cold,
            Scenario::Page,
            Scenario::Post,
            Scenario::Like,
            Scenario::Notified,
            Scenario::Fresh,
            Scenario::Insert,
        ];
        let scenarios = if self.scenarios.is_empty() { &ALL[..] } else { &self.scenarios };
        let mut is_good = true;
        let mut place = None;
        for scenario in scenarios {
            let lines = match scenario {
                Scenario::Rank => rank(),
                _ => {
                    if place.is_none() {
                        place = Some(self.place().await?);
                    }
                    let Some(place) = &place else { continue };
                    Box::pin(self.measure(*scenario, place)).await?
                }
            };
            for line in lines {
                is_good &= line.kept.unwrap_or(true) || !self.strict;
                line.tell(self.markdown)?;
            }
        }
        if let Some(Place { installation, nodes, .. }) = place {
            drop(nodes);
            installation.end().await;
        }
        Ok(is_good)
    }

    async fn place(&self) -> Result<Place, BenchError> {
        let installation = Installation::start("bench").await?;
        let town = seed(installation.errand(), self.size).await?;
        installation.settle().await.map_err(BenchError::because)?;
        println(&format!("{}, load {}", town.told, load()))?;
        let nodes = vec![
            installation.node("node-1", None, None, &[]).await?,
            installation.node("node-2", None, None, &[]).await?,
        ];
        Ok(Place { installation, nodes, town })
    }

    async fn measure(&self, scenario: Scenario, place: &Place) -> Result<Vec<Line>, BenchError> {
        let Place { town, .. } = place;
        let one = place.door(0)?;
        match scenario {
            Scenario::Post => {
                let ask = |nth: usize| {
                    let who = town.people.get(nth * 37 % town.people.len());
                    Ask::new("POST", "/v1/posts", who, format!("{{\"text\":\"Said as number {nth}.\"}}"))
                };
                let times = self.at_rate(one, &ask).await?;
                Ok(vec![within("post: answer", &times, 0.99, 45.0), spread("post", &times)])
            }
            Scenario::Like => {
                let posts = place.some_posts(2_000).await?;
                let ask = |nth: usize| {
                    let who = town.people.get(nth * 41 % town.people.len());
                    let post = posts.get(nth % posts.len()).map(PostId::to_string).unwrap_or_default();
                    Ask::new("PUT", &format!("/v1/posts/{post}/like"), who, String::new())
                };
                let times = self.at_rate(one, &ask).await?;
                Ok(vec![within("like: answer", &times, 0.99, 45.0), spread("like", &times)])
            }
            Scenario::Page => self.pages(place).await,
            Scenario::Insert => {
                let ask = |nth: usize| {
                    let who = town.people.get(nth * 37 % town.people.len());
                    Ask::new("POST", "/v1/posts", who, format!("{{\"text\":\"Said as number {nth}.\"}}"))
                };
                let (rate, times) = self.as_many(one, &ask).await?;
                let what = format!("insert: posts a second, {} connections", self.connections);
                Ok(vec![
                    Line::promised(what, "≥ 2,000/s", format!("{rate:.0}/s"), rate >= 2_000.0),
                    spread("insert", &times),
                ])
            }
            Scenario::Notified => notified(place).await,
            Scenario::Fresh => self.fresh(place).await,
            Scenario::Cold => cold(place).await,
            Scenario::Rank => Ok(rank()),
        }
    }

    async fn pages(&self, place: &Place) -> Result<Vec<Line>, BenchError> {
        // As many readers as are there at once: their heads are made by the warm-up.
        const READERS: usize = 500;
        let readers: Vec<&Device> = place.town.people.iter().skip(100).take(READERS).collect();
        let one = place.door(0)?;
        let ask = |nth: usize| {
            Ask::new(
                "GET",
                "/v1/feeds/home?limit=20",
                readers.get(nth % readers.len()).copied(),
                String::new(),
            )
        };
        let mut wire = Wire::dial(one).await?;
        for nth in 0..READERS {
            ask(nth).send(&mut wire).await?;
        }
        let times = self.at_rate(one, &ask).await?;
        let mut lines = vec![
            within("home page of 20", &times, 0.5, 8.0),
            within("home page of 20", &times, 0.99, 45.0),
            spread("home page of 20", &times),
        ];
        let (rate, times) = self.as_many(one, &ask).await?;
        let what = format!("home pages a second, {} connections", self.connections);
        lines.push(Line::promised(what, "≥ 3,000/s", format!("{rate:.0}/s"), rate >= 3_000.0));
        lines.push(spread("home pages, as many as go", &times));
        let ranked = |nth: usize| {
            let who = readers.get(nth % readers.len()).copied();
            Ask::new("GET", "/v1/feeds/home?mode=ranked&limit=20", who, String::new())
        };
        let times = self.at_rate(one, &ranked).await?;
        lines.push(spread("ranked page of 20, its order made and kept", &times));
        Ok(lines)
    }

    /// From the moment before a post is sent until a follower's page on another node has it.
    async fn fresh(&self, place: &Place) -> Result<Vec<Line>, BenchError> {
        const POSTS: usize = 200;
        let (one, other) = (place.door(0)?, place.door(1)?);
        let (mut writer, mut reader) = (Wire::dial(one).await?, Wire::dial(other).await?);
        let author = Some(&place.town.known);
        let mut times = Vec::new();
        for nth in 0..POSTS {
            let follower = place.town.followers.get(nth % place.town.followers.len());
            let page = Ask::new("GET", "/v1/feeds/home?limit=20", follower, String::new());
            page.send(&mut reader).await?;
            let began = Instant::now();
            let body = format!("{{\"text\":\"Fresh as number {nth}.\"}}");
            let post = Ask::new("POST", "/v1/posts", author, body).send(&mut writer).await?;
            let id = post.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            loop {
                let seen = page.send(&mut reader).await?;
                let items = seen.get("items").and_then(Value::as_array).into_iter().flatten();
                if items.filter_map(|item| item.get("id")?.as_str()).any(|found| found == id) {
                    break;
                }
                if began.elapsed() > Duration::from_secs(10) {
                    return Err(BenchError::because("a post is not on a follower's page after ten seconds"));
                }
                sleep(Duration::from_millis(2)).await;
            }
            times.push(micros(began.elapsed()));
        }
        let times = Times::new(times);
        let what = "post until it is on a follower's page on another node, 1,000 followers";
        Ok(vec![within(what, &times, 0.99, 200.0), spread("fresh", &times)])
    }

    /// Asks at the rate, whatever the answers take: times count from when each was due.
    async fn at_rate(&self, door: SocketAddr, ask: &impl Fn(usize) -> Ask) -> Result<Times, BenchError> {
        let count = (self.rate * self.seconds) as usize;
        let lanes = 16.min(count);
        let next = AtomicUsize::new(0);
        let began = Instant::now() + Duration::from_millis(50);
        let lane = || async {
            let (mut wire, mut times) = (Wire::dial(door).await?, Vec::new());
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                if nth >= count {
                    return Ok::<_, BenchError>(times);
                }
                let due = began + Duration::from_secs_f64(nth as f64 / f64::from(self.rate));
                sleep_until(due).await;
                ask(nth).send(&mut wire).await?;
                times.push(micros(due.elapsed()));
            }
        };
        let lanes: Result<Vec<_>, _> = join_all((0..lanes).map(|_| lane())).await.into_iter().collect();
        Ok(Times::new(lanes?.concat()))
    }

    /// Asks as often as answers come; answers a second, and their times.
    async fn as_many(
        &self,
        door: SocketAddr,
        ask: &impl Fn(usize) -> Ask,
    ) -> Result<(f64, Times), BenchError> {
        let next = AtomicUsize::new(0);
        let began = Instant::now();
        let until = began + Duration::from_secs(self.seconds.into());
        let lane = || async {
            let (mut wire, mut times) = (Wire::dial(door).await?, Vec::new());
            while Instant::now() < until {
                let asked = Instant::now();
                ask(next.fetch_add(1, Ordering::Relaxed)).send_unread(&mut wire).await?;
                times.push(micros(asked.elapsed()));
            }
            Ok::<_, BenchError>(times)
        };
        let lanes = join_all((0..self.connections).map(|_| lane())).await;
        let lanes: Result<Vec<_>, _> = lanes.into_iter().collect();
        let times = Times::new(lanes?.concat());
        Ok((times.len() as f64 / began.elapsed().as_secs_f64(), times))
    }
}

impl Place {
    fn door(&self, nth: usize) -> Result<SocketAddr, BenchError> {
        self.nodes.get(nth).map(|node| node.http).ok_or_else(|| BenchError::because("there is no such node"))
    }

    async fn some_posts(&self, most: i64) -> Result<Vec<PostId>, BenchError> {
        let ids: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT id FROM posts ORDER BY id DESC LIMIT $1")
            .bind(most)
            .fetch_all(self.installation.errand().store().pool())
            .await
            .map_err(BenchError::because)?;
        Ok(ids.into_iter().map(PostId::from).collect())
    }
}

/// One request.
struct Ask {
    method: &'static str,
    path: String,
    token: String,
    body: String,
}

impl Ask {
    fn new(method: &'static str, path: &str, who: Option<&Device>, body: String) -> Ask {
        let token = who.map(|device| device.token.clone()).unwrap_or_default();
        Ask { method, path: path.to_owned(), token, body }
    }

    async fn send(&self, wire: &mut Wire) -> Result<Value, BenchError> {
        let answer = wire.ask(self.method, &self.path, &self.token, &self.body).await?;
        Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// Without looking into the answer, which would be measured too.
    async fn send_unread(&self, wire: &mut Wire) -> Result<(), BenchError> {
        wire.ask(self.method, &self.path, &self.token, &self.body).await.map(drop)
    }
}

/// From the moment before a like is sent until it stands in the log that its author is to hear of it. Sockets and push come after that, and
/// are another's to measure.
async fn notified(place: &Place) -> Result<Vec<Line>, BenchError> {
    const LIKES: usize = 300;
    const LATE: Duration = Duration::from_secs(10);
    let store = place.installation.errand().store();
    // Posts nobody likes: who likes one a second time has done nothing that could be told.
    let unliked = "SELECT p.id, p.author FROM posts p
        WHERE NOT EXISTS (SELECT FROM post_likes l WHERE l.post_id = p.id) ORDER BY p.id LIMIT $1";
    let rows: Vec<(uuid::Uuid, uuid::Uuid)> = sqlx::query_as(unliked)
        .bind(LIKES as i64)
        .fetch_all(store.pool())
        .await
        .map_err(BenchError::because)?;
    let mut wire = Wire::dial(place.door(0)?).await?;
    let mut times = Vec::new();
    for (nth, (post, author)) in rows.into_iter().enumerate() {
        let Some(who) = place.town.people.iter().rev().skip(3 + nth).find(|who| who.user.as_uuid() != author)
        else {
            continue;
        };
        let part = Topic::Notification.part_of(author);
        let heads = store.event_heads(&[Topic::Notification]).await.map_err(BenchError::because)?;
        let head = heads.iter().find(|(_, of, _)| *of == part).map_or(0, |(.., head)| *head);
        let mut cursor = Cursor { topic: Topic::Notification, part, place: head, failures: 0 };
        let began = Instant::now();
        let path = format!("/v1/posts/{}/like", PostId::from(post));
        Ask::new("PUT", &path, Some(who), String::new()).send_unread(&mut wire).await?;
        loop {
            let (told, top) = store.events_read(&cursor, 100).await.map_err(BenchError::because)?;
            let is_it = |event: &Logged| match event.event() {
                Ok(Some(Event::NotificationCreated(notice))) => {
                    id(&notice.recipient_id) == author && id(&notice.sender_id) == who.user.as_uuid()
                }
                _ => false,
            };
            if told.iter().any(is_it) {
                break;
            }
            if !told.is_empty() {
                cursor.place = top;
            }
            if began.elapsed() > LATE {
                return Err(BenchError::because("an author's notification is not told after ten seconds"));
            }
            sleep(Duration::from_millis(1)).await;
        }
        times.push(micros(began.elapsed()));
    }
    let times = Times::new(times);
    let what = "like until its author's notification is in the event log";
    Ok(vec![within(what, &times, 0.99, 95.0), spread("notified", &times)])
}

/// What a node that has no heads yet costs.
async fn cold(place: &Place) -> Result<Vec<Line>, BenchError> {
    let store = place.installation.errand().store();
    let curious = place.town.curious.user;
    let (mut page, mut head) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let began = Instant::now();
        store.home_ids(curious, None, 21).await.map_err(BenchError::because)?;
        page.push(micros(began.elapsed()));
        let began = Instant::now();
        let authors = store.feed_authors(curious, 2_001).await.map_err(BenchError::because)?;
        store.head_ids(curious, &authors, HEAD_POSTS as i64 + 1).await.map_err(BenchError::because)?;
        head.push(micros(began.elapsed()));
    }
    let (page, head) = (Times::new(page), Times::new(head));
    let mut lines = vec![
        within("page without a head, 1,800 follows", &page, 0.99, 100.0),
        spread("page without a head, 1,800 follows", &page),
        Line::told("head of 400 made from nothing, 1,800 follows", head.to_string()),
    ];
    // The first page of each of some readers, through the door of a node that has no heads.
    let node = place.nodes.get(1).ok_or_else(|| BenchError::because("there is no second node"))?;
    let processes = Processes::one(node.process.pid());
    let mut wire = Wire::dial(node.http).await?;
    let first = |device: &Device| Ask::new("GET", "/v1/feeds/home?limit=20", Some(device), String::new());
    for device in place.town.people.iter().rev().skip(10).take(200) {
        first(device).send(&mut wire).await?;
    }
    let readers = 4_000.min(place.town.people.len() / 2);
    let before = processes.resident_bytes();
    let mut times = Vec::new();
    for device in place.town.people.iter().skip(2_000).take(readers) {
        let began = Instant::now();
        first(device).send_unread(&mut wire).await?;
        times.push(micros(began.elapsed()));
    }
    let grown = processes.resident_bytes().saturating_sub(before) as f64 / readers.max(1) as f64;
    lines.push(Line::told(
        format!("first page on a node without heads, {readers} readers one after the other"),
        Times::new(times).to_string(),
    ));
    lines.push(Line::told(
        "memory of a reader's head and what else is kept of them",
        format!("{:.1} KiB", grown / 1_024.0),
    ));
    Ok(lines)
}

/// What needs no node.
fn rank() -> Vec<Line> {
    let mut dice = StdRng::seed_from_u64(1);
    let now = OffsetDateTime::now_utc();
    let authors: Vec<_> = (0..40).map(|_| UserId::generate()).collect();
    let all: Vec<Features> = (0..HEAD_POSTS)
        .map(|nth| {
            let created_at = now - time::Duration::minutes(nth as i64);
            Features {
                post: PostId::new(created_at),
                author: authors.get(dice.random_range(0..40)).copied().unwrap_or_else(UserId::generate),
                created_at,
                likes: dice.random_range(0..1_000),
                comments: dice.random_range(0..100),
                affinity: dice.random_range(0..20),
                is_mutual: dice.random_bool(0.3),
            }
        })
        .collect();
    let weights = NAMES.map(|_| dice.random_range(-1.0..1.0));
    let ranker = Ranker::Model(Arc::new(Model::with_weights("bench", weights)));
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let began = Instant::now();
        std::hint::black_box(ranker.order(std::hint::black_box(&all), now));
        times.push(micros(began.elapsed()));
    }
    let times = Times::new(times);
    let mut lines = vec![within("400 candidates scored and ordered", &times, 0.99, 1.0)];

    const READERS: usize = 10_000;
    let heads = Heads::default();
    let author = UserId::generate();
    for _ in 0..READERS {
        let reader = UserId::generate();
        let build = heads.begin(reader);
        heads.fill(&build, vec![author, reader], all.iter().map(|features| features.post).collect());
    }
    let began = Instant::now();
    const POSTS: usize = 50;
    for _ in 0..POSTS {
        heads.posted(author, PostId::generate(), false);
    }
    let rate = (READERS * POSTS) as f64 / began.elapsed().as_secs_f64();
    lines.push(Line::promised(
        "heads a post is put on",
        "≥ 50,000/s",
        format!("{rate:.0}/s"),
        rate >= 50_000.0,
    ));
    lines
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

fn within(what: &str, times: &Times, share: f64, most_ms: f64) -> Line {
    let seen = times.quantile_ms(share);
    let name = format!("p{:.0}", share * 100.0);
    let promised = format!("{name} ≤ {most_ms} ms");
    Line::promised(
        format!("{what}, {name}"),
        promised,
        format!("{seen:.2} ms"),
        seen <= most_ms && !times.is_empty(),
    )
}

fn spread(what: &str, times: &Times) -> Line {
    Line::told(format!("{what}: all times"), format!("{times} ({} of them, load {})", times.len(), load()))
}

fn println(text: &str) -> Result<(), BenchError> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").map_err(BenchError::because)
}
