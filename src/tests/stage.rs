//! A second HTTP door to a node, with calls made for tests behind the real manner of the API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpServer};
use nova::app::Engine;
use nova::config::Config;
use nova::rest::manner::{self, Manner, SharedSecret};
use tokio::sync::oneshot;

/// A running door. Dropping it closes it at once, as if its node had died.
pub struct Stage {
    /// `http://127.0.0.1:port`.
    pub url: String,
    /// Where it listens.
    pub addr: SocketAddr,
    close: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Stage {
    /// Opens a door to `engine` with `routes`; `change` has the last word on what the manner is.
    pub async fn open(
        engine: &Arc<Engine>,
        change: impl FnOnce(&mut Config),
        routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    ) -> Stage {
        let mut config = engine.config.clone();
        change(&mut config);
        let manner = Manner::new(&config, &SharedSecret::new([1; 32]), engine.metrics.clone());
        let (manner, engine) = (web::Data::new(manner), web::Data::from(engine.clone()));
        let (opened, open) = oneshot::channel();
        let (close, closed) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            // In an actix system its end would find what is under way outside of any runtime.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(engine.clone())
                    .app_data(manner.clone())
                    .configure(routes.clone())
                    .configure(nova::rest::configure)
                    .wrap(from_fn(manner::around))
            });
            runtime.expect("a runtime").block_on(async move {
                let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a free port");
                let _ = opened.send(server.addrs()[0]);
                tokio::select! {
                    ended = server.run() => ended.expect("the door closes when it is told to"),
                    _ = closed => {}
                }
            });
        });
        let addr = open.await.expect("the door opened");
        Stage { url: format!("http://{addr}"), addr, close: Some(close), thread: Some(thread) }
    }

    /// The whole URL of a path.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.close.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the door's thread panicked");
        }
    }
}
