//! Retries that are safe: `Idempotency-Key` on every POST.
//!
//! # What is promised
//!
//! Of all requests with the same key, caller and content within 24 hours, one runs and its answer is given to all
//! (`Idempotency-Replayed: true` on the repeats, byte for byte, with the `request_id` of the first in a problem's
//! body). While it runs the others get 409 `request_in_progress` with `Retry-After`; the same key with other content gets 422
//! `idempotency_mismatch`. A request with a key runs to its end even when its client hangs up, so the retry finds
//! an answer.
//!
//! Answers that ask for another try are not kept: 401, 408, 429, every 5xx, and 405, 413, 415, which the same request
//! gets again anyway. Neither is an answer beyond `ANSWER_BYTES_MAX`.
//!
//! # What is not
//!
//! The effect and the stored answer are two transactions. A node that dies, or loses its database, between them leaves a request
//! that has had its effect and has no answer: when the lease has passed (30 s) a retry runs it again. So a handler makes
//! its effect in one transaction, and one whose effect may not happen twice makes that impossible there (a unique
//! key, such as a username or a `client_msg_id`). Then the repeat is refused or finds what is there.
//!
//! # Whose key it is
//!
//! The caller's; before log-in, the client's network and the path. What is stored tells neither key nor answer: the row's id is
//! an HMAC, and the answer, which may hold tokens, is sealed (AES-256-GCM) under a key derived from the
//! `Idempotency-Key` itself, which is not stored. A random key cannot be guessed; `1` can.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{FromRequest as _, HttpResponse, web};
use bytes::Bytes;
use futures_util::FutureExt as _;
use ring::{aead, hkdf, hmac};
use serde::{Deserialize, Serialize};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::app::Engine;
use crate::error::{ApiError, Code};
use crate::identity::Caller;
use crate::rest::client;
use crate::rest::context::Context;
use crate::rest::json::{self, Bounds};
use crate::rest::manner::{self, Manner, SharedSecret};
use crate::store::Store;
use crate::store::idempotency::{Begun, LEASE};

/// The header that carries the key.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header that marks a stored answer.
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const KEY_CHARS_MAX: usize = 128;
/// Larger answers are not stored; those to POST are a few kibibytes.
const ANSWER_BYTES_MAX: u64 = 256 << 10;
/// A third of the lease: two renewals may fail before others may take over.
const RENEW_EVERY: Duration = Duration::from_secs(LEASE.as_secs() / 3);
/// When to ask again while the first is running.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Headers that belong to an answer and are given again with it.
static KEPT: [HeaderName; 4] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG, header::CACHE_CONTROL];

/// Derives ids and seals answers.
#[derive(Debug)]
pub struct Idempotency {
    ids: hmac::Key,
    salt: hkdf::Salt,
}

impl Idempotency {
    /// Keys derived from the nodes' common secret.
    pub fn new(secret: &SharedSecret) -> Idempotency {
        Idempotency {
            ids: hmac::Key::new(hmac::HMAC_SHA256, &secret.derive("idempotency ids")),
            salt: hkdf::Salt::new(hkdf::HKDF_SHA256, &secret.derive("idempotency answers")),
        }
    }

    /// A keyed hash of parts, each with its length, so that no two lists of parts look the same.
    fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.ids);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        *context.sign().as_ref().first_chunk().expect("HMAC-SHA-256 has 32 bytes")
    }

    fn cipher(&self, key: &[u8], id: &[u8; 32]) -> aead::LessSafeKey {
        let (secret, info) = (self.salt.extract(key), [&id[..]]);
        let material = secret.expand(&info, &aead::AES_256_GCM).expect("a key is shorter than HKDF's limit");
        aead::LessSafeKey::new(aead::UnboundKey::from(material))
    }

    fn seal(&self, key: &[u8], id: &[u8; 32], mut answer: Vec<u8>) -> Result<Vec<u8>, ApiError> {
        let mut nonce = [0; aead::NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|error| ApiError::internal(error.to_string()))?;
        let sealing = aead::Nonce::assume_unique_for_key(nonce);
        self.cipher(key, id)
            .seal_in_place_append_tag(sealing, aead::Aad::from(id), &mut answer)
            .map_err(|_| ApiError::internal("an answer could not be sealed"))?;
        Ok([&nonce[..], &answer].concat())
    }

    fn open(&self, key: &[u8], id: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<{ aead::NONCE_LEN }>()?;
        let mut sealed = sealed.to_vec();
        let opening = aead::Nonce::assume_unique_for_key(*nonce);
        let answer = self.cipher(key, id).open_in_place(opening, aead::Aad::from(id), &mut sealed).ok()?;
        Some(answer.to_vec())
    }
}

/// The head of a stored answer; its body follows.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

/// The middleware, inside of [`manner::around`]: gives a POST with a key its promise and leaves everything else alone.
pub async fn around<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if request.method() != Method::POST || !request.headers().contains_key(&IDEMPOTENCY_KEY) {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    }
    // Where there is no call there is no answer to keep.
    if request.match_pattern().is_none() {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    }
    // In a box: this future has a place in every connection, whatever is asked there, and what follows is rare and large.
    Box::pin(once(request, next)).await
}

/// Runs a request with a key, or finds out what became of it before.
async fn once<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let (request, payload) = request.into_parts();
    let prepared = prepare(&request, payload).await;
    let (attempt, body) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Ok(ServiceResponse::new(request, HttpResponse::from_error(error))),
    };
    let begun = attempt.engine.store.begin_idempotent(&attempt.id, &attempt.fingerprint, attempt.lease).await;
    let refused = match begun {
        Ok(Begun::Run) => {
            let request = ServiceRequest::from_parts(request, Payload::from(body));
            return run(attempt, request, next).await;
        }
        Ok(Begun::Answered(sealed)) => match attempt.replay(&sealed) {
            Some(answer) => return Ok(ServiceResponse::new(request, answer)),
            None => ApiError::internal("a stored answer could not be opened"),
        },
        Ok(Begun::Running) => ApiError::new(Code::RequestInProgress).retry_after(ASK_AGAIN),
        Ok(Begun::Mismatch) => Code::IdempotencyMismatch.into(),
        Err(error) => error.into(),
    };
    Ok(ServiceResponse::new(request, HttpResponse::from_error(refused)))
}

/// One try at running a request.
struct Attempt {
    engine: web::Data<Engine>,
    manner: web::Data<Manner>,
    key: Vec<u8>,
    id: [u8; 32],
    fingerprint: [u8; 32],
    lease: Uuid,
    request_id: String,
}

/// Reads key, caller and body; what comes back is everything that names the request.
async fn prepare(request: &actix_web::HttpRequest, payload: Payload) -> Result<(Attempt, Bytes), ApiError> {
    let engine = request.app_data::<web::Data<Engine>>().cloned();
    let engine =
        engine.ok_or_else(|| ApiError::internal("the application was built without web::Data<Engine>"))?;
    let manner = Manner::data(request)?.clone();
    let context = Context::of(request)?;
    let key = key(request.headers())?;
    let body = json::collect(payload, Bounds::of(request)?).await?;
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let kind = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let idempotency = &manner.idempotency;
    // A token that is not good is refused by the handler, and no refusal of that kind is kept.
    let caller = Caller::from_request(request, &mut Payload::None).await.ok();
    let id = match caller {
        // Whose it is, not which token: a retry may come after a refresh.
        Some(caller) => idempotency.hash(&[b"user", caller.user.as_uuid().as_bytes(), &key]),
        None => {
            let network = client::prefix(context.client()).to_be_bytes();
            idempotency.hash(&[b"network", &network, request.path().as_bytes(), &key])
        }
    };
    let attempt = Attempt {
        id,
        fingerprint: idempotency.hash(&[b"request", target.as_bytes(), kind, &body]),
        lease: Uuid::now_v7(),
        request_id: context.request_id().to_owned(),
        engine,
        manner,
        key,
    };
    Ok((attempt, body))
}

fn key(headers: &header::HeaderMap) -> Result<Vec<u8>, ApiError> {
    let mut keys = headers.get_all(&IDEMPOTENCY_KEY);
    let refused = || {
        let detail = format!("Idempotency-Key must be 1 to {KEY_CHARS_MAX} visible ASCII characters, once");
        ApiError::because(Code::MalformedRequest, detail)
    };
    let key = keys.next().map(HeaderValue::as_bytes).ok_or_else(refused)?;
    let sane = (1..=KEY_CHARS_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    if keys.next().is_some() || !sane {
        return Err(refused());
    }
    Ok(key.to_vec())
}

/// Runs the request to its end, whoever waits for it, and keeps the answer.
async fn run<B: MessageBody + 'static>(
    attempt: Attempt,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    // A task of its own: a client that hangs up takes its connection down, and with it every future awaited there.
    let task = async move {
        let work = AssertUnwindSafe(async { next.call(request).await }).catch_unwind();
        let outcome = attempt.hold_while(work).await;
        match outcome {
            Ok(Ok(response)) => {
                let response = manner::problem(response.map_into_boxed_body(), &attempt.request_id);
                Ok(Ok(attempt.keep(response).await))
            }
            Ok(Err(error)) => {
                attempt.release().await;
                Ok(Err(error))
            }
            Err(panic) => {
                attempt.release().await;
                Err(panic)
            }
        }
    };
    let task = actix_web::rt::spawn(task.instrument(tracing::Span::current()));
    match task.await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(error) => Err(ApiError::internal(error).into()),
    }
}

impl Attempt {
    fn store(&self) -> &Store {
        &self.engine.store
    }

    /// Renews the lease for as long as the work takes.
    async fn hold_while<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(RENEW_EVERY, &mut work).await {
                Ok(done) => return done,
                Err(_) => match self.store().renew_idempotent(&self.id, self.lease).await {
                    Ok(true) => {}
                    Ok(false) => tracing::warn!("the lease of a request with an Idempotency-Key was lost"),
                    Err(error) => tracing::warn!(%error, "the lease of a request could not be renewed"),
                },
            }
        }
    }

    /// Stores the answer if it is one to keep; either way it goes on to the client.
    async fn keep(&self, response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        let sized = matches!(
            response.response().body().size(),
            BodySize::None | BodySize::Sized(0..=ANSWER_BYTES_MAX)
        );
        if !is_kept(response.status()) || !sized {
            self.release().await;
            return response;
        }
        let (request, response) = response.into_parts();
        let (response, body) = response.into_parts();
        let body = match body.try_into_bytes() {
            Ok(body) => body,
            Err(body) => {
                self.release().await;
                return ServiceResponse::new(request, response.set_body(body));
            }
        };
        let kept = match self.manner.idempotency.seal(&self.key, &self.id, encode(&response, &body)) {
            Ok(sealed) => {
                let kept = self.store().finish_idempotent(&self.id, self.lease, &sealed).await;
                kept.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match kept {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("an answer was not stored: the request's lease had passed to another")
            }
            Err(error) => {
                tracing::warn!(error, "an answer was not stored; a retry will run the request again")
            }
        }
        ServiceResponse::new(request, response.set_body(BoxBody::new(body)))
    }

    async fn release(&self) {
        if let Err(error) = self.store().release_idempotent(&self.id, self.lease).await {
            tracing::warn!(%error, "a request's lease was not given back; it ends by itself");
        }
    }

    fn replay(&self, sealed: &[u8]) -> Option<HttpResponse> {
        let stored = self.manner.idempotency.open(&self.key, &self.id, sealed)?;
        let (head, body) = decode(&stored)?;
        let mut response = HttpResponse::build(StatusCode::from_u16(head.status).ok()?);
        response.insert_header((IDEMPOTENCY_REPLAYED, "true"));
        for (name, value) in head.headers {
            response.insert_header((name, value));
        }
        Some(response.body(Bytes::copy_from_slice(body)))
    }
}

/// Whether an answer is final: the same request again would not do better.
fn is_kept(status: StatusCode) -> bool {
    !status.is_server_error() && !matches!(status.as_u16(), 401 | 405 | 408 | 413 | 415 | 429)
}

/// `length of head (4 bytes) · head as JSON · body`.
fn encode(response: &HttpResponse<()>, body: &[u8]) -> Vec<u8> {
    let headers = KEPT.iter().filter_map(|name| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    let head = Head { status: response.status().as_u16(), headers: headers.collect() };
    let head = serde_json::to_vec(&head).expect("a head is made of numbers and strings");
    let length = u32::try_from(head.len()).expect("four headers are shorter than 4 GiB");
    [&length.to_be_bytes()[..], &head, body].concat()
}

fn decode(stored: &[u8]) -> Option<(Head, &[u8])> {
    let (length, rest) = stored.split_first_chunk::<4>()?;
    let (head, body) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((serde_json::from_slice(head).ok()?, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idempotency() -> Idempotency {
        Idempotency::new(&SharedSecret::new([7; 32]))
    }

    #[test]
    fn an_answer_opens_with_its_key_and_id_only() {
        let ours = idempotency();
        let sealed = ours.seal(b"key", &[1; 32], b"token".to_vec()).expect("sealed");
        assert!(!sealed.windows(5).any(|window| window == b"token"));
        assert_eq!(ours.open(b"key", &[1; 32], &sealed).as_deref(), Some(&b"token"[..]));
        assert_eq!(ours.open(b"kez", &[1; 32], &sealed), None);
        assert_eq!(ours.open(b"key", &[2; 32], &sealed), None);
        let other = Idempotency::new(&SharedSecret::new([8; 32]));
        assert_eq!(other.open(b"key", &[1; 32], &sealed), None);
        for length in 0..sealed.len() {
            assert_eq!(ours.open(b"key", &[1; 32], &sealed[..length]), None);
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let ours = idempotency();
        assert_ne!(ours.hash(&[b"ab", b"c"]), ours.hash(&[b"a", b"bc"]));
        assert_ne!(ours.hash(&[b"ab"]), ours.hash(&[b"ab", b""]));
    }

    #[test]
    fn an_answer_is_kept_whole() {
        let mut response = HttpResponse::Created();
        response.insert_header((header::LOCATION, "/v1/things/1")).insert_header(("x-other", "not kept"));
        let response = response.finish().drop_body();
        let stored = encode(&response, b"{}");
        let (head, body) = decode(&stored).expect("decodes");
        assert_eq!((head.status, body), (201, &b"{}"[..]));
        assert_eq!(head.headers, [("location".to_owned(), "/v1/things/1".to_owned())]);
    }

    #[test]
    fn what_asks_for_another_try_is_not_kept() {
        for status in [401, 408, 429, 500, 503] {
            assert!(!is_kept(StatusCode::from_u16(status).expect("a status")), "{status}");
        }
        for status in [200, 201, 204, 400, 403, 404, 409, 422] {
            assert!(is_kept(StatusCode::from_u16(status).expect("a status")), "{status}");
        }
    }

    #[test]
    fn a_key_is_visible_ascii_once() {
        let keys = |values: &[&[u8]]| {
            let mut headers = header::HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).expect("a header"));
            }
            key(&headers)
        };
        assert_eq!(keys(&[b"a-1"]).expect("sane"), b"a-1");
        assert!(keys(&[&[b'a'; 128]]).is_ok());
        for odd in [&[&b""[..]][..], &[b"a b"], &[b"\xc3\xa4"], &[&[b'a'; 129]], &[b"a", b"a"]] {
            assert_eq!(keys(odd).expect_err("odd").code(), Code::MalformedRequest, "{odd:?}");
        }
    }
}
