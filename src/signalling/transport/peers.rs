//! Trunks by the certificates that they call us with (RFC 5922): which authority must vouch for them, and which names
//! are theirs.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use webpki::EndEntityCert;

use super::tls::TlsError;
use crate::sip::event::TrunkId;

/// All trunks that are known by their certificates.
#[derive(Debug, Default)]
pub(super) struct Peers(Vec<Peer>);

#[derive(Debug)]
struct Peer {
    trunk: TrunkId,
    names: Vec<String>,
    roots: Arc<RootCertStore>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Peer {
    /// Does its authority vouch for this certificate, to call with? One that is for servers alone will do, for public
    /// authorities make no others, and RFC 5922 doesn't ask for any.
    fn vouches(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        match self.verifier.verify_client_cert(own, between, now) {
            Err(Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            )) => {
                let algorithms = default_provider().signature_verification_algorithms.all;
                let own = ParsedCertificate::try_from(own)?;
                verify_server_cert_signed_by_trust_anchor(
                    &own,
                    &self.roots,
                    between,
                    now,
                    algorithms,
                )
            }
            shown => shown.map(|_| ()),
        }
    }
}

impl Peers {
    /// A trunk of these names, for which one of `roots` must vouch.
    pub(super) fn add(
        &mut self,
        trunk: TrunkId,
        names: &[String],
        roots: Arc<RootCertStore>,
    ) -> Result<(), TlsError> {
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider).build();
        let key = "sip.trunk.tls_authority";
        self.0.push(Peer {
            trunk,
            names: names.to_vec(),
            roots,
            verifier: verifier.map_err(|source| TlsError::Authority { key, source })?,
        });
        Ok(())
    }

    /// The trunks whose certificate this chain is; else why it is nobody's.
    pub(super) fn of(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Vec<TrunkId>, String> {
        let (own, between) = chain.split_first().ok_or("there is none")?;
        let names = names_of(own).ok_or("it can't be read")?;
        let named = self.0.iter().filter(|peer| {
            let mut own = peer.names.iter();
            own.any(|name| names.iter().any(|shown| shown.eq_ignore_ascii_case(name)))
        });
        let mut refused = "its names are no trunk's".to_owned();
        let mut trunks = Vec::new();
        for peer in named {
            match peer.vouches(own, between, now) {
                Ok(()) => trunks.push(peer.trunk),
                Err(error) => refused = error.to_string(),
            }
        }
        if trunks.is_empty() {
            Err(refused)
        } else {
            Ok(trunks)
        }
    }
}

/// Who a certificate says that it is: the SIP domains in it, or, where there are none, its host names (RFC 5922
/// section 7.1). A URI with a user part is a person's.
fn names_of(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let read = EndEntityCert::try_from(certificate).ok()?;
    let domains: Vec<String> = read
        .valid_uri_names()
        .filter_map(|uri| {
            let (scheme, host) = uri.split_once(':')?;
            let is_domain = scheme.eq_ignore_ascii_case("sip") && !host.contains('@');
            is_domain.then(|| host.to_owned())
        })
        .collect();
    if !domains.is_empty() {
        return Some(domains);
    }
    Some(read.valid_dns_names().map(ToOwned::to_owned).collect())
}

/// Asks everybody for a certificate; whoever has none, or one of somebody else, goes on all the same.
#[derive(Debug)]
pub(super) struct AskedForCertificate {
    authorities: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AskedForCertificate {
    /// `None`: no trunk is known by one.
    pub(super) fn by(peers: &Peers) -> Option<Self> {
        let hints = peers
            .0
            .iter()
            .map(|peer| peer.verifier.root_hint_subjects());
        let mut authorities: Vec<DistinguishedName> = hints.flatten().cloned().collect();
        // All that the system trusts would fill a message or two.
        if authorities.len() > AUTHORITIES_MAX {
            authorities.clear();
        }
        (!peers.0.is_empty()).then(|| Self {
            authorities,
            algorithms: default_provider().signature_verification_algorithms,
        })
    }
}

impl ClientCertVerifier for AskedForCertificate {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.authorities
    }

    /// That its holder has its key is looked at below; whose it is, when the handshake is done.
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// That are named to who is asked.
const AUTHORITIES_MAX: usize = 16;
