//! Streams that are forgotten with the process.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    id::StreamId,
    port::{Airing, KeyHash, StreamRecord, StreamsError},
};

/// The streams of one process; see [`port::Streams`](crate::port::Streams).
#[derive(Debug, Default)]
pub struct Streams(Mutex<HashMap<StreamId, (StreamRecord, Option<Airing>)>>);

impl Streams {
    /// Adds a stream, or replaces it.
    pub fn put(&self, record: StreamRecord) {
        self.all().insert(record.id, (record, None));
    }

    /// What was last noted of a stream.
    #[must_use]
    pub fn noted(&self, id: StreamId) -> Option<Airing> {
        self.all().get(&id)?.1.clone()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<StreamId, (StreamRecord, Option<Airing>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl crate::port::Streams for Streams {
    async fn load(&self, id: StreamId) -> Result<Option<StreamRecord>, StreamsError> {
        Ok(self
            .all()
            .get(&id)
            .map(|(record, airing)| StreamRecord { airing: airing.clone(), ..record.clone() }))
    }

    async fn with_key(&self, key: KeyHash) -> Result<Option<StreamId>, StreamsError> {
        Ok(self
            .all()
            .values()
            .map(|(record, _)| record)
            .find(|record| record.key == key)
            .map(|found| found.id))
    }

    async fn note(&self, id: StreamId, airing: &Airing) -> Result<(), StreamsError> {
        if let Some((_, noted)) = self.all().get_mut(&id) {
            *noted = Some(airing.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::UserId;

    #[tokio::test]
    async fn it_is_a_store_of_streams() {
        let streams = Streams::default();
        let add = async |key| {
            let record = StreamRecord {
                id: StreamId::generate(),
                owner: UserId::generate(),
                key,
                airing: None,
                is_private: false,
            };
            streams.put(record.clone());
            record
        };
        crate::contract::streams(&streams, add, async |id| streams.noted(id)).await;
    }
}
