//! The viewers' door: low-latency HLS from memory (draft-pantos-hls-rfc8216bis).
//!
//! ```text
//! /live/{stream_id}/index.m3u8                      the multivariant playlist
//! /live/{stream_id}/thumbnail.jpg                   a picture of it
//! /live/{stream_id}/{broadcast}/source.m3u8         the media playlist, with blocking reload and delta updates
//! /live/{stream_id}/{broadcast}/720p.m3u8           that of another rendition, where a ladder is made
//! /live/{stream_id}/{broadcast}/{epoch}/init0.mp4   an init segment; the epoch says of which rendition
//! /live/{stream_id}/{broadcast}/{epoch}/7.m4s       a segment
//! /live/{stream_id}/{broadcast}/{epoch}/7.2.m4s     a part of it
//! ```
//!
//! Nothing here renders, packs or asks an actor: a request reads the latest view of the broadcast, or waits for the next one. It
//! stops waiting when its client goes away, because then its future is dropped. Everything below `{broadcast}` is the same for all
//! viewers and named once for ever, so caches in front may keep it as long as they like.
//!
//! Cache times are those of Apple's "Enabling Low-Latency HLS": six target durations for what was waited for, half of one for what
//! was not.

pub(crate) mod pieces;
pub(crate) mod recorded;
pub mod relay;
mod source;
pub mod token;

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::RequestHead;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::StreamId;
use nova_actors::live_stream::View;
use nova_media::hls::reload::{self, Decision, Directives};
use prometheus::IntGauge;
use tokio::sync::{SemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::live::Live;
use crate::live::thumbnails::Thumbnail;
use crate::rest::{Context, Path};
use source::Source;

const PLAYLIST: &str = "application/vnd.apple.mpegurl";
/// The multivariant playlist changes with the rates that were measured, and with the broadcast.
const BRIEFLY: &str = "public, max-age=1";
/// Playlists of private streams are nobody else's.
const FOR_ONE: &str = "private, no-store";
/// When a client that met a full house may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Whether this path is one of the viewers' door: it has limits of its own, and is open to the pages of every origin.
pub fn is_path(path: &str) -> bool {
    path.starts_with("/live/") || path.starts_with("/recordings/") || relay::door::is_path(path)
}

/// Leaves of a playlist request's headers what is still read of them, in as little room as that needs.
///
/// A request waits for seconds, thousands of them at once, and actix-http gives each a table for 28 headers: 7 KiB.
pub fn keep_what_is_read(head: &mut RequestHead) {
    static READ: [HeaderName; 2] = [header::ACCEPT_ENCODING, header::USER_AGENT];
    let is_playlist = head.uri.path().starts_with("/live/") && head.uri.path().ends_with(".m3u8");
    if !is_playlist || !matches!(head.method, Method::GET | Method::HEAD) {
        return;
    }
    let all = std::mem::take(&mut head.headers);
    for name in &READ {
        for value in all.get_all(name) {
            head.headers.append(name.clone(), value.clone());
        }
    }
}

/// Lets the pages of every origin play what is answered here; whoever may have the address may play it.
pub fn open_to_all(headers: &mut HeaderMap) {
    const EXPOSED: &str =
        "accept-ranges, age, content-length, content-range, date, etag, retry-after, x-request-id";
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(policy, HeaderValue::from_static("cross-origin"));
}

/// What is on the air, in all its renditions.
#[utoipa::path(
    get, path = "/live/{stream_id}/index.m3u8", tag = "playback",
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("token" = Option<String>, Query, description = "Of a private stream: the playback token"),
    ),
    responses(
        (status = 200, description = "The multivariant playlist", content_type = "application/vnd.apple.mpegurl", body = String),
        (status = 403, description = "`forbidden`: the stream is private, and the token is missing, wrong or has expired", body = Problem),
        (status = 404, description = "`not_found`: nothing is on the air under this id", body = Problem),
        (status = 503, description = "`unavailable`: it is on its way to another node; try again in a second", body = Problem),
    )
)]
pub(crate) async fn index(
    request: HttpRequest,
    engine: web::Data<Engine>,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let source = find(&engine, &path.0, None).await?;
    let token = admitted(&engine, &request, source.stream(), source.is_private())?;
    let view = listed(&engine.live, &source, source.views(), &Directives::default()).await?;
    count(&engine.live, "multivariant", view.multivariant.len());
    if let Some(token) = token {
        return Ok(HttpResponse::Ok()
            .content_type(PLAYLIST)
            .insert_header((header::CACHE_CONTROL, FOR_ONE))
            .body(handing_on(&view.multivariant, token)));
    }
    Ok(HttpResponse::Ok()
        .content_type(PLAYLIST)
        .insert_header((header::CACHE_CONTROL, BRIEFLY))
        .body(view.multivariant.clone()))
}

/// How the broadcast looks, as of some seconds ago.
#[utoipa::path(
    get, path = "/live/{stream_id}/thumbnail.jpg", tag = "playback",
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("token" = Option<String>, Query, description = "Of a private stream: the playback token"),
    ),
    responses(
        (status = 200, description = "A picture of at most 640 pixels' width", content_type = "image/jpeg", body = Vec<u8>),
        (status = 403, description = "`forbidden`: the stream is private, and the token is missing, wrong or has expired", body = Problem),
        (status = 404, description = "`not_found`: nothing is on the air under this id, or there is no picture of it yet", body = Problem),
    )
)]
pub(crate) async fn thumbnail(
    request: HttpRequest,
    engine: web::Data<Engine>,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let stream: StreamId = path.0.parse().map_err(|_| not_live())?;
    // Pictures are on the node of the publisher, as is whoever is told of them.
    let broadcast = engine.live.broadcasts.of(stream).ok_or_else(not_live)?;
    let is_private = admitted(&engine, &request, stream, broadcast.is_private())?.is_some();
    let thumbnail = engine.live.thumbnails.of(stream);
    let Thumbnail { jpeg, .. } = thumbnail
        .filter(|thumbnail| thumbnail.broadcast == broadcast.name())
        .ok_or_else(|| ApiError::because(Code::NotFound, "there is no picture of this broadcast yet"))?;
    count(&engine.live, "thumbnail", jpeg.len());
    Ok(HttpResponse::Ok()
        .content_type("image/jpeg")
        .insert_header((header::CACHE_CONTROL, if is_private { FOR_ONE } else { "public, max-age=5" }))
        .body(jpeg))
}

/// The media playlist.
///
/// With `_HLS_msn`, and `_HLS_part` beside it, the answer waits until that segment or part is listed. With `_HLS_skip=YES` it is a
/// delta update.
#[utoipa::path(
    get, path = "/live/{stream_id}/{broadcast}/{rendition}.m3u8", tag = "playback",
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("broadcast" = String, Path, description = "As the multivariant playlist names it"),
        ("rendition" = String, Path, description = "As the multivariant playlist names it: `source`, or one of the ladder, as `720p`"),
        ("_HLS_msn" = Option<u64>, Query, description = "The media sequence number to wait for"),
        ("_HLS_part" = Option<u32>, Query, description = "The part of it to wait for"),
        ("_HLS_skip" = Option<String>, Query, description = "`YES` or `v2`: a delta update will do"),
        ("token" = Option<String>, Query, description = "Of a private stream: the playback token"),
    ),
    responses(
        (status = 200, description = "The media playlist", content_type = "application/vnd.apple.mpegurl", body = String),
        (status = 400, description = "`invalid_query`: the directives are not readable, or lie too far ahead", body = Problem),
        (status = 403, description = "`forbidden`: the stream is private, and the token is missing, wrong or has expired", body = Problem),
        (status = 404, description = "`not_found`: this broadcast is not on the air any more", body = Problem),
        (status = 503, description = "`unavailable`: it did not come in three target durations; `overloaded`: too many wait", body = Problem),
    )
)]
pub(crate) async fn playlist(
    request: HttpRequest,
    engine: web::Data<Engine>,
    context: Context,
    path: Path<(String, String, String)>,
) -> Result<HttpResponse, ApiError> {
    let live = &engine.live;
    let Path((stream, name, rendition)) = &path;
    let source = find(&engine, stream, Some(name)).await?;
    let is_private = admitted(&engine, &request, source.stream(), source.is_private())?.is_some();
    let directives = Directives::parse(request.query_string()).map_err(bad_directives)?;
    let agent = request.headers().get(header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
    source.audience().heard(live.viewer(context.client(), agent), Instant::now());
    let views = match &source {
        Source::Here(broadcast) => broadcast.views_of(rendition).ok_or_else(not_live)?,
        // In a box, as it is seldom taken: whoever waits here waits in thousands, and each with room for all this.
        Source::There(relay) => Box::pin(engine.relays.views_of(relay, rendition)).await?,
    };
    let view = listed(live, &source, views, &directives).await?;

    let gzip = takes_gzip(request.headers());
    let playlist = &view.playlist;
    let body = match (directives.skip, gzip) {
        (false, false) => &playlist.plain,
        (false, true) => &playlist.gzip,
        (true, false) => &playlist.delta_plain,
        (true, true) => &playlist.delta_gzip,
    };
    count(live, "playlist", body.len());
    let target_s = source.settings().target_duration_s;
    let max_age_s = if directives.msn.is_some() { target_s * 6 } else { (target_s / 2).max(1) };
    let mut response = HttpResponse::Ok();
    let cached = if is_private { FOR_ONE.to_owned() } else { format!("public, max-age={max_age_s}") };
    response
        .content_type(PLAYLIST)
        .insert_header((header::CACHE_CONTROL, cached))
        .insert_header((header::VARY, "Accept-Encoding"));
    if gzip {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
    }
    Ok(response.body(body.clone()))
}

/// Where a stream is played from, when it is this broadcast of it.
async fn find(engine: &Engine, stream: &str, name: Option<&str>) -> Result<Source, ApiError> {
    let stream: StreamId = stream.parse().map_err(|_| not_live())?;
    let here = engine.live.broadcasts.of(stream);
    // One that is over lingers here while the next may be on the air elsewhere already.
    let source = match here.filter(|here| name.is_some_and(|name| name == here.name()) || !here.has_ended()) {
        Some(here) => Source::Here(here),
        // In a box, as it is seldom taken.
        None => match (Box::pin(engine.relays.find(stream)).await, engine.live.broadcasts.of(stream)) {
            (Ok(relay), _) => Source::There(relay),
            (Err(_), Some(here)) => Source::Here(here),
            (Err(error), None) => return Err(error),
        },
    };
    if name.is_some_and(|name| name != source.name()) {
        return Err(not_live());
    }
    Ok(source)
}

/// The token a private stream was opened with; none of a public one.
fn admitted<'a>(
    engine: &Engine,
    request: &'a HttpRequest,
    stream: StreamId,
    is_private: bool,
) -> Result<Option<&'a str>, ApiError> {
    if !is_private {
        return Ok(None);
    }
    let token = token::in_query(request.query_string());
    match token.filter(|token| engine.playback_tokens.opens(token, stream, engine.clock.now())) {
        Some(token) => Ok(Some(token)),
        None => Err(needs_a_token()),
    }
}

/// What somebody is told who opens a private stream without a token.
pub(crate) fn needs_a_token() -> ApiError {
    ApiError::because(
        Code::Forbidden,
        "this stream is private: ask POST /v1/streams/{stream_id}/playback for a token",
    )
}

/// A multivariant playlist whose playlists are asked for with the same token.
fn handing_on(multivariant: &[u8], token: &str) -> String {
    let text = String::from_utf8_lossy(multivariant);
    let line = |line: &str| match line.is_empty() || line.starts_with('#') {
        true => format!("{line}\n"),
        false => format!("{line}?token={token}\n"),
    };
    text.lines().map(line).collect()
}

fn not_live() -> ApiError {
    ApiError::because(Code::NotFound, "nothing is on the air here")
}

fn gone() -> ApiError {
    ApiError::because(Code::NotFound, "this piece is not kept any more, or never was")
}

fn bad_directives(error: reload::BadRequest) -> ApiError {
    ApiError::because(Code::InvalidQuery, error.to_string())
}

/// The first view in which what is asked for is listed.
async fn listed(
    live: &Live,
    source: &Source,
    mut views: watch::Receiver<Option<Arc<View>>>,
    ask: &Directives,
) -> Result<Arc<View>, ApiError> {
    let mut waiting = None;
    let deadline = Instant::now() + reload::patience(&source.settings());
    let mut leaving = live.leaving();
    loop {
        let view = views.borrow_and_update().clone();
        match view {
            Some(view) if view.moved => return Err(moved()),
            Some(view) => {
                match reload::decide(&source.settings(), view.playlist.edge, ask).map_err(bad_directives)? {
                    Decision::Answer => return Ok(view),
                    Decision::Wait => {}
                }
            }
            // Its viewers were here before this node was: the next part is worth waiting for.
            None if goes_on(source) => {}
            None => return Err(not_live()),
        }
        if waiting.is_none() {
            waiting = Some(Waiting::begin(live)?);
        }
        tokio::select! {
            changed = timeout_at(deadline, views.changed()) => changed.map_err(|_| too_long())?.map_err(|_| not_live())?,
            _ = leaving.wait_for(|leaving| *leaving) => return Err(Code::Draining.into()),
        }
    }
}

/// Whether another node began what is to be played here.
fn goes_on(source: &Source) -> bool {
    match source {
        Source::Here(broadcast) => broadcast.is_going_on() && !broadcast.has_ended(),
        Source::There(_) => true,
    }
}

fn moved() -> ApiError {
    ApiError::because(Code::Unavailable, "the stream goes on on another node; ask again")
        .retry_after(RETRY_AFTER)
}

fn too_long() -> ApiError {
    ApiError::because(Code::Unavailable, "the publisher has sent nothing for too long")
        .retry_after(RETRY_AFTER)
}

/// A request that waits; it stops when this is dropped.
struct Waiting<'a> {
    _place: SemaphorePermit<'a>,
    parked: IntGauge,
    since: Instant,
    took: prometheus::Histogram,
}

impl Waiting<'_> {
    fn begin(live: &Live) -> Result<Waiting<'_>, ApiError> {
        let full = || {
            ApiError::because(Code::Overloaded, "too many viewers wait for the next part")
                .retry_after(RETRY_AFTER)
        };
        let place = live.waits.try_acquire().map_err(|_| full())?;
        let parked = live.metrics.playback_waiting.clone();
        parked.inc();
        let took = live.metrics.playback_wait.clone();
        Ok(Waiting { _place: place, parked, since: Instant::now(), took })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.parked.dec();
        self.took.observe(self.since.elapsed().as_secs_f64());
    }
}

fn count(live: &Live, kind: &str, bytes: usize) {
    live.metrics.playback_bytes.with_label_values(&[kind]).inc_by(bytes as u64);
}

/// Whether the client takes gzip (RFC 9110 section 12.5.3); what it says of other codings is nothing to us.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut entries = headers
        .get_all(header::ACCEPT_ENCODING)
        .flat_map(|line| line.to_str().unwrap_or_default().split(','));
    entries.any(|entry| {
        let (name, weight) = entry.split_once(';').unwrap_or((entry, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0_f32));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playlist_request_waits_with_the_headers_that_are_read() {
        let kept = |method: Method, path: &'static str| {
            let request = actix_web::test::TestRequest::with_uri(path).method(method);
            let mut request = request
                .append_header(("host", "nova.example"))
                .append_header(("accept-encoding", "br"))
                .append_header(("accept-encoding", "gzip"))
                .append_header(("user-agent", "a player"))
                .append_header(("cookie", "of nobody"))
                .to_srv_request();
            keep_what_is_read(request.head_mut());
            assert!(takes_gzip(request.headers()), "{path}");
            (request.headers().len(), request.headers().capacity() < 4)
        };
        for path in ["/live/stream_1/abc/source.m3u8?_HLS_msn=3", "/live/stream_1/index.m3u8"] {
            assert_eq!(kept(Method::GET, path), (3, true), "{path}");
        }
        for (method, path) in [
            (Method::POST, "/live/stream_1/abc/source.m3u8"),
            (Method::GET, "/live/stream_1/abc/1/1.m4s"),
            (Method::GET, "/v1/streams"),
        ] {
            assert_eq!(kept(method, path).0, 5, "{path}");
        }
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let takes = |line: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(line));
            takes_gzip(&headers)
        };
        assert!(takes("gzip") && takes("br, GZIP;q=0.5") && takes("deflate, gzip"));
        assert!(!takes("br") && !takes("gzip;q=0") && !takes("identity") && !takes("xgzip"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
