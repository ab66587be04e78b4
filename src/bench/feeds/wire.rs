//! A keep-alive HTTP/1.1 connection that costs little: what is measured is the node and not its client.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::BenchError;

/// Answers are pages of posts; nothing is larger.
const ANSWER_MAX: usize = 4 << 20;

/// One connection.
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
pub(super) struct Answer {
    /// Its body.
    pub(super) body: Vec<u8>,
}

impl Wire {
    /// To the node at `addr`.
    pub(super) async fn dial(addr: SocketAddr) -> Result<Wire, BenchError> {
        let stream = TcpStream::connect(addr).await.map_err(BenchError::because)?;
        stream.set_nodelay(true).map_err(BenchError::because)?;
        Ok(Wire { stream, buffer: Vec::with_capacity(16 << 10) })
    }

    /// Asks and waits for the answer; one that is no success is an error.
    pub(super) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: &str,
    ) -> Result<Answer, BenchError> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: nova\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.map_err(BenchError::because)?;
        self.buffer.clear();
        let head = loop {
            self.read().await?;
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = String::from_utf8_lossy(self.buffer.get(..head).unwrap_or_default()).to_ascii_lowercase();
        let status = text.split(' ').nth(1).and_then(|word| word.parse::<u16>().ok()).unwrap_or(0);
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let length: usize = match (status, length) {
            (204, _) => 0,
            (_, Some(length)) => length,
            _ => return Err(BenchError::because("an answer without a length")),
        };
        while self.buffer.len() < head + length {
            self.read().await?;
        }
        let body = self.buffer.get(head..head + length).unwrap_or_default().to_vec();
        if !(200..300).contains(&status) {
            let said = String::from_utf8_lossy(&body).into_owned();
            return Err(BenchError::because(format!("{method} {path} was answered {status}: {said}")));
        }
        Ok(Answer { body })
    }

    async fn read(&mut self) -> Result<(), BenchError> {
        if self.buffer.len() > ANSWER_MAX {
            return Err(BenchError::because("an answer without an end"));
        }
        match self.stream.read_buf(&mut self.buffer).await.map_err(BenchError::because)? {
            0 => Err(BenchError::because("the node closed a connection")),
            _ => Ok(()),
        }
    }
}
