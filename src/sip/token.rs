//! Tags, branches and Call-IDs: unguessable, and the same for the same seed so that tests repeat.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// A stream of random tokens from one secret: SHA-256 in counter mode.
#[derive(Clone)]
pub(crate) struct Tokens {
    secret: u64,
    counter: u64,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(***)")
    }
}

impl Tokens {
    pub(crate) const fn new(secret: u64) -> Self {
        Self { secret, counter: 0 }
    }

    /// A token nobody can foresee (RFC 3261 section 19.3 asks for 32 bit at least; these are 64).
    pub(crate) fn fresh(&mut self) -> String {
        self.counter += 1;
        hex(self.digest(&[b"fresh", &self.counter.to_be_bytes()]), 8)
    }

    /// A branch with the magic cookie (RFC 3261 section 8.1.1.7).
    pub(crate) fn branch(&mut self) -> String {
        format!("z9hG4bK{}", self.fresh())
    }

    /// Another stream of the same seed, for another use.
    pub(crate) fn apart(&self, what: &str) -> Self {
        let digest = self.digest(&[b"apart", what.as_bytes()]);
        let secret = digest.iter().take(8);
        Self::new(secret.fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// What nobody else could have put under these parts.
    pub(crate) fn seal(&self, parts: &[&[u8]]) -> String {
        let mut all: Vec<&[u8]> = vec![b"seal"];
        all.extend_from_slice(parts);
        hex(self.digest(&all), 16)
    }

    /// The same for the same parts: a stateless answer needs the same tag each time (section 8.2.7).
    pub(crate) fn of(&self, parts: &[&[u8]]) -> String {
        let mut all: Vec<&[u8]> = vec![b"of"];
        all.extend_from_slice(parts);
        hex(self.digest(&all), 4)
    }

    /// A number below `bound`, for back-off times.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.counter += 1;
        let digest = self.digest(&[b"below", &self.counter.to_be_bytes()]);
        let number = digest
            .iter()
            .take(8)
            .fold(0u64, |n, b| n << 8 | u64::from(*b));
        number.checked_rem(bound).unwrap_or(0)
    }

    fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.secret.to_be_bytes());
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

fn hex(bytes: [u8; 32], length: usize) -> String {
    bytes
        .iter()
        .take(length)
        .fold(String::with_capacity(2 * length), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_from_each_other_and_repeat_with_the_seed() {
        let (mut a, mut b, mut c) = (Tokens::new(1), Tokens::new(1), Tokens::new(2));
        let first = a.fresh();
        assert_eq!(first, b.fresh());
        assert_ne!(first, a.fresh());
        assert_ne!(first, c.fresh());
        assert_eq!(first.len(), 16);
        assert_eq!(a.of(&[b"x", b"y"]), b.of(&[b"x", b"y"]));
        assert_ne!(a.of(&[b"x", b"y"]), a.of(&[b"xy"]));
    }
}
