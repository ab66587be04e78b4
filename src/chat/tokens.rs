//! The door's view of identity: whose token is believed, and whose sockets are closed when a session ends.

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use tokio::sync::broadcast::error::RecvError;

use super::Door;
use super::goodbye::Goodbye;
use super::seam::{Believed, DeviceHandle, Gone, Tokens};
use crate::identity::revocation::Why;
use crate::identity::{Identity, IdentityError};

/// Access tokens as this node's identity believes them.
#[derive(Debug, Clone)]
pub struct AccessTokens(pub Arc<Identity>);

impl Tokens for AccessTokens {
    fn verify(&self, token: String) -> LocalBoxFuture<'static, Result<Believed, Goodbye>> {
        let identity = self.0.clone();
        Box::pin(async move {
            match identity.authenticate(&token).await {
                Ok(caller) => {
                    Ok(Believed { user: caller.user, device: caller.device, expires_at: caller.expires_at })
                }
                Err(error) => Err(goodbye_for(&error)),
            }
        })
    }
}

fn goodbye_for(error: &IdentityError) -> Goodbye {
    match error {
        IdentityError::TokenExpired => Goodbye::TokenExpired,
        IdentityError::InvalidToken => Goodbye::BadToken,
        IdentityError::Revoked(why) => goodbye_after(*why),
        IdentityError::Suspended => Goodbye::Banned,
        // What is away comes back, and so may the device.
        _ => Goodbye::InsufficientState,
    }
}

fn goodbye_after(why: Why) -> Goodbye {
    match why {
        Why::Suspended | Why::Deleted => Goodbye::Banned,
        _ => Goodbye::SessionRevoked,
    }
}

/// Closes the sockets of every session that ends, on whichever node, as long as identity tells of any. To be spawned beside
/// the door.
pub async fn hang_up_revoked(door: Door, identity: Arc<Identity>) {
    let mut revocations = identity.revocations();
    loop {
        match revocations.recv().await {
            Ok(revoked) => {
                if let Some(device) = door.device(revoked.user, revoked.device) {
                    hang_up(&device, revoked.why).await;
                }
            }
            // Too many at once to be told one by one: every device is asked for.
            Err(RecvError::Lagged(_)) => {
                for device in door.devices() {
                    if let Some(why) = identity.is_revoked(device.device()) {
                        hang_up(&device, why).await;
                    }
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

async fn hang_up(device: &DeviceHandle, why: Why) {
    // Gone already is as good.
    let _: Result<(), Gone> = device.goodbye(goodbye_after(why)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_may_not_return_are_told_to_stay_away() {
        for (error, goodbye) in [
            (IdentityError::TokenExpired, Goodbye::TokenExpired),
            (IdentityError::InvalidToken, Goodbye::BadToken),
            (IdentityError::Revoked(Why::Removed), Goodbye::SessionRevoked),
            (IdentityError::Revoked(Why::Suspended), Goodbye::Banned),
            (IdentityError::RegistrationClosed, Goodbye::InsufficientState),
        ] {
            assert_eq!(goodbye_for(&error), goodbye, "{error}");
        }
    }
}
