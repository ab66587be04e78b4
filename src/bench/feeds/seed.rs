//! A town with a history: people who follow each other by a power law, what they posted, and what was liked.

use clap::Args;
use nova_actors::id::UserId;
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::BenchError;
use super::super::people::{Device, Town};
use crate::app::Errand;
use crate::config::Config;

/// How many there are of each.
#[derive(Debug, Clone, Copy, Args)]
pub struct Size {
    /// Users.
    #[arg(long, value_name = "N", default_value_t = 25_000, value_parser = clap::value_parser!(u32).range(3_000..=1_000_000))]
    pub users: u32,

    /// Follows, about; who is followed goes by a power law.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10_000..=50_000_000))]
    pub follows: u32,

    /// Followers of the one everybody knows; fewer when there are not so many users.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    pub famous: u32,

    /// Posts of the last seven days, and as many likes.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1_000..=20_000_000))]
    pub posts: u32,
}

/// `nova bench seed`.
#[derive(Debug, Args)]
pub struct SeedBench {
    /// How many.
    #[command(flatten)]
    pub size: Size,
    /// The engine's configuration; its database must have no users.
    #[command(flatten)]
    pub config: Box<Config>,
}

impl SeedBench {
    /// Fills the configured database, and prints what is in it. Always good.
    pub async fn run(&self) -> Result<bool, BenchError> {
        let errand = Errand::open(&self.config, false).await.map_err(BenchError::because)?;
        let seeded = self.fill(&errand).await;
        errand.close().await;
        seeded
    }

    async fn fill(&self, errand: &Errand) -> Result<bool, BenchError> {
        let users: i64 = sqlx::query_scalar("SELECT count(*) FROM users")
            .fetch_one(errand.store().pool())
            .await
            .map_err(BenchError::because)?;
        if users > 0 {
            let said =
                format!("the database has {users} users; people who never were are not put among them");
            return Err(BenchError::because(said));
        }
        let seeded = seed(errand, self.size).await?;
        super::println(&seeded.told)?;
        Ok(true)
    }
}

/// Who is who in a seeded town.
pub struct Seeded {
    /// Everybody, in the order of how well they are known: the first has [`Size::famous`] followers.
    pub people: Vec<Device>,
    /// Follows 1,800 others.
    pub curious: Device,
    /// Is followed by a thousand.
    pub known: Device,
    /// The thousand.
    pub followers: Vec<Device>,
    /// What there is, for people.
    pub told: String,
}

/// Follows of the one who follows many.
const CURIOUS: i64 = 1_800;
/// Followers of the one who is known to some.
const KNOWN: i64 = 1_000;

/// Fills an empty database. Rows are written past the triggers that count, and counted afterwards.
pub async fn seed(errand: &Errand, size: Size) -> Result<Seeded, BenchError> {
    let began = Instant::now();
    let count = usize::try_from(size.users).unwrap_or(usize::MAX);
    let people = Town::Own(errand).people(count, 1).await?.devices;
    // Without the limits of the pool: these are long statements.
    let mut beside = errand.store().connection().await.map_err(BenchError::because)?;
    let numbers = write(&mut beside, &people, size).await;
    let _closed = beside.close().await;
    let (follows, posts, likes, most) = numbers.map_err(BenchError::because)?;
    let at = |nth: usize| people.get(nth).cloned().ok_or_else(|| BenchError::because("too few people"));
    let told = format!(
        "{count} users, {follows} follows (the best known has {most} followers), {posts} posts, {likes} likes, in {:.0} s",
        began.elapsed().as_secs_f64()
    );
    let last = count - 1;
    Ok(Seeded {
        curious: at(last)?,
        known: at(last - 1)?,
        followers: people.iter().skip(1).take(usize::try_from(KNOWN).unwrap_or(0)).cloned().collect(),
        people,
        told,
    })
}

async fn write(
    beside: &mut PgConnection,
    people: &[Device],
    size: Size,
) -> Result<(i64, i64, i64, i64), sqlx::Error> {
    let users = i64::from(size.users);
    let famous = i64::from(size.famous).min(users - 3);
    let ids: Vec<Uuid> = people.iter().map(|device| UserId::as_uuid(&device.user)).collect();
    sqlx::query("SET synchronous_commit = off").execute(&mut *beside).await?;
    sqlx::query("CREATE TEMPORARY TABLE town (n bigint PRIMARY KEY, id uuid NOT NULL)")
        .execute(&mut *beside)
        .await?;
    sqlx::query(
        "INSERT INTO town SELECT nth - 1, id FROM unnest($1::uuid[]) WITH ORDINALITY AS of (id, nth)",
    )
    .bind(&ids)
    .execute(&mut *beside)
    .await?;
    sqlx::query("ANALYZE town").execute(&mut *beside).await?;
    for table in ["follows", "posts", "post_likes"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("ALTER TABLE {table} DISABLE TRIGGER USER")))
            .execute(&mut *beside)
            .await?;
    }
    sqlx::query("SELECT setseed(0.25)").execute(&mut *beside).await?;
    // The famous, the curious and the known; then everybody else, the well known more often.
    let fixed = "INSERT INTO follows (follower, followee, created_at)
        SELECT a.id, b.id, now() - interval '30 days' * random()
        FROM (SELECT n AS a, 0::bigint AS b FROM generate_series(1, $2) AS n
              UNION SELECT $1 - 1, n FROM generate_series(0, $3 - 1) AS n
              UNION SELECT n, $1 - 2 FROM generate_series(1, $4) AS n) AS pair
        JOIN town a ON a.n = pair.a JOIN town b ON b.n = pair.b WHERE a.n <> b.n ON CONFLICT DO NOTHING";
    let sure =
        sqlx::query(fixed).bind(users).bind(famous).bind(CURIOUS).bind(KNOWN).execute(&mut *beside).await?;
    let mut left = i64::from(size.follows) - i64::try_from(sure.rows_affected()).unwrap_or(0);
    for _ in 0..20 {
        if left <= 0 {
            break;
        }
        let more = "INSERT INTO follows (follower, followee, created_at)
            SELECT a.id, b.id, now() - interval '30 days' * random()
            FROM (SELECT 1 + floor(random() * ($1 - 3))::bigint AS a, 1 + floor(($1 - 3) * power(random(), 2.5))::bigint AS b
                  FROM generate_series(1, $2)) AS pair
            JOIN town a ON a.n = pair.a JOIN town b ON b.n = pair.b WHERE a.n <> b.n ON CONFLICT DO NOTHING";
        let added = sqlx::query(more).bind(users).bind(left).execute(&mut *beside).await?;
        left -= i64::try_from(added.rows_affected()).unwrap_or(0);
    }
    // Ids as the engine makes them: the time in the first six bytes (RFC 9562 section 5.7).
    let posts = "INSERT INTO posts (id, author, kind, text, visibility, tags, mentions, created_at)
        SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(hex, 1, 3) || '8' || substr(hex, 4, 15))::uuid,
               town.id, 'text', 'Something that happened, told in a line or two. Number ' || new.n, 'public', '{}', '{}', at
        FROM (SELECT n, now() - interval '7 days' * random() AS at, md5(random()::text) AS hex,
                     floor($1 * power(random(), 2))::bigint AS by
              FROM generate_series(1, $2) AS n) AS new JOIN town ON town.n = new.by";
    sqlx::query(posts).bind(users).bind(i64::from(size.posts)).execute(&mut *beside).await?;
    let likes = "INSERT INTO post_likes (post_id, user_id, created_at)
        SELECT p.id, town.id, p.created_at + (now() - p.created_at) * random()
        FROM (SELECT id, created_at, row_number() OVER (ORDER BY random()) AS nth FROM posts) AS p
        JOIN (SELECT 1 + floor($2 * power(random(), 3))::bigint AS nth, floor($1 * random())::bigint AS by
              FROM generate_series(1, $2)) AS new USING (nth)
        JOIN town ON town.n = new.by ON CONFLICT DO NOTHING";
    sqlx::query(likes).bind(users).bind(i64::from(size.posts)).execute(&mut *beside).await?;
    let counted = "INSERT INTO counters (subject, what, n)
        SELECT followee, 1, count(*) FROM follows GROUP BY followee
        UNION ALL SELECT follower, 2, count(*) FROM follows GROUP BY follower
        UNION ALL SELECT author, 3, count(*) FROM posts GROUP BY author
        UNION ALL SELECT post_id, 4, count(*) FROM post_likes GROUP BY post_id";
    sqlx::query(counted).execute(&mut *beside).await?;
    for table in ["follows", "posts", "post_likes"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("ALTER TABLE {table} ENABLE TRIGGER USER")))
            .execute(&mut *beside)
            .await?;
    }
    sqlx::query("VACUUM (ANALYZE) follows, posts, post_likes, counters, users").execute(&mut *beside).await?;
    let numbers = "SELECT (SELECT count(*) FROM follows), (SELECT count(*) FROM posts), (SELECT count(*) FROM post_likes),
                          (SELECT max(n) FROM counters WHERE what = 1)";
    sqlx::query_as(numbers).fetch_one(beside).await
}
