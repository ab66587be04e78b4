//! Where the password of a command comes from.

use std::io::Read;

use clap::Args;

use super::AdminError;

/// Most bytes read from standard input; identity takes fewer, and says how many.
const INPUT_BYTES_MAX: u64 = 1_024;
/// Characters of a made-up password: 100 bits.
const MADE_UP_CHARS: usize = 20;
/// No two of them look alike; 32, so that five bits choose one.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// How a password is given: not as an argument, which everybody on the machine could read.
#[derive(Debug, Args)]
pub struct PasswordInput {
    /// Read the password from standard input (one line) and show none.
    #[arg(long)]
    pub password_stdin: bool,
}

impl PasswordInput {
    /// Reads one, or makes one up.
    pub(super) fn take(&self) -> Result<Chosen, AdminError> {
        match self.password_stdin {
            true => read(std::io::stdin().lock()).map(Chosen::Given).map_err(AdminError::Password),
            false => Ok(Chosen::MadeUp(make_up())),
        }
    }
}

/// A password on its way.
pub(super) enum Chosen {
    /// From standard input.
    Given(String),
    /// Made up, to be shown once.
    MadeUp(String),
}

/// For commands that need none.
impl Default for Chosen {
    fn default() -> Chosen {
        Chosen::Given(String::new())
    }
}

impl Chosen {
    pub(super) fn text(&self) -> &str {
        match self {
            Chosen::Given(text) | Chosen::MadeUp(text) => text,
        }
    }

    pub(super) fn made_up(&self) -> Option<&str> {
        match self {
            Chosen::Given(_) => None,
            Chosen::MadeUp(text) => Some(text),
        }
    }
}

/// One line; its end is not part of the password.
fn read(input: impl Read) -> Result<String, &'static str> {
    let mut bytes = Vec::new();
    input.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|_| "it cannot be read")?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err("it holds more than 1024 bytes");
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line {
        "" => Err("it is empty"),
        line if line.contains(['\n', '\r']) => Err("it holds more than one line"),
        line => Ok(line.to_owned()),
    }
}

fn make_up() -> String {
    let mut bytes = [0_u8; MADE_UP_CHARS];
    getrandom::fill(&mut bytes).expect("an operating system without randomness can run nothing of this");
    let mut text = String::with_capacity(MADE_UP_CHARS + MADE_UP_CHARS / 5);
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 && at % 5 == 0 {
            text.push('-');
        }
        text.push(char::from(ALPHABET.get(usize::from(byte & 31)).copied().unwrap_or(b'0')));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_read_without_its_end() {
        for (input, password) in
            [("a b c\n", "a b c"), (" lead", " lead"), ("crlf\r\n", "crlf"), ("pässword\n", "pässword")]
        {
            assert_eq!(read(input.as_bytes()).as_deref(), Ok(password), "{input:?}");
        }
        assert_eq!(read(&b"\n"[..]), Err("it is empty"));
        assert_eq!(read(&b"one\ntwo\n"[..]), Err("it holds more than one line"));
        assert_eq!(read(&[0xff][..]), Err("it is not UTF-8"));
        assert_eq!(read(std::io::repeat(b'a')), Err("it holds more than 1024 bytes"));
        assert_eq!(read("a".repeat(1_024).as_bytes()).map(|password| password.len()), Ok(1_024));
    }

    #[test]
    fn made_up_passwords_differ_and_can_be_read_out() {
        let (one, other) = (make_up(), make_up());
        assert_ne!(one, other);
        assert_eq!(one.split('-').map(str::len).collect::<Vec<_>>(), [5, 5, 5, 5], "{one}");
        assert!(one.bytes().all(|byte| byte == b'-' || ALPHABET.contains(&byte)), "{one}");
    }
}
