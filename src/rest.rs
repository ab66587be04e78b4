//! The REST door: which calls there are, and what is the same for all of them.
//!
//! A call is one line of the table below and one handler with `#[utoipa::path]` in the file of its noun. The line
//! makes the route, its `HEAD`, its 405 and its place in the OpenAPI document, so none of these can be forgotten.
//!
//! | file | what it settles |
//! |---|---|
//! | [`manner`] | what happens around every call: ids, limits, problems, headers, panics |
//! | [`context`] | what a handler may know about its request |
//! | [`json`], [`query`], [`sdp`] | what comes in, bounded and refused by field |
//! | [`page`] | lists and their cursors |
//! | [`idempotency`] | retries that have one effect |
//! | [`etag`] | edits that know what they change |
//! | [`limits`], [`client`] | who may ask how often, and who that is |
//! | [`cors`], [`headers`] | what browsers may do with answers |
//! | [`openapi`] | the document of all this |

mod accounts;
mod behaviours;
pub mod client;
mod comments;
mod compression;
pub mod context;
mod conversations;
pub mod cors;
mod entries;
pub mod etag;
mod exchange;
mod feeds;
mod follows;
pub mod headers;
pub mod health;
pub mod idempotency;
pub(crate) mod instant;
pub mod json;
mod keys;
pub mod limits;
pub mod manner;
mod members;
pub mod openapi;
pub mod page;
mod posts;
pub mod query;
mod recordings;
mod rooms;
pub mod sdp;
mod sessions;
mod socket;
mod stories;
mod stream_chat;
pub(crate) mod stream_stats;
pub(crate) mod streams;
mod totp;
mod users;
mod viewers;

use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Resource, Route, guard};

use crate::config::NodeRole;
use crate::error::{ApiError, Code};
use crate::playback;
use crate::wish::{whep, whip};

pub use context::Context;
pub use etag::ETag;
pub use json::Json;
pub use manner::Manner;
pub use page::{Cursor, List, Page, PageQuery};
pub use query::{Path, Query};

macro_rules! routes {
    ($($path:literal: $($method:ident $($handler:ident)::+),+;)*) => {
        /// Every call: its path and its methods.
        pub const ROUTES: &[(&str, &[&str])] = &[$(($path, &[$(stringify!($method)),+])),*];

        /// Every call's handler, as `file :: name`, by path and method.
        const HANDLERS: &[(&str, &str, &str)] =
            &[$($(($path, stringify!($method), stringify!($($handler)::+))),+),*];

        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($($($handler)::+),+),*))]
        struct Calls;

        /// Puts every call where it belongs.
        pub fn configure(cfg: &mut ServiceConfig) {
            configure_some(cfg, |_| true);
        }

        /// The same on a node that serves only some paths; the others are answered 421 (RFC 9110 section 15.5.20).
        pub fn configure_some(cfg: &mut ServiceConfig, serves: impl Fn(&str) -> bool) {
            $(match serves($path) {
                true => cfg.service(resource($path, &[$(stringify!($method)),+])
                    $(.route(route(stringify!($method)).to($($handler)::+)))+),
                false => cfg.service(elsewhere($path)),
            };)*
            cfg.default_service(web::to(nothing_here));
        }
    };
}

// A path is tried on one after the other, and thousands of viewers ask several times a second: theirs come first.
routes! {
    "/live/{stream_id}/{broadcast}/{rendition}.m3u8": get playback::playlist;
    "/live/{stream_id}/{broadcast}/{epoch}/{file}": get playback::pieces::piece;
    "/live/{stream_id}/index.m3u8": get playback::index;
    "/live/{stream_id}/thumbnail.jpg": get playback::thumbnail;
    "/livez": get health::livez;
    "/readyz": get health::readyz;
    "/api/v1/health": get health::health;
    "/openapi.json": get openapi::openapi;
    "/asyncapi.json": get socket::asyncapi;
    "/v1/ws": get socket::upgrade;
    "/.well-known/jwks.json": get keys::jwks;
    "/v1/accounts": post accounts::register;
    "/v1/sessions": get sessions::devices, post sessions::log_in;
    "/v1/sessions/refresh": post sessions::refresh;
    "/v1/sessions/current": delete sessions::log_out;
    "/v1/sessions/{device_id}": delete sessions::end_session;
    "/v1/totp": post totp::begin, delete totp::remove;
    "/v1/totp/confirm": post totp::confirm;
    "/v1/me": get accounts::me, patch accounts::edit_me, delete accounts::delete_me;
    "/v1/me/password": put accounts::set_password;
    "/v1/users/{user}": get users::profile;
    "/v1/users/{user}/block": put conversations::block, delete conversations::unblock;
    "/v1/users/{user}/follow": put follows::follow, delete follows::unfollow;
    "/v1/users/{user}/followers": get follows::followers;
    "/v1/users/{user}/following": get follows::following;
    "/v1/users/{user}/mute": put follows::mute, delete follows::unmute;
    "/v1/users/{user}/posts": get posts::of_user;
    "/v1/posts": post posts::create;
    "/v1/posts/{post}": get posts::read, patch posts::edit, delete posts::delete;
    "/v1/posts/{post}/versions": get posts::versions;
    "/v1/posts/{post}/like": put posts::like, delete posts::unlike;
    "/v1/posts/{post}/comments": get comments::list, post comments::create;
    "/v1/comments/{comment}": delete comments::delete;
    "/v1/stories": get stories::followed, post stories::create;
    "/v1/stories/{story}": get stories::read, delete stories::delete;
    "/v1/stories/{story}/view": put stories::view;
    "/v1/stories/{story}/viewers": get stories::viewers;
    "/v1/users/{user}/stories": get stories::of_user;
    "/v1/feeds/home": get feeds::home;
    "/v1/feeds/discover": get feeds::discover;
    "/v1/events": post behaviours::observe;
    "/v1/conversations": get conversations::inbox, post conversations::create;
    "/v1/conversations/{conversation}": get conversations::conversation, patch conversations::edit;
    "/v1/conversations/{conversation}/entries": get entries::entries;
    "/v1/conversations/{conversation}/messages": post entries::send;
    "/v1/conversations/{conversation}/messages/{seq}": patch entries::edit, delete entries::delete;
    "/v1/conversations/{conversation}/members": get members::members;
    "/v1/conversations/{conversation}/members/{user}": put members::put, delete members::remove;
    "/v1/conversations/{conversation}/call": get rooms::call;
    "/v1/conversations/{conversation}/mute": put conversations::mute, delete conversations::unmute;
    "/v1/conversations/{conversation}/read": put conversations::read;
    "/v1/rooms": post rooms::create;
    "/v1/rooms/{room}": get rooms::read, delete rooms::delete;
    "/v1/streams": get streams::list, post streams::create;
    "/v1/streams/{stream_id}": get streams::read, patch streams::edit, delete streams::delete;
    "/v1/streams/{stream_id}/key": post streams::rotate_key;
    "/v1/streams/{stream_id}/stats": get stream_stats::stats;
    "/v1/streams/{stream_id}/playback": post viewers::playback;
    "/v1/streams/{stream_id}/viewers": get viewers::list;
    "/v1/streams/{stream_id}/viewers/{user_id}": put viewers::put, delete viewers::remove;
    "/v1/streams/{stream_id}/recordings": get recordings::list;
    "/v1/recordings/{recording_id}": get recordings::read, delete recordings::delete;
    "/v1/streams/{stream_id}/chat": get stream_chat::chat, patch stream_chat::edit;
    "/v1/streams/{stream_id}/chat/moderators": get stream_chat::moderators;
    "/v1/streams/{stream_id}/chat/moderators/{user}": put stream_chat::appoint, delete stream_chat::dismiss;
    "/v1/streams/{stream_id}/chat/timeouts/{user}": put stream_chat::time_out, delete stream_chat::let_write;
    "/whep/{stream_id}": post whep::watch;
    "/whep/{stream_id}/{session}": patch whep::change, delete whep::end;
    "/whip/{stream_id}": post whip::publish;
    "/whip/{stream_id}/{session}": patch whip::change, delete whip::end;
    "/recordings/{recording_id}/index.m3u8": get playback::recorded::recording;
    "/recordings/{recording_id}/thumbnail.jpg": get playback::recorded::picture;
    "/recordings/{recording_id}/{folder}/{file}": get playback::recorded::kept;
}

/// A route for a method; `GET` answers `HEAD` too (RFC 9110 section 9.3.2), actix leaves the body out.
fn route(method: &str) -> Route {
    match method {
        "get" => web::route().guard(guard::Any(guard::Get()).or(guard::Head())),
        "post" => web::post(),
        "put" => web::put(),
        "patch" => web::patch(),
        _ => web::delete(),
    }
}

/// A path whose other methods are answered 405 with `Allow`, and `OPTIONS` 204 with the same.
fn resource(path: &'static str, methods: &[&str]) -> Resource {
    let mut allow = Vec::new();
    for method in methods {
        allow.push(method.to_ascii_uppercase());
        if *method == "get" {
            allow.push("HEAD".to_owned());
        }
    }
    allow.push("OPTIONS".to_owned());
    let allow = allow.join(", ");
    // Named after its path: the name is what metrics and logs call it, and costs them no allocation to read.
    web::resource(path).name(path).default_service(web::to(move |request: actix_web::HttpRequest| {
        let options = request.method() == actix_web::http::Method::OPTIONS;
        let mut response = if options { HttpResponse::NoContent() } else { HttpResponse::MethodNotAllowed() };
        let response = response.insert_header((header::ALLOW, allow.as_str())).finish();
        async move { response }
    }))
}

/// A path that other nodes serve.
fn elsewhere(path: &'static str) -> Resource {
    web::resource(path).name(path).default_service(web::to(async move || {
        let roles: Vec<&str> = NodeRole::serving(path).iter().map(|role| role.as_str()).collect();
        let detail =
            format!("a node with the role {} serves this; the operator sends it there", roles.join(" or "));
        Err::<HttpResponse, ApiError>(ApiError::because(Code::Misdirected, detail))
    }))
}

async fn nothing_here() -> Result<HttpResponse, ApiError> {
    Err(Code::NotFound.into())
}
