//! What others see of Ann.

use serde_json::json;

use crate::accounts::{ask, get, registers};
use crate::app::TestApp;

#[actix_rt::test]
async fn a_profile_is_found_by_id_and_name_and_never_shows_the_address() {
    let app = TestApp::start().await;
    let (ann, bo) = (registers(&app, "Ann").await, registers(&app, "bobo").await);
    for path in
        [format!("/v1/users/{}", ann.user()), "/v1/users/@ann".to_owned(), "/v1/users/@ANN".to_owned()]
    {
        let (status, profile) = get(&app, &path, &bo.token()).await;
        assert_eq!(status, 200, "{path}: {profile}");
        assert_eq!((&profile["id"], &profile["username"]), (&json!(ann.user()), &json!("Ann")));
        assert!(!profile.to_string().contains("example.org"), "{profile}");
    }
}

#[actix_rt::test]
async fn what_names_nobody_is_404_and_strangers_are_401() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let nobody = nova_actors::id::UserId::generate();
    for user in [
        nobody.to_string().as_str(),
        "@nobody1",
        "@",
        "ann",
        "user_",
        "user_zzzz",
        "%00",
        "@%F0%9F%92%A9",
        "room_01h455vb4pex5vsknk084sn02q",
    ] {
        let (status, problem) = get(&app, &format!("/v1/users/{user}"), &ann.token()).await;
        assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("not_found")), "{user}");
    }
    let (status, problem) = ask(&app, reqwest::Method::GET, "/v1/users/@ann", None, None).await;
    assert_eq!((status.as_u16(), &problem["code"]), (401, &json!("unauthenticated")));
}

#[actix_rt::test]
async fn who_is_suspended_is_out_and_not_shown() {
    let app = TestApp::start().await;
    let (ann, bo) = (registers(&app, "ann").await, registers(&app, "bobo").await);
    let user = ann.user().parse().unwrap();
    assert_eq!(app.engine.identity.suspend(user, true).await.unwrap(), 1);
    assert_eq!(get(&app, "/v1/me", &ann.token()).await.1["code"], "account_suspended");
    assert_eq!(get(&app, "/v1/users/@ann", &bo.token()).await.0, 404);
    let right = json!({ "login": "ann", "password": crate::accounts::PASSWORD });
    assert_eq!(
        crate::accounts::post(&app, "/v1/sessions", None, right.clone()).await.1["code"],
        "account_suspended"
    );
    let wrong = json!({ "login": "ann", "password": "not it" });
    assert_eq!(
        crate::accounts::post(&app, "/v1/sessions", None, wrong).await.1["code"],
        "invalid_credentials"
    );
    app.engine.identity.suspend(user, false).await.unwrap();
    assert_eq!(crate::accounts::post(&app, "/v1/sessions", None, right).await.0, 201);
}
