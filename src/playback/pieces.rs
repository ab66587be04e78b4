//! Init segments, segments and parts: what playlists list.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use nova_actors::live_stream::Broadcast;
use nova_actors::live_stream::ladder::rung_of;
use nova_media::hls::reload;
use tokio::time::{Instant, timeout_at};

use super::source::Source;
use super::{Waiting, count, find, gone, relay, too_long};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::live::Live;
use crate::rest::Path;

/// They never change.
pub(super) const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// An init segment, a segment or a part. A part that is about to come is waited for.
#[utoipa::path(
    get, path = "/live/{stream_id}/{broadcast}/{epoch}/{file}", tag = "playback",
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("broadcast" = String, Path, description = "As the multivariant playlist names it"),
        ("epoch" = String, Path, description = "As the media playlist names it"),
        ("file" = String, Path, description = "As the media playlist names it"),
    ),
    responses(
        (status = 200, description = "Fragmented MP4", content_type = "video/mp4", body = Vec<u8>),
        (status = 404, description = "`not_found`: it is not kept any more, or never was", body = Problem),
        (status = 503, description = "`unavailable`: it did not come in three target durations; `overloaded`: too many wait", body = Problem),
    )
)]
pub(crate) async fn piece(
    engine: web::Data<Engine>,
    path: Path<(String, String, String, String)>,
) -> Result<HttpResponse, ApiError> {
    let live = &engine.live;
    let Path((stream, broadcast, epoch, file)) = &path;
    let kind = File::parse(file).ok_or_else(gone)?.kind();
    let pieces = match find(&engine, stream, Some(broadcast)).await? {
        Source::Here(broadcast) => pieces(live, &broadcast, epoch, file).await?.1,
        Source::There(relay) => {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            let named = !epoch.is_empty() && epoch.bytes().all(is_plain);
            vec![engine.relays.file(&relay, named.then_some(epoch).ok_or_else(gone)?, file).await?]
        }
    };
    let pieces = Pieces::new(pieces);
    count(live, kind, pieces.left);
    Ok(HttpResponse::Ok()
        .content_type("video/mp4")
        .insert_header((header::CACHE_CONTROL, FOR_EVER))
        .body(pieces))
}

/// What a file of a broadcast consists of, and what kind of file it is.
pub(super) async fn pieces(
    live: &Live,
    broadcast: &Arc<Broadcast>,
    epoch: &str,
    file: &str,
) -> Result<(&'static str, Vec<Bytes>), ApiError> {
    let file = File::parse(file).ok_or_else(gone)?;
    let pieces = match file {
        File::Init(number) => broadcast.init(epoch, number).map(|init| vec![init]),
        File::Segment(msn) => broadcast.segment(epoch, msn),
        File::Part(msn, part) => {
            let there = broadcast.part(epoch, msn, part);
            let part = match there {
                None => hinted(live, broadcast, epoch, msn, part).await?,
                there => there,
            };
            part.map(|part| vec![part])
        }
    };
    Ok((file.kind(), pieces.ok_or_else(gone)?))
}

/// A part that the playlist has promised; none when the segment ended without it.
async fn hinted(
    live: &Live,
    broadcast: &Broadcast,
    epoch: &str,
    msn: u64,
    part: u32,
) -> Result<Option<Bytes>, ApiError> {
    let mut waiting = None;
    let rendition = rung_of(epoch).unwrap_or(relay::SOURCE);
    let Some(mut views) = broadcast.views_of(rendition) else { return Ok(None) };
    let deadline = Instant::now() + reload::patience(&broadcast.settings());
    let mut leaving = live.leaving();
    loop {
        let edge = views.borrow_and_update().as_ref().map(|view| view.playlist.edge);
        let there = broadcast.part(epoch, msn, part);
        let next = edge.is_some_and(|edge| (edge.msn, edge.part) == (msn, part) && !edge.ended);
        if there.is_some() || !next {
            return Ok(there);
        }
        if waiting.is_none() {
            waiting = Some(Waiting::begin(live)?);
        }
        tokio::select! {
            changed = timeout_at(deadline, views.changed()) => changed.map_err(|_| too_long())?.map_err(|_| gone())?,
            _ = leaving.wait_for(|leaving| *leaving) => return Err(Code::Draining.into()),
        }
    }
}

/// What a file's name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum File {
    Init(u32),
    Segment(u64),
    Part(u64, u32),
}

impl File {
    fn kind(self) -> &'static str {
        match self {
            File::Init(_) => "init",
            File::Segment(_) => "segment",
            File::Part(..) => "part",
        }
    }

    fn parse(name: &str) -> Option<File> {
        if let Some(number) = name.strip_prefix("init").and_then(|rest| rest.strip_suffix(".mp4")) {
            return Some(File::Init(number.parse().ok()?));
        }
        let name = name.strip_suffix(".m4s")?;
        match name.split_once('.') {
            None => Some(File::Segment(name.parse().ok()?)),
            Some((msn, part)) => Some(File::Part(msn.parse().ok()?, part.parse().ok()?)),
        }
    }
}

/// A body of several pieces that are shared with everybody who asks for the same.
pub(super) struct Pieces {
    pieces: VecDeque<Bytes>,
    left: usize,
}

impl Pieces {
    pub(super) fn new(pieces: Vec<Bytes>) -> Pieces {
        Pieces { left: pieces.iter().map(Bytes::len).sum(), pieces: pieces.into() }
    }
}

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.left as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let next = self.pieces.pop_front();
        self.left -= next.as_ref().map_or(0, Bytes::len);
        Poll::Ready(next.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_nothing_else() {
        assert_eq!(File::parse("init3.mp4"), Some(File::Init(3)));
        assert_eq!(File::parse("17.m4s"), Some(File::Segment(17)));
        assert_eq!(File::parse("17.4.m4s"), Some(File::Part(17, 4)));
        for odd in [
            "",
            ".m4s",
            "17",
            "init.mp4",
            "17..m4s",
            "17.4.5.m4s",
            "-1.m4s",
            "99999999999999999999.m4s",
            "../x",
        ] {
            assert_eq!(File::parse(odd), None, "{odd}");
        }
    }
}
