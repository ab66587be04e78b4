//! Webhooks: the operator's own servers hear what happened, by the rules of [Standard Webhooks](https://www.standardwebhooks.com/).
//!
//! Endpoints are the operator's (`NOVA_WEBHOOK_URLS`), as those who run an engine of this kind expect: users never name an address the
//! engine would connect to. What is told: `stream.live`, `stream.ended`, `recording.ready`.
//!
//! An event is written to an outbox in the transaction that makes it true, so it is told exactly when it happened, and at least once. Every
//! endpoint has a task of its own, so one that is slow or away holds up nobody else, and nothing here is on the way of media. Deliveries
//! are tried again for a day, with pauses that grow; they may arrive out of order, which their timestamps tell.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use nova_actors::clock::Clock;
use ring::hmac;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Secret;
use crate::store::webhooks::Delivery;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// What secrets begin with, by the standard.
const SECRET_PREFIX: &str = "whsec_";
/// How long an endpoint may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How often what is due is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Deliveries to one endpoint at a time.
const AT_ONCE: i64 = 8;
/// For how long what was taken is not taken again: longer than an attempt.
const TAKEN_FOR: time::Duration = time::Duration::seconds(30);
/// Events from before an endpoint was configured are not told to it, except the latest: nodes are restarted.
const BACKLOG: time::Duration = time::Duration::hours(1);
/// The pause after each attempt that failed, in seconds; after the last the delivery is given up: a day in all.
const PAUSES_S: [u64; 12] = [1, 5, 30, 120, 600, 1_800, 3_600, 7_200, 10_800, 14_400, 18_000, 28_800];

/// Signs what is sent.
#[derive(Clone)]
pub struct Signer(hmac::Key);

impl Signer {
    /// A signer for a secret in the standard's form: `whsec_` and 24 to 64 bytes in base64.
    pub fn new(secret: &str) -> Result<Signer, String> {
        let words = "it must be whsec_ and 24 to 64 bytes in base64; `echo whsec_$(openssl rand -base64 32)` makes one";
        let bytes = secret.strip_prefix(SECRET_PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
        let bytes = bytes.filter(|bytes| (24..=64).contains(&bytes.len())).ok_or(words)?;
        Ok(Signer(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The signature of a body that is sent at this time.
    fn sign(&self, id: &str, at: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{id}.{at}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }
}

/// Reads a secret of the configuration.
pub fn parse_secret(text: &str) -> Result<Secret, String> {
    Signer::new(text).map(|_| Secret::from(text))
}

/// Tells endpoints what is due, until it is dropped.
#[derive(Debug)]
pub struct Webhooks(Vec<JoinHandle<()>>);

struct Teller {
    endpoint: String,
    endpoints: Vec<String>,
    signer: Signer,
    http: reqwest::Client,
    store: Store,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Webhooks {
    /// Begins. Without endpoints nothing happens.
    pub fn start(
        urls: &[String],
        secret: Option<&Secret>,
        store: &Store,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Webhooks {
        let Some(Ok(signer)) = secret.map(|secret| Signer::new(secret.expose())) else {
            return Webhooks(Vec::new());
        };
        let http = reqwest::Client::builder()
            .timeout(ANSWER_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("nova/", env!("CARGO_PKG_VERSION")))
            .build()
            .unwrap_or_default();
        let task = |endpoint: &String| {
            let teller = Teller {
                endpoint: endpoint.clone(),
                endpoints: urls.to_vec(),
                signer: signer.clone(),
                http: http.clone(),
                store: store.clone(),
                clock: Arc::clone(clock),
                metrics: metrics.clone(),
            };
            tokio::spawn(teller.run())
        };
        Webhooks(urls.iter().map(task).collect())
    }
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        // What was under way is tried again by whoever comes next.
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Teller {
    async fn run(self) {
        let since = self.clock.now() - BACKLOG;
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.round(since).await {
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "webhooks wait for the database"),
            }
        }
    }

    async fn round(&self, since: time::OffsetDateTime) -> Result<(), StoreError> {
        self.store.spread_webhooks(&self.endpoints, since, self.clock.now()).await?;
        loop {
            let now = self.clock.now();
            let due = self.store.due_webhooks(&self.endpoint, AT_ONCE, now + TAKEN_FOR, now).await?;
            if due.is_empty() {
                return Ok(());
            }
            let sent = join_all(due.iter().map(|delivery| self.attempt(delivery))).await;
            sent.into_iter().collect::<Result<(), _>>()?;
        }
    }

    async fn attempt(&self, delivery: &Delivery) -> Result<(), StoreError> {
        let sent = self.send(delivery).await;
        let now = self.clock.now();
        let (again, error) = match sent {
            Ok(()) => (None, None),
            Err(error) => (pause(delivery).filter(|_| error != GONE).map(|pause| now + pause), Some(error)),
        };
        let outcome = match (&error, again) {
            (None, _) => "delivered",
            (Some(_), Some(_)) => "failed",
            (Some(_), None) => "given_up",
        };
        self.metrics.webhooks.with_label_values(&[outcome]).inc();
        if let Some(error) = &error {
            tracing::warn!(event = %delivery.event, attempts = delivery.attempts, %error, outcome, "a webhook was not delivered");
        }
        self.store.settle_webhook(delivery.event, &self.endpoint, again, error.as_deref(), now).await
    }

    async fn send(&self, delivery: &Delivery) -> Result<(), String> {
        let (id, at) = (delivery.event.to_string(), self.clock.now().unix_timestamp());
        let request = self
            .http
            .post(&self.endpoint)
            .header("content-type", "application/json")
            .header("webhook-signature", self.signer.sign(&id, at, &delivery.body))
            .header("webhook-timestamp", at)
            .header("webhook-id", id)
            .body(delivery.body.clone());
        // The address may hold a token, and is not for logs.
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            reqwest::StatusCode::GONE => Err(GONE.to_owned()),
            status => Err(format!("it answered {status}")),
        }
    }
}

/// An endpoint that says so wants this event never again (by the standard).
const GONE: &str = "it answered 410 Gone";

/// How long after a failure it is tried again, with jitter; none after the last.
fn pause(delivery: &Delivery) -> Option<Duration> {
    let place = usize::try_from(delivery.attempts - 1).unwrap_or(0);
    let seconds = PAUSES_S.get(place)?;
    let jitter = getrandom::u32().unwrap_or(0) % 200;
    Some(Duration::from_millis(seconds * (900 + u64::from(jitter))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_standard() {
        // The example of the standard's reference libraries.
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signature = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        for odd in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_$$$"] {
            assert!(Signer::new(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn pauses_grow_and_end() {
        let after = |attempts| {
            pause(&Delivery { event: nova_actors::id::EventId::generate(), attempts, body: String::new() })
        };
        assert!(after(1).is_some_and(|pause| pause < Duration::from_secs(2)));
        assert!(after(12).is_some_and(|pause| pause > Duration::from_secs(20_000)));
        assert_eq!(after(13), None);
    }
}
