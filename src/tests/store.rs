//! The store on a real PostgreSQL: limits, errors, migrations.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use nova::error::{ApiError, Code};
use nova::store::{OnConstraint, Store, StoreConfig, StoreError};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, Executor, SqlSafeStr};

use crate::services;

fn migrations(sql: &[&str]) -> Migrator {
    let numbered = sql.iter().zip(1..).map(|(sql, version)| {
        let sql = AssertSqlSafe((*sql).to_owned()).into_sql_str();
        Migration::new(version, Cow::Borrowed("test"), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(numbered.collect())
}

async fn connect(database: &services::Database, config: StoreConfig) -> Store {
    Store::connect(database.options(), &config).await.expect("the database is there")
}

#[tokio::test]
async fn every_connection_has_its_limits() {
    let database = services::empty_database().await;
    let config = StoreConfig {
        statement_max: Duration::from_millis(150),
        lock_max: Duration::from_millis(100),
        idle_in_transaction_max: Duration::from_millis(200),
        application_name: "nova-limits".to_owned(),
        ..StoreConfig::default()
    };
    let store = connect(&database, config).await;
    let name: String = sqlx::query_scalar("SELECT current_setting('application_name')")
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(name, "nova-limits");

    let slow = sqlx::query("SELECT pg_sleep(30)").execute(store.pool()).await;
    let slow = StoreError::from(slow.expect_err("ended by statement_timeout"));
    assert!(matches!(slow, StoreError::TooSlow(_)), "{slow}");

    store
        .pool()
        .execute("CREATE TABLE counters (n int); INSERT INTO counters VALUES (0)")
        .await
        .expect("made");
    let mut holder = store.pool().begin().await.expect("a transaction");
    holder.execute("UPDATE counters SET n = 1").await.expect("locked");
    let blocked = store.pool().execute("UPDATE counters SET n = 2").await;
    let blocked = StoreError::from(blocked.expect_err("ended by lock_timeout"));
    assert!(matches!(blocked, StoreError::TooSlow(_)), "{blocked}");

    // The holder has idled in its transaction; PostgreSQL ends it.
    services::eventually("the idle transaction is ended", Duration::from_secs(20), async || {
        store.pool().execute("UPDATE counters SET n = 3").await.ok()
    })
    .await;
    let ended = StoreError::from(holder.execute("SELECT 1").await.expect_err("its session is gone"));
    assert!(matches!(ended, StoreError::Unavailable(_)), "{ended}");
}

#[tokio::test]
async fn a_pool_with_nothing_free_says_unavailable_in_time() {
    let database = services::empty_database().await;
    let acquire_max = Duration::from_millis(200);
    let store =
        connect(&database, StoreConfig { connections_max: 1, acquire_max, ..StoreConfig::default() }).await;
    let held = store.pool().acquire().await.expect("the only one");
    let began = Instant::now();
    let error = store.ping().await.expect_err("nothing is free");
    let waited = began.elapsed();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(waited >= acquire_max && waited < Duration::from_secs(5), "after {waited:?}");
    let answer = ApiError::from(error);
    assert_eq!(answer.code(), Code::Unavailable);
    assert!(answer.retry_after_hint().is_some(), "the client hears when to come back");
    let used = store.pool_use();
    assert_eq!((used.open, used.idle, used.max), (1, 0, 1));
    drop(held);
    store.ping().await.expect("free again");
}

#[tokio::test]
async fn a_connection_that_nobody_gives_back_keeps_no_node_from_leaving() {
    let database = services::empty_database().await;
    let store = connect(&database, StoreConfig::default()).await;
    let held = store.pool().acquire().await.expect("a connection");
    let closed = tokio::time::timeout(Duration::from_secs(20), store.close()).await;
    assert!(closed.is_ok(), "it still waits for the connection that is held");
    assert!(store.ping().await.is_err(), "nothing new is begun");
    drop(held);
}

#[tokio::test]
async fn constraints_become_the_errors_they_mean() {
    #[derive(Debug)]
    enum Refused {
        UsernameTaken,
        Store(StoreError),
    }
    impl From<StoreError> for Refused {
        fn from(error: StoreError) -> Refused {
            Refused::Store(error)
        }
    }
    let database = services::empty_database().await;
    let store = database.store().await;
    let table = "CREATE TABLE people (username text CONSTRAINT people_username_key UNIQUE, \
                 age int CONSTRAINT people_age_check CHECK (age > 0))";
    store.pool().execute(table).await.expect("made");
    let add = async |username: &str, age: i32| {
        let insert = sqlx::query("INSERT INTO people VALUES ($1, $2)").bind(username.to_owned()).bind(age);
        let answer = insert.execute(store.pool()).await;
        answer.on_constraint([("people_username_key", Refused::UsernameTaken)])
    };
    add("ann", 30).await.expect("the first");
    let taken = add("ann", 31).await.expect_err("taken");
    assert!(matches!(taken, Refused::UsernameTaken), "{taken:?}");
    let other = add("bo", -1).await.expect_err("not an age");
    let Refused::Store(other) = other else { panic!("{other:?}") };
    assert_eq!(other.constraint(), Some("people_age_check"), "what was not given a meaning stays what it is");
    assert_eq!(ApiError::from(other).code(), Code::Internal);
}

#[tokio::test]
async fn nodes_that_start_at_once_migrate_once() {
    let database = services::empty_database().await;
    // The second migration takes long enough that everybody is there while it runs.
    let migrations =
        migrations(&["CREATE TABLE runs (n int)", "INSERT INTO runs VALUES (1); SELECT pg_sleep(0.4)"]);
    let nodes: Vec<Store> = futures_util::future::join_all((0..4).map(|_| database.store())).await;
    let began = Instant::now();
    let applied =
        futures_util::future::join_all(nodes.iter().map(|node| node.migrate_with(&migrations))).await;
    let mut applied: Vec<usize> = applied.into_iter().map(|applied| applied.expect("migrated")).collect();
    applied.sort_unstable();
    assert_eq!(applied, [0, 0, 0, 2], "one of them did everything");
    assert!(began.elapsed() >= Duration::from_millis(400), "nobody went on before it was done");
    let runs: i64 = sqlx::query_scalar("SELECT count(*) FROM runs").fetch_one(nodes[0].pool()).await.unwrap();
    assert_eq!(runs, 1);
}

#[tokio::test]
async fn a_failed_migration_leaves_nothing_and_the_lock_free() {
    let database = services::empty_database().await;
    let store = database.store().await;
    let broken = migrations(&["CREATE TABLE one (n int)", "CREATE TABLE two (n int); SELECT 1/0"]);
    let error = store.migrate_with(&broken).await.expect_err("a division by zero");
    assert!(matches!(error, StoreError::Migration { version: 2, .. }), "{error}");
    let two: bool =
        sqlx::query_scalar("SELECT to_regclass('two') IS NULL").fetch_one(store.pool()).await.unwrap();
    assert!(two, "it was rolled back");
    let mended = migrations(&["CREATE TABLE one (n int)", "CREATE TABLE two (n int)"]);
    assert_eq!(store.migrate_with(&mended).await.expect("the lock is free"), 1);
}

#[tokio::test]
async fn a_database_of_a_newer_engine_is_refused() {
    let database = services::empty_database().await;
    let store = database.store().await;
    let newer = migrations(&["CREATE TABLE one (n int)", "CREATE TABLE two (n int)"]);
    store.migrate_with(&newer).await.expect("migrated");
    let older = migrations(&["CREATE TABLE one (n int)"]);
    let refused = store.migrate_with(&older).await.expect_err("older than the database");
    assert!(matches!(refused, StoreError::Newer { database: 2, engine: 1 }), "{refused}");
    assert!(refused.to_string().contains("start that version or a later one"), "{refused}");
    let other = migrations(&["CREATE TABLE one (n int)", "CREATE TABLE zwei (n int)"]);
    let refused = store.migrate_with(&other).await.expect_err("another line of versions");
    assert!(matches!(refused, StoreError::Different { version: 2 }), "{refused}");
}

#[tokio::test]
async fn the_engines_own_migrations_apply_and_find_nothing_left_to_do() {
    let database = services::database().await;
    let store = database.store().await;
    assert_eq!(store.migrate().await.expect("migrated"), 0, "the template has them all");
    let empty = services::empty_database().await;
    let fresh = empty.store().await;
    let count = nova::store::MIGRATIONS.iter().count();
    assert_eq!(fresh.migrate().await.expect("migrated"), count);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_in_one_sentence() {
    let database = services::empty_database().await;
    let nowhere = database.options().socket("/nonexistent").host("127.0.0.1").port(1);
    let patience = StoreConfig {
        connect_max: Duration::from_millis(300),
        acquire_max: Duration::from_millis(100),
        ..StoreConfig::default()
    };
    let refused = Store::connect(nowhere, &patience).await.expect_err("nobody is there").to_string();
    assert!(
        refused.starts_with("cannot connect to the database:") && refused.contains("DATABASE_URL"),
        "{refused}"
    );
    let missing = database.options().database("no_such_database");
    let began = Instant::now();
    let refused =
        Store::connect(missing, &StoreConfig::default()).await.expect_err("no such database").to_string();
    assert!(refused.contains("no_such_database"), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(10), "a refusal is not waited out");
}

#[tokio::test]
async fn a_connection_the_server_ended_is_replaced() {
    let database = services::empty_database().await;
    let store = connect(&database, StoreConfig { connections_max: 1, ..StoreConfig::default() }).await;
    let pid: i32 =
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(store.pool()).await.expect("a pid");
    let mut other = sqlx::PgConnection::connect_with(&database.options()).await.expect("connects");
    sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(&mut other).await.expect("ended");
    other.close().await.expect("closed");
    services::eventually("the pool heals", Duration::from_secs(10), async || store.ping().await.ok()).await;
}
