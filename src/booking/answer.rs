//! Answers as they are kept for those who ask again: sealed under the API key that asked, of which the
//! store has a hash only. So a copy of the database shows no key and no PIN that an answer held.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::pin::NoRandomness;

/// What a request was answered with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Those headers that belong to the answer rather than to the connection.
    pub headers: Vec<(String, String)>,
    /// The body, a text.
    pub body: String,
}

impl KeptAnswer {
    /// The id of what was made, if the answer tells of one.
    #[must_use]
    pub fn made_id(&self) -> Option<Uuid> {
        let body: Value = serde_json::from_str(&self.body).ok()?;
        body.get("id")?.as_str()?.parse().ok()
    }

    /// Seals it under the API key; `name` is the `Idempotency-Key`, without which it can't be opened.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn seal(&self, api_key: &str, name: &str) -> Result<String, NoRandomness> {
        let mut nonce = [0_u8; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| NoRandomness)?;
        let mut bytes = serde_json::to_vec(self).map_err(|_| NoRandomness)?;
        let aad = Aad::from(name.as_bytes());
        sealing_key(api_key)
            .and_then(|key| {
                key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut bytes)
                    .ok()
            })
            .ok_or(NoRandomness)?;
        Ok(STANDARD.encode([&nonce[..], &bytes].concat()))
    }

    /// Opens what [`Self::seal`] made; `None` if it was made with another key or name, or is damaged.
    #[must_use]
    pub fn open(sealed: &str, api_key: &str, name: &str) -> Option<Self> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let mut rest = rest.to_vec();
        let (nonce, aad) = (
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(name.as_bytes()),
        );
        let key = sealing_key(api_key)?;
        let plain = key.open_in_place(nonce, aad, &mut rest).ok()?;
        serde_json::from_slice(plain).ok()
    }
}

/// API keys are 32 random bytes or so: one HMAC makes a key of its own for this purpose of them.
fn sealing_key(api_key: &str) -> Option<LessSafeKey> {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, api_key.as_bytes());
    let derived = hmac::sign(&secret, PURPOSE);
    let key = UnboundKey::new(&CHACHA20_POLY1305, derived.as_ref()).ok()?;
    Some(LessSafeKey::new(key))
}

const PURPOSE: &[u8] = b"voicebridge: answers kept for repetitions";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_opens_with_its_key_and_name_only() {
        let answer = KeptAnswer {
            status: 201,
            headers: vec![("location".to_owned(), "/v1/x".to_owned())],
            body: "{\"key\":\"vb_secret\"}".to_owned(),
        };
        let sealed = answer.seal("key a", "k1").unwrap();
        assert!(KeptAnswer::open(&sealed, "key a", "k1") == Some(answer.clone()));
        assert!(KeptAnswer::open(&sealed, "key b", "k1").is_none());
        assert!(KeptAnswer::open(&sealed, "key a", "k2").is_none());
        assert!(KeptAnswer::open("", "key a", "k1").is_none());
        assert!(KeptAnswer::open(&sealed[4..], "key a", "k1").is_none());
        assert_ne!(sealed, answer.seal("key a", "k1").unwrap(), "a new nonce");
    }
}
