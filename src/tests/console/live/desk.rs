//! The desk of a stream's owner, and how its pages look on a phone.

use super::*;

#[actix_rt::test]
async fn a_key_is_replaced_a_stream_renamed_and_deleted_at_the_desk() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    let address = visit.makes_a_stream("Friday").await;
    browser.follow("I have kept it, on to the desk").await;

    browser.press("Make a new key…").await;
    browser.press("Replace it").await;
    let key =
        browser.find("#stream-key").await.attr("data-text").await.expect("an attribute").expect("a key");
    assert!(!address.ends_with(&key), "it is another one");
    let (well, _) = publishes(&address).ended().await;
    assert!(!well, "the old key is void");

    browser.fill("title", "Saturday").await;
    browser.click("#record").await;
    browser.press("Save").await;
    browser.sees("h1", "Saturday").await;
    let stream = browser.path().await.rsplit('/').next().expect("an id").to_owned();
    let token = browser.run("return JSON.parse(localStorage.getItem('nova.session')).access_token").await;
    let told = visit.app.http.get(visit.app.at(&format!("/v1/streams/{stream}")));
    let told: Value = told
        .bearer_auth(token.as_str().expect("a token"))
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!((&told["title"], &told["record"]), (&"Saturday".into(), &true.into()));

    browser.press("Delete this stream…").await;
    browser.press("Delete it").await;
    browser.sees("main", "You have none yet").await;
    visit.open(&format!("/console/live/{stream}")).await;
    browser.sees("h1", "There is no such stream").await;
    browser.is_clean(&[404]).await;
}

#[actix_rt::test]
async fn live_pages_fit_a_phone() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    browser.narrow().await;
    visit.signs_up("ann").await;
    let fits = async |page: &str| {
        let over = browser.run("return document.documentElement.scrollWidth - window.innerWidth").await;
        let widest = "return [...document.body.querySelectorAll('*')]
            .filter((element) => element.getBoundingClientRect().right > window.innerWidth)
            .map((element) => element.tagName + '.' + element.className).join(', ')";
        let widest = browser.run(widest).await;
        assert!(over.as_i64().unwrap() <= 0, "{page} is {over} px too wide: {widest}");
    };
    visit.open("/console/live/studio").await;
    browser.fill("title", "Friday, with a title that goes on for longer than a phone is wide").await;
    fits("studio").await;
    browser.press("Make it").await;
    browser.find("#stream-key").await;
    browser.click("[aria-label='Show: Stream key']").await;
    fits("key").await;
    let key = browser.text("#stream-key").await;
    let encoder = publishes(&format!("{}/{key}", browser.text("#ingest-url").await));
    browser.follow("I have kept it, on to the desk").await;
    eventually("figures", PATIENCE, async || browser.has(".findings li").await.then_some(())).await;
    fits("desk").await;
    browser.follow("Watch it as viewers do").await;
    eventually("it plays", PATIENCE, async || browser.has(".stage[data-state=playing]").await.then_some(()))
        .await;
    fits("watch").await;
    visit.open("/console/live").await;
    browser.find(".programme li").await;
    fits("list").await;
    encoder.stop().await;
    browser.is_clean(&[]).await;
}
