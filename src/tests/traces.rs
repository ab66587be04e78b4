//! Traces reach an OpenTelemetry collector.

use std::sync::mpsc;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use rustix::process::Signal;

use crate::program::Program;

#[actix_web::test]
async fn a_request_becomes_a_span_of_its_callers_trace() {
    let (heard, spans) = mpsc::channel();
    let collector = HttpServer::new(move || {
        let heard = heard.clone();
        let receive = move |body: web::Bytes| {
            let request = ExportTraceServiceRequest::decode(body).expect("a batch of spans");
            for span in request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans) {
                heard.send(span).expect("the test listens");
            }
            async { HttpResponse::Ok().finish() }
        };
        App::new().route("/v1/traces", web::post().to(receive))
    });
    let collector = collector.workers(1).disable_signals().bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", collector.addrs()[0]);
    let collector = collector.run();
    let stop = collector.handle();
    let running = tokio::spawn(collector);

    let data = tempfile::tempdir().expect("a directory");
    let engine = Program::serve(data.path(), &["--otlp-endpoint", &endpoint, "--trace-ratio", "0"]);
    nova::app::use_ring();
    // The caller decided that its trace is recorded, so it is, whatever share of our own traces would be.
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = reqwest::Client::new().get(format!("{}/openapi.json", engine.url("http")));
    assert_eq!(request.header("traceparent", traceparent).send().await.expect("answers").status(), 200);
    assert!(engine.end(Signal::TERM).success(), "what waits is sent before the end");

    let span = web::block(move || spans.recv_timeout(Duration::from_secs(10)))
        .await
        .expect("waits")
        .expect("a span");
    assert_eq!(span.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert_eq!(span.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert!(
        span.attributes.iter().any(|attribute| {
            let value = attribute.value.as_ref().and_then(|value| value.value.clone());
            attribute.key == "http.route" && format!("{value:?}").contains("/openapi.json")
        }),
        "{:?}",
        span.attributes
    );
    stop.stop(true).await;
    running.await.expect("joins").expect("ends well");
}
