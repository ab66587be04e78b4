//! A node without doors, for a command that ends by itself.

use std::sync::Arc;
use std::time::Duration;

use nova_actors::clock::{Clock, SystemClock};
use nova_actors::id::NodeId;
use sqlx::postgres::PgConnectOptions;

use super::{StartError, bus, connect_redis};
use crate::config::Config;
use crate::identity::Identity;
use crate::postgres::Visit;
use crate::store::{Store, StoreError};

/// How long Redis may take to be there: running nodes hear of a change through it, so without it nothing is changed.
const BUS_MAX: Duration = Duration::from_secs(5);

/// The store and the identity of a database that an engine may be running on meanwhile.
#[derive(Debug)]
pub struct Errand {
    identity: Identity,
    store: Store,
    visit: Option<Visit>,
}

impl Errand {
    /// Connects to the configured database; without one to the embedded PostgreSQL of the engine that runs on the data directory, and
    /// when none does, starts it for the moment. `makes_cluster` says whether a data directory without one gets one.
    pub async fn open(config: &Config, makes_cluster: bool) -> Result<Errand, StartError> {
        super::use_ring();
        let visit = match config.database.database_url {
            Some(_) => None,
            None => {
                let embedded = config.database.embedded();
                Some(Visit::begin(&config.data_dir, &embedded, makes_cluster).await?)
            }
        };
        match Errand::connect(config, visit.as_ref()).await {
            Ok((store, identity)) => Ok(Errand { identity, store, visit }),
            Err(error) => {
                if let Some(visit) = visit {
                    visit.end().await;
                }
                Err(error)
            }
        }
    }

    async fn connect(config: &Config, visit: Option<&Visit>) -> Result<(Store, Identity), StartError> {
        let options: PgConnectOptions = match (visit, &config.database.database_url) {
            (Some(visit), _) => visit.connect_options(),
            (None, Some(url)) => url.expose().parse().map_err(StoreError::from)?,
            (None, None) => unreachable!("without a URL the embedded server was visited"),
        };
        let store = Store::connect(options, &config.database.store()).await?;
        store.migrate().await?;
        let bus = bus(connect_redis(config).await?);
        if config.bus.redis_url.is_some() {
            let mut health = bus.health();
            let connected = health.wait_for(|health| health.connected);
            if !matches!(tokio::time::timeout(BUS_MAX, connected).await, Ok(Ok(_))) {
                return Err(StartError::BusAway);
            }
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let identity = Identity::start(config, NodeId::generate(), clock, store.clone(), bus).await?;
        Ok((store, identity))
    }

    /// Who is who.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// PostgreSQL.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Leaves the database as it was found: running or stopped.
    pub async fn close(self) {
        let Errand { identity, store, visit } = self;
        drop(identity);
        store.close().await;
        if let Some(visit) = visit {
            visit.end().await;
        }
    }
}
