//! Several nodes of one installation, each with its own clock, and what they know of each other's sessions and keys.

use std::sync::Arc;
use std::time::Duration;

use nova::config::Secret;
use nova::identity::accounts::Registration;
use nova::identity::{Caller, From, Identity, IdentityError, LoggedIn, Why};
use nova_actors::clock::{Clock as _, ManualClock};
use nova_actors::id::NodeId;
use nova_actors::memory::Bus;
use sqlx::ConnectOptions as _;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::accounts::{self, PASSWORD};
use crate::app::{TestApp, eventually};
use crate::services::{self, Database};

const NOON: OffsetDateTime = datetime!(2026-01-02 12:00 UTC);

/// One node's identity, and the clock on its wall.
struct Node {
    identity: Identity,
    clock: Arc<ManualClock>,
}

impl Node {
    async fn start(database: &Database, bus: &Arc<Bus>) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let mut config = crate::app::config(dir.path());
        config.database.database_url = Some(Secret::from(database.options().to_url_lossy().to_string()));
        // Only says that the bus reaches the other nodes, so that nothing is found by looking.
        config.bus.redis_url = Some(Secret::from("redis://127.0.0.1"));
        let clock = Arc::new(ManualClock::standing(NOON));
        let store = database.store().await;
        let identity =
            Identity::start(&config, NodeId::generate(), clock.clone(), store, bus.clone()).await.unwrap();
        Node { identity, clock }
    }

    async fn registers(&self, name: &str) -> LoggedIn {
        let email = format!("{name}@example.org");
        let ann = Registration { username: name, email: &email, password: PASSWORD, display_name: None };
        self.identity.register(&ann, From::default()).await.unwrap()
    }

    async fn believes(&self, session: &LoggedIn) -> Result<Caller, IdentityError> {
        self.identity.authenticate(&session.access_token).await
    }
}

fn kid(session: &LoggedIn) -> String {
    use base64::Engine as _;
    let header = session.access_token.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[actix_rt::test]
async fn what_one_node_ends_is_ended_on_the_other_at_once() {
    let (database, bus) = (services::database().await, Arc::new(Bus::default()));
    let (here, there) = (Node::start(&database, &bus).await, Node::start(&database, &bus).await);
    let ann = here.registers("ann").await;
    let caller = there.believes(&ann).await.unwrap();
    assert_eq!((caller.user, caller.device), (ann.account.id, ann.device));
    let mut ended = there.identity.revocations();
    assert!(here.identity.end_session(ann.account.id, ann.device, Why::Removed).await.unwrap());
    let heard = tokio::time::timeout(Duration::from_secs(1), ended.recv()).await.expect("at once").unwrap();
    assert_eq!((heard.user, heard.device, heard.why), (ann.account.id, ann.device, Why::Removed));
    for node in [&here, &there] {
        assert!(matches!(node.believes(&ann).await, Err(IdentityError::Revoked(Why::Removed))));
    }
}

#[actix_rt::test]
async fn what_one_node_changes_the_other_reads() {
    let (database, bus) = (services::database().await, Arc::new(Bus::default()));
    let (here, there) = (Node::start(&database, &bus).await, Node::start(&database, &bus).await);
    let ann = here.registers("ann").await.account.id;
    assert_eq!(there.identity.account(ann).await.unwrap().unwrap().bio, "");
    let edit = nova::identity::accounts::ProfileEdit { bio: Some("of the sea"), ..Default::default() };
    here.identity
        .edit_profile(ann, None, &nova::identity::Identity::judge_profile(&edit).unwrap())
        .await
        .unwrap();
    assert_eq!(
        here.identity.account(ann).await.unwrap().unwrap().bio,
        "of the sea",
        "one's own write at once"
    );
    crate::app::eventually("the other node reads it", async || {
        (there.identity.account(ann).await.unwrap().unwrap().bio == "of the sea").then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn nodes_that_start_at_once_have_one_key_between_them() {
    let (database, bus) = (services::database().await, Arc::new(Bus::default()));
    let starts = (0..4).map(|_| Node::start(&database, &bus));
    let nodes = futures_util::future::join_all(starts).await;
    let ann = nodes[0].registers("ann").await;
    for node in &nodes {
        assert!(node.believes(&ann).await.is_ok());
        assert_eq!(node.identity.jwks().keys.len(), 1);
    }
}

#[actix_rt::test]
async fn a_new_key_is_known_everywhere_before_it_signs() {
    let (database, bus) = (services::database().await, Arc::new(Bus::default()));
    let (here, there) = (Node::start(&database, &bus).await, Node::start(&database, &bus).await);
    let pass = |by: Duration| [&here, &there].map(|node| node.clock.advance(by));
    let day = Duration::from_secs(86_400);
    pass(30 * day - Duration::from_secs(600));
    here.identity.turn_keys().await.unwrap();
    crate::app::eventually("the other node hears of the key", async || {
        (there.identity.jwks().keys.len() == 2).then_some(())
    })
    .await;
    let before = here.registers("ann").await;
    let old_kid = kid(&before);
    pass(Duration::from_secs(600));
    let after = here.registers("bobo").await;
    assert_ne!(kid(&after), old_kid, "the new key signs when its time has come");
    assert!(there.believes(&after).await.is_ok() && there.believes(&before).await.is_ok(), "both are good");
    pass(day);
    there.identity.turn_keys().await.unwrap();
    assert!(there.identity.jwks().keys.iter().all(|key| key.kid != old_kid), "the dead key is gone");
}

#[actix_rt::test]
async fn a_node_that_was_deaf_loads_the_key_when_it_meets_it() {
    let database = services::database().await;
    let (here, deaf) = (
        Node::start(&database, &Arc::new(Bus::default())).await,
        Node::start(&database, &Arc::new(Bus::default())).await,
    );
    let month = Duration::from_secs(30 * 86_400);
    here.clock.advance(month);
    deaf.clock.advance(month);
    here.identity.turn_keys().await.unwrap();
    here.clock.advance(Duration::from_secs(600));
    deaf.clock.advance(Duration::from_secs(600));
    let ann = here.registers("ann").await;
    assert!(deaf.believes(&ann).await.is_ok());
    assert_eq!(deaf.identity.jwks().keys.len(), 2);
}

#[actix_rt::test]
async fn clocks_may_differ_by_a_minute() {
    let (database, bus) = (services::database().await, Arc::new(Bus::default()));
    let (here, there) = (Node::start(&database, &bus).await, Node::start(&database, &bus).await);
    let ann = here.registers("ann").await;
    there.clock.set(NOON - Duration::from_secs(60));
    assert!(there.believes(&ann).await.is_ok());
    there.clock.set(NOON - Duration::from_secs(61));
    assert!(matches!(there.believes(&ann).await, Err(IdentityError::InvalidToken)));
    there.clock.set(here.clock.now() + Duration::from_secs(899));
    assert!(there.believes(&ann).await.is_ok());
    there.clock.set(here.clock.now() + Duration::from_secs(900));
    assert!(matches!(there.believes(&ann).await, Err(IdentityError::TokenExpired)));
}

#[actix_rt::test]
async fn an_idle_session_ends_and_is_swept() {
    let (database, bus) = (services::database().await, Arc::new(Bus::default()));
    let node = Node::start(&database, &bus).await;
    let ann = node.registers("ann").await;
    node.clock.advance(Duration::from_secs(59 * 86_400));
    let ann =
        node.identity.refresh(&ann.refresh_token, None, None).await.expect("sixty days have not passed");
    node.clock.advance(Duration::from_secs(60 * 86_400));
    let refused = node.identity.refresh(&ann.refresh_token, None, None).await;
    assert!(matches!(refused, Err(IdentityError::Revoked(_))), "{refused:?}");
    let store = database.store().await;
    assert_eq!(store.purge_devices(node.clock.now(), 100).await.unwrap(), 0);
    assert_eq!(store.purge_devices(node.clock.now() + time::Duration::days(3), 100).await.unwrap(), 1);
}

#[actix_rt::test]
async fn the_fifty_first_device_ends_the_one_not_seen_for_longest() {
    let (database, bus) = (services::database().await, Arc::new(Bus::default()));
    let node = Node::start(&database, &bus).await;
    let first = node.registers("ann").await;
    let mut ended = node.identity.revocations();
    for _ in 0..50 {
        node.clock.advance(Duration::from_secs(1));
        node.identity.log_in("ann", PASSWORD, None, From::default()).await.unwrap();
    }
    let evicted = ended.try_recv().unwrap();
    assert_eq!((evicted.device, evicted.why), (first.device, Why::Evicted));
    assert!(ended.try_recv().is_err());
}

#[actix_rt::test]
async fn whole_nodes_on_one_redis_hear_at_once_what_the_other_ended() {
    let redis = services::redis().await;
    let here = TestApp::start_with(|config| {
        config.bus.redis_url = Some(Secret::from(redis.url.clone()));
        config.bus.redis_namespace = redis.namespace.clone();
    })
    .await;
    let there = TestApp::start_with(|config| {
        config.database = here.engine.config.database.clone();
        config.bus = here.engine.config.bus.clone();
    })
    .await;
    let phone = accounts::registers(&here, "ann").await;
    let laptop = accounts::logs_in(&there, "ann").await;
    for (node, session) in [(&here, &laptop), (&there, &phone)] {
        assert_eq!(accounts::get(node, "/v1/me", &session.token()).await.0, 200, "one key, one database");
    }
    let path = format!("/v1/sessions/{}", phone.text("device_id"));
    let ended = accounts::ask(&there, reqwest::Method::DELETE, &path, Some(&laptop.token()), None).await;
    assert_eq!(ended.0, 204);
    let refused = eventually("the other node refuses the token", async || {
        let (status, body) = accounts::get(&here, "/v1/me", &phone.token()).await;
        (status == 401).then_some(body)
    });
    assert_eq!(refused.await["code"], "session_revoked");
}
