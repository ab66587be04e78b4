//! Peers that join: so many at the same time, and each until media can flow.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use nova_media::peer::Identity;
use tokio::time::{sleep, timeout};

use super::peer::{Peer, Tally};
use super::{JOIN_MAX, TICK};
use crate::bench::BenchError;

/// Peers that join at the same time.
const JOINS: usize = 16;

/// Has all of these join; what came of each, in their order.
pub(super) async fn all<T, F>(coming: impl IntoIterator<Item = F>) -> Result<Vec<T>, BenchError>
where
    F: Future<Output = Result<T, BenchError>>,
{
    stream::iter(coming).buffered(JOINS).try_collect().await
}

/// A peer that was told of its server, connected to it.
pub(super) async fn connected(
    identity: &Arc<Identity>,
    sdp: &str,
    tally: &Rc<Tally>,
    began: Instant,
    loss_percent: u32,
) -> Result<Rc<Peer>, BenchError> {
    let peer = Rc::new(Peer::new(identity, sdp, tally, began, loss_percent)?);
    tokio::task::spawn_local(peer.clone().listen());
    let connects = async {
        peer.opens().await?;
        while !peer.is_connected() {
            peer.tick(Instant::now());
            sleep(TICK).await;
        }
        Ok::<_, BenchError>(())
    };
    timeout(JOIN_MAX, connects)
        .await
        .map_err(|_| BenchError::because("a peer did not connect within a minute"))??;
    Ok(peer)
}
