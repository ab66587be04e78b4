//! The web console: its files, built into the program, and the door they leave by.
//!
//! The console is a single page application under `/console`, kept away from the root so that none of its pages can
//! ever stand in the way of a call of the API (`/live/{stream_id}` is a playlist, never a page). `/` leads there, and
//! `/docs` is a page of its own that reads `/openapi.json` and `/asyncapi.json`.
//!
//! Files are compressed when the program is built (`build.rs`), so an answer is a copy of bytes that lie in the
//! program. Assets carry a hash of their content in their name and are kept by browsers for a year; pages are asked
//! for again each time and answered 304 while nothing changed.
//!
//! The console's own client keeps its refresh token in the browser's `localStorage`, which any script of the page
//! could read. What makes that acceptable is [`CONTENT_SECURITY_POLICY`]: no script runs that this program did not
//! serve, no inline script or handler runs at all, and nothing can be sent to another origin.

use actix_web::http::header::{
    self, AcceptEncoding, ContentEncoding, ETag, Encoding, EntityTag, Header as _, IfNoneMatch, Preference,
};
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Route, guard};
use serde_json::json;

use crate::app::Engine;
use crate::error::Code;

/// One file of the console, as it is and as it travels.
struct File {
    /// Where it lay in the bundle: `index.html`, `assets/app-1A2B3C4D.js`.
    path: &'static str,
    mime: &'static str,
    /// The first 80 bits of the content's SHA-256.
    etag: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
    brotli: &'static [u8],
}

static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/console_files.rs"));

/// What a page of the console may do, for browsers to enforce: run this program's scripts and styles, talk to this
/// origin, show pictures and play media it was given, and nothing else; never inside somebody else's frame.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; \
     img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; worker-src 'self' blob:; \
     object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'";

/// Calls need the camera, the microphone and the screen, messages may tell a place; nothing else is asked for.
const PERMISSIONS_POLICY: &str =
    "camera=(self), microphone=(self), display-capture=(self), geolocation=(self), payment=(), usb=()";

/// Named after their content: what is at such an address never changes.
const KEEP_FOR_A_YEAR: &str = "public, max-age=31536000, immutable";
/// Kept, but asked for again before every use.
const ASK_AGAIN: &str = "no-cache";

/// Puts the console at `/console`, the documentation at `/docs`, and leads from `/` to the console.
pub fn configure(cfg: &mut ServiceConfig) {
    cfg.service(web::resource("/").route(reading().to(async || lead_to("/console/"))))
        .service(web::resource(["/docs", "/docs/errors"]).route(reading().to(docs)))
        .service(web::resource("/docs/errors.json").route(reading().to(errors)))
        .service(web::resource("/docs/").route(reading().to(async || lead_to("/docs"))))
        .service(web::resource("/console/assets/{name}").route(reading().to(asset)))
        .service(web::resource(["/console", "/console/{page:.*}"]).route(reading().to(index)));
}

/// GET and HEAD.
fn reading() -> Route {
    Route::new().guard(guard::Any(guard::Get()).or(guard::Head()))
}

fn lead_to(address: &'static str) -> HttpResponse {
    HttpResponse::Found()
        .insert_header((header::LOCATION, address))
        .insert_header((header::CACHE_CONTROL, ASK_AGAIN))
        .finish()
}

/// Every address of the console is the same page; which one to show is decided in the browser.
async fn index(request: HttpRequest) -> HttpResponse {
    page(&request, "index.html")
}

async fn docs(request: HttpRequest) -> HttpResponse {
    page(&request, "docs.html")
}

/// Every code the API can refuse with, for the page that the `type` of a problem points at.
async fn errors() -> HttpResponse {
    let items: Vec<_> = Code::ALL
        .iter()
        .map(|code| json!({ "code": code.as_str(), "status": code.status().as_u16(), "title": code.title() }))
        .collect();
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, ASK_AGAIN)).json(json!({ "items": items }))
}

async fn asset(request: HttpRequest, name: web::Path<String>) -> HttpResponse {
    match find(&format!("assets/{name}")) {
        Some(file) => serve(&request, file, KEEP_FOR_A_YEAR),
        None => HttpResponse::NotFound().insert_header((header::CACHE_CONTROL, "no-store")).finish(),
    }
}

fn page(request: &HttpRequest, name: &str) -> HttpResponse {
    let Some(file) = find(name) else {
        return HttpResponse::NotFound().finish();
    };
    let mut response = serve(request, file, ASK_AGAIN);
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::PERMISSIONS_POLICY, PERMISSIONS_POLICY),
        (header::CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
    ] {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    // A call or a stream may be on another node, and the page goes there.
    let nodes = request.app_data::<web::Data<Engine>>().map(|engine| engine.chat.nodes()).unwrap_or_default();
    if let Some(policy) = policy_with(&nodes) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// The policy, when it lets the page connect to other nodes too.
fn policy_with(nodes: &[String]) -> Option<header::HeaderValue> {
    if nodes.is_empty() {
        return None;
    }
    // `http://…` is `ws://…` there, and `https://…` is `wss://…`; who watches over WebRTC asks over HTTP.
    let doors: String =
        nodes.iter().filter_map(|url| Some(format!(" {url} ws{}", url.strip_prefix("http")?))).collect();
    let policy = CONTENT_SECURITY_POLICY.replace("connect-src 'self'", &format!("connect-src 'self'{doors}"));
    policy.parse().ok()
}

fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

fn serve(request: &HttpRequest, file: &'static File, cache: &'static str) -> HttpResponse {
    // One tag for all encodings of the same content, hence weak.
    let tag = EntityTag::new_weak(file.etag.to_owned());
    let mut response =
        if has_it_already(request, &tag) { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((header::CACHE_CONTROL, cache))
        .insert_header((header::VARY, "accept-encoding"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"))
        .insert_header(ETag(tag.clone()));
    if has_it_already(request, &tag) {
        return response.finish();
    }
    let (encoding, bytes) = match AcceptEncoding::parse(request) {
        Ok(accepted) => packing(file, &accepted),
        Err(_) => (ContentEncoding::Identity, file.plain),
    };
    response.insert_header((header::CONTENT_TYPE, file.mime));
    if encoding != ContentEncoding::Identity {
        response.insert_header(encoding);
    }
    response.body(Bytes::from_static(bytes))
}

fn has_it_already(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => request.headers().contains_key(header::IF_NONE_MATCH),
        Ok(IfNoneMatch::Items(known)) => known.iter().any(|known| known.weak_eq(tag)),
        Err(_) => false,
    }
}

/// The smallest packing among those the client likes best; as it is when it likes none.
fn packing(file: &'static File, accepted: &AcceptEncoding) -> (ContentEncoding, &'static [u8]) {
    let liking = |encoding: Encoding| {
        let named = accepted.iter().find(|one| one.item == Preference::Specific(encoding.clone()));
        let any = accepted.iter().find(|one| one.item == Preference::Any);
        named.or(any).map_or(header::Quality::ZERO, |one| one.quality)
    };
    let (brotli, gzip) = (liking(Encoding::brotli()), liking(Encoding::gzip()));
    if brotli > header::Quality::ZERO && brotli >= gzip {
        (ContentEncoding::Brotli, file.brotli)
    } else if gzip > header::Quality::ZERO {
        (ContentEncoding::Gzip, file.gzip)
    } else {
        (ContentEncoding::Identity, file.plain)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use actix_web::App;
    use actix_web::dev::ServiceResponse;
    use actix_web::http::StatusCode;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};

    use super::*;

    async fn answer(request: TestRequest) -> ServiceResponse {
        let app = init_service(App::new().configure(configure)).await;
        call_service(&app, request.to_request()).await
    }

    fn header_of<'a>(response: &'a ServiceResponse, name: &str) -> &'a str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn script() -> &'static File {
        FILES.iter().find(|file| file.path.starts_with("assets/app-") && file.path.ends_with(".js")).unwrap()
    }

    #[actix_web::test]
    async fn the_root_leads_to_the_console() {
        let response = answer(TestRequest::get().uri("/")).await;
        assert_eq!(response.status(), StatusCode::FOUND);
        assert_eq!(header_of(&response, "location"), "/console/");
    }

    #[actix_web::test]
    async fn every_page_of_the_console_is_the_application_under_its_policy() {
        for address in ["/console", "/console/", "/console/profile", "/console/a/b.c"] {
            let response = answer(TestRequest::get().uri(address)).await;
            assert_eq!(response.status(), StatusCode::OK, "{address}");
            assert_eq!(header_of(&response, "content-type"), "text/html; charset=utf-8");
            assert_eq!(header_of(&response, "cache-control"), "no-cache");
            assert_eq!(header_of(&response, "content-security-policy"), CONTENT_SECURITY_POLICY);
            assert_eq!(header_of(&response, "x-content-type-options"), "nosniff");
            let html = String::from_utf8(read_body(response).await.to_vec()).unwrap();
            assert!(html.contains(script().path), "{address} does not start the application");
            assert!(!html.contains("<style") && !html.contains("style="), "inline style");
            assert_eq!(
                html.matches("<script").count(),
                html.matches("<script src=").count() + 1,
                "inline script"
            );
            assert!(html.contains("<script type=\"module\" src="));
        }
    }

    #[actix_web::test]
    async fn addresses_of_the_api_are_nobody_elses() {
        for address in ["/v1/nothing", "/live/x/index.m3u8", "/metrics", "/console.js", "/docs/more"] {
            let response = answer(TestRequest::get().uri(address)).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{address}");
        }
    }

    #[actix_web::test]
    async fn an_asset_is_kept_and_a_missing_one_is_not() {
        let response = answer(TestRequest::get().uri(&format!("/console/{}", script().path))).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header_of(&response, "cache-control"), KEEP_FOR_A_YEAR);
        assert_eq!(header_of(&response, "vary"), "accept-encoding");

        let response = answer(TestRequest::get().uri("/console/assets/app-00000000.js")).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(header_of(&response, "cache-control"), "no-store");
    }

    #[actix_web::test]
    async fn an_unchanged_page_is_not_sent_twice() {
        let first = answer(TestRequest::get().uri("/console/")).await;
        let tag = header_of(&first, "etag").to_owned();
        let second = answer(TestRequest::get().uri("/console/").insert_header(("if-none-match", tag))).await;
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(header_of(&second, "content-security-policy"), CONTENT_SECURITY_POLICY);
        assert!(read_body(second).await.is_empty());

        let other = TestRequest::get().uri("/console/").insert_header(("if-none-match", "\"other\""));
        assert_eq!(answer(other).await.status(), StatusCode::OK);
    }

    #[actix_web::test]
    async fn each_client_gets_the_packing_it_likes_and_all_hold_the_same() {
        let uri = format!("/console/{}", script().path);
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", "br"),
            ("gzip", "gzip"),
            ("br;q=0.5, gzip;q=0.9", "gzip"),
            ("br;q=0, *", "gzip"),
            ("*", "br"),
            ("identity", ""),
            ("", ""),
        ] {
            let request = TestRequest::get().uri(&uri).insert_header(("accept-encoding", accepted));
            let response = answer(request).await;
            assert_eq!(header_of(&response, "content-encoding"), expected, "for {accepted:?}");
            let body = read_body(response).await;
            let plain = match expected {
                "br" => {
                    let mut plain = Vec::new();
                    brotli::BrotliDecompress(&mut &body[..], &mut plain).unwrap();
                    plain
                }
                "gzip" => {
                    let mut plain = Vec::new();
                    flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
                    plain
                }
                _ => body.to_vec(),
            };
            assert!(plain == script().plain, "for {accepted:?}");
        }
    }

    #[actix_web::test]
    async fn every_code_is_told_where_problems_point() {
        let response = answer(TestRequest::get().uri("/docs/errors")).await;
        assert_eq!(header_of(&response, "content-type"), "text/html; charset=utf-8");
        let body = read_body(answer(TestRequest::get().uri("/docs/errors.json")).await).await;
        let table: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let told: Vec<&str> =
            table["items"].as_array().unwrap().iter().map(|item| item["code"].as_str().unwrap()).collect();
        let known: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(told, known);
    }

    #[actix_web::test]
    async fn the_console_is_read_and_never_written() {
        let response = answer(TestRequest::post().uri("/console/")).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        let response =
            answer(TestRequest::default().method(actix_web::http::Method::HEAD).uri("/docs")).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}
