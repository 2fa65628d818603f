//! Webhooks: where an organisation's systems want to be told of events, and how they know that it was us
//! (Standard Webhooks 1.0).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::hmac;
use uuid::Uuid;

use crate::booking::admission::{MeetingId, OrganisationId};
use crate::booking::event::{EventKind, EventPosition};
use crate::booking::pin::NoRandomness;

/// Somebody who wants to be told.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Names it.
    pub id: Uuid,
    /// Whose events.
    pub organisation: OrganisationId,
    /// The organisation's name.
    pub organisation_name: String,
    /// Where to.
    pub url: String,
    /// Of what; `None`: of everything.
    pub kinds: Option<Vec<EventKind>>,
    /// Is he told now?
    pub enabled: bool,
    /// Why he isn't, if nobody switched it off.
    pub disabled_because: Option<DisabledBecause>,
    /// What messages to him are signed with.
    pub secret: WebhookSecret,
    /// What they were signed with before, and are too until then.
    pub former_secret: Option<(WebhookSecret, Timestamp)>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Counts the changes, from 1.
    pub revision: i64,
    /// The last event that was looked at for him.
    pub position: EventPosition,
}

impl Webhook {
    /// The header `webhook-signature` of a message: by its secret, and by the one before while that is still good.
    #[must_use]
    pub fn sign(&self, id: Uuid, at: Timestamp, body: &str) -> String {
        let signature = self.secret.sign(id, at, body);
        match &self.former_secret {
            Some((former, until)) if at < *until => {
                format!("{signature} {}", former.sign(id, at, body))
            }
            Some(_) | None => signature,
        }
    }
}

/// Why a webhook was switched off by itself.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DisabledBecause {
    /// The receiver answered 410: it wants no more.
    Gone,
}

/// What messages to a webhook are signed with. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

impl WebhookSecret {
    /// A new one of 256 random bits.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = vec![0_u8; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// As [`Self::expose`] wrote it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix(MARK)?).ok()?;
        Some(Self(bytes))
    }

    /// For its owner, once, and for the store.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{MARK}{}", STANDARD.encode(&self.0))
    }

    /// One signature of a message.
    #[must_use]
    pub fn sign(&self, id: Uuid, at: Timestamp, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let signed = format!("{id}.{}.{body}", at.as_second());
        let tag = hmac::sign(&key, signed.as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What became, or is to become, of telling one event to one webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Of which event.
    pub position: EventPosition,
    /// The event's id.
    pub event: Uuid,
    /// What happened.
    pub kind: EventKind,
    /// In which meeting.
    pub meeting: Option<MeetingId>,
    /// Where it is.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was first to be sent, or to be sent anew.
    pub created_at: Timestamp,
    /// When it is tried next, if it is.
    pub due_at: Timestamp,
    /// When it was tried last.
    pub attempted_at: Option<Timestamp>,
    /// The HTTP status it was answered with last.
    pub status: Option<u16>,
    /// Why it failed last.
    pub error: Option<String>,
}

/// Where a delivery is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It is sent when it is due, and again where that fails.
    Pending,
    /// It was answered with 2xx.
    Delivered,
    /// It was tried for a day, in vain.
    Failed,
}

/// Which deliveries, from where on, how many; latest first.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryFilter {
    /// To whom.
    pub webhook: Uuid,
    /// In this state.
    pub state: Option<DeliveryState>,
    /// Before the one of this event.
    pub before: Option<Uuid>,
    /// At most so many.
    pub limit: u32,
}

const MARK: &str = "whsec_";
const SECRET_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_signed_as_standard_webhooks_has_it() {
        // Made with Python: base64(hmac(b64decode(secret), b"ID.1700000000.{}", sha256)).
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        let signed = secret.sign(Uuid::from_u128(1), at, "{}");
        assert_eq!(signed, "v1,lFxtUebl/e6/+0mC8I8VaJ0XFsEYumgcgI2FLl95PbM=");
    }

    #[test]
    fn a_secret_is_kept_and_read_and_prints_as_stars() {
        let secret = WebhookSecret::generate().unwrap();
        assert_eq!(WebhookSecret::parse(&secret.expose()), Some(secret.clone()));
        assert_eq!(format!("{secret:?}"), "***");
        assert_ne!(secret, WebhookSecret::generate().unwrap());
        assert_eq!(WebhookSecret::parse("MfKQ"), None);
    }
}
