//! The feed in the console: somebody posts, follows, likes and answers in a real browser.

use serde_json::json;

use crate::app::TestApp;
use crate::browser::Browser;
use crate::social::Person;

/// What people type.
const PASSWORD: &str = "harbour lantern quartz";

#[actix_rt::test]
async fn somebody_posts_follows_likes_and_answers() {
    let app = TestApp::start().await;
    let bo = Person::new(&app, "bobo").await;
    let by_bo = bo.posts("Who has seen the #lighthouse?").await;
    let browser = Browser::start().await;
    let opens = async |path: &str| browser.open(&app.at(path)).await;
    opens("/console/signup").await;
    browser.fill("username", "ann").await;
    browser.fill("email", "ann@example.org").await;
    browser.fill("password", PASSWORD).await;
    browser.press("Create the account").await;
    browser.sees("h1", "Hello, ann").await;

    browser.follow("Feed").await;
    browser.sees("main", "Nothing here yet").await;
    browser.press("Discover").await;
    browser.sees(".post", "Who has seen the #lighthouse?").await;
    browser.click(".post .who").await;
    browser.sees("h1", "bobo").await;
    browser.press("Follow").await;
    browser.sees(".numbers", "1 follower").await;
    browser.picture("person").await;

    opens("/console/feed").await;
    browser.sees(".posts", "Who has seen the #lighthouse?").await;
    browser.fill("post-text", "I have, @bobo. <b>Twice</b>.").await;
    browser.press("Post").await;
    browser.sees(".post:first-child", "I have, @bobo. <b>Twice</b>.").await;
    assert_eq!(browser.run("return document.getElementById('post-text').value").await, "");
    browser.click(&format!("[data-post='{by_bo}'] .like")).await;
    browser.sees(&format!("[data-post='{by_bo}'] .like[aria-pressed=true]"), "1").await;
    browser.picture("feed").await;
    browser.press("For you").await;
    browser.sees(".posts", "Who has seen").await;
    let post = bo.reads(&format!("/v1/posts/{by_bo}")).await;
    assert_eq!(post["likes"], 1);

    // Somebody else posts while the page is open.
    browser.press("Latest").await;
    browser.sees(".posts", "Who has seen").await;
    // The engine says so over the socket: nobody looks away and back, and the next look of its own is half a minute away.
    bo.posts("And now it is dark.").await;
    browser.sees(".pill", "One new post").await;
    browser.picture("pill").await;
    browser.press("One new post").await;
    browser.sees(".post:first-child", "And now it is dark.").await;

    let told = json!({ "text": "Fog over the bay, @ann.", "visibility": "public" });
    assert_eq!(bo.asks(reqwest::Method::POST, "/v1/stories", Some(told)).await.0, 201);
    opens("/console/feed").await;
    browser.sees(".stories", "bobo").await;
    browser.find(&format!("[data-author='{}'] .ring.new", bo.id())).await;
    browser.picture("stories").await;
    browser.click(&format!("[data-author='{}']", bo.id())).await;
    browser.sees(".story", "Fog over the bay, @ann.").await;
    browser.picture("story").await;
    browser.press("Done").await;
    browser.find(&format!("[data-author='{}'] .ring:not(.new)", bo.id())).await;
    let stories = bo.reads("/v1/stories").await;
    assert_eq!(stories["items"][0]["stories"][0]["views"], 1);
    browser.press("New story").await;
    browser.fill("text", "The horn sounds.").await;
    browser.press("Tell it").await;
    browser.sees(".stories", "You").await;
    let me = bo.reads("/v1/users/@ann").await["id"].as_str().unwrap().to_owned();
    app.engine.identity.set_role(me.parse().unwrap(), nova::identity::Role::Admin, true).await.unwrap();
    browser.reload().await;
    browser.press("Why these?").await;
    browser.sees(".explain", "newest").await;
    browser.picture("explain").await;
    browser.press("Close").await;

    opens(&format!("/console/posts/{by_bo}")).await;
    browser.fill("comment", "From the north shore.").await;
    browser.press("Comment").await;
    browser.sees(".comments", "From the north shore.").await;
    let comments = format!("/v1/posts/{by_bo}/comments");
    let first = bo.reads(&comments).await["items"][0]["id"].clone();
    let said = json!({ "text": "Me too.", "parent": first });
    assert_eq!(bo.asks(reqwest::Method::POST, &comments, Some(said)).await.0, 201);
    browser.reload().await;
    browser.press("Show the reply").await;
    browser.sees(".replies", "Me too.").await;
    browser.picture("post").await;

    // On a phone nothing is wider than the window.
    browser.narrow().await;
    for path in
        [format!("/console/posts/{by_bo}"), "/console/feed".to_owned(), "/console/people/@bobo".to_owned()]
    {
        opens(&path).await;
        browser.find(".posts .post").await;
        let over = "return document.documentElement.scrollWidth - innerWidth";
        assert!(browser.run(over).await.as_i64().is_some_and(|over| over <= 0), "{path}");
        browser.picture(&format!("narrow-{}", path.split('/').nth(2).unwrap_or_default())).await;
    }
    opens("/console/feed").await;
    browser.click("[aria-label='Delete this post']").await;
    browser.press("Delete it").await;
    let gone = async || {
        let text = browser.text(".posts").await;
        (!text.contains("Twice") && text.contains("Who has seen")).then_some(())
    };
    crate::app::eventually("the post is gone", gone).await;
    opens("/console/people/@bobo/followers").await;
    browser.sees(".rows", "@ann").await;
    browser.is_clean(&[]).await;
    assert_eq!(browser.origins().await, std::slice::from_ref(&app.url));
}
