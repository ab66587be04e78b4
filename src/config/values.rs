//! The bounds of single values: each parser returns a usable value or what it must look like.

use std::fmt;

/// A value that must not be printed: connection URLs hold passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Secret {
        Secret(value)
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Secret {
        Secret(value.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("set")
    }
}

pub(super) fn parse_origin_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("it must begin with http:// or https:// and name a host".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() || url.path() != "/" && !url.path().is_empty() {
        return Err("it must end after the host and port".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A TURN URI (RFC 7065): `turn:host`, `turns:host:port?transport=tcp`.
pub(super) fn parse_turn_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("turn:").or_else(|| text.strip_prefix("turns:"));
    let rest = rest.ok_or_else(|| "it must begin with turn: or turns:".to_owned())?;
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    if place.is_empty() || place.contains(['/', '@', ' ']) {
        return Err("a host, and maybe a port, must follow".to_owned());
    }
    match query {
        None | Some("transport=udp" | "transport=tcp") => Ok(text.to_owned()),
        Some(_) => Err("only ?transport=udp or ?transport=tcp may follow".to_owned()),
    }
}

pub(super) fn parse_webhook_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| error.to_string())?;
    match matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.fragment().is_none() {
        true => Ok(url.into()),
        false => Err("it must begin with http:// or https:// and name a host".to_owned()),
    }
}

pub(super) fn parse_rtmp_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| error.to_string())?;
    let whole = matches!(url.scheme(), "rtmp" | "rtmps")
        && url.host().is_some_and(|host| !host.to_string().is_empty());
    if !whole || url.path().trim_matches('/').is_empty() || url.query().is_some() || url.fragment().is_some()
    {
        return Err("it must look like rtmp://nova.example/live".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

pub(super) fn parse_network(text: &str) -> Result<ipnet::IpNet, String> {
    let address = text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| "it must be an IP address or a network such as 10.0.0.0/8".to_owned())
}

pub(super) fn parse_secret(text: &str) -> Result<Secret, String> {
    match (16..=1024).contains(&text.len()) {
        true => Ok(Secret::from(text)),
        false => Err("it must have 16 to 1024 bytes; `openssl rand -base64 32` makes one".to_owned()),
    }
}

pub(super) fn parse_any_secret(text: &str) -> Result<Secret, String> {
    match (1..=1024).contains(&text.len()) {
        true => Ok(Secret::from(text)),
        false => Err("it must have 1 to 1024 bytes".to_owned()),
    }
}

pub(super) fn parse_database_url(text: &str) -> Result<Secret, String> {
    match text.parse::<sqlx::postgres::PgConnectOptions>() {
        Ok(_) if text.starts_with("postgres://") || text.starts_with("postgresql://") => {
            Ok(Secret::from(text))
        }
        _ => Err("it must look like postgres://user:password@host:5432/database".to_owned()),
    }
}

pub(super) fn parse_redis_url(text: &str) -> Result<Secret, String> {
    match redis::parse_redis_url(text) {
        Some(_) => Ok(Secret::from(text)),
        None => Err("it must look like redis://[user:password@]host:6379/0 or rediss://…".to_owned()),
    }
}

pub(super) fn parse_namespace(text: &str) -> Result<String, String> {
    let fits = (1..=32).contains(&text.len());
    match fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        true => Ok(text.to_owned()),
        false => Err("it must be 1 to 32 letters, digits, - or _".to_owned()),
    }
}

/// Cores, whole or not.
pub(super) fn parse_cores(text: &str) -> Result<f64, String> {
    let cores: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (0.1..=1_024.0)
        .contains(&cores)
        .then_some(cores)
        .ok_or_else(|| "must lie between 0.1 and 1024".to_owned())
}

pub(super) fn parse_ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("it must be a number from 0.0 to 1.0".to_owned()),
    }
}
