//! Places people share: for whom, until when, and how they move.

use nova_actors::id::UserId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Invalid, MENTIONS_MAX};
use crate::rest::instant;

/// A position is shown live for a day at most.
const LIVE_LOCATION_MAX: time::Duration = time::Duration::hours(24);
/// More than the way round the Earth.
const ACCURACY_MAX_M: f64 = 40_000_000.0;

/// A place, for whom and until when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// Degrees north.
    #[schema(minimum = -90, maximum = 90)]
    pub latitude: f64,
    /// Degrees east.
    #[schema(minimum = -180, maximum = 180)]
    pub longitude: f64,
    /// Radius of the circle it lies in, metres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, nullable = false)]
    pub accuracy_m: Option<f64>,
    /// Who is shown it.
    #[serde(default)]
    pub scope: LocationScope,
    /// Those who are shown it when the scope is `members`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, max_items = 100)]
    pub members: Vec<UserId>,
    /// Until when it is shown; then it is gone from everywhere. Without it, until it is deleted.
    #[serde(default, with = "instant::option", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub until: Option<OffsetDateTime>,
}

/// Who is shown a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LocationScope {
    /// Everybody in the conversation.
    #[default]
    Conversation,
    /// Those who are named, and nobody else.
    Members,
}

/// Where a live position has moved to, or that it is shown no longer. For whom and until when stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Movement {
    /// To here.
    To {
        /// Degrees north.
        #[schema(minimum = -90, maximum = 90)]
        latitude: f64,
        /// Degrees east.
        #[schema(minimum = -180, maximum = 180)]
        longitude: f64,
        /// Radius of the circle it lies in, metres.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(minimum = 0, nullable = false)]
        accuracy_m: Option<f64>,
    },
    /// It has ended, at once and everywhere.
    Ended {
        /// Always `true`.
        ended: bool,
    },
}

pub(super) fn check_location(location: &Location, now: OffsetDateTime) -> Result<(), Invalid> {
    check_place(location.latitude, location.longitude, location.accuracy_m)?;
    match (location.scope, location.members.len()) {
        (LocationScope::Conversation, 0) | (LocationScope::Members, 1..=MENTIONS_MAX) => {}
        (LocationScope::Conversation, _) => {
            return Err(Invalid::new("location", "names members only when its scope is `members`"));
        }
        (LocationScope::Members, _) => {
            return Err(Invalid::new("location", format!("must name 1 to {MENTIONS_MAX} members")));
        }
    }
    if location.until.is_some_and(|until| until <= now || until > now + LIVE_LOCATION_MAX) {
        return Err(Invalid::new("location", "must end within the next 24 hours"));
    }
    Ok(())
}

pub(super) fn check_movement(movement: &Movement) -> Result<(), Invalid> {
    match *movement {
        Movement::To { latitude, longitude, accuracy_m } => check_place(latitude, longitude, accuracy_m),
        Movement::Ended { ended: true } => Ok(()),
        Movement::Ended { ended: false } => Err(Invalid::new("location", "has ended or has moved somewhere")),
    }
}

fn check_place(latitude: f64, longitude: f64, accuracy_m: Option<f64>) -> Result<(), Invalid> {
    let within = |value: f64, limit: f64| value.is_finite() && value.abs() <= limit;
    if !within(latitude, 90.0) || !within(longitude, 180.0) {
        return Err(Invalid::new("location", "must be a place on Earth, in degrees"));
    }
    if accuracy_m.is_some_and(|metres| !(0.0..=ACCURACY_MAX_M).contains(&metres)) {
        return Err(Invalid::new("location", "must have an accuracy in metres"));
    }
    Ok(())
}
