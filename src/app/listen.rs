//! The listening sockets of a node and the server behind them.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_http::HttpService;
use actix_server::Server;
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, map_config};
use actix_web::dev::AppConfig;
use actix_web::http::header;
use actix_web::middleware::from_fn;
use actix_web::{App as WebApp, HttpResponse, web};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::oneshot;

use crate::app::Engine;
use crate::chat::upgrade;
use crate::config::{HttpConfig, NodeRole};
use crate::rest::manner::{self, Manner};
use crate::rtc::sockets;
use crate::{console, playback, rest};

/// Connections the kernel holds for us while every worker is busy; beyond it clients see refused connections.
const BACKLOG: i32 = 4_096;
/// A client that has not sent a whole request head by then is asked to leave (408).
const REQUEST_HEAD_LIMIT: Duration = Duration::from_secs(10);
/// A connection that asks nothing for this long is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long a closing connection may take to say goodbye.
const DISCONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Why the node cannot listen; each prints as one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, not ours, or needs rights we do not have.
    #[error("cannot listen on {addr}: {source}; choose another address with {flag}, or stop what uses it")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A PEM file cannot be read.
    #[error("cannot read the TLS file {path}: {message}", path = path.display())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// Certificate and key do not belong together, or are of a kind we cannot use.
    #[error("the TLS certificate and key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The server refused a socket.
    #[error("cannot serve on a listening socket: {0}")]
    Serve(#[from] io::Error),
}

/// Listens on `addr`; `flag` is named when that fails.
pub(super) fn bind(flag: &'static str, addr: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || {
        use rustix::net;
        let family = if addr.is_ipv4() { net::AddressFamily::INET } else { net::AddressFamily::INET6 };
        let socket = net::socket_with(family, net::SocketType::STREAM, net::SocketFlags::CLOEXEC, None)?;
        net::sockopt::set_socket_reuseaddr(&socket, true)?;
        net::bind(&socket, &addr)?;
        net::listen(&socket, BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    let listener: Result<TcpListener, io::Error> = open();
    listener.map_err(|source| ListenError::Bind { addr, flag, source })
}

/// The address as bound: port 0 has become a real one.
pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr, ListenError> {
    Ok(listener.local_addr()?)
}

/// So many UDP sockets on the address, and the address as bound.
pub(super) fn bind_udp(
    flag: &'static str,
    addr: SocketAddr,
    count: usize,
) -> Result<(Vec<UdpSocket>, SocketAddr), ListenError> {
    let open = || -> io::Result<_> {
        let sockets = sockets::open(addr, count)?;
        let bound = sockets.first().map_or(Ok(addr), UdpSocket::local_addr)?;
        Ok((sockets, bound))
    };
    open().map_err(|source| ListenError::Bind { addr, flag, source })
}

/// Reads certificate and key, when configured.
pub(super) fn tls(config: &HttpConfig) -> Result<Option<rustls::ServerConfig>, ListenError> {
    let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
    let unreadable = |path: &Path, error: rustls::pki_types::pem::Error| ListenError::TlsFile {
        path: path.to_owned(),
        message: error.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(cert, error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Some(config))
}

/// Starts the workers: the HTTP door and, on its own port, the metrics.
///
/// The HTTP door is built from actix-http's service rather than from actix-web's server, because only there a
/// connection can be taken over whole, which is what the WebSocket door does.
pub(super) fn serve(
    engine: web::Data<Engine>,
    manner: web::Data<Manner>,
    http: TcpListener,
    metrics: TcpListener,
    tls: Option<rustls::ServerConfig>,
) -> Result<Server, ListenError> {
    let config = &engine.config.http;
    let builder = Server::build()
        .workers(config.worker_count())
        .max_concurrent_connections(config.connections_max as usize)
        .shutdown_timeout(u64::from(config.drain_s))
        .disable_signals();
    let leaving = builder.graceful_shutdown_signal();

    macro_rules! service {
        ($engine:ident, $manner:ident, $leaving:ident) => {{
            let config = &$engine.config;
            let console = |cfg: &mut web::ServiceConfig| {
                if config.has_role(NodeRole::Api) {
                    console::configure(cfg);
                }
            };
            let app = WebApp::new()
                .app_data($engine.clone())
                .app_data(web::Data::from($engine.identity.clone()))
                .app_data(web::Data::new($engine.conversations.clone()))
                .app_data($manner.clone())
                .configure(console)
                .configure(playback::relay::configure)
                .configure(|cfg| rest::configure_some(cfg, |path| config.serves(path)))
                .wrap(from_fn(manner::around));
            let app = app.into_factory().map_err(|error: actix_web::Error| error.error_response());
            HttpService::build()
                .client_request_timeout(REQUEST_HEAD_LIMIT)
                .client_disconnect_timeout(DISCONNECT_LIMIT)
                .keep_alive(KEEP_ALIVE)
                .tcp_nodelay(true)
                .graceful_shutdown_signal({
                    let leaving = $leaving.clone();
                    move || {
                        let leaving = leaving.clone();
                        async move { leaving.notified().await }
                    }
                })
                .upgrade(upgrade::service($engine.chat.clone()))
                .finish(map_config(app, |()| AppConfig::default()))
        }};
    }
    let builder = match tls {
        Some(tls) => {
            let engine = engine.clone();
            builder
                .listen("https", http, move || service!(engine, manner, leaving).rustls_0_23(tls.clone()))?
        }
        None => {
            let engine = engine.clone();
            builder.listen("http", http, move || service!(engine, manner, leaving).tcp())?
        }
    };
    let builder = builder.listen("metrics", metrics, move || {
        let app = WebApp::new().app_data(engine.clone()).route("/metrics", web::get().to(render));
        let app = app.into_factory().map_err(|error: actix_web::Error| error.error_response());
        HttpService::build()
            .client_request_timeout(REQUEST_HEAD_LIMIT)
            .finish(map_config(app, |()| AppConfig::default()))
            .tcp()
    })?;
    Ok(builder.run())
}

/// The server, running on a thread of its own; what is still open is cut off when this is dropped.
#[derive(Debug)]
pub(super) struct Running(oneshot::Receiver<io::Result<()>>);

impl Running {
    /// Runs it on a thread that is in no actix system. In one its workers would be arbiters, which drop what is under way when they end
    /// where a connection of the database's pool cannot be given back ([`nova_actors::workers::thread`]).
    pub(super) fn start(server: Server) -> io::Result<Running> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut tell, told) = oneshot::channel();
        std::thread::Builder::new().name("nova-http".to_owned()).spawn(move || {
            let ended = runtime.block_on(async {
                tokio::select! {
                    ended = server => ended,
                    () = tell.closed() => Ok(()),
                }
            });
            // Whoever cut it off does not ask.
            let _ = tell.send(ended);
        })?;
        Ok(Running(told))
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> io::Result<()> {
        let gone = |_| io::Error::other("the thread of the server is gone");
        (&mut self.0).await.map_err(gone)?
    }
}

async fn render(engine: web::Data<Engine>) -> HttpResponse {
    engine.live.measure(engine.relays.viewers());
    engine.presences.measure();
    let lag = engine.bus.health().borrow().lag.unwrap_or_default();
    engine.metrics.bus_lag.set(lag.as_secs_f64());
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(engine.metrics.render())
}
