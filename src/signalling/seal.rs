//! Texts that are kept where others may write too: whoever doesn't know the key can neither make one nor use
//! one for something else than it was made for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// `text`, sealed for `about`: a code, a full stop, the text.
pub(super) fn seal(key: &str, about: &str, text: &str) -> Option<String> {
    let code = code(key, about, text)?.finalize().into_bytes();
    Some(format!("{}.{text}", URL_SAFE_NO_PAD.encode(code)))
}

/// The text, if it was sealed with this key for this.
pub(super) fn open<'a>(key: &str, about: &str, sealed: &'a str) -> Option<&'a str> {
    let (found, text) = sealed.split_once('.')?;
    let found = URL_SAFE_NO_PAD.decode(found).ok()?;
    code(key, about, text)?.verify_slice(&found).ok()?;
    Some(text)
}

fn code(key: &str, about: &str, text: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).ok()?;
    // The length keeps what is sealed for "a" and "bc" from serving for "ab" and "c".
    mac.update(&(about.len() as u64).to_be_bytes());
    mac.update(about.as_bytes());
    mac.update(text.as_bytes());
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_for_this_opens() {
        let sealed = seal("key", "channel 1", "{\"a\":1.5}").unwrap();
        assert_eq!(open("key", "channel 1", &sealed), Some("{\"a\":1.5}"));
        assert_eq!(open("key", "channel 2", &sealed), None);
        assert_eq!(open("another", "channel 1", &sealed), None);
        assert_eq!(
            open("key", "channel ", &sealed.replacen('.', ".1", 1)),
            None
        );
        let forged = sealed.replace("1.5", "2.5");
        for bad in [forged.as_str(), "", ".", "x.{}", "{}"] {
            assert_eq!(open("key", "channel 1", bad), None, "{bad}");
        }
    }
}
