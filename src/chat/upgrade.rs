//! From an HTTP request to a WebSocket (RFC 6455 section 4.2), or to a problem that says why not.

use std::fmt::Write as _;
use std::rc::Rc;

use actix_codec::Framed;
use actix_http::header::{self, HeaderMap, HeaderName};
use actix_http::{HttpMessage as _, Method, Request, Version, h1, ws};
use actix_service::{ServiceFactory, fn_factory, fn_service};
use actix_web::http::StatusCode;
use base64::Engine as _;
use bytes::Bytes;
use nova_actors::id::RequestId;

use super::hub::Hub;
use super::session::Session;
use super::socket::Socket;
use super::transport::Transport;
use super::wire::SUBPROTOCOL;
use super::{Door, deflate};
use crate::error::{ApiError, Code};

/// Where the door is.
pub const PATH: &str = "/v1/ws";
/// A node that leaves, or has too many connections, says to ask again after this.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// What `HttpServiceBuilder::upgrade` wants: takes every connection that asks for `Upgrade: websocket`.
pub fn service<T: Transport>(
    door: Door,
) -> impl ServiceFactory<
    (Request, Framed<T, h1::Codec>),
    Config = (),
    Response = (),
    Error = actix_http::Error,
    InitError = (),
> {
    fn_factory(move || {
        // Once on every worker thread.
        let hub = door.hub();
        let service = fn_service(move |(request, framed): (Request, Framed<T, h1::Codec>)| {
            take_over(&hub, &request, framed);
            std::future::ready(Ok(()))
        });
        std::future::ready(Ok(service))
    })
}

fn take_over<T: Transport>(hub: &Rc<Hub>, request: &Request, framed: Framed<T, h1::Codec>) {
    let parts = framed.into_parts();
    let wire = parts.io.into_wire();
    // The answers to earlier requests of this connection, if they have not left yet; then ours.
    let mut out = parts.write_buf.to_vec();
    let early = Bytes::copy_from_slice(&parts.read_buf);
    drop((parts.read_buf, parts.write_buf));
    let accepted = check(hub, request);
    let deflate = match &accepted {
        Ok(accepted) => {
            out.extend_from_slice(accepted.head.as_bytes());
            accepted.deflate
        }
        Err(error) => {
            hub.door.metrics.ws_connects.with_label_values(&[error.code().as_str()]).inc();
            out.extend_from_slice(&problem(error));
            false
        }
    };
    // A fresh connection takes some hundred bytes at once; one that does not is not worth waiting for.
    let written = wire.try_write(&out).is_ok_and(|taken| taken == out.len()) && wire_is_flushed(&wire);
    if accepted.is_err() || !written {
        wire.shut_down();
        if accepted.is_ok() {
            hub.door.left();
        }
        return;
    }
    let socket = hub.add(|key| Socket::new(key, wire, deflate));
    hub.arm(&socket, hub.now() + hub.door.connect_ticks());
    actix_rt::spawn(Session::run(hub.clone(), socket, early));
}

fn wire_is_flushed(wire: &super::transport::Wire) -> bool {
    wire.flush().is_ok()
}

struct Accepted {
    head: String,
    deflate: bool,
}

/// Checks the handshake and counts the connection; whoever gets `Ok` owes [`left`](super::Shared::left).
fn check(hub: &Hub, request: &Request) -> Result<Accepted, ApiError> {
    let door = &hub.door;
    let headers = request.headers();
    if request.uri().path() != PATH {
        return Err(Code::NotFound.into());
    }
    if request.method() != Method::GET {
        return Err(Code::MethodNotAllowed.into());
    }
    let malformed = |detail: &'static str| ApiError::because(Code::MalformedRequest, detail);
    if request.head().version != Version::HTTP_11 {
        return Err(malformed("a WebSocket begins with HTTP/1.1"));
    }
    if !has_token(headers, header::CONNECTION, "upgrade") {
        return Err(malformed("Connection: Upgrade is missing"));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(ApiError::because(Code::UpgradeRequired, "WebSocket version 13 is spoken here"));
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY);
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key.as_bytes()) => key,
        _ => return Err(malformed("Sec-WebSocket-Key must be 16 bytes in base64, once")),
    };
    if !has_token(headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err(malformed("the subprotocol spoken here is nova.v1; offer it"));
    }
    if !door.lets_in_pages_of(headers) {
        return Err(ApiError::because(Code::Forbidden, "pages of this origin may not connect"));
    }
    let peer = request.head().peer_addr;
    door.admit(crate::rest::client::address(peer, headers, &door.trusted_proxies))?;
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).filter_map(|offers| offers.to_str().ok());
    let deflate = door.config.ws_deflate && offers.into_iter().any(deflate::accepts);
    let accept = ws::hash_key(key.as_bytes());
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: {}\r\nsec-websocket-protocol: {SUBPROTOCOL}\r\n",
        String::from_utf8_lossy(&accept),
    );
    if deflate {
        let _: std::fmt::Result = write!(head, "sec-websocket-extensions: {}\r\n", deflate::ACCEPTED);
    }
    head.push_str("\r\n");
    Ok(Accepted { head, deflate })
}

/// Whether a list header names `token`, in any of its lines.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let mut tokens =
        headers.get_all(name).filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    tokens.any(|each| each.trim().eq_ignore_ascii_case(token))
}

fn is_key(key: &[u8]) -> bool {
    key.len() == 24 && base64::engine::general_purpose::STANDARD.decode(key).is_ok_and(|key| key.len() == 16)
}

fn problem(error: &ApiError) -> Vec<u8> {
    let code = error.code();
    let id = RequestId::generate().to_string();
    let body = serde_json::to_string(&error.problem(&id)).expect("a problem is made of strings and numbers");
    let status = code.status();
    let mut head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-request-id: {id}\r\nconnection: close\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
    );
    let more = match status {
        StatusCode::UPGRADE_REQUIRED => "upgrade: websocket\r\nsec-websocket-version: 13\r\n".to_owned(),
        StatusCode::METHOD_NOT_ALLOWED => "allow: GET\r\n".to_owned(),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            let after = error.retry_after_hint().unwrap_or(RETRY_AFTER);
            format!("retry-after: {}\r\n", after.as_secs_f64().ceil().max(1.0) as u64)
        }
        _ => String::new(),
    };
    head.push_str(&more);
    head.push_str("\r\n");
    head.push_str(&body);
    head.into_bytes()
}
