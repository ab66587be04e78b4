//! What REST says of the WebSocket: where its description is, and that it begins with an upgrade.

use std::sync::LazyLock;

use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;

use crate::chat::asyncapi;
use crate::error::{ApiError, Code, Problem};
use crate::rest::etag::ETag;

static TAG: LazyLock<ETag> = LazyLock::new(|| ETag::of_bytes(asyncapi::document().as_bytes()));

/// The description of the WebSocket.
#[utoipa::path(
    get, path = "/asyncapi.json", tag = "operations",
    responses(
        (status = 200, description = "AsyncAPI 3.0", body = Object),
        (status = 304, description = "It has not changed since `If-None-Match`"),
    )
)]
pub(super) async fn asyncapi(request: HttpRequest) -> HttpResponse {
    TAG.answer_bytes(&request, "application/json", Bytes::from_static(asyncapi::document().as_bytes()))
}

/// The socket of a device: chat, presence, calls. Asked for with `Upgrade: websocket` and the subprotocol `nova.v1` it becomes
/// a WebSocket; what is said there is described in `/asyncapi.json`.
#[utoipa::path(
    get, path = "/v1/ws", tag = "operations",
    responses((status = 426, description = "`upgrade_required`: not asked for as a WebSocket", body = Problem))
)]
pub(super) async fn upgrade() -> Result<HttpResponse, ApiError> {
    Err(ApiError::because(Code::UpgradeRequired, "open it as a WebSocket; /asyncapi.json describes it"))
}
