//! Who we are in a handshake: a key and a self-signed certificate, made anew by every process.

use std::sync::Arc;
use std::time::Duration;

use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::crypto_provider::{RTCCryptoProvider, default_provider};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;

use crate::handshake::fingerprint::{Fingerprint, Hash};

/// See the module's text.
#[derive(Clone)]
pub struct Identity {
    pub(super) server: Arc<HandshakeConfig>,
    pub(super) client: Arc<HandshakeConfig>,
    pub(super) crypto: Arc<dyn RTCCryptoProvider>,
    fingerprint: Fingerprint,
}

impl Identity {
    /// A key on the curve P-256 and its certificate.
    ///
    /// # Errors
    /// [`IdentityError`]: the system gives no random numbers.
    pub fn generate() -> Result<Self, IdentityError> {
        let failed = |error: &dyn std::fmt::Display| IdentityError(error.to_string());
        let crypto = default_provider().map_err(|error| failed(&error))?;
        let certificate = Certificate::generate_self_signed(Vec::<String>::new(), crypto.crypto())
            .map_err(|error| failed(&error))?;
        let shown = certificate.certificate.first();
        let fingerprint = shown
            .map(|der| Fingerprint::of(Hash::Sha256, der))
            .ok_or_else(|| failed(&"no certificate"))?;
        let config = |is_client| {
            let interval = if is_client { AGAIN_AFTER } else { NEVER };
            configured(&crypto, &certificate)
                .with_flight_interval(interval)
                .build(is_client, None)
                .map(Arc::new)
                .map_err(|error| failed(&error))
        };
        Ok(Self {
            server: config(false)?,
            client: config(true)?,
            crypto: Arc::clone(&crypto),
            fingerprint,
        })
    }

    /// What our side of a session description says.
    #[must_use]
    pub const fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.fingerprint).finish()
    }
}

/// The peer's certificate is held against its fingerprint (`dtls`) instead of an authority, and he must have
/// one.
fn configured(crypto: &Arc<dyn RTCCryptoProvider>, certificate: &Certificate) -> ConfigBuilder {
    ConfigBuilder::default()
        .with_crypto_provider(Arc::clone(crypto))
        .with_certificates(vec![certificate.clone()])
        .with_cipher_suites(CIPHERS.to_vec())
        .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80])
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        .with_extended_master_secret(ExtendedMasterSecretType::Request)
        .with_insecure_skip_verify(true)
        .with_server_name("peer".to_owned())
        .with_mtu(MTU_BYTES)
}

/// Why there is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no certificate could be made: {0}")]
pub struct IdentityError(String);

/// Ours is an ECDSA key; as the client of a handshake we take a peer's RSA key too.
const CIPHERS: [CipherSuiteId; 4] = [
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_ChaCha20_Poly1305_Sha256,
];
/// Fits every path that audio takes, tunnels included.
const MTU_BYTES: usize = 1_150;
/// RFC 6347 section 4.2.4.1.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// What was lost is sent again by [`super::dtls`].
const NEVER: Duration = Duration::from_secs(1 << 30);
