//! Recordings as viewers get them: a playlist, its segments with ranges, a picture.
//!
//! ```text
//! /recordings/{recording_id}/index.m3u8             the playlist
//! /recordings/{recording_id}/thumbnail.jpg          a picture
//! /recordings/{recording_id}/{folder}/{file}        what the playlist lists
//! ```
//!
//! The playlist asks the database whether the recording is still wanted. What it lists lies in a folder whose name nobody guesses and is
//! read straight from the object store, so it can be cached for ever, by anybody.

use std::fmt;

use actix_web::body::SizedStream;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt as _;
use nova_actors::id::RecordingId;
use nova_media::hls::Kept;

use super::pieces::FOR_EVER;
use super::{BRIEFLY, FOR_ONE, PLAYLIST, RETRY_AFTER, admitted};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::objects::{Object, ObjectError, Span};
use crate::recordings::{self, THUMBNAIL};
use crate::rest::Path;
use crate::store::recordings::Recording;

/// A recording may be deleted; its picture and playlist do not change otherwise.
const FOR_A_WHILE: &str = "public, max-age=60";

impl From<ObjectError> for ApiError {
    fn from(error: ObjectError) -> ApiError {
        match error {
            ObjectError::NotFound => Code::NotFound.into(),
            error => ApiError::unavailable(error, RETRY_AFTER),
        }
    }
}

/// The playlist of a recording.
#[utoipa::path(
    get, path = "/recordings/{recording_id}/index.m3u8", tag = "playback",
    params(
        ("recording_id" = String, Path, description = "TypeID `rec_…`"),
        ("token" = Option<String>, Query, description = "Of a private stream: the playback token"),
    ),
    responses(
        (status = 200, description = "A media playlist of a recording", content_type = "application/vnd.apple.mpegurl", body = String),
        (status = 403, description = "`forbidden`: the stream is private, and the token is missing, wrong or has expired", body = Problem),
        (status = 404, description = "`not_found`: there is no such recording, or it is not ready", body = Problem),
    )
)]
pub(crate) async fn recording(
    engine: web::Data<Engine>,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let recording = find(&engine, &path.0).await?;
    let object = whole(&engine, &recording, recordings::PLAYLIST).await?;
    engine.metrics.playback_bytes.with_label_values(&["recording_playlist"]).inc_by(object.size);
    Ok(HttpResponse::Ok()
        .content_type(PLAYLIST)
        .insert_header((header::CACHE_CONTROL, if recording.is_private { FOR_ONE } else { BRIEFLY }))
        .body(body(object)))
}

/// A picture of a recording.
#[utoipa::path(
    get, path = "/recordings/{recording_id}/thumbnail.jpg", tag = "playback",
    params(
        ("recording_id" = String, Path, description = "TypeID `rec_…`"),
        ("token" = Option<String>, Query, description = "Of a private stream: the playback token"),
    ),
    responses(
        (status = 200, description = "At most 640 pixels wide", content_type = "image/jpeg", body = Vec<u8>),
        (status = 403, description = "`forbidden`: the stream is private, and the token is missing, wrong or has expired", body = Problem),
        (status = 404, description = "`not_found`: there is no such recording, or no picture of it", body = Problem),
    )
)]
pub(crate) async fn picture(
    request: HttpRequest,
    engine: web::Data<Engine>,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let recording = find(&engine, &path.0).await?;
    admitted(&engine, &request, recording.stream, recording.is_private)?;
    if !recording.has_thumbnail {
        return Err(Code::NotFound.into());
    }
    let object = whole(&engine, &recording, THUMBNAIL).await?;
    Ok(HttpResponse::Ok()
        .content_type("image/jpeg")
        .insert_header((header::CACHE_CONTROL, if recording.is_private { FOR_ONE } else { FOR_A_WHILE }))
        .body(body(object)))
}

/// An init segment or a segment of a recording. One range is served as asked; several are answered with the whole (RFC 9110 14.2).
#[utoipa::path(
    get, path = "/recordings/{recording_id}/{folder}/{file}", tag = "playback",
    params(
        ("recording_id" = String, Path, description = "TypeID `rec_…`"),
        ("folder" = String, Path, description = "As the playlist names it"),
        ("file" = String, Path, description = "As the playlist names it"),
    ),
    responses(
        (status = 200, description = "Fragmented MP4", content_type = "video/mp4", body = Vec<u8>),
        (status = 206, description = "The range that was asked for", content_type = "video/mp4", body = Vec<u8>),
        (status = 304, description = "It never changes"),
        (status = 404, description = "`not_found`", body = Problem),
        (status = 416, description = "`range_not_satisfiable`: the object ends before this range", body = Problem),
    )
)]
pub(crate) async fn kept(
    request: HttpRequest,
    engine: web::Data<Engine>,
    path: Path<(String, String, String)>,
) -> Result<HttpResponse, ApiError> {
    let Path((id, folder, file)) = &path;
    let id: RecordingId = id.parse().map_err(|_| Code::NotFound)?;
    let named = !folder.is_empty() && folder.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !named || Kept::parse(file).is_none() {
        return Err(Code::NotFound.into());
    }
    // It is named once for ever, so its name is its tag.
    let tag = format!("\"{folder}-{file}\"");
    if request.headers().get(header::IF_NONE_MATCH).is_some_and(|tags| tags.as_bytes() == tag.as_bytes()) {
        return Ok(HttpResponse::NotModified()
            .insert_header((header::ETAG, tag))
            .insert_header((header::CACHE_CONTROL, FOR_EVER))
            .finish());
    }
    let objects = engine.recordings.objects();
    let at = recordings::path(id, folder, file);
    let span =
        request.headers().get(header::RANGE).filter(|_| still_the_same(&request, &tag)).and_then(range);
    let object = match objects.get(&at, span).await {
        // Some stores say of a range past the end only that they cannot.
        Err(ObjectError::Unavailable { reason }) if span.is_some() => {
            let size = objects.get(&at, None).await?.size;
            if within(span, size) {
                return Err(ObjectError::Unavailable { reason }.into());
            }
            return Err(Code::RangeNotSatisfiable.into());
        }
        object => object?,
    };
    let sent = object.range.end - object.range.start;
    engine.metrics.playback_bytes.with_label_values(&["recording"]).inc_by(sent);
    let mut response = match span {
        Some(_) => HttpResponse::PartialContent(),
        None => HttpResponse::Ok(),
    };
    if span.is_some() {
        let last = object.range.end.saturating_sub(1);
        let range = format!("bytes {}-{last}/{}", object.range.start, object.size);
        response.insert_header((header::CONTENT_RANGE, range));
    }
    Ok(response
        .content_type("video/mp4")
        .insert_header((header::CACHE_CONTROL, FOR_EVER))
        .insert_header((header::ETAG, tag))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .body(body(object)))
}

/// A recording that can be played.
async fn find(engine: &Engine, id: &str) -> Result<Recording, ApiError> {
    let id: RecordingId = id.parse().map_err(|_| Code::NotFound)?;
    let found = engine.store.recording(id).await?.filter(|recording| recording.is_ready);
    found.ok_or_else(|| Code::NotFound.into())
}

async fn whole(engine: &Engine, recording: &Recording, name: &str) -> Result<Object, ApiError> {
    let at = recordings::path(recording.id, &recording.folder, name);
    Ok(engine.recordings.objects().get(&at, None).await?)
}

fn body(object: Object) -> SizedStream<impl futures_util::Stream<Item = Result<web::Bytes, Broken>>> {
    let size = object.range.end - object.range.start;
    SizedStream::new(size, object.body.map(|piece| piece.map_err(Broken)))
}

/// The object store stopped half-way; the connection is closed, so that nobody takes a part for the whole.
#[derive(Debug)]
struct Broken(ObjectError);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Broken {}

/// Whether a range may be given of what the client has the rest of (`If-Range`).
fn still_the_same(request: &HttpRequest, tag: &str) -> bool {
    request.headers().get(header::IF_RANGE).is_none_or(|wanted| wanted.as_bytes() == tag.as_bytes())
}

/// One range of bytes; what is anything else is not looked at, which RFC 9110 allows.
fn range(header: &HeaderValue) -> Option<Span> {
    let (from, to) = header.to_str().ok()?.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    match (from, to) {
        ("", last) => number(last).filter(|last| *last > 0).map(Span::Last),
        (from, "") => number(from).map(Span::From),
        (from, to) => {
            let (from, to) = (number(from)?, number(to)?);
            (from <= to).then(|| Span::Between(from, to.saturating_add(1)))
        }
    }
}

fn within(span: Option<Span>, size: u64) -> bool {
    match span {
        None | Some(Span::Last(_)) => size > 0,
        Some(Span::Between(from, _) | Span::From(from)) => from < size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read_and_everything_else_is_the_whole() {
        let read = |text: &'static str| range(&HeaderValue::from_static(text));
        assert_eq!(read("bytes=0-99"), Some(Span::Between(0, 100)));
        assert_eq!(read("bytes=100-"), Some(Span::From(100)));
        assert_eq!(read("bytes=-5"), Some(Span::Last(5)));
        for odd in [
            "bytes=5-4",
            "bytes=-0",
            "bytes=",
            "bytes=-",
            "bytes=0-1,5-6",
            "lines=0-1",
            "bytes=a-b",
            "bytes=+1-2",
        ] {
            assert_eq!(read(odd), None, "{odd}");
        }
        assert!(within(Some(Span::From(9)), 10) && !within(Some(Span::From(10)), 10));
    }
}
