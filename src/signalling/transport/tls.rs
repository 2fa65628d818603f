//! Who we are to peers over TLS, and who they are to us: certificate chains, keys and authorities, from files, which may
//! be read anew while calls are up.
//!
//! Who calls us may show a certificate and needn't. Whose it is is looked at when the handshake is done, trunk by trunk
//! (`peers`), since a certificate of another authority than a trunk's is no reason to hang up on a phone.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::VerifierBuilderError;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};

use super::peers::{AskedForCertificate, Peers};
use crate::config::{SipConfig, TlsFiles};
use crate::sip::event::TrunkId;

/// All that is known of certificates.
#[derive(Debug)]
pub struct TlsIdentity {
    held: RwLock<Arc<Held>>,
}

/// What was read from the files.
#[derive(Debug)]
pub(super) struct Held {
    /// What the next connection is answered with.
    pub(super) server: Arc<ServerConfig>,
    /// Whose certificate it is.
    pub(super) peers: Peers,
    /// For each trunk, where we connect.
    clients: Vec<Arc<ClientConfig>>,
}

/// Why a certificate and its key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// None is configured.
    #[error("sip.tls.certificate and sip.tls.key are missing")]
    Missing,
    /// A certificate file.
    #[error("{key}: {}: {source}", path.display())]
    Certificate {
        /// Which key of the configuration names it.
        key: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A certificate file without a certificate.
    #[error("{key}: {}: holds no certificate in PEM form", path.display())]
    NoCertificate {
        /// As above.
        key: &'static str,
        /// As above.
        path: PathBuf,
    },
    /// A key file.
    #[error("{key}: {}: {source}", path.display())]
    Key {
        /// As above.
        key: &'static str,
        /// As above.
        path: PathBuf,
        /// As above.
        source: pem::Error,
    },
    /// Certificate and key are there and don't fit.
    #[error("{key}: the certificate and the key can't be used together: {source}")]
    Unfit {
        /// Which key of the configuration names the certificate.
        key: &'static str,
        /// What is wrong.
        source: rustls::Error,
    },
    /// An authority that can vouch for nobody.
    #[error("{key}: can't be used as an authority: {source}")]
    Authority {
        /// Which key of the configuration names it.
        key: &'static str,
        /// What is wrong.
        source: VerifierBuilderError,
    },
}

impl TlsIdentity {
    /// Reads all files.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it.
    pub fn load(config: &SipConfig) -> Result<Self, TlsError> {
        Ok(Self {
            held: RwLock::new(Arc::new(Held::read(config)?)),
        })
    }

    /// Reads all files anew, for connections from now on. Where that fails the old ones stay.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn reload(&self, config: &SipConfig) -> Result<(), TlsError> {
        let fresh = Arc::new(Held::read(config)?);
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// What counts for the next connection.
    pub(super) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// For a connection of ours to a trunk.
    pub(super) fn connector(&self, trunk: TrunkId) -> Option<TlsConnector> {
        let held = self.held();
        Some(TlsConnector::from(Arc::clone(held.clients.get(trunk.0)?)))
    }
}

impl Held {
    fn read(config: &SipConfig) -> Result<Self, TlsError> {
        let files = config.tls.as_ref().ok_or(TlsError::Missing)?;
        let system = Arc::new(system_roots());
        let global = match &config.client_authority {
            Some(path) => Arc::new(authority("sip.tls.client_authority", path)?),
            None => Arc::clone(&system),
        };
        let mut peers = Peers::default();
        let mut clients = Vec::new();
        for (at, trunk) in config.trunks.iter().enumerate() {
            let own = match &trunk.tls.authority {
                Some(path) => Some(Arc::new(authority("sip.trunk.tls_authority", path)?)),
                None => None,
            };
            if !trunk.tls.names.is_empty() {
                let roots = own.clone().unwrap_or_else(|| Arc::clone(&global));
                peers.add(TrunkId(at), &trunk.tls.names, roots)?;
            }
            let roots = own.unwrap_or_else(|| Arc::clone(&system));
            let client = match &trunk.tls.client {
                Some(files) => Some(("sip.trunk.tls_certificate", "sip.trunk.tls_key", files)),
                None => config
                    .client_tls
                    .as_ref()
                    .map(|files| ("sip.tls.client_certificate", "sip.tls.client_key", files)),
            };
            clients.push(client_config(roots, client)?);
        }
        Ok(Self {
            server: server_config(files, &peers)?,
            peers,
            clients,
        })
    }
}

fn server_config(files: &TlsFiles, peers: &Peers) -> Result<Arc<ServerConfig>, TlsError> {
    const KEY: &str = "sip.tls.certificate";
    let chain = certificates(KEY, &files.certificate)?;
    let key = private_key("sip.tls.key", &files.key)?;
    let unfit = |source| TlsError::Unfit { key: KEY, source };
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?;
    // Nobody is asked for what nobody looks at.
    let builder = match AskedForCertificate::by(peers) {
        Some(asked) => builder.with_client_cert_verifier(Arc::new(asked)),
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(chain, key).map_err(unfit)?;
    Ok(Arc::new(config))
}

fn client_config(
    roots: Arc<RootCertStore>,
    client: Option<(&'static str, &'static str, &TlsFiles)>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let unfit = |source| TlsError::Unfit {
        key: client.map_or("sip.tls", |(key, ..)| key),
        source,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_root_certificates(roots);
    let config = match client {
        Some((certificate, key, files)) => {
            let chain = certificates(certificate, &files.certificate)?;
            let key = private_key(key, &files.key)?;
            builder.with_client_auth_cert(chain, key).map_err(unfit)?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// For connections of ours that are no trunk's: trusts whom the system trusts.
pub(crate) fn connector() -> Result<TlsConnector, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(system_roots())
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn authority(key: &'static str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, path)? {
        let added = roots.add(certificate);
        added.map_err(|source| TlsError::Unfit { key, source })?;
    }
    Ok(roots)
}

fn private_key(key: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::Key {
        key,
        path: path.to_owned(),
        source,
    })
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Certificate {
        key,
        path: path.to_owned(),
        source,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate {
            key,
            path: path.to_owned(),
        });
    }
    Ok(chain)
}
