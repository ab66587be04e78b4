//! What is durable about streams, on a real PostgreSQL.

use nova::store::streams::NewStream;
use nova_actors::id::{StreamId, UserId};
use nova_actors::port::StreamRecord;

use crate::accounts;
use crate::app::TestApp;

#[actix_web::test]
async fn the_database_is_a_store_of_streams() {
    let app = TestApp::start().await;
    let owner: UserId = accounts::registers(&app, "ann").await.user().parse().expect("an id");
    let store = &app.engine.store;
    let add = async |key| {
        let now = app.engine.clock.now();
        let new = NewStream {
            id: StreamId::new(now),
            owner,
            title: "a stream",
            record: false,
            is_private: false,
            key,
            now,
        };
        let made = store.add_stream(&new).await.expect("made");
        StreamRecord { id: made.id, owner, key, airing: None, is_private: false }
    };
    let noted = async |id| store.airing(id).await.expect("read");
    nova_actors::contract::streams(store, add, noted).await;
    // Its connections belong to this thread, so this thread must be awake while they are closed.
    actix_web::rt::task::spawn_blocking(move || app.stop()).await.expect("the node ended well");
}
