//! A certificate's fingerprint (RFC 8122), by which signalling vouches for who shakes hands.

#![deny(clippy::indexing_slicing)]

use std::fmt;

use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// The digest of a certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint {
    hash: Hash,
    digest: Vec<u8>,
}

/// What a fingerprint is made by, weakest first. SHA-1 and MD5 prove nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Fingerprint {
    /// Of a certificate in DER.
    #[must_use]
    pub fn of(hash: Hash, certificate: &[u8]) -> Self {
        let digest = match hash {
            Hash::Sha256 => Sha256::digest(certificate).to_vec(),
            Hash::Sha384 => Sha384::digest(certificate).to_vec(),
            Hash::Sha512 => Sha512::digest(certificate).to_vec(),
        };
        Self { hash, digest }
    }

    /// `sha-256 4A:AD:…`; `None`: not one, or by a hash that isn't taken.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let hash = Hash::named(words.next()?)?;
        let digits = words.next()?;
        let digest: Option<Vec<u8>> = digits
            .split(':')
            .take(DIGEST_BYTES_MAX + 1)
            .map(|pair| match pair.len() {
                2 => u8::from_str_radix(pair, 16).ok(),
                _ => None,
            })
            .collect();
        let digest = digest.filter(|digest| digest.len() == hash.bytes())?;
        Some(Self { hash, digest })
    }

    /// Does any of `offered` vouch for the certificate? Of several hashes the strongest decides
    /// (RFC 8122 section 5), of several by that one any: a peer may have several certificates.
    #[must_use]
    pub fn any_is_of(offered: &[Self], certificate: &[u8]) -> bool {
        let Some(strongest) = offered.iter().map(|one| one.hash).max() else {
            return false;
        };
        offered.contains(&Self::of(strongest, certificate))
    }
}

impl Hash {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|hash| hash.name().eq_ignore_ascii_case(name))
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => DIGEST_BYTES_MAX,
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hash.name())?;
        for (place, byte) in self.digest.iter().enumerate() {
            let before = if place == 0 { ' ' } else { ':' };
            write!(f, "{before}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

const DIGEST_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        for hash in Hash::ALL {
            let own = Fingerprint::of(hash, b"a certificate");
            assert_eq!(Fingerprint::parse(&own.to_string()), Some(own.clone()));
            let lower = own.to_string().to_lowercase();
            assert_eq!(Fingerprint::parse(&lower), Some(own));
        }
        // SHA-256 of "abc" (FIPS 180-2).
        let known = Fingerprint::of(Hash::Sha256, b"abc").to_string();
        assert!(known.starts_with("sha-256 BA:78:16:BF:"), "{known}");
    }

    #[test]
    fn what_is_no_fingerprint_is_not_taken() {
        let good = Fingerprint::of(Hash::Sha256, b"x").to_string();
        for bad in [
            "",
            "sha-256",
            "sha-1 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33",
            good.trim_end_matches(|c: char| c != ':'),
            &format!("{good}:00"),
            &good.replacen("sha-256 ", "sha-384 ", 1),
            &good.replacen(':', "", 1),
            &good.replacen(':', ":+", 1),
        ] {
            assert_eq!(Fingerprint::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_strongest_hash_decides_and_any_certificate_by_it_may_be_shown() {
        let of = |hash, certificate: &[u8]| Fingerprint::of(hash, certificate);
        let is_vouched = |offered: &[Fingerprint]| Fingerprint::any_is_of(offered, b"mine");
        assert!(!is_vouched(&[]));
        assert!(is_vouched(&[of(Hash::Sha256, b"mine")]));
        assert!(!is_vouched(&[of(Hash::Sha256, b"other")]));
        let two = [of(Hash::Sha256, b"other"), of(Hash::Sha256, b"mine")];
        assert!(is_vouched(&two));
        let weaker = [of(Hash::Sha256, b"mine"), of(Hash::Sha512, b"other")];
        assert!(!is_vouched(&weaker));
    }
}
