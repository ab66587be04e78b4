//! Chat in the console: people in real browsers talk, one of them through a network that is cut and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use fantoccini::key::Key;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::app::{TestApp, eventually};
use crate::browser::Browser;

/// What people type.
const PASSWORD: &str = "harbour lantern quartz";
/// A browser that lost its connection waits a few seconds before it tries again, a little longer each time.
const RETURN: Duration = Duration::from_secs(40);

/// The way from a browser to the node, which a test can cut.
struct Path {
    url: String,
    state: Arc<PathState>,
}

#[derive(Default)]
struct PathState {
    /// [`OPEN`], [`NO_SOCKETS`] or [`CUT`].
    mode: AtomicU8,
    /// Rung when what goes through has to end.
    ends: Notify,
}

const OPEN: u8 = 0;
/// Pages and calls pass, WebSockets do not.
const NO_SOCKETS: u8 = 1;
const CUT: u8 = 2;
/// Enough of a request to read its first line.
const FIRST_BYTES: usize = 64;

impl Path {
    async fn to(app: &TestApp) -> Path {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let state = Arc::new(PathState::default());
        let (node, shared) = (app.http_addr, state.clone());
        actix_rt::spawn(async move {
            while let Ok((browser, _)) = listener.accept().await {
                actix_rt::spawn(carry(browser, node, shared.clone()));
            }
        });
        Path { url, state }
    }

    /// From now on, and everything that is under way ends.
    fn becomes(&self, mode: u8) {
        self.state.mode.store(mode, Ordering::SeqCst);
        self.state.ends.notify_waiters();
    }
}

async fn carry(mut browser: TcpStream, node: std::net::SocketAddr, state: Arc<PathState>) {
    let mut ends = std::pin::pin!(state.ends.notified());
    // Listens from here on, also before the first wait.
    ends.as_mut().enable();
    let mode = state.mode.load(Ordering::SeqCst);
    if mode == CUT {
        return;
    }
    let mut first = [0; FIRST_BYTES];
    let Ok(length) = browser.read(&mut first).await else { return };
    if mode == NO_SOCKETS && first[..length].starts_with(b"GET /v1/ws") {
        return;
    }
    let Ok(mut engine) = TcpStream::connect(node).await else { return };
    if tokio::io::AsyncWriteExt::write_all(&mut engine, &first[..length]).await.is_err() {
        return;
    }
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut browser, &mut engine) => {}
        () = &mut ends => {}
    }
}

/// Somebody at a browser of their own.
struct Person {
    name: &'static str,
    url: String,
    browser: Browser,
}

impl Person {
    /// Signs up through the page.
    async fn arrives(name: &'static str, url: &str) -> Person {
        let person = Person { name, url: url.to_owned(), browser: Browser::start().await };
        let browser = &person.browser;
        person.opens("/console/signup").await;
        browser.fill("username", name).await;
        browser.fill("email", &format!("{name}@example.org")).await;
        browser.fill("password", PASSWORD).await;
        browser.press("Create the account").await;
        browser.sees("h1", &format!("Hello, {name}")).await;
        person
    }

    async fn opens(&self, path: &str) {
        self.browser.open(&format!("{}{path}", self.url)).await;
    }

    /// Begins a conversation with one other person and ends in it.
    async fn begins_with(&self, other: &str) {
        self.browser.follow("Chat").await;
        self.browser.click("#new-conversation").await;
        self.browser.fill("members", other).await;
        self.browser.press("Begin").await;
        self.browser.find("#message").await;
    }

    /// Opens the conversation that stands first in the inbox.
    async fn opens_the_first(&self) {
        self.browser.click(".talks li:first-child a").await;
        self.browser.find("#message").await;
    }

    /// Types, without sending.
    async fn types(&self, words: &str) {
        let field = self.browser.find("#message").await;
        field.send_keys(words).await.expect("the field takes text");
    }

    async fn says(&self, words: &str) {
        self.types(&format!("{words}{}", char::from(Key::Enter))).await;
    }

    /// Waits until these words stand among the messages.
    async fn hears(&self, words: &str) {
        self.browser.sees(".entries", words).await;
    }

    /// What stands in the conversation, top to bottom: messages alone.
    async fn texts(&self) -> Vec<String> {
        let script =
            "return [...document.querySelectorAll('.entry .bubble > .words')].map((one) => one.innerText)";
        let texts = self.browser.run(script).await;
        texts.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    }

    /// Waits until exactly these messages stand there, in this order.
    async fn has(&self, wanted: &[&str]) {
        let deadline = tokio::time::Instant::now() + RETURN;
        loop {
            let texts = self.texts().await;
            if texts == wanted {
                return;
            }
            let late = tokio::time::Instant::now() > deadline;
            assert!(!late, "{} has {texts:?} and not {wanted:?}", self.name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Puts the focus on the message with these words and presses the button of that name beside it.
    async fn does(&self, what: &str, words: &str) {
        let script = format!(
            "const entry = [...document.querySelectorAll('.entry')].find((one) => one.innerText.includes({}));
             entry.focus(); return entry.dataset.seq",
            json!(words)
        );
        let seq = self.browser.run(&script).await;
        let seq = seq.as_str().unwrap();
        self.browser.click(&format!(".entry[data-seq='{seq}'] .tools [aria-label={}]", json!(what))).await;
    }

    /// Waits until the connection is told to be as it is.
    async fn is_told(&self, words: &str) {
        self.browser.sees(".connection", words).await;
    }

    /// Waits until nothing is told of the connection, which then stands, and nothing waits any more.
    async fn is_back(&self) {
        let deadline = tokio::time::Instant::now() + RETURN;
        while self.browser.has(".connection").await || self.browser.has(".unsent").await {
            assert!(tokio::time::Instant::now() < deadline, "{} does not come back", self.name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[actix_rt::test]
async fn two_people_talk_and_see_each_other_write_read_change_and_react() {
    let app = TestApp::start().await;
    let (ann, bodo) = (Person::arrives("ann", &app.url).await, Person::arrives("bodo", &app.url).await);
    ann.begins_with("bodo").await;
    ann.hears("Nothing was said yet").await;
    ann.says("hello bodo").await;
    ann.has(&["hello bodo"]).await;

    // It waits for him in the inbox, counted, until he looks at it.
    bodo.opens("/console/chat").await;
    bodo.browser.sees(".talks", "hello bodo").await;
    bodo.browser.sees(".talks .count", "1").await;
    assert!(!ann.browser.has("[data-mark=Read]").await, "nobody has read it yet");
    bodo.opens_the_first().await;
    bodo.has(&["hello bodo"]).await;
    ann.browser.find("[data-mark=Read]").await;
    eventually("nothing unread", async || (!bodo.browser.has(".talks .count").await).then_some(())).await;

    bodo.types("I am").await;
    ann.browser.sees(".state", "bodo is writing").await;
    bodo.says(" here <b>&amp;</b> https://example.org/x.").await;
    let answer = "I am here <b>&amp;</b> https://example.org/x.";
    ann.has(&["hello bodo", answer]).await;
    eventually("the writing is over", async || {
        (!ann.browser.text(".state").await.contains("writing")).then_some(())
    })
    .await;
    assert!(!ann.browser.has(".words b").await, "what people write is never HTML");
    let link = ann.browser.run("return document.querySelector('.words a').href").await;
    assert_eq!(link, "https://example.org/x");
    // What came while it was looked at is read out.
    ann.browser.sees("[role=status].unseen", "bodo: I am here").await;

    // A new line is no sending; the arrow brings one's last message back to be changed.
    let line = format!("one{}{}{}two", char::from(Key::Shift), char::from(Key::Enter), char::from(Key::Null));
    ann.says(&line).await;
    bodo.has(&["hello bodo", answer, "one\ntwo"]).await;
    ann.types(&char::from(Key::Up).to_string()).await;
    ann.browser.sees(".aim", "Changing your message").await;
    ann.says(" three").await;
    bodo.has(&["hello bodo", answer, "one\ntwo three"]).await;
    bodo.browser.sees(".entry:last-child .meta", "edited").await;

    bodo.does("React", "two three").await;
    bodo.browser.click(".tools [aria-label='React with 👍']").await;
    ann.browser.sees(".entry:last-child .reactions", "1").await;
    ann.browser.click(".reactions button").await;
    bodo.browser.sees(".entry:last-child .reactions", "2").await;
    bodo.browser.click(".reactions button").await;
    ann.browser.sees(".entry:last-child .reactions", "1").await;

    bodo.does("Reply", "hello bodo").await;
    bodo.says("hello yourself").await;
    ann.browser.sees(".entry:last-child .quote", "hello bodo").await;

    ann.does("Delete", "two three").await;
    ann.browser.press("Delete it").await;
    let after = ["hello bodo", answer, "Message deleted", "hello yourself"];
    bodo.has(&after).await;
    ann.has(&after).await;
    bodo.browser.reload().await;
    bodo.has(&after).await;
    ann.browser.is_clean(&[]).await;
    bodo.browser.is_clean(&[]).await;
    assert_eq!(ann.browser.origins().await, std::slice::from_ref(&app.url));
}

#[actix_rt::test]
async fn who_is_cut_off_comes_back_and_nothing_is_lost_and_nothing_twice() {
    let app = TestApp::start().await;
    let path = Path::to(&app).await;
    let (ann, bodo) = (Person::arrives("ann", &app.url).await, Person::arrives("bodo", &path.url).await);
    ann.begins_with("bodo").await;
    ann.says("one").await;
    bodo.opens("/console/chat").await;
    bodo.opens_the_first().await;
    bodo.has(&["one"]).await;

    path.becomes(CUT);
    bodo.is_told("You are offline").await;
    for words in ["two", "three"] {
        ann.says(words).await;
    }
    bodo.says("from afar").await;
    bodo.says("and again").await;
    bodo.is_told("2 messages wait").await;
    bodo.has(&["one", "from afar", "and again"]).await;
    ann.has(&["one", "two", "three"]).await;

    path.becomes(OPEN);
    bodo.is_back().await;
    let all = ["one", "two", "three", "from afar", "and again"];
    bodo.has(&all).await;
    ann.has(&all).await;

    // Cut once more in the middle of saying much.
    let many: Vec<String> = (0..20).map(|nth| format!("word {nth}")).collect();
    for (nth, words) in many.iter().enumerate() {
        if nth == 7 {
            path.becomes(CUT);
        }
        bodo.says(words).await;
    }
    path.becomes(OPEN);
    bodo.is_back().await;
    let all: Vec<&str> = all.into_iter().chain(many.iter().map(String::as_str)).collect();
    bodo.has(&all).await;
    ann.has(&all).await;
    bodo.browser.reload().await;
    bodo.has(&all).await;
}

#[actix_rt::test]
async fn what_is_unsent_survives_the_page() {
    let app = TestApp::start().await;
    let path = Path::to(&app).await;
    let (ann, bodo) = (Person::arrives("ann", &app.url).await, Person::arrives("bodo", &path.url).await);
    bodo.begins_with("ann").await;
    bodo.says("one").await;
    bodo.is_back().await;
    ann.opens("/console/chat").await;
    ann.opens_the_first().await;
    ann.has(&["one"]).await;

    path.becomes(CUT);
    bodo.is_told("You are offline").await;
    bodo.says("two").await;
    bodo.says("three").await;
    bodo.is_told("2 messages wait").await;
    // The page is gone before the network is back; what was written is not.
    bodo.browser.open("about:blank").await;
    path.becomes(OPEN);
    ann.has(&["one"]).await;
    bodo.opens("/console/chat").await;
    ann.has(&["one", "two", "three"]).await;
    bodo.opens_the_first().await;
    bodo.is_back().await;
    bodo.has(&["one", "two", "three"]).await;
    let kept = bodo
        .browser
        .run("return Object.keys(localStorage).filter((key) => key.startsWith('nova.unsent'))")
        .await;
    assert_eq!(kept, json!([]), "nothing waits any more");
}

#[actix_rt::test]
async fn where_no_websocket_gets_through_people_talk_all_the_same() {
    let app = TestApp::start().await;
    let path = Path::to(&app).await;
    path.becomes(NO_SOCKETS);
    let (ann, bodo) = (Person::arrives("ann", &app.url).await, Person::arrives("bodo", &path.url).await);
    bodo.begins_with("ann").await;
    bodo.is_told("No live connection").await;
    bodo.says("one").await;
    ann.opens("/console/chat").await;
    ann.browser.sees(".talks", "one").await;
    ann.opens_the_first().await;
    ann.says("two").await;
    bodo.has(&["one", "two"]).await;
    bodo.does("Edit", "one").await;
    bodo.says(" more").await;
    ann.has(&["one more", "two"]).await;

    path.becomes(OPEN);
    bodo.is_back().await;
    bodo.says("three").await;
    ann.has(&["one more", "two", "three"]).await;
    bodo.has(&["one more", "two", "three"]).await;
}

#[actix_rt::test]
async fn history_is_read_upwards_without_a_jump() {
    let app = TestApp::start().await;
    let (ann, bodo) = (Person::arrives("ann", &app.url).await, Person::arrives("bodo", &app.url).await);
    ann.begins_with("bodo").await;
    let conversation = ann.browser.path().await;
    let conversation = conversation.rsplit('/').next().unwrap();
    let token = ann.browser.run("return JSON.parse(localStorage.getItem('nova.session')).access_token").await;
    for nth in 1..=130 {
        let message = json!({ "client_msg_id": format!("m{nth}"), "text": format!("message {nth}") });
        let call = app.http.post(app.at(&format!("/v1/conversations/{conversation}/messages")));
        let answer = call.bearer_auth(token.as_str().unwrap()).json(&message).send().await.unwrap();
        assert_eq!(answer.status(), 201);
    }

    bodo.opens("/console/chat").await;
    bodo.opens_the_first().await;
    bodo.hears("message 130").await;
    // Reading begins where the unread does, as far as it is loaded, and what stands above is fetched before it is reached.
    bodo.browser.find(".new-line").await;
    bodo.browser.find(".entry[data-seq='31']").await;
    assert!(!bodo.browser.has(".entry[data-seq='30']").await, "no more than is needed");
    let place =
        "return Math.round(document.querySelector(\".entry[data-seq='35']\").getBoundingClientRect().top)";
    let up = "const box = document.querySelector('.scroll');
        box.scrollTop = document.querySelector(\".entry[data-seq='35']\").offsetTop - 20;";
    let before = bodo.browser.run(&format!("{up} {place}")).await;
    bodo.browser.find(".entry[data-seq='1']").await;
    assert_eq!(bodo.browser.run(place).await, before, "what is read stays where it is");
    eventually("the beginning", async || (!bodo.browser.has(".older").await).then_some(())).await;

    // Who reads what is old is not moved by what is new, and is told of it.
    ann.says("are you there?").await;
    bodo.browser.sees(".to-end", "1 new message").await;
    bodo.browser.click(".to-end").await;
    bodo.browser.sees(".entry:last-child", "are you there?").await;
    ann.browser.find(".entry:last-child [data-mark=Read]").await;
    bodo.browser.is_clean(&[]).await;
}

#[actix_rt::test]
async fn a_group_is_made_named_joined_and_left() {
    let app = TestApp::start().await;
    let (ann, bodo) = (Person::arrives("ann", &app.url).await, Person::arrives("bodo", &app.url).await);
    let account = json!({ "username": "cleo", "email": "cleo@example.org", "password": PASSWORD });
    let cleo = app.http.post(app.at("/v1/accounts")).json(&account).send().await.unwrap();
    assert_eq!(cleo.status(), 201);

    ann.browser.follow("Chat").await;
    ann.browser.click("#new-conversation").await;
    ann.browser.click(".choice label:last-child").await;
    ann.browser.fill("title", "Reading circle").await;
    ann.browser.fill("members", "bodo, nobody.here").await;
    ann.browser.press("Begin").await;
    ann.browser.sees("dialog", "Nobody is called @nobody.here").await;
    ann.browser.fill("members", "bodo").await;
    ann.browser.press("Begin").await;
    ann.browser.sees("h1", "Reading circle").await;
    ann.browser.sees(".entries", "You made this group").await;
    bodo.opens("/console/chat").await;
    bodo.opens_the_first().await;
    bodo.browser.sees(".entries", "ann made this group").await;

    // A name is offered while it is typed, and whoever is named sees it.
    ann.types("do come @bo").await;
    ann.browser.sees("[role=listbox]", "@bodo").await;
    ann.says("").await;
    ann.says("").await;
    bodo.browser.sees(".bubble.named .mention.me", "@bodo").await;

    ann.browser.click("#details").await;
    ann.browser.fill("user", "cleo").await;
    ann.browser.press("Add").await;
    ann.browser.sees(".members", "cleo").await;
    bodo.browser.sees(".entries", "ann added cleo").await;
    bodo.browser.sees(".state", "3 members").await;
    ann.browser.fill("title", "Writing circle").await;
    ann.browser.press("Save the title").await;
    bodo.browser.sees("h1", "Writing circle").await;
    ann.browser.click("[aria-label='Make bodo an administrator']").await;
    bodo.browser.sees(".entries", "ann made you an administrator").await;
    ann.browser.click("[aria-label='Remove cleo']").await;
    bodo.browser.sees(".entries", "ann removed cleo").await;
    ann.browser.press("Mute").await;
    ann.browser.sees("dialog", "Let it speak again").await;
    ann.browser.press("Close").await;
    ann.browser.sees("h1", "(muted)").await;

    bodo.browser.click("#details").await;
    bodo.browser.press("Leave…").await;
    bodo.browser.press("Leave the group").await;
    bodo.browser.sees(".inbox", "No conversations yet").await;
    assert_eq!(bodo.browser.path().await, "/console/chat");
    ann.browser.sees(".entries", "bodo left").await;
    ann.browser.is_clean(&[404]).await;
    // What was under way when he left is refused.
    bodo.browser.is_clean(&[403]).await;
}
