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

mod cold;
mod notified;
mod rank;
pub mod seed;
mod wire;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::future::join_all;
use nova_actors::id::PostId;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::BenchError;
use super::installation::{Installation, Node};
use super::measure::{Line, Times, load};
use super::people::Device;
use cold::cold;
use notified::notified;
use rank::rank;
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
