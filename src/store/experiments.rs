//! What operators decide about feeds while the engine runs: the switch, experiments, and who was exposed to them.

use nova_actors::id::UserId;
use time::OffsetDateTime;

use super::events::{Told, tell};
use super::{Store, StoreError};
use crate::events::{bytes, millis, schema};
use crate::feeds::experiments::Experiment;

impl Store {
    /// Whether feeds are read straight from PostgreSQL.
    pub async fn feeds_direct(&self) -> Result<bool, StoreError> {
        let value = sqlx::query_scalar!("SELECT value FROM feed_settings WHERE name = 'direct'");
        Ok(value.fetch_optional(self.pool()).await?.is_some_and(|value| value == "on"))
    }

    /// Reads feeds straight from PostgreSQL from now on, or no longer.
    pub async fn set_feeds_direct(&self, on: bool, now: OffsetDateTime) -> Result<(), StoreError> {
        sqlx::query!(
            "INSERT INTO feed_settings (name, value, changed_at) VALUES ('direct', $1, $2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at",
            if on { "on" } else { "off" },
            now
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// All experiments, by name. What another version of the engine wrote and this one cannot read is left out.
    pub async fn experiments(&self) -> Result<Vec<Experiment>, StoreError> {
        let rows = sqlx::query!("SELECT name, salt, ramp, arms FROM experiments ORDER BY name")
            .fetch_all(self.pool())
            .await?;
        let experiment = |name: String, salt, ramp: i32, arms| {
            let arms = serde_json::from_value(arms)
                .inspect_err(|error| tracing::debug!(name, %error, "an experiment that cannot be read"));
            let read = Experiment { name, salt, ramp: ramp.try_into().ok()?, arms: arms.ok()? };
            read.check().is_ok().then_some(read)
        };
        Ok(rows.into_iter().filter_map(|row| experiment(row.name, row.salt, row.ramp, row.arms)).collect())
    }

    /// Begins an experiment or changes it; one that runs keeps its salt, so that nobody changes arms.
    pub async fn put_experiment(
        &self,
        experiment: &Experiment,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let arms = serde_json::to_value(&experiment.arms).unwrap_or_default();
        sqlx::query!(
            "INSERT INTO experiments (name, salt, ramp, arms, created_at, changed_at) VALUES ($1, $2, $3, $4, $5, $5)
             ON CONFLICT (name) DO UPDATE SET ramp = excluded.ramp, arms = excluded.arms, changed_at = excluded.changed_at",
            experiment.name,
            experiment.salt,
            i32::try_from(experiment.ramp).unwrap_or(0),
            arms,
            now
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Ends an experiment; says whether there was one.
    pub async fn end_experiment(&self, name: &str) -> Result<bool, StoreError> {
        let ended = sqlx::query!("DELETE FROM experiments WHERE name = $1", name);
        Ok(ended.execute(self.pool()).await?.rows_affected() > 0)
    }

    /// Tells that an experiment made a difference to a reader.
    pub async fn tell_exposure(
        &self,
        reader: UserId,
        experiment: &str,
        arm: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let event = schema::ExperimentExposed {
            user_id: bytes(reader),
            experiment: experiment.to_owned(),
            arm: arm.to_owned(),
            at_ms: millis(now),
        };
        let told = Told { key: reader.as_uuid(), version: 0, event: event.into() };
        let mut tx = self.pool().begin().await?;
        tell(&mut tx, now, &[told]).await?;
        self.commit(tx).await?;
        Ok(())
    }
}
