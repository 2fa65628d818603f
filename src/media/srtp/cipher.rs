//! Session keys, keystream and tags (RFC 3711 sections 4.1 to 4.3, RFC 6188).

use aes::cipher::{InnerIvInit as _, KeyInit as _, StreamCipher as _};
use aes::{Aes128Enc, Aes256Enc};
use ctr::{Ctr128BE, CtrCore};
use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use subtle::ConstantTimeEq as _;

use super::key::{MasterKey, SALT_BYTES};

/// What protects one kind of packets: RTP, or RTCP.
#[derive(Clone)]
pub(super) struct Protection {
    cipher: Cipher,
    salt: [u8; SALT_BYTES],
    mac: Hmac<Sha1>,
    tag_bytes: usize,
}

/// An expanded key.
#[derive(Clone)]
enum Cipher {
    Aes128(Box<Aes128Enc>),
    Aes256(Box<Aes256Enc>),
}

impl Protection {
    pub(super) fn rtp(key: &MasterKey) -> Self {
        Self::derive(key, [0, 1, 2], key.suite().tag_bytes())
    }

    pub(super) fn rtcp(key: &MasterKey) -> Self {
        Self::derive(key, [3, 4, 5], RTCP_TAG_BYTES)
    }

    /// `labels`: of encryption, authentication and salt (RFC 3711 section 4.3.1).
    fn derive(key: &MasterKey, labels: [u8; 3], tag_bytes: usize) -> Self {
        let master = Cipher::new(key.key());
        let fill = |label: u8, out: &mut [u8]| {
            let mut iv = [0; 16];
            if let Some(place) = iv.first_chunk_mut() {
                *place = key.salt();
            }
            // The label stands before the 48 bits of an index that is always zero.
            iv[7] ^= label;
            master.apply(iv, out);
        };
        let [encryption, authentication, salting] = labels;
        let mut session = [0; 32];
        let session = session
            .get_mut(..key.suite().key_bytes())
            .unwrap_or_default();
        fill(encryption, session);
        // HMAC fills a key up with zeros to the hash's block (RFC 2104).
        let (mut mac_key, mut salt) = ([0; 64], [0; SALT_BYTES]);
        fill(
            authentication,
            mac_key.get_mut(..MAC_KEY_BYTES).unwrap_or_default(),
        );
        fill(salting, &mut salt);
        Self {
            cipher: Cipher::new(session),
            salt,
            mac: <Hmac<Sha1> as hmac::digest::KeyInit>::new(&mac_key.into()),
            tag_bytes,
        }
    }

    pub(super) const fn tag_bytes(&self) -> usize {
        self.tag_bytes
    }

    /// Encrypts or decrypts: the same, twice, changes nothing.
    pub(super) fn crypt(&self, ssrc: u32, index: u64, text: &mut [u8]) {
        let mut iv = [0; 16];
        if let Some(place) = iv.first_chunk_mut() {
            *place = self.salt;
        }
        let mask = (u128::from(ssrc) << 64) | (u128::from(index) << 16);
        let iv = u128::from_be_bytes(iv) ^ mask;
        self.cipher.apply(iv.to_be_bytes(), text);
    }

    /// The tag over `parts`, of which the first [`Self::tag_bytes`] count.
    pub(super) fn tag(&self, parts: [&[u8]; 2]) -> [u8; 20] {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Is `tag` the one over `parts`? Takes the same time for every wrong one.
    pub(super) fn is_genuine(&self, parts: [&[u8]; 2], tag: &[u8]) -> bool {
        let right = self.tag(parts);
        right
            .get(..self.tag_bytes)
            .is_some_and(|right| bool::from(right.ct_eq(tag)))
    }

    #[cfg(test)]
    pub(super) const fn salt(&self) -> [u8; SALT_BYTES] {
        self.salt
    }
}

impl Cipher {
    /// By the key's length: 32 bytes, else 16.
    fn new(key: &[u8]) -> Self {
        match Aes256Enc::new_from_slice(key) {
            Ok(cipher) => Self::Aes256(Box::new(cipher)),
            Err(_) => {
                let mut short = [0; 16];
                for (to, from) in short.iter_mut().zip(key) {
                    *to = *from;
                }
                Self::Aes128(Box::new(Aes128Enc::new(&short.into())))
            }
        }
    }

    /// Adds the keystream that begins at `iv`.
    fn apply(&self, iv: [u8; 16], text: &mut [u8]) {
        let iv = &iv.into();
        match self {
            Self::Aes128(cipher) => {
                let core = CtrCore::inner_iv_init(&**cipher, iv);
                Ctr128BE::<&Aes128Enc>::from_core(core).apply_keystream(text);
            }
            Self::Aes256(cipher) => {
                let core = CtrCore::inner_iv_init(&**cipher, iv);
                Ctr128BE::<&Aes256Enc>::from_core(core).apply_keystream(text);
            }
        }
    }
}

const MAC_KEY_BYTES: usize = 20;
/// RFC 4568 section 6.2.1, also where RTP has a short one.
const RTCP_TAG_BYTES: usize = 10;
