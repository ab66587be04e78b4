//! The OpenAPI 3.1 document of the REST API, made from the code and served at `/openapi.json`.
//!
//! Handlers say what is theirs (`#[utoipa::path]`): summary, body, answers of their own. What is the same for all
//! calls is added here, from the same facts the code goes by: headers of every answer, the refusals the manner of
//! the API can make ([`super::manner`]), `Idempotency-Key` on every POST. A copy lies in the repository as
//! `openapi.json`, so a change of the contract is seen in review; a test compares the two, and
//! `nova openapi > openapi.json` renews it.

use std::sync::LazyLock;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use utoipa::OpenApi as _;

use crate::error::{Code, Problem};
use crate::rest::etag::ETag;
use crate::rest::{Calls, HANDLERS};

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = serde_json::to_string_pretty(&build()).expect("the document is made of JSON values");
    text.push('\n');
    text
});
static TAG: LazyLock<ETag> = LazyLock::new(|| ETag::of_bytes(DOCUMENT.as_bytes()));

/// The document as text, pretty-printed; made once.
pub fn document() -> &'static str {
    &DOCUMENT
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations",
    responses(
        (status = 200, description = "OpenAPI 3.1", body = Object),
        (status = 304, description = "It has not changed since `If-None-Match`"),
    )
)]
pub(super) async fn openapi(request: HttpRequest) -> HttpResponse {
    TAG.answer_bytes(&request, "application/json", Bytes::from_static(document().as_bytes()))
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Nova",
        description = "Accounts, chat, live streams, calls and feeds over REST. Realtime traffic goes over the WebSocket described in `/asyncapi.json`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Problem))
)]
struct Base;

fn build() -> Value {
    let mut api = Base::openapi();
    api.merge(Calls::openapi());
    let mut document = serde_json::to_value(api).expect("utoipa's types are JSON");
    let components = object(&mut document, "components");
    components.insert("headers".to_owned(), answer_headers());
    components.insert("parameters".to_owned(), parameters());
    components.insert("securitySchemes".to_owned(), json!({
        "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "The `access_token` of a session; 15 minutes, signed with EdDSA (`/.well-known/jwks.json`)." },
        "stream_key": { "type": "http", "scheme": "bearer", "description": "The key of the stream that is published." }
    }));
    unsign(&mut document);
    for (path, item) in object(&mut document, "paths") {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            complete(path, method, operation);
            // Handlers of two nouns may have one name; with their file's it is unique, which generators need.
            let handler = HANDLERS.iter().find(|(at, by, _)| at == path && by == method);
            let name = handler.map(|(_, _, handler)| handler.replace(' ', "").replace("::", "_"));
            object_of(operation).insert("operationId".to_owned(), json!(name));
        }
    }
    document
}

/// An unsigned number of 64 bits is called `int64` by the generator, which would end half-way.
fn unsign(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.get("format") == Some(&json!("int64")) && members.get("minimum") == Some(&json!(0)) {
                members.remove("format");
            }
            members.values_mut().for_each(unsign);
        }
        Value::Array(items) => items.iter_mut().for_each(unsign),
        _ => {}
    }
}

/// Adds to one call what is the same for all of its kind.
fn complete(path: &str, method: &str, operation: &mut Value) {
    let has_body = operation.get("requestBody").is_some();
    let has_query = parameters_in(operation, "query");
    let mut refusals =
        vec![Code::UriTooLong, Code::RateLimited, Code::HeadersTooLarge, Code::Internal, Code::Unavailable];
    if has_body {
        refusals.extend([
            Code::MalformedJson,
            Code::Timeout,
            Code::PayloadTooLarge,
            Code::UnsupportedMedia,
            Code::InvalidFields,
            Code::Unavailable,
        ]);
    }
    if has_query {
        refusals.push(Code::InvalidQuery);
    }
    if path.contains('{') {
        refusals.extend([Code::InvalidPath, Code::NotFound]);
    }
    if operation.get("security").is_some() {
        refusals.extend([
            Code::Unauthenticated,
            Code::InvalidToken,
            Code::TokenExpired,
            Code::SessionRevoked,
            Code::Unavailable,
        ]);
    }
    let mut common = vec!["RequestId"];
    if method == "post" {
        common.push("IdempotencyKey");
        refusals.extend([
            Code::MalformedRequest,
            Code::RequestInProgress,
            Code::IdempotencyMismatch,
            Code::PayloadTooLarge,
            Code::Timeout,
            Code::Unavailable,
        ]);
    }
    let references =
        common.into_iter().map(|name| json!({ "$ref": format!("#/components/parameters/{name}") }));
    match operation.get_mut("parameters").and_then(Value::as_array_mut) {
        Some(list) => list.extend(references),
        None => {
            let list = references.collect();
            object_of(operation).insert("parameters".to_owned(), Value::Array(list));
        }
    }
    let responses = object(operation, "responses");
    // In the order of the table, each once; a description of the handler's own stays in front.
    for code in Code::ALL.iter().filter(|code| refusals.contains(code)) {
        let response = responses.entry(code.status().as_str()).or_insert_with(|| json!({}));
        let description = object_of(response).entry("description").or_insert_with(|| json!(""));
        let said = description.as_str().unwrap_or_default();
        if !said.contains(&format!("`{code}`")) {
            let separator = if said.is_empty() { "" } else { "; " };
            *description = json!(format!("{said}{separator}`{code}`: {}", code.title()));
        }
    }
    for (status, response) in responses {
        let status = status.parse::<StatusCode>().unwrap_or(StatusCode::OK);
        describe(status, method, object_of(response));
    }
}

fn describe(status: StatusCode, method: &str, response: &mut Map<String, Value>) {
    let refused = status.is_client_error() || status.is_server_error();
    // A problem has a media type of its own, whatever the handler's line says of bodies in general.
    if let Some(content) = response.get_mut("content").and_then(Value::as_object_mut)
        && content.get("application/json").is_some_and(|body| body["schema"] == problem_schema())
        && let Some(body) = content.remove("application/json")
    {
        content.insert("application/problem+json".to_owned(), body);
    }
    if refused && !response.contains_key("content") {
        let content = json!({ "application/problem+json": { "schema": problem_schema() } });
        response.insert("content".to_owned(), content);
    }
    let mut names = vec![
        ("X-Request-Id", "RequestId"),
        ("RateLimit", "RateLimit"),
        ("RateLimit-Policy", "RateLimitPolicy"),
    ];
    if method == "post" && !status.is_server_error() {
        names.push(("Idempotency-Replayed", "IdempotencyReplayed"));
    }
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        names.push(("Retry-After", "RetryAfter"));
    }
    if status == StatusCode::UNAUTHORIZED {
        names.push(("WWW-Authenticate", "Challenge"));
    }
    let headers = response.entry("headers").or_insert_with(|| json!({}));
    for (name, component) in names {
        object_of(headers)
            .entry(name)
            .or_insert_with(|| json!({ "$ref": format!("#/components/headers/{component}") }));
    }
}

fn problem_schema() -> Value {
    json!({ "$ref": "#/components/schemas/Problem" })
}

fn answer_headers() -> Value {
    let header = |description: &str, kind: &str, example: Value| json!({ "description": description, "schema": { "type": kind }, "example": example });
    json!({
        "RequestId": header("The id of this request, yours if you sent a sane one; also in the engine's logs.", "string", json!("req_0198f0c2a7b87c3e9d1f2a3b4c5d6e7f")),
        "RateLimit": header("Requests left and seconds until the quota is full again, for each limit (draft-ietf-httpapi-ratelimit-headers-10). Absent when limits are off.", "string", json!("\"ip\";r=5999;t=1")),
        "RateLimitPolicy": header("The limits themselves: quota and window in seconds.", "string", json!("\"ip\";q=6000;w=60")),
        "RetryAfter": header("Seconds to wait before trying again.", "integer", json!(2)),
        "IdempotencyReplayed": header("`true` when this is the stored answer to an earlier request with the same key.", "string", json!("true")),
        "Challenge": header("How to authenticate.", "string", json!("Bearer realm=\"nova\"")),
    })
}

fn parameters() -> Value {
    json!({
        "RequestId": {
            "name": "X-Request-Id", "in": "header", "required": false,
            "description": "An id of your own for this request: 1 to 128 of letters, digits, `-`, `_`, `.`, `:`. Anything else is replaced.",
            "schema": { "type": "string" }
        },
        "IdempotencyKey": {
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "Makes a retry safe: 1 to 128 visible ASCII characters of your choice, best random. The same key and body gives the stored answer for 24 hours, another body 422.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]{1,128}$" }
        }
    })
}

fn parameters_in(operation: &Value, place: &str) -> bool {
    let list = operation.get("parameters").and_then(Value::as_array);
    list.into_iter().flatten().any(|parameter| parameter.get("in").is_some_and(|at| at == place))
}

/// A member that is an object, made when it is missing.
fn object<'a>(value: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    object_of(object_of(value).entry(name).or_insert_with(|| json!({})))
}

fn object_of(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was made one just above")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::ROUTES;

    fn documented() -> Vec<(String, Vec<String>)> {
        let document = build();
        let paths = document.get("paths").and_then(Value::as_object).expect("paths");
        let methods = |item: &Value| item.as_object().expect("an item").keys().cloned().collect();
        paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
    }

    #[test]
    fn what_is_routed_is_documented_and_the_other_way_round() {
        let mut routed: Vec<(String, Vec<String>)> = ROUTES
            .iter()
            .map(|(path, methods)| {
                let mut methods: Vec<String> = methods.iter().map(|method| (*method).to_owned()).collect();
                methods.sort();
                ((*path).to_owned(), methods)
            })
            .collect();
        routed.sort();
        let mut documented = documented();
        documented.iter_mut().for_each(|(_, methods)| methods.sort());
        documented.sort();
        assert_eq!(routed, documented);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = build();
        let mut waiting = vec![&document];
        let mut seen = 0;
        while let Some(value) = waiting.pop() {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(reference)) = map.get("$ref") {
                        let pointer = reference.strip_prefix('#').expect("references stay in the document");
                        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                        seen += 1;
                    }
                    waiting.extend(map.values());
                }
                Value::Array(list) => waiting.extend(list),
                _ => {}
            }
        }
        assert!(seen > 0, "a document without references was not what we built");
    }
}
