//! The people of a measure: users, their devices with tokens, and their conversations.
//!
//! Hashing a password takes tens of milliseconds on purpose, so nine thousand devices would take minutes to log in, which nobody wants
//! to measure here. In an installation of its own the people are therefore written straight into the database, without a password, and
//! their access tokens are signed with the installation's key: the node verifies those as it does all others. A node somebody else
//! runs is given people over its REST API like by anybody, as quickly as it lets strangers in.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use nova_actors::id::{ConversationId, DeviceId, UserId};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::sleep;
use uuid::Uuid;

use super::BenchError;
use crate::app::Errand;

/// Rows of one statement.
const ROWS: usize = 1_000;
/// Members one call may bring into a group.
const INVITED: usize = 1_000;

/// Somebody's device.
#[derive(Debug, Clone)]
pub struct Device {
    /// Whose.
    pub user: UserId,
    /// What it says `connect` with.
    pub token: String,
}

/// Who takes part.
#[derive(Debug, Default, Clone)]
pub struct People {
    /// Their devices.
    pub devices: Vec<Device>,
}

/// Where people come from.
pub enum Town<'a> {
    /// An installation of our own.
    Own(&'a Errand),
    /// A node of somebody else.
    Foreign {
        /// Its HTTP door.
        addr: SocketAddr,
        /// Access tokens of devices, where there are some already.
        tokens: Vec<String>,
    },
}

impl Town<'_> {
    /// A foreign town, whose devices' tokens are in a file, one a line, if they are.
    pub fn foreign(addr: SocketAddr, tokens: Option<&Path>) -> Result<Self, BenchError> {
        let tokens = match tokens {
            None => Vec::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(BenchError::because)?;
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
            }
        };
        Ok(Town::Foreign { addr, tokens })
    }

    /// `users` people with `devices` devices each, in that order.
    pub async fn people(&self, users: usize, devices: usize) -> Result<People, BenchError> {
        match self {
            Town::Own(errand) => write_people(errand, users, devices).await,
            Town::Foreign { addr, tokens } if tokens.is_empty() => register(*addr, users, devices).await,
            Town::Foreign { addr, tokens } => known(*addr, tokens, users * devices).await,
        }
    }

    /// A conversation of each of these groups of users; two make a direct one.
    pub async fn conversations(&self, of: &[Vec<Device>]) -> Result<Vec<ConversationId>, BenchError> {
        match self {
            Town::Own(errand) => write_conversations(errand, of).await,
            Town::Foreign { addr, .. } => {
                let rest = Rest::new(*addr)?;
                let mut ids = Vec::new();
                for members in of {
                    ids.push(rest.gather(members).await?);
                }
                Ok(ids)
            }
        }
    }
}

async fn write_people(errand: &Errand, users: usize, devices: usize) -> Result<People, BenchError> {
    let pool = errand.store().pool();
    let now = OffsetDateTime::now_utc();
    let mut people = People::default();
    let ids: Vec<UserId> = (0..users).map(|_| UserId::generate()).collect();
    for ids in ids.chunks(ROWS) {
        let uuids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let names: Vec<String> = uuids.iter().map(|id| format!("b{}", id.simple())).collect();
        sqlx::query(
            "INSERT INTO users (id, username, username_fold, display_name, email, email_key, created_at, updated_at)
             SELECT id, name, name, name, name || '@example.org', name || '@example.org', $3, $3
             FROM unnest($1::uuid[], $2::text[]) AS new (id, name)",
        )
        .bind(&uuids)
        .bind(&names)
        .bind(now)
        .execute(pool)
        .await
        .map_err(BenchError::because)?;
        let rows: Vec<(UserId, DeviceId)> =
            ids.iter().flat_map(|id| (0..devices).map(|_| (*id, DeviceId::generate()))).collect();
        for rows in rows.chunks(ROWS) {
            // Nobody has the tokens these are the hashes of: there is no refreshing here.
            sqlx::query(
                "INSERT INTO devices (id, user_id, name, platform, family_hash, secret_hash, rotated_at, created_at, last_seen_at, expires_at)
                 SELECT id, owner, 'bench', 'bench', sha256(id::text::bytea), sha256(owner::text::bytea), $3, $3, $3, $3 + interval '1 day'
                 FROM unnest($1::uuid[], $2::uuid[]) AS new (id, owner)",
            )
            .bind(rows.iter().map(|(_, device)| device.as_uuid()).collect::<Vec<_>>())
            .bind(rows.iter().map(|(user, _)| user.as_uuid()).collect::<Vec<_>>())
            .bind(now)
            .execute(pool)
            .await
            .map_err(BenchError::because)?;
        }
        for (user, device) in rows {
            let token = errand.identity().vouch_for(user, device).map_err(BenchError::because)?;
            people.devices.push(Device { user, token });
        }
    }
    Ok(people)
}

async fn write_conversations(errand: &Errand, of: &[Vec<Device>]) -> Result<Vec<ConversationId>, BenchError> {
    let mut made = Vec::new();
    // All of one moment, after everybody has logged in: the queue of each device begins with the first entry.
    let now = OffsetDateTime::now_utc();
    for some in of.chunks(ROWS) {
        let mut conversations = Vec::new();
        let mut members = Vec::new();
        for group in some {
            let id = ConversationId::generate();
            let mut users: Vec<UserId> = group.iter().map(|device| device.user).collect();
            users.sort_unstable();
            users.dedup();
            conversations.push((id, users.clone()));
            members.extend(users.into_iter().map(|user| (id, user)));
            made.push(id);
        }
        let direct = |users: &[UserId], at: usize| {
            (users.len() == 2).then(|| users.get(at).map(|user| user.as_uuid())).flatten()
        };
        let mut tx = errand.store().pool().begin().await.map_err(BenchError::because)?;
        sqlx::query(
            "INSERT INTO conversations (id, kind, direct_low, direct_high, created_at, last_at)
             SELECT id, CASE WHEN low IS NULL THEN 'group' ELSE 'direct' END, low, high, $4, $4
             FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS new (id, low, high)",
        )
        .bind(conversations.iter().map(|(id, _)| id.as_uuid()).collect::<Vec<_>>())
        .bind(conversations.iter().map(|(_, users)| direct(users, 0)).collect::<Vec<_>>())
        .bind(conversations.iter().map(|(_, users)| direct(users, 1)).collect::<Vec<_>>())
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(BenchError::because)?;
        for members in members.chunks(ROWS) {
            sqlx::query(
                "INSERT INTO members (conversation_id, user_id, role, joined_at, joined_seq)
                 SELECT conversation, member, 'member', $3, 0 FROM unnest($1::uuid[], $2::uuid[]) AS new (conversation, member)",
            )
            .bind(members.iter().map(|(id, _)| id.as_uuid()).collect::<Vec<_>>())
            .bind(members.iter().map(|(_, user)| user.as_uuid()).collect::<Vec<_>>())
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(BenchError::because)?;
        }
        tx.commit().await.map_err(BenchError::because)?;
    }
    Ok(made)
}

async fn register(addr: SocketAddr, users: usize, devices: usize) -> Result<People, BenchError> {
    let rest = Rest::new(addr)?;
    let mut people = People::default();
    for _ in 0..users {
        let name = format!("b{}", Uuid::now_v7().simple());
        let name = name.get(..30).unwrap_or(&name);
        let password = Uuid::now_v7().to_string();
        let account =
            json!({ "username": name, "email": format!("{name}@example.org"), "password": password });
        people.devices.push(device(&rest.ask(Method::POST, "/v1/accounts", None, Some(account)).await?)?);
        for _ in 1..devices {
            let login = json!({ "login": name, "password": password });
            people.devices.push(device(&rest.ask(Method::POST, "/v1/sessions", None, Some(login)).await?)?);
        }
    }
    Ok(people)
}

async fn known(addr: SocketAddr, tokens: &[String], wanted: usize) -> Result<People, BenchError> {
    if tokens.len() < wanted {
        let said = format!("{wanted} devices are needed, and the file has {} tokens", tokens.len());
        return Err(BenchError::because(said));
    }
    let rest = Rest::new(addr)?;
    let mut people = People::default();
    for token in tokens.iter().take(wanted) {
        let me = rest.ask(Method::GET, "/v1/me", Some(token), None).await?;
        people.devices.push(Device { user: id(&me, "id")?, token: token.clone() });
    }
    Ok(people)
}

fn device(session: &Value) -> Result<Device, BenchError> {
    let token = session.get("access_token").and_then(Value::as_str);
    let token = token.ok_or_else(|| BenchError::because("a log-in was answered without a token"))?;
    Ok(Device { user: id(session.get("user").unwrap_or(&Value::Null), "id")?, token: token.to_owned() })
}

fn id<T: std::str::FromStr<Err: Display>>(of: &Value, field: &str) -> Result<T, BenchError> {
    let text = of.get(field).and_then(Value::as_str).unwrap_or_default();
    text.parse().map_err(|error: T::Err| BenchError::because(format!("an answer without {field}: {error}")))
}

/// The REST API of a node.
pub struct Rest {
    base: String,
    http: reqwest::Client,
}

impl Rest {
    /// Of the node at `addr`.
    pub fn new(addr: SocketAddr) -> Result<Rest, BenchError> {
        crate::app::use_ring();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build();
        Ok(Rest { base: format!("http://{addr}"), http: http.map_err(BenchError::because)? })
    }

    /// Asks, and where the node says when to come back, comes back then.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Result<Value, BenchError> {
        loop {
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = request.send().await.map_err(BenchError::because)?;
            let status = answer.status();
            if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                let after =
                    answer.headers().get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
                sleep(Duration::from_secs(after.unwrap_or(1))).await;
                continue;
            }
            let text = answer.text().await.map_err(BenchError::because)?;
            if !status.is_success() {
                return Err(BenchError::because(format!("{method} {path} was answered {status}: {text}")));
            }
            return Ok(serde_json::from_str(&text).unwrap_or_default());
        }
    }

    /// A conversation of these.
    async fn gather(&self, members: &[Device]) -> Result<ConversationId, BenchError> {
        let mut users: Vec<String> = members.iter().map(|device| device.user.to_string()).collect();
        users.sort_unstable();
        users.dedup();
        let Some(owner) = members.first() else {
            return Err(BenchError::because("a conversation of nobody"));
        };
        let token = Some(owner.token.as_str());
        users.retain(|user| *user != owner.user.to_string());
        let kind = if users.len() == 1 { "direct" } else { "group" };
        let rest = users.split_off(users.len().min(INVITED));
        let body = json!({ "kind": kind, "members": users });
        let made = self.ask(Method::POST, "/v1/conversations", token, Some(body)).await?;
        let made: ConversationId = id(&made, "id")?;
        for user in rest {
            let path = format!("/v1/conversations/{made}/members/{user}");
            self.ask(Method::PUT, &path, token, Some(json!({}))).await?;
        }
        Ok(made)
    }
}
