//! A TURN server, for who can send the engine no UDP.

use crate::app::TestApp;

/// A TURN server on loopback that ends with the test.
pub(in crate::console) struct Turn {
    child: std::process::Child,
    port: u16,
}

impl Turn {
    fn start(secret: &str) -> Turn {
        // What it takes over TCP it takes over UDP too; a port that is free for both is most likely free again in a moment.
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = std::process::Command::new("turnserver")
            .args([
                "-n",
                "--no-tls",
                "--no-dtls",
                "--no-cli",
                "--listening-ip",
                "127.0.0.1",
                "--relay-ip",
                "127.0.0.1",
            ])
            .args(["--realm", "nova", "--use-auth-secret", "--static-auth-secret", secret])
            .args(["--allow-loopback-peers", "--pidfile", "/dev/null", "--log-file", "/dev/null"])
            .args(["--listening-port", &port.to_string()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("turnserver starts; `scripts/install test` installs it");
        Turn { child, port }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _gone = (self.child.kill(), self.child.wait());
    }
}

/// An engine whose callers are told of a TURN server.
pub(in crate::console) async fn with_turn() -> (Turn, TestApp) {
    let turn = Turn::start("north");
    let url = format!("turn:127.0.0.1:{}?transport=tcp", turn.port);
    let app = TestApp::start_with(|config| {
        config.rtc.turn_urls = vec![url];
        config.rtc.turn_secret = Some(nova::config::Secret::from("north".to_owned()));
    })
    .await;
    (turn, app)
}
