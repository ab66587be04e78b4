//! Heads made from nothing, and pages without one.

use tokio::time::Instant;

use super::wire::Wire;
use super::{Ask, Place, micros, spread, within};
use crate::bench::BenchError;
use crate::bench::measure::{Line, Processes, Times};
use crate::bench::people::Device;
use crate::feeds::HEAD_POSTS;

/// What a node that has no heads yet costs.
pub(super) async fn cold(place: &Place) -> Result<Vec<Line>, BenchError> {
    let store = place.installation.errand().store();
    let curious = place.town.curious.user;
    let (mut page, mut head) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let began = Instant::now();
        store.home_ids(curious, None, 21).await.map_err(BenchError::because)?;
        page.push(micros(began.elapsed()));
        let began = Instant::now();
        let authors = store.feed_authors(curious, 2_001).await.map_err(BenchError::because)?;
        store.head_ids(curious, &authors, HEAD_POSTS as i64 + 1).await.map_err(BenchError::because)?;
        head.push(micros(began.elapsed()));
    }
    let (page, head) = (Times::new(page), Times::new(head));
    let mut lines = vec![
        within("page without a head, 1,800 follows", &page, 0.99, 100.0),
        spread("page without a head, 1,800 follows", &page),
        Line::told("head of 400 made from nothing, 1,800 follows", head.to_string()),
    ];
    // The first page of each of some readers, through the door of a node that has no heads.
    let node = place.nodes.get(1).ok_or_else(|| BenchError::because("there is no second node"))?;
    let processes = Processes::one(node.process.pid());
    let mut wire = Wire::dial(node.http).await?;
    let first = |device: &Device| Ask::new("GET", "/v1/feeds/home?limit=20", Some(device), String::new());
    for device in place.town.people.iter().rev().skip(10).take(200) {
        first(device).send(&mut wire).await?;
    }
    let readers = 4_000.min(place.town.people.len() / 2);
    let before = processes.resident_bytes();
    let mut times = Vec::new();
    for device in place.town.people.iter().skip(2_000).take(readers) {
        let began = Instant::now();
        first(device).send_unread(&mut wire).await?;
        times.push(micros(began.elapsed()));
    }
    let grown = processes.resident_bytes().saturating_sub(before) as f64 / readers.max(1) as f64;
    lines.push(Line::told(
        format!("first page on a node without heads, {readers} readers one after the other"),
        Times::new(times).to_string(),
    ));
    lines.push(Line::told(
        "memory of a reader's head and what else is kept of them",
        format!("{:.1} KiB", grown / 1_024.0),
    ));
    Ok(lines)
}
