//! What is sealed at rest, and with what.
//!
//! Private signing keys and authenticator secrets lie in PostgreSQL sealed with AES-256-GCM under one *data key* per database, so that a
//! dump, a backup or a replica gives nobody a token. The data key lies there too, sealed with a secret that is not in the database. Every
//! node of a database must come to the same secret, and an operator should have to set none, so there are four, best first:
//!
//! 1. `secret` (`NOVA_SECRET`), when it is configured.
//! 2. The file `secret` in the data directory, made at the first start, when the engine runs its own PostgreSQL: cluster and secret are
//!    side by side on the disk, and only one engine uses them.
//! 3. The password in `DATABASE_URL`, when PostgreSQL is external: all nodes have it, and a dump has it not (a dump of roles has a
//!    salted hash of it, so it must not be guessable).
//! 4. Nothing, when the URL has no password: then who reads the database reads the keys, and a warning says so at every start.
//!
//! Whoever may *write* to the database is not kept out by any of this, nor could they be: they can replace a password hash.
//! The data key is sealed anew when a better secret is there. When the secret was changed, `secret_was` (`NOVA_SECRET_WAS`) opens it once
//! more.

use std::fmt;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;

use crate::config::Config;

/// Work that makes guessing a configured secret dear and a start no later; a secret should be random all the same.
const DERIVE_ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).expect("not zero");
/// What sealed bytes begin with, so that another way may follow.
const VERSION: u8 = 1;
const KEY_LEN: usize = 32;
const SALT_LEN: usize = 16;
/// The name of the file in the data directory.
const FILE_NAME: &str = "secret";

/// Sealed bytes that do not open: damaged, moved from another row, or sealed with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what is sealed does not open with the key of this database")]
pub struct SealBroken;

/// Why the data key cannot be had; each prints as one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file in the data directory cannot be read or made.
    #[error("cannot read or write the secret of this engine, {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what was made.
    #[error(
        "the secret of this engine, {path}, is damaged: put the file from a backup of the data directory there"
    )]
    FileDamaged {
        /// The file.
        path: String,
    },
    /// The data key was sealed with something this node does not have.
    #[error(
        "the keys in this database are sealed with {with}, and this node has another: {remedy}",
        with = .sealed_by.words(), remedy = .sealed_by.remedy()
    )]
    OtherSecret {
        /// What with.
        sealed_by: SealedBy,
    },
}

/// What the data key is sealed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SealedBy {
    /// Nothing.
    Open,
    /// The password of the database's user.
    Password,
    /// The file in the data directory.
    File,
    /// The configured secret.
    Configured,
}

impl SealedBy {
    const ALL: [SealedBy; 4] = [SealedBy::Open, SealedBy::Password, SealedBy::File, SealedBy::Configured];

    /// As the database names it.
    pub fn as_str(self) -> &'static str {
        match self {
            SealedBy::Open => "open",
            SealedBy::Password => "password",
            SealedBy::File => "file",
            SealedBy::Configured => "configured",
        }
    }

    /// Reads what [`as_str`](Self::as_str) wrote.
    pub fn read(text: &str) -> Option<SealedBy> {
        SealedBy::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    fn words(self) -> &'static str {
        match self {
            SealedBy::Open => "nothing",
            SealedBy::Password => "the password of the database's user",
            SealedBy::File => "the file `secret` of the data directory they were made in",
            SealedBy::Configured => "the option `secret`",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            SealedBy::Open => "put the table data_key from a backup back",
            SealedBy::Password => {
                "if the password was changed, start once with the old one as NOVA_SECRET_WAS"
            }
            SealedBy::File => {
                "copy that file here, or set NOVA_SECRET on all nodes and start once where the file is"
            }
            SealedBy::Configured => {
                "set NOVA_SECRET to the same text on all nodes; if it was changed, start once with the old one as NOVA_SECRET_WAS"
            }
        }
    }
}

/// The secrets this node has for a data key, and the text it was sealed with before.
pub struct Secrets {
    has: Vec<(SealedBy, Vec<u8>)>,
    was: Option<Vec<u8>>,
}

impl Secrets {
    /// Gathers them; makes the file in the data directory when the engine runs its own PostgreSQL and has none.
    pub fn gather(config: &Config) -> Result<Secrets, SealError> {
        let mut has = vec![(SealedBy::Open, Vec::new())];
        match &config.database.database_url {
            Some(url) => {
                let password =
                    url::Url::parse(url.expose()).ok().and_then(|url| url.password().map(ToOwned::to_owned));
                has.extend(password.map(|password| (SealedBy::Password, password.into_bytes())));
                has.extend(read_file(&config.data_dir)?.map(|secret| (SealedBy::File, secret)));
            }
            None => has.push((SealedBy::File, read_or_make_file(&config.data_dir)?)),
        }
        if let Some(secret) = &config.identity.secret {
            has.push((SealedBy::Configured, secret.expose().as_bytes().to_vec()));
        }
        let was = config.identity.secret_was.as_ref().map(|secret| secret.expose().as_bytes().to_vec());
        Ok(Secrets { has, was })
    }

    /// The best there is here to seal a new data key with. A file that only happens to lie in the data directory of one node is not.
    fn best(&self, is_embedded: bool) -> (SealedBy, &[u8]) {
        let usable = self.has.iter().filter(|(kind, _)| is_embedded || *kind != SealedBy::File);
        usable.max_by_key(|(kind, _)| *kind).map_or((SealedBy::Open, &[]), |(kind, secret)| (*kind, secret))
    }
}

/// A data key as the database keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedDataKey {
    /// What it is sealed with.
    pub sealed_by: SealedBy,
    /// Makes the same secret another key in another database.
    pub salt: Vec<u8>,
    /// The sealed key.
    pub sealed: Vec<u8>,
}

/// Seals and opens what lies in the database.
pub struct Sealer {
    key: LessSafeKey,
    bytes: [u8; KEY_LEN],
}

impl Sealer {
    /// A new data key.
    pub fn generate() -> Sealer {
        Sealer::from_bytes(random())
    }

    fn from_bytes(bytes: [u8; KEY_LEN]) -> Sealer {
        let key = UnboundKey::new(&AES_256_GCM, &bytes).expect("the key has the length of AES-256");
        Sealer { key: LessSafeKey::new(key), bytes }
    }

    /// Seals `plain` for one place: `place` names table, column and row, and opens nowhere else.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Vec<u8> {
        // Random nonces repeat with a chance of 2^-32 only after 2^32 seals (NIST SP 800-38D); this key makes thousands.
        let nonce: [u8; NONCE_LEN] = random();
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(&nonce);
        let mut body = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(place.as_bytes()), &mut body)
            .expect("what is sealed is short");
        sealed.append(&mut body);
        sealed
    }

    /// Opens what was sealed for `place`.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, SealBroken> {
        let (version, rest) = sealed.split_first().ok_or(SealBroken)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealBroken)?;
        if *version != VERSION {
            return Err(SealBroken);
        }
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain =
            self.key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut body).map_err(|_| SealBroken)?;
        Ok(plain.to_vec())
    }

    /// A key for another purpose, the same on every node of this database: cursors, stored answers.
    pub fn derive(&self, purpose: &str) -> [u8; KEY_LEN] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.bytes);
        let tag = ring::hmac::sign(&key, format!("nova derive {purpose}").as_bytes());
        tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }

    /// The data key, sealed with the best secret there is here.
    pub fn to_sealed(&self, secrets: &Secrets, is_embedded: bool) -> SealedDataKey {
        let (sealed_by, secret) = secrets.best(is_embedded);
        let salt: [u8; SALT_LEN] = random();
        let sealed = derive(sealed_by, secret, &salt).seal(PLACE, &self.bytes);
        SealedDataKey { sealed_by, salt: salt.to_vec(), sealed }
    }

    /// Opens a data key with one of the secrets; also says whether it should be sealed anew, with a better one.
    pub fn from_sealed(
        kept: &SealedDataKey,
        secrets: &Secrets,
        is_embedded: bool,
    ) -> Result<(Sealer, bool), SealError> {
        let open = |secret: &[u8]| {
            let plain = derive(kept.sealed_by, secret, &kept.salt).open(PLACE, &kept.sealed).ok()?;
            <[u8; KEY_LEN]>::try_from(plain).ok().map(Sealer::from_bytes)
        };
        let now = secrets
            .has
            .iter()
            .filter(|(kind, _)| *kind == kept.sealed_by)
            .find_map(|(_, secret)| open(secret));
        if let Some(sealer) = now {
            return Ok((sealer, kept.sealed_by < secrets.best(is_embedded).0));
        }
        let before = secrets.was.as_deref().and_then(open);
        before.map(|sealer| (sealer, true)).ok_or(SealError::OtherSecret { sealed_by: kept.sealed_by })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(***)")
    }
}

const PLACE: &str = "data_key";

fn derive(kind: SealedBy, secret: &[u8], salt: &[u8]) -> Sealer {
    let rounds = match kind {
        // Random or nothing: there is nothing to make dear.
        SealedBy::Open | SealedBy::File => NonZeroU32::MIN,
        SealedBy::Password | SealedBy::Configured => DERIVE_ROUNDS,
    };
    let mut key = [0; KEY_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, secret, &mut key);
    Sealer::from_bytes(key)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("an operating system without randomness can run nothing of this");
    bytes
}

fn read_file(data_dir: &Path) -> Result<Option<Vec<u8>>, SealError> {
    let path = data_dir.join(FILE_NAME);
    match std::fs::read(&path) {
        Ok(bytes) if bytes.len() == KEY_LEN => Ok(Some(bytes)),
        Ok(_) => Err(SealError::FileDamaged { path: path.display().to_string() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SealError::File { path: path.display().to_string(), source }),
    }
}

fn read_or_make_file(data_dir: &Path) -> Result<Vec<u8>, SealError> {
    if let Some(bytes) = read_file(data_dir)? {
        return Ok(bytes);
    }
    let path = data_dir.join(FILE_NAME);
    let failed = |source| SealError::File { path: path.display().to_string(), source };
    let bytes: [u8; KEY_LEN] = random();
    std::fs::create_dir_all(data_dir).map_err(failed)?;
    // Complete or absent, also after a power cut: what is sealed with half a secret would never open again.
    let draft = data_dir.join(format!("{FILE_NAME}.{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(failed)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&draft, &path).map_err(failed)?;
    std::fs::File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn secrets(has: &[(SealedBy, &str)], was: Option<&str>) -> Secrets {
        let mut all = vec![(SealedBy::Open, Vec::new())];
        all.extend(has.iter().map(|(kind, text)| (*kind, text.as_bytes().to_vec())));
        Secrets { has: all, was: was.map(|text| text.as_bytes().to_vec()) }
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let sealer = Sealer::generate();
        let sealed = sealer.seal("totp:ann", b"JBSWY3DPEHPK3PXP");
        assert_eq!(sealer.open("totp:ann", &sealed).as_deref(), Ok(&b"JBSWY3DPEHPK3PXP"[..]));
        assert_eq!(sealer.open("totp:bo", &sealed), Err(SealBroken));
        assert_eq!(Sealer::generate().open("totp:ann", &sealed), Err(SealBroken));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(sealer.open("totp:ann", &damaged), Err(SealBroken));
            assert_eq!(sealer.open("totp:ann", &sealed[..at]), Err(SealBroken));
        }
        assert_ne!(sealed, sealer.seal("totp:ann", b"JBSWY3DPEHPK3PXP"));
    }

    #[test]
    fn nodes_with_the_same_secret_come_to_the_same_data_key() {
        let [one, two] =
            [secrets(&[(SealedBy::Password, "pw")], None), secrets(&[(SealedBy::Password, "pw")], None)];
        let sealer = Sealer::generate();
        let kept = sealer.to_sealed(&one, false);
        assert_eq!(kept.sealed_by, SealedBy::Password);
        let (other, reseal) = Sealer::from_sealed(&kept, &two, false).unwrap();
        assert!(other.bytes == sealer.bytes && !reseal);
    }

    #[test]
    fn a_changed_secret_is_a_sentence_until_the_old_one_is_named() {
        let kept = Sealer::generate().to_sealed(&secrets(&[(SealedBy::Configured, "old")], None), false);
        let now = secrets(&[(SealedBy::Configured, "new")], None);
        let refused = Sealer::from_sealed(&kept, &now, false).unwrap_err();
        assert!(refused.to_string().contains("NOVA_SECRET_WAS"), "{refused}");
        let both = secrets(&[(SealedBy::Configured, "new")], Some("old"));
        let (sealer, reseal) = Sealer::from_sealed(&kept, &both, false).unwrap();
        assert!(reseal);
        let kept = sealer.to_sealed(&both, false);
        assert!(Sealer::from_sealed(&kept, &now, false).is_ok());
    }

    #[test]
    fn a_better_secret_takes_over() {
        let kept = Sealer::generate().to_sealed(&secrets(&[], None), false);
        assert_eq!(kept.sealed_by, SealedBy::Open);
        let configured = secrets(&[(SealedBy::Password, "pw"), (SealedBy::Configured, "secret")], None);
        let (sealer, reseal) = Sealer::from_sealed(&kept, &configured, false).unwrap();
        assert!(reseal);
        assert_eq!(sealer.to_sealed(&configured, false).sealed_by, SealedBy::Configured);
    }

    #[test]
    fn a_file_of_one_node_seals_nothing_that_others_must_open() {
        let has_file = secrets(&[(SealedBy::Password, "pw"), (SealedBy::File, "file")], None);
        assert_eq!(has_file.best(false).0, SealedBy::Password);
        assert_eq!(has_file.best(true).0, SealedBy::File);
    }

    #[test]
    fn the_file_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let made = read_or_make_file(dir.path()).unwrap();
        assert_eq!(read_or_make_file(dir.path()).unwrap(), made);
        let path = dir.path().join(FILE_NAME);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(read_or_make_file(dir.path()), Err(SealError::FileDamaged { .. })));
    }
}
