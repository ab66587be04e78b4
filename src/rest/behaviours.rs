//! `/v1/events`: what readers do with what they are shown, as their clients tell it in batches.

use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::{EventId, PostId};
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use super::{Json, Manner};
use crate::app::Engine;
use crate::error::{ApiError, FieldError, Problem};
use crate::identity::Caller;
use crate::store::behaviours::Behaviour;

/// Events in one batch: some screens of posts.
const EVENTS_MAX: usize = 100;
/// Deeper than anybody scrolls.
const POSITION_MAX: u32 = 10_000;
/// Longer than anybody looks; a page that was left open is not.
const DWELL_MAX_MS: u32 = 3_600_000;
/// What was done while a device was offline is taken for so long; ids are known for longer.
const AGE_MAX: Duration = Duration::hours(24);
/// How far a client's clock may be ahead.
const AHEAD_MAX: Duration = Duration::minutes(5);
/// Characters of the name of a level or a model.
const NAME_CHARS_MAX: usize = 64;

/// What was done.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// It was on the screen.
    Impression,
    /// It was opened.
    Open,
    /// It was liked there.
    Like,
    /// The reader wants to see less of this.
    Hide,
    /// It was looked at, for `dwell_ms`.
    Dwell,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::Impression => "impression",
            Action::Open => "open",
            Action::Like => "like",
            Action::Hide => "hide",
            Action::Dwell => "dwell",
        }
    }
}

/// Something a reader did with a post.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Observed {
    /// A new TypeID `event_…`; what is sent again with the same id counts once.
    #[schema(value_type = String, example = "event_01jd3v7z5qf5x8f2w9k4m6p1ra")]
    id: EventId,
    /// What was done.
    action: Action,
    /// With which post: TypeID `post_…`.
    #[schema(value_type = String, example = "post_01jd3v7z5qf5x8f2w9k4m6p1ra")]
    post: PostId,
    /// Where in the list it stood; 0 is the first.
    #[serde(default)]
    #[schema(maximum = 10000)]
    position: u32,
    /// The `level` of the feed's page.
    #[serde(default)]
    #[schema(max_length = 64)]
    level: String,
    /// The `model` of the feed's page.
    #[serde(default)]
    #[schema(max_length = 64)]
    model: String,
    /// How long it was looked at, in milliseconds; of `dwell` alone.
    #[serde(default)]
    #[schema(maximum = 3600000)]
    dwell_ms: u32,
    /// When, by the client's clock (RFC 3339): in the last 24 hours.
    #[schema(format = DateTime)]
    at: String,
}

/// What a reader did.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// In any order.
    #[schema(min_items = 1, max_items = 100)]
    events: Vec<Observed>,
}

/// What became of a batch.
#[derive(Serialize, ToSchema)]
pub(super) struct Taken {
    /// Events that are kept now.
    accepted: usize,
    /// Events that were kept before, or are about a post there never was.
    ignored: usize,
}

/// Tell what the reader did: impressions, opens, likes, hides, how long they looked. It may be sent again without harm.
#[utoipa::path(
    post, path = "/v1/events", tag = "feeds", security(("bearer" = [])), request_body = Batch,
    responses(
        (status = 202, description = "Kept", body = Taken),
        (status = 422, description = "`invalid_fields`: one of them cannot be; nothing of the batch is kept", body = Problem),
        (status = 429, description = "`rate_limited`: more than 60 batches a minute", body = Problem),
    )
)]
pub(super) async fn observe(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    body: Json<Batch>,
) -> Result<HttpResponse, ApiError> {
    let manner = Manner::of(&request)?;
    manner.limits.batch_of(caller.user.as_uuid()).inspect_err(|refused| {
        manner.metrics.rate_limited.with_label_values(&[refused.standing.name]).inc();
    })?;
    let events = body.0.events;
    if !(1..=EVENTS_MAX).contains(&events.len()) {
        return Err(ApiError::field("events", format!("must be 1 to {EVENTS_MAX}")));
    }
    let now = engine.clock.now();
    let (mut all, mut wrong) = (Vec::with_capacity(events.len()), Vec::new());
    for (nth, event) in events.into_iter().enumerate() {
        match read(event, now) {
            Ok(behaviour) => all.push(behaviour),
            Err((field, message)) => {
                wrong.push(FieldError { field: format!("events.{nth}.{field}"), message });
            }
        }
    }
    if !wrong.is_empty() {
        return Err(ApiError::fields(wrong));
    }
    let accepted = engine.store.add_behaviours(caller.user, &all, now).await?;
    Ok(HttpResponse::Accepted().json(Taken { accepted, ignored: all.len().saturating_sub(accepted) }))
}

/// Checks one, or says which field is wrong.
fn read(event: Observed, now: OffsetDateTime) -> Result<Behaviour, (&'static str, String)> {
    let at = OffsetDateTime::parse(&event.at, &Rfc3339)
        .map_err(|_| ("at", "must be a time as in RFC 3339".to_owned()))?;
    if at > now + AHEAD_MAX || at < now - AGE_MAX {
        return Err(("at", "must be in the last 24 hours".to_owned()));
    }
    if event.position > POSITION_MAX {
        return Err(("position", format!("must be at most {POSITION_MAX}")));
    }
    let is_dwell = matches!(event.action, Action::Dwell);
    if event.dwell_ms > DWELL_MAX_MS || (event.dwell_ms > 0) != is_dwell {
        return Err(("dwell_ms", format!("must be 1 to {DWELL_MAX_MS} of `dwell` and absent of others")));
    }
    for (field, name) in [("level", &event.level), ("model", &event.model)] {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.len() > NAME_CHARS_MAX || !name.chars().all(is_name) {
            return Err((
                field,
                format!("must be at most {NAME_CHARS_MAX} of letters, digits, `_`, `-`, `.`"),
            ));
        }
    }
    Ok(Behaviour {
        id: event.id,
        action: event.action.name(),
        post: event.post,
        position: event.position,
        level: event.level,
        model: event.model,
        dwell_ms: event.dwell_ms,
        at,
    })
}
