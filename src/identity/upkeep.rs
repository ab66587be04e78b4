//! What runs beside the requests: hearing what other nodes did, and tidying up.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nova_actors::id::UserId;
use nova_actors::port::{BusEvent, LeaseName, Subscription, Topic};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{IdentityStartError, Parts, Revoked};
use crate::store::StoreError;

/// How often the store is asked for what other processes did while the bus does not tell: the bus is away, or there is none between
/// processes and `nova admin` is another one.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How far back each look goes beyond the one before: transactions commit later than they say they began, and clocks differ.
const LOOK_BACK: time::Duration = time::Duration::seconds(30);
/// How often keys are loaded, turned and swept.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// How long one node has the sweeping to itself.
const LEASE: Duration = Duration::from_secs(50);
/// Rows swept at once: a sweep holds locks for milliseconds, and the rest waits for the next batch.
const SWEEP_ROWS: i64 = 500;
/// Batches a sweep takes at most, so that it ends while its lease lasts.
const SWEEP_BATCHES: u32 = 100;
/// The shortest time between two reloads of the keys because of tokens with unknown ones: forged tokens cost one query a while.
const UNKNOWN_KEY_EVERY: Duration = Duration::from_secs(5);

/// When keys were last loaded because somebody named one we had not heard of.
#[derive(Debug, Default)]
pub(super) struct Reload(Mutex<Option<Instant>>);

/// What nodes tell each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum News {
    /// A session ended.
    Revoked(Revoked),
    /// An account was changed or deleted.
    Changed(UserId),
    /// There are other signing keys.
    Keys,
}

fn topic() -> Topic {
    Topic::new("identity").expect("the name is made of letters")
}

impl Parts {
    /// Takes revocations in and tells the other nodes. They are in the store already, so a bus that is away delays others and loses nothing.
    pub(super) async fn revoked(&self, all: Vec<Revoked>) {
        for revoked in all {
            self.revocations.add(revoked);
            self.tell(&News::Revoked(revoked)).await;
        }
    }

    /// Forgets an account that was changed, here before the writer is answered, then elsewhere.
    pub(super) async fn changed(&self, user: UserId) {
        self.accounts.forget(user);
        self.tell(&News::Changed(user)).await;
    }

    pub(super) async fn tell(&self, news: &News) {
        let payload = serde_json::to_vec(news).expect("news are ids and words");
        if let Err(error) = self.bus.publish(&topic(), Bytes::from(payload)).await {
            tracing::warn!(%error, "other nodes hear of a change late");
        }
    }

    /// Loads the keys because a token names one this node has not heard of; `false` when that was tried just now. Those who ask at once
    /// wait for one load.
    pub(super) async fn reload_for_unknown_key(&self) -> bool {
        let mut last = self.reload.0.lock().await;
        if last.is_some_and(|last| last.elapsed() < UNKNOWN_KEY_EVERY) {
            return true;
        }
        *last = Some(Instant::now());
        match self.load_keys().await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the signing keys could not be loaded");
                false
            }
        }
    }

    /// Subscribes first and loads then, so nothing falls in between; returns what is to run for as long as the node does.
    pub(super) async fn begin_upkeep(
        self: &Arc<Self>,
    ) -> Result<impl Future<Output = ()> + use<>, IdentityStartError> {
        let subscription = self.bus.subscribe(&topic()).await.ok();
        self.load_revocations().await?;
        let parts = Arc::clone(self);
        Ok(async move {
            let listening = parts.listen(subscription);
            let tidying = parts.keep_tidy();
            tokio::join!(listening, tidying);
        })
    }

    async fn load_revocations(&self) -> Result<(), StoreError> {
        let since = self.revocations.since(self.now());
        for revoked in self.store.revoked_since(since).await? {
            self.revocations.add(revoked);
        }
        Ok(())
    }

    async fn listen(&self, mut subscription: Option<Subscription>) {
        let health = self.bus.health();
        let mut looked = self.now();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let Some(hearing) = &mut subscription else {
                sleep(LOOK_EVERY).await;
                subscription = self.bus.subscribe(&topic()).await.ok();
                self.catch_up().await;
                continue;
            };
            tokio::select! {
                event = hearing.next() => match event {
                    Some(BusEvent::Message(payload)) => self.hear(&payload).await,
                    Some(BusEvent::Gap) => self.catch_up().await,
                    None => subscription = None,
                },
                _ = look.tick() => {
                    if self.is_alone || !health.borrow().connected {
                        looked = self.look(looked).await;
                    }
                }
            }
        }
    }

    async fn hear(&self, payload: &[u8]) {
        match serde_json::from_slice(payload) {
            Ok(News::Revoked(revoked)) => self.revocations.add(revoked),
            Ok(News::Changed(user)) => self.accounts.forget(user),
            Ok(News::Keys) => {
                if let Err(error) = self.load_keys().await {
                    tracing::warn!(%error, "the signing keys could not be loaded");
                }
            }
            // A newer engine may tell what this one does not know.
            Err(error) => tracing::debug!(%error, "news that say nothing to this node"),
        }
    }

    /// Loads what may have been missed; again and again until the store answers.
    async fn catch_up(&self) {
        self.accounts.forget_all();
        loop {
            let loaded = match self.load_revocations().await {
                Ok(()) => self.load_keys().await,
                Err(error) => Err(error.into()),
            };
            match loaded {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, "what other nodes did could not be loaded; trying again")
                }
            }
            sleep(LOOK_EVERY).await;
        }
        // What was read between the first line and the last may be older than what was missed.
        self.accounts.forget_all();
    }

    /// Asks the store what happened since the look before; returns since when to ask next.
    async fn look(&self, since: OffsetDateTime) -> OffsetDateTime {
        let now = self.now();
        let since = since - LOOK_BACK;
        let seen = async {
            let revoked = self.store.revoked_since(since).await?;
            let changed = self.store.changed_since(since).await?;
            Ok::<_, StoreError>((revoked, changed))
        };
        match seen.await {
            Ok((revoked, changed)) => {
                revoked.into_iter().for_each(|revoked| self.revocations.add(revoked));
                changed.into_iter().for_each(|user| self.accounts.forget(user));
                now
            }
            Err(error) => {
                tracing::debug!(%error, "the store could not be asked what happened");
                since + LOOK_BACK
            }
        }
    }

    async fn keep_tidy(&self) {
        let mut ticks = interval(TIDY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.revocations.tidy(self.now());
            if let Err(error) = self.tidy().await {
                tracing::warn!(%error, "accounts and keys were not tidied; trying again in a minute");
            }
        }
    }

    /// One node does it, whoever is first.
    async fn tidy(&self) -> Result<(), IdentityStartError> {
        let name = LeaseName::new("identity-upkeep").expect("the name is made of letters");
        let lease = self.bus.acquire(&name, self.node, LEASE).await.ok().flatten();
        let Some(lease) = lease else { return self.load_keys().await };
        let swept = async {
            self.turn_keys().await?;
            self.sweep().await
        };
        let swept = swept.await;
        if let Err(error) = self.bus.release(&lease).await {
            tracing::debug!(%error, "the lease runs out by itself");
        }
        swept
    }

    /// Removes what is over: sessions, deleted accounts, held names, the answers kept for retries.
    async fn sweep(&self) -> Result<(), IdentityStartError> {
        let now = self.now();
        for _ in 0..SWEEP_BATCHES {
            let rows = self.store.purge_devices(now, SWEEP_ROWS).await?
                + self.store.purge_accounts(now, SWEEP_ROWS).await?
                + self.store.sweep_idempotent(SWEEP_ROWS).await?;
            if rows == 0 {
                break;
            }
            tracing::info!(rows, "swept");
        }
        Ok(())
    }
}
