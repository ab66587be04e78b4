//! A whole node in this process, on free ports, with a database of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nova::app::{App, Engine};
use nova::cli::Command;
use nova::config::{Config, Secret};
use sqlx::ConnectOptions as _;
use tokio::sync::oneshot;

use crate::services::{self, Database};

/// A running node. Dropping it stops the node and checks that it ended well.
pub struct TestApp {
    /// `http://127.0.0.1:port`, without a trailing slash.
    pub url: String,
    /// Where the HTTP door listens.
    pub http_addr: SocketAddr,
    /// `http://127.0.0.1:port/metrics`.
    pub metrics_url: String,
    /// The line it said when it was ready.
    pub ready: serde_json::Value,
    /// What the doors share.
    pub engine: Arc<Engine>,
    /// An HTTP client that follows no redirects and has a time limit.
    pub http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), String>>>,
    /// Dropped after the node has stopped.
    _database: Option<Database>,
    _data_dir: tempfile::TempDir,
}

impl TestApp {
    /// A node with a fresh database and the settings tests usually want.
    pub async fn start() -> TestApp {
        TestApp::start_with(|_| {}).await
    }

    /// A node whose configuration `change` has the last word on.
    ///
    /// Two nodes belong together when `change` gives both one database URL, one Redis URL and one namespace.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> TestApp {
        let data_dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = config(data_dir.path());
        let database = services::database().await;
        config.database.database_url = Some(Secret::from(database.options().to_url_lossy().to_string()));
        if std::env::var_os("NOVA_TEST_BUS").is_some_and(|bus| bus == "redis") {
            let redis = services::redis().await;
            config.bus.redis_url = Some(Secret::from(redis.url));
            config.bus.redis_namespace = redis.namespace;
        }
        change(&mut config);
        TestApp::run(config, data_dir, Some(database)).await
    }

    async fn run(config: Config, data_dir: tempfile::TempDir, database: Option<Database>) -> TestApp {
        let (started, start) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let app = App::build(config).await.map_err(|error| error.to_string())?;
                let line = app.ready_line();
                let _ = started.send((app.engine().clone(), line));
                let stop = async move {
                    let _ = stopped.await;
                };
                app.run_until(stop).await.map_err(|error| error.to_string())
            })
        });
        let Ok((engine, line)) = start.await else {
            panic!("the node did not start: {:?}", thread.join());
        };
        let line: serde_json::Value = serde_json::from_str(&line).expect("the ready line is JSON");
        let address = |door: &str| line[door].as_str().expect("an address").to_owned();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .build()
            .expect("a client");
        TestApp {
            url: format!("http://{}", address("http")),
            http_addr: address("http").parse().expect("an address"),
            metrics_url: format!("http://{}/metrics", address("metrics")),
            ready: line,
            engine,
            http,
            stop: Some(stop),
            thread: Some(thread),
            _database: database,
            _data_dir: data_dir,
        }
    }

    /// The whole URL of a path.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The value of one metric, labels included in `series` as they are printed (`nova_x_total{a="b"}`).
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text =
            self.http.get(&self.metrics_url).send().await.expect("metrics").text().await.expect("text");
        let line =
            text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()).map(|value| value.parse().expect("a number"))
    }

    /// Asks the node to stop and waits until it has.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the node's thread did not panic").expect("the node ended well");
            }
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.end();
    }
}

/// The settings tests usually want: loopback, free ports, one worker, limits out of the way.
pub fn config(data_dir: &Path) -> Config {
    let arguments = [
        "nova",
        "serve",
        "--http-addr",
        "127.0.0.1:0",
        "--metrics-addr",
        "127.0.0.1:0",
        "--rtmp-addr",
        "127.0.0.1:0",
        "--rtc-addr",
        "127.0.0.1:0",
        "--rtc-shards",
        "2",
        "--workers",
        "1",
    ];
    let (cli, _) = nova::config::parse(arguments).expect("parses");
    let Command::Serve(config) = cli.command else { panic!("`serve` was parsed as something else") };
    let mut config = *config;
    config.data_dir = data_dir.to_owned();
    config.http.drain_s = 5;
    // A busy machine is no reason for a lower level of a feed.
    config.feeds.feed_model_ms = 5_000;
    config.feeds.feed_engagement_ms = 5_000;
    config.feeds.feed_newest_ms = 5_000;
    config.feeds.feed_database_ms = 5_000;
    config.limits.ip_requests_per_minute = 0;
    config.limits.user_requests_per_minute = 0;
    config.limits.ip_logins_per_minute = 0;
    config.limits.account_logins_per_minute = 0;
    config
}

/// Waits until `condition` holds; fails the test when it does not within ten seconds.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what} did not happen within 10 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
