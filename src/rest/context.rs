//! What is known about one request while it is answered.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use uuid::Uuid;

use crate::error::ApiError;
use crate::rest::limits::Standing;
use crate::rest::manner::Manner;

/// The header that carries the request's id, both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id taken from a caller.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// What is known about one request: its id, where it came from, whose it is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context(Rc<Known>);

#[derive(Debug)]
struct Known {
    request_id: String,
    client: IpAddr,
    user: Cell<Option<Uuid>>,
    admitted: Cell<bool>,
    ip_standing: Cell<Option<Standing>>,
    user_standing: Cell<Option<Standing>>,
}

impl Context {
    pub(super) fn new(headers: &HeaderMap, client: IpAddr) -> Context {
        Context(Rc::new(Known {
            request_id: request_id(headers),
            client,
            user: Cell::new(None),
            admitted: Cell::new(false),
            ip_standing: Cell::new(None),
            user_standing: Cell::new(None),
        }))
    }

    /// The context of a request that came through [`super::manner::around`].
    pub fn of(request: &HttpRequest) -> Result<Context, ApiError> {
        let context = request.extensions().get::<Context>().cloned();
        context.ok_or_else(|| ApiError::internal("this request did not come through rest::manner::around"))
    }

    /// The id of this request: the caller's `X-Request-Id` when it was sane, else made here.
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// The client's address, as [`super::client::address`] finds it.
    pub fn client(&self) -> IpAddr {
        self.0.client
    }

    /// Whose request it is, once that was found out.
    pub fn user(&self) -> Option<Uuid> {
        self.0.user.get()
    }

    /// To be called by whoever has verified whose request this is: counts it against the user's limit, once
    /// however often it is asked, and names the user in the access log.
    pub fn identify(&self, manner: &Manner, user: Uuid) -> Result<(), ApiError> {
        // Who was refused before is asked again: only being let in is remembered.
        if self.0.user.replace(Some(user)) == Some(user) && self.0.admitted.get() {
            return Ok(());
        }
        self.0.admitted.set(false);
        match manner.limits.request_of(user) {
            Ok(standing) => {
                self.0.user_standing.set(standing);
                self.0.admitted.set(true);
                Ok(())
            }
            Err(refused) => {
                self.0.user_standing.set(Some(refused.standing));
                manner.metrics.rate_limited.with_label_values(&[refused.standing.name]).inc();
                Err(refused.into())
            }
        }
    }

    pub(super) fn stands_with_address(&self, standing: Option<Standing>) {
        self.0.ip_standing.set(standing);
    }

    pub(super) fn standings(&self) -> impl Iterator<Item = Standing> {
        [self.0.ip_standing.get(), self.0.user_standing.get()].into_iter().flatten()
    }
}

impl FromRequest for Context {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Context, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Context::of(request))
    }
}

/// The caller's own id when it can stand in a log line and a header as it is, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(&X_REQUEST_ID).and_then(|id| id.to_str().ok());
    let sane = |id: &&str| {
        (1..=REQUEST_ID_CHARS_MAX).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
    };
    given.filter(sane).map_or_else(|| format!("req_{}", Uuid::now_v7().simple()), str::to_owned)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn id_for(given: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(given).expect("a header"));
        request_id(&headers)
    }

    #[test]
    fn a_sane_id_is_kept_and_every_other_replaced() {
        assert_eq!(id_for(b"trace-1.a:b_C"), "trace-1.a:b_C");
        for odd in [&b""[..], b"a b", b"a\"b", b"\xff\xfe", &[b'a'; 129]] {
            assert!(id_for(odd).starts_with("req_"), "{odd:?}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn an_id_is_always_safe_to_write(given in "[\\x20-\\x7e\\x80-\\xff]{0,200}") {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(given.as_bytes()) {
                headers.insert(X_REQUEST_ID, value);
            }
            let id = request_id(&headers);
            prop_assert!(id.len() <= REQUEST_ID_CHARS_MAX && !id.is_empty());
            prop_assert!(id.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'<' | b'&')));
        }
    }
}
