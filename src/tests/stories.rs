//! Stories are there for a day, for those they are for, and tell their author who has looked.

use nova::store::stories::StoryError;
use nova_actors::id::{StoryId, UserId};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, eventually};
use crate::social::Person;

async fn tells(who: &Person<'_>, text: &str, visibility: &str) -> String {
    let body = json!({ "text": text, "visibility": visibility });
    let (status, body) = who.asks(Method::POST, "/v1/stories", Some(body)).await;
    assert_eq!(status, 201, "{body}");
    body["id"].as_str().expect("an id").to_owned()
}

/// What somebody finds: author by author, the texts.
async fn finds(reader: &Person<'_>) -> Vec<(String, Vec<String>)> {
    let page = reader.reads("/v1/stories").await;
    let texts = |telling: &Value| {
        let stories = telling["stories"].as_array().unwrap().iter();
        stories.map(|story| story["text"].as_str().unwrap().to_owned()).collect()
    };
    let tellings = page["items"].as_array().unwrap().iter();
    tellings.map(|one| (one["author"]["username"].as_str().unwrap().to_owned(), texts(one))).collect()
}

fn told(of: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    of.iter().map(|(who, what)| ((*who).to_owned(), texts(what))).collect()
}

#[actix_rt::test]
async fn a_story_is_for_those_it_is_told_to_and_its_author_sees_who_looked() {
    let app = TestApp::start().await;
    let (ann, bo, cy) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyd").await);
    for author in [&ann, &cy] {
        bo.puts("follow", author).await;
    }
    let first = tells(&ann, "Fog.", "followers").await;
    tells(&cy, "Rain, @bobo.", "public").await;
    tells(&ann, "The horn sounds.", "public").await;
    let mine = tells(&ann, "For me.", "private").await;
    assert_eq!(finds(&bo).await, told(&[("ann", &["Fog.", "The horn sounds."]), ("cyd", &["Rain, @bobo."])]));
    assert_eq!(finds(&ann).await, told(&[("ann", &["Fog.", "The horn sounds.", "For me."])]));
    let of_ann = cy.reads(&format!("/v1/users/{}/stories", ann.id())).await;
    assert_eq!(crate::social::texts(&of_ann), ["The horn sounds."], "cyd does not follow");
    let (fog, private) = (format!("/v1/stories/{first}"), format!("/v1/stories/{mine}"));
    assert_eq!(
        (cy.status_of(&fog).await, bo.status_of(&fog).await, bo.status_of(&private).await),
        (404, 200, 404)
    );

    // Pages of authors, each once.
    let page = bo.reads("/v1/stories?limit=1").await;
    let next = page["next_cursor"].as_str().unwrap().to_owned();
    let rest = bo.reads(&format!("/v1/stories?limit=1&cursor={next}")).await;
    assert_eq!(
        (&rest["items"][0]["author"]["username"], &rest["next_cursor"]),
        (&json!("cyd"), &Value::Null)
    );
    assert_eq!(rest["items"][0]["stories"][0]["mentions"], json!([bo.id()]));
    assert_eq!(
        ann.asks(Method::GET, &format!("/v1/stories?cursor={next}"), None).await.0,
        400,
        "another reader's"
    );

    // Looking twice is looking once, and one's own is looked at by nobody.
    let view = format!("{fog}/view");
    for who in [&bo, &bo, &ann] {
        assert_eq!(who.asks(Method::PUT, &view, None).await.0, 204);
    }
    assert_eq!(cy.asks(Method::PUT, &view, None).await.0, 404);
    assert_eq!((&bo.reads(&fog).await["seen"], &bo.reads(&fog).await["views"]), (&json!(true), &Value::Null));
    assert_eq!(ann.reads(&fog).await["views"], 1);
    let viewers = ann.reads(&format!("{fog}/viewers")).await;
    assert_eq!(
        (viewers["items"].as_array().unwrap().len(), &viewers["items"][0]["user"]["username"]),
        (1, &json!("bobo"))
    );
    assert_eq!(bo.status_of(&format!("{fog}/viewers")).await, 403);

    // A mute and a block hide, a block both ways and on every path.
    bo.puts("mute", &cy).await;
    assert_eq!(finds(&bo).await, told(&[("ann", &["Fog.", "The horn sounds."])]));
    ann.puts("block", &bo).await;
    assert!(finds(&bo).await.is_empty());
    assert_eq!(bo.status_of(&fog).await, 404);
    assert_eq!(bo.asks(Method::PUT, &view, None).await.0, 404);
    assert!(crate::social::texts(&bo.reads(&format!("/v1/users/{}/stories", ann.id())).await).is_empty());
    assert!(ann.reads(&format!("{fog}/viewers")).await["items"].as_array().unwrap().is_empty());

    assert_eq!(cy.asks(Method::DELETE, &private, None).await.0, 404);
    let horn = finds(&ann).await[0].1.len();
    assert_eq!(ann.asks(Method::DELETE, &fog, None).await.0, 204);
    assert_eq!(ann.asks(Method::DELETE, &fog, None).await.0, 404);
    assert_eq!((horn, finds(&ann).await[0].1.len()), (3, 2));
    for (body, field) in [
        (json!({ "text": "" }), "text"),
        (json!({ "text": "x".repeat(501) }), "text"),
        (json!({ "text": "\u{202e}turned" }), "text"),
        (json!({ "text": "a", "expires_at": "2099-01-01T00:00:00Z" }), "expires_at"),
    ] {
        let (status, problem) = ann.asks(Method::POST, "/v1/stories", Some(body)).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{problem}");
    }
    // What happened is told with the change.
    eventually("both events are in the log", async || {
        let mut beside = app.engine.store.connection().await.unwrap();
        let kinds: Vec<(String, i64)> = sqlx::query_as(
            "SELECT kind, count(*) FROM event_log WHERE kind LIKE 'Story%' GROUP BY kind ORDER BY kind",
        )
        .fetch_all(&mut beside)
        .await
        .unwrap();
        (kinds == [("StoryCreated".to_owned(), 4), ("StoryDeleted".to_owned(), 1)]).then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn a_story_is_gone_after_a_day_to_the_second_on_every_path() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    bo.puts("follow", &ann).await;
    let id = tells(&ann, "For a day.", "public").await;
    let story: StoryId = id.parse().unwrap();
    let (author, reader): (UserId, UserId) = (ann.id().parse().unwrap(), bo.id().parse().unwrap());
    let store = &app.engine.store;
    let now = app.engine.clock.now();
    let told = store.story(story, reader, now).await.unwrap().expect("it is there");
    assert_eq!(told.expires_at - told.created_at, time::Duration::hours(24));
    // The last microsecond of its day, and the first after it.
    let (last, over) = (told.expires_at - time::Duration::MICROSECOND, told.expires_at);
    let paths = async |at| {
        let by_id = store.story(story, reader, at).await.unwrap().is_some();
        let own = store.story(story, author, at).await.unwrap().is_some();
        let followed = !store.stories_followed(reader, None, 10, at).await.unwrap().is_empty();
        let profile = !store.stories_of(author, reader, at).await.unwrap().is_empty();
        let viewed = store.view_story(story, reader, at).await.is_ok();
        let viewers = store.story_viewers(story, author, None, 10, at).await.is_ok();
        [by_id, own, followed, profile, viewed, viewers]
    };
    assert_eq!(paths(last).await, [true; 6]);
    assert_eq!(paths(over).await, [false; 6]);
    assert!(matches!(store.delete_story(story, author, over).await, Err(StoryError::NotFound)));

    // The same through the door, with a story whose day has passed.
    let mut beside = store.connection().await.unwrap();
    sqlx::query("UPDATE stories SET created_at = created_at - interval '25 hours', expires_at = expires_at - interval '25 hours'")
        .execute(&mut beside)
        .await
        .unwrap();
    assert!(finds(&bo).await.is_empty());
    assert_eq!(bo.status_of(&format!("/v1/stories/{id}")).await, 404);
    assert_eq!(ann.status_of(&format!("/v1/stories/{id}/viewers")).await, 404);
    let left = async || {
        let mut beside = store.connection().await.unwrap();
        let rows = "SELECT (SELECT count(*) FROM stories) + (SELECT count(*) FROM story_views)";
        sqlx::query_scalar::<_, i64>(rows).fetch_one(&mut beside).await.unwrap()
    };
    assert_eq!(left().await, 2, "its row is there for a while");
    assert_eq!(store.sweep_stories(now, 10).await.unwrap(), 1);
    assert_eq!(left().await, 0);
}
