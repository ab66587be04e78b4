//! `/.well-known/jwks.json`: what access tokens are verified with.

use actix_web::{HttpResponse, web};

use crate::identity::Identity;
use crate::identity::keys::{JWKS_AGE_S, Jwks};

/// The keys access tokens are verified with (RFC 7517). A new key is listed ten minutes before it signs.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "sessions",
    responses((status = 200, description = "The key set; may be kept for five minutes", body = Jwks))
)]
pub(super) async fn jwks(identity: web::Data<Identity>) -> HttpResponse {
    let age = format!("public, max-age={JWKS_AGE_S}");
    HttpResponse::Ok().insert_header(("Cache-Control", age)).json(identity.jwks())
}
