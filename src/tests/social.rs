//! People follow each other, post, like and answer; everybody reads what is for them.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::accounts::{Session, ask, get, post, registers};
use crate::app::TestApp;

/// Somebody with a session, in a node.
pub struct Person<'a> {
    pub app: &'a TestApp,
    pub session: Session,
}

impl<'a> Person<'a> {
    pub async fn new(app: &'a TestApp, name: &str) -> Person<'a> {
        Person { app, session: registers(app, name).await }
    }

    pub async fn asks(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let (status, body) = ask(self.app, method, path, Some(&self.session.token()), body).await;
        (status.as_u16(), body)
    }

    pub async fn reads(&self, path: &str) -> Value {
        let (status, body) = get(self.app, path, &self.session.token()).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Does something to somebody: `follow`, `mute`, `block`.
    pub async fn puts(&self, verb: &str, other: &Person<'_>) {
        let (status, body) = self.asks(Method::PUT, &format!("/v1/users/{}/{verb}", other.id()), None).await;
        assert_eq!(status, 204, "{verb}: {body}");
    }

    /// Takes it back.
    pub async fn takes_back(&self, verb: &str, other: &Person<'_>) {
        let (status, body) =
            self.asks(Method::DELETE, &format!("/v1/users/{}/{verb}", other.id()), None).await;
        assert_eq!(status, 204, "{verb}: {body}");
    }

    pub fn id(&self) -> String {
        self.session.user()
    }

    pub async fn posts(&self, text: &str) -> String {
        self.posts_for(text, "public").await
    }

    pub async fn posts_for(&self, text: &str, visibility: &str) -> String {
        let body = json!({ "text": text, "visibility": visibility });
        let (status, body) = post(self.app, "/v1/posts", Some(&self.session.token()), body).await;
        assert_eq!(status, 201, "{body}");
        body["id"].as_str().expect("an id").to_owned()
    }

    /// The texts of the first page of the home feed.
    pub async fn home(&self) -> Vec<String> {
        texts(&self.reads("/v1/feeds/home?mode=latest").await)
    }

    pub async fn status_of(&self, path: &str) -> u16 {
        self.asks(Method::GET, path, None).await.0
    }
}

pub fn texts(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|item| item["text"].as_str().expect("text").to_owned()).collect()
}

#[actix_rt::test]
async fn a_post_reaches_those_who_follow_and_nobody_else() {
    let app = TestApp::start().await;
    let (ann, bo, cy) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyd").await);
    bo.puts("follow", &ann).await;
    bo.puts("follow", &ann).await;
    ann.posts("The lamp is lit. #Lighthouse").await;
    ann.posts_for("For those who follow.", "followers").await;
    let secret = ann.posts_for("For me.", "private").await;
    assert_eq!(bo.home().await, ["For those who follow.", "The lamp is lit. #Lighthouse"]);
    assert_eq!(ann.home().await, ["For me.", "For those who follow.", "The lamp is lit. #Lighthouse"]);
    assert!(cy.home().await.is_empty());
    let of_ann = format!("/v1/users/{}/posts", ann.id());
    assert_eq!(texts(&cy.reads(&of_ann).await), ["The lamp is lit. #Lighthouse"]);
    assert_eq!(texts(&bo.reads(&of_ann).await).len(), 2);
    assert_eq!(bo.status_of(&format!("/v1/posts/{secret}")).await, 404);
    assert_eq!(ann.status_of(&format!("/v1/posts/{secret}")).await, 200);

    let page = bo.reads("/v1/feeds/home").await;
    assert_eq!(page["items"][1]["tags"], json!(["lighthouse"]));
    assert_eq!(page["items"][1]["author"]["username"], "ann");
    assert_eq!(page["ranking"]["model"], "chronological");

    let profile = bo.reads("/v1/users/@ann").await;
    assert_eq!(
        (&profile["followers"], &profile["following"], &profile["posts"]),
        (&json!(1), &json!(0), &json!(2))
    );
    assert_eq!(profile["relation"]["following"], true);
    let followers = ann.reads(&format!("/v1/users/{}/followers", ann.id())).await;
    assert_eq!(followers["items"][0]["user"]["username"], "bobo");
    assert_eq!(followers["items"][0]["followed_by_me"], false);
    assert_eq!(bo.reads("/v1/users/@bobo/following").await["items"][0]["user"]["username"], "ann");

    bo.takes_back("follow", &ann).await;
    assert!(bo.home().await.is_empty());
    assert_eq!(cy.reads("/v1/users/@ann").await["followers"], 0);
}

#[actix_rt::test]
async fn a_block_hides_each_from_the_other_at_once_and_a_mute_only_one() {
    let app = TestApp::start().await;
    let (ann, bo, cy) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyd").await);
    for (one, other) in [(&ann, &bo), (&bo, &ann), (&cy, &ann), (&cy, &bo)] {
        one.puts("follow", other).await;
    }
    let (by_ann, by_bo) = (ann.posts("by ann").await, bo.posts("by bo").await);
    let said = json!({ "text": "hello" });
    let comments = format!("/v1/posts/{by_ann}/comments");
    assert_eq!(bo.asks(Method::POST, &comments, Some(said.clone())).await.0, 201);
    assert_eq!(ann.home().await, ["by bo", "by ann"]);

    cy.puts("mute", &bo).await;
    assert_eq!(cy.home().await, ["by ann"]);
    cy.takes_back("mute", &bo).await;
    assert_eq!(cy.home().await, ["by bo", "by ann"]);

    ann.puts("block", &bo).await;
    assert_eq!((ann.home().await, bo.home().await), (vec!["by ann".to_owned()], vec!["by bo".to_owned()]));
    assert_eq!(bo.status_of(&format!("/v1/posts/{by_ann}")).await, 404);
    assert_eq!(ann.status_of(&format!("/v1/posts/{by_bo}")).await, 404);
    assert_eq!(bo.asks(Method::PUT, &format!("/v1/posts/{by_ann}/like"), None).await.0, 404);
    assert_eq!(bo.asks(Method::POST, &comments, Some(said)).await.0, 404);
    assert_eq!(bo.asks(Method::PUT, &format!("/v1/users/{}/follow", ann.id()), None).await.0, 403);
    assert!(ann.reads(&comments).await["items"].as_array().unwrap().is_empty(), "what bo said is hidden too");
    assert_eq!(cy.reads(&comments).await["items"].as_array().unwrap().len(), 1);
    let profile = cy.reads("/v1/users/@ann").await;
    assert_eq!(
        (&profile["followers"], &profile["following"]),
        (&json!(1), &json!(0)),
        "both follows are gone"
    );
    let followers = bo.reads("/v1/users/@ann/followers").await;
    assert_eq!(followers["items"][0]["user"]["username"], "cyd");
}

#[actix_rt::test]
async fn an_edit_knows_what_it_changes_and_keeps_what_was() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let id = ann.posts_for("draft @bobo", "private").await;
    let path = format!("/v1/posts/{id}");
    let tagged = async |tag: &str, text: &str| {
        let request = app.http.patch(app.at(&path)).bearer_auth(ann.session.token()).header("if-match", tag);
        request.json(&json!({ "text": text, "visibility": "public" })).send().await.expect("an answer")
    };
    // Of many who edit what they have read, one does.
    let edits = join_all(["one", "two", "three"].map(|text| tagged("\"v1\"", text))).await;
    let mut statuses: Vec<_> = edits.iter().map(|answer| answer.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412]);
    for forged in ["\"v999\"", "\"v1\"", "\"v-1\"", "\"v99999999999999999999\""] {
        assert_eq!(tagged(forged, "forged").await.status(), 412, "{forged}");
    }
    assert_eq!(tagged("\"v2\"", "final #done").await.status(), 200);

    let post = bo.reads(&path).await;
    assert_eq!(
        (&post["text"], &post["version"], &post["tags"]),
        (&json!("final #done"), &json!(3), &json!(["done"]))
    );
    assert!(post["edited_at"].is_string());
    assert_eq!(ann.reads(&format!("{path}/versions")).await["items"].as_array().unwrap().len(), 2);
    let seen = bo.reads(&format!("{path}/versions")).await;
    let seen = seen["items"].as_array().unwrap();
    assert_eq!(seen.len(), 1, "what was private stays so: {seen:?}");
    assert_eq!(seen[0]["version"], 2);

    let (status, problem) = bo.asks(Method::PATCH, &path, Some(json!({ "text": "mine" }))).await;
    assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
    assert_eq!(bo.asks(Method::DELETE, &path, None).await.0, 403);
    assert_eq!(ann.asks(Method::DELETE, &path, None).await.0, 204);
    assert_eq!(ann.asks(Method::DELETE, &path, None).await.0, 404);
    assert_eq!(bo.status_of(&path).await, 404);
    assert!(ann.home().await.is_empty());
    assert_eq!(bo.reads("/v1/users/@ann").await["posts"], 0);
}

#[actix_rt::test]
async fn what_cannot_be_posted_is_refused_by_field() {
    let app = TestApp::start().await;
    let ann = Person::new(&app, "ann").await;
    let long = "x".repeat(5_001);
    let names: String = (0..10_000).map(|n| format!("@user{n} ")).collect();
    for (body, field) in [
        (json!({ "text": "" }), "text"),
        (json!({ "text": " \u{200b} " }), "text"),
        (json!({ "text": long }), "text"),
        (json!({ "text": names }), "text"),
        (json!({ "text": "\u{202e}turned" }), "text"),
        (json!({ "text": "a\u{0}b" }), "text"),
        (json!({ "text": "a", "tags": ["two words"] }), "tags.0"),
        (json!({ "text": "a", "visibility": "friends" }), "visibility"),
        (json!({ "text": "a", "created_at": "2030-01-01T00:00:00Z" }), "created_at"),
    ] {
        let (status, problem) = ann.asks(Method::POST, "/v1/posts", Some(body)).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{problem}");
    }
    let huge = json!({ "text": "x".repeat(1 << 20) });
    assert_eq!(ann.asks(Method::POST, "/v1/posts", Some(huge)).await.0, 413);
    for cursor in ["x", "AQ", "eyJ2IjoxfQ"] {
        let (status, problem) = ann.asks(Method::GET, &format!("/v1/feeds/home?cursor={cursor}"), None).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_cursor")));
    }
}

#[actix_rt::test]
async fn comments_have_one_level_of_replies_and_go_with_their_authors_will() {
    let app = TestApp::start().await;
    let (ann, bo, cy) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyd").await);
    let id = ann.posts("How far does it shine?").await;
    let path = format!("/v1/posts/{id}/comments");
    let says = async |who: &Person<'_>, text: &str, parent: Option<&Value>| {
        let (status, body) =
            who.asks(Method::POST, &path, Some(json!({ "text": text, "parent": parent }))).await;
        assert_eq!(status, 201, "{body}");
        body
    };
    let first = says(&bo, "Twenty miles, @cyd?", None).await;
    assert_eq!(first["mentions"], json!([cy.id()]));
    let reply = says(&cy, "Thirty.", Some(&first["id"])).await;
    let deeper = says(&ann, "So far!", Some(&reply["id"])).await;
    assert_eq!(deeper["parent"], first["id"], "an answer to an answer joins its thread");
    let nowhere = json!({ "text": "x", "parent": nova_actors::id::CommentId::generate() });
    assert_eq!(bo.asks(Method::POST, &path, Some(nowhere)).await.1["errors"][0]["field"], "parent");

    let top = bo.reads(&path).await;
    assert_eq!(texts(&top), ["Twenty miles, @cyd?"]);
    assert_eq!(top["items"][0]["replies"], 2);
    let replies = format!("{path}?parent={}", first["id"].as_str().unwrap());
    assert_eq!(texts(&bo.reads(&replies).await), ["Thirty.", "So far!"]);
    assert_eq!(bo.reads(&format!("/v1/posts/{id}")).await["comments"], 3);

    let comment = |comment: &Value| format!("/v1/comments/{}", comment["id"].as_str().unwrap());
    assert_eq!(cy.asks(Method::DELETE, &comment(&first), None).await.0, 403);
    assert_eq!(bo.asks(Method::DELETE, &comment(&first), None).await.0, 204);
    let top = bo.reads(&path).await;
    assert_eq!((&top["items"][0]["deleted"], &top["items"][0]["text"]), (&json!(true), &json!("")));
    assert_eq!(ann.asks(Method::DELETE, &comment(&reply), None).await.0, 204, "on one's own post");
    assert_eq!(ann.asks(Method::DELETE, &comment(&deeper), None).await.0, 204);
    assert!(bo.reads(&path).await["items"].as_array().unwrap().is_empty());
    assert_eq!(bo.reads(&format!("/v1/posts/{id}")).await["comments"], 0);
}

#[actix_rt::test]
async fn a_storm_of_likes_is_counted_exactly() {
    let app = TestApp::start().await;
    let ann = Person::new(&app, "ann").await;
    let mut crowd = Vec::new();
    for n in 0..6 {
        crowd.push(Person::new(&app, &format!("fan{n}")).await);
    }
    let id = ann.posts("Everybody likes this.").await;
    let path = format!("/v1/posts/{id}/like");
    // Everybody likes, takes it back and likes again, all at once and each of it twice.
    let storms = crowd.iter().enumerate().map(|(nth, fan)| {
        let path = &path;
        async move {
            for round in 0..6 {
                let method = if round % 2 == 0 { Method::PUT } else { Method::DELETE };
                let (one, other) =
                    tokio::join!(fan.asks(method.clone(), path, None), fan.asks(method, path, None));
                assert_eq!((one.0, other.0), (200, 200));
            }
            if nth % 2 == 0 {
                assert_eq!(fan.asks(Method::PUT, path, None).await.0, 200);
            }
        }
    });
    join_all(storms).await;
    let post = ann.reads(&format!("/v1/posts/{id}")).await;
    assert_eq!((&post["likes"], &post["liked"]), (&json!(3), &json!(false)));
    // Over a connection of its own: the pool is the node's to close.
    let mut beside = app.engine.store.connection().await.unwrap();
    let rows = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM post_likes").fetch_one(&mut beside);
    assert_eq!(rows.await.unwrap(), 3);
}

#[actix_rt::test]
async fn follows_at_once_with_a_block_leave_no_follow() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    for _ in 0..8 {
        let follow = format!("/v1/users/{}/follow", ann.id());
        let (followed, ()) = tokio::join!(bo.asks(Method::PUT, &follow, None), ann.puts("block", &bo));
        assert!([204, 403].contains(&followed.0), "{followed:?}");
        let profile = ann.reads("/v1/users/@ann").await;
        assert_eq!(profile["followers"], 0, "a block was outlived by a follow");
        ann.takes_back("block", &bo).await;
    }
}

#[actix_rt::test]
async fn a_feed_is_walked_to_its_end_without_repeat_or_gap() {
    let app = TestApp::start().await;
    let (ann, bo, cy) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyd").await);
    cy.puts("follow", &ann).await;
    cy.puts("follow", &bo).await;
    let mut said = Vec::new();
    for n in 0..12 {
        let who = if n % 3 == 0 { &bo } else { &ann };
        who.posts(&format!("post {n}")).await;
        said.push(format!("post {n}"));
    }
    said.reverse();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = cy.reads(&format!("/v1/feeds/home?limit=5{cursor}")).await;
        seen.extend(texts(&page));
        // What comes meanwhile is above the place where the reader is.
        ann.posts("later").await;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, said);
    let (status, _) = ann.asks(Method::GET, &format!("/v1/feeds/home?limit=5{cursor}"), None).await;
    assert_eq!(status, 400, "a cursor belongs to its reader");
}
