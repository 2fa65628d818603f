//! Who we are to peers that call over TLS: a certificate chain and its key, from files, which may be
//! read anew while calls are up. And whom we believe where we connect ourselves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};

use crate::config::TlsFiles;

/// The certificate that SIP over TLS is answered with.
#[derive(Debug)]
pub struct TlsIdentity {
    server: RwLock<Arc<ServerConfig>>,
}

/// Why a certificate and its key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file.
    #[error("sip.tls.certificate: {}: {source}", path.display())]
    Certificate {
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A certificate file without a certificate.
    #[error("sip.tls.certificate: {}: holds no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// The key file.
    #[error("sip.tls.key: {}: {source}", path.display())]
    Key {
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Both are there and don't fit.
    #[error("sip.tls: the certificate and the key can't be used together: {0}")]
    Unfit(#[from] rustls::Error),
}

impl TlsIdentity {
    /// Reads both files.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            server: RwLock::new(server(files)?),
        })
    }

    /// Reads both files anew, for connections from now on. Where that fails the old ones stay.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn reload(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let fresh = server(files)?;
        *self.server.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// What the next connection is answered with.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn server(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::Key {
        path: files.key.clone(),
        source,
    })?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// For connections of ours: trusts whom the system trusts.
pub(crate) fn connector() -> Result<TlsConnector, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Certificate {
        path: path.to_owned(),
        source,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(chain)
}
