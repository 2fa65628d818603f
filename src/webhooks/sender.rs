//! One message to one webhook: resolved, checked, connected to the very address that was checked, sent, and
//! its status read. A new connection each time, no proxy, no redirect, no cookie.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use crate::booking::Reach;

/// Sends messages.
#[derive(Clone)]
pub(super) struct Sender {
    reach: Reach,
    tls: TlsConnector,
}

/// A message to a webhook.
#[derive(Debug)]
pub(super) struct Message {
    /// Where to.
    pub(super) url: String,
    /// `webhook-id`.
    pub(super) id: String,
    /// `webhook-timestamp`.
    pub(super) timestamp: String,
    /// `webhook-signature`.
    pub(super) signature: String,
    /// The event.
    pub(super) body: String,
}

/// How a message was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// `Retry-After`, as it was written.
    pub(super) retry_after: Option<String>,
}

impl Sender {
    /// Trusts whom the system trusts.
    pub(super) fn new(reach: Reach) -> Result<Self, tokio_rustls::rustls::Error> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        Self::trusting(roots, reach)
    }

    /// Trusts these authorities.
    fn trusting(roots: RootCertStore, reach: Reach) -> Result<Self, tokio_rustls::rustls::Error> {
        let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            reach,
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    /// Sends it; how it was answered.
    pub(super) async fn send(&self, message: Message) -> Result<Answer, SendError> {
        let sent = timeout(PATIENCE, self.try_to_send(message)).await;
        sent.unwrap_or(Err(SendError::Timeout))
    }

    async fn try_to_send(&self, message: Message) -> Result<Answer, SendError> {
        let url = Url::parse(&message.url).map_err(|_| SendError::NotAllowed)?;
        let port = url.port_or_known_default().ok_or(SendError::NotAllowed)?;
        let addresses = self.addresses(&url, port).await?;
        let stream = connect(&addresses, port).await?;
        let request = request(&url, message).ok_or(SendError::Broken)?;
        if url.scheme() == "http" {
            return exchange(stream, request).await;
        }
        let name = url.host_str().unwrap_or_default();
        let name = name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(name).map_err(|_| SendError::Tls)?;
        let stream = self.tls.connect(name, stream).await;
        exchange(stream.map_err(|_| SendError::Tls)?, request).await
    }

    /// Where the host is, as far as one may go there. What comes back is what is connected to: a name that
    /// means something else a moment later changes nothing.
    async fn addresses(&self, url: &Url, port: u16) -> Result<Vec<IpAddr>, SendError> {
        let found: Vec<IpAddr> = match url.host() {
            None => return Err(SendError::NotAllowed),
            Some(Host::Ipv4(address)) => vec![address.into()],
            Some(Host::Ipv6(address)) => vec![address.into()],
            Some(Host::Domain(name)) => {
                let resolved = lookup_host((name, port)).await;
                let resolved = resolved.map_err(|_| SendError::Unresolvable)?;
                resolved.map(|found| found.ip()).collect()
            }
        };
        let may = |address: &IpAddr| self.reach.may_connect(url, *address);
        let allowed: Vec<IpAddr> = found.into_iter().filter(may).take(ADDRESSES_MAX).collect();
        if allowed.is_empty() {
            return Err(SendError::NotAllowed);
        }
        Ok(allowed)
    }
}

async fn connect(addresses: &[IpAddr], port: u16) -> Result<TcpStream, SendError> {
    for address in addresses {
        let connecting = TcpStream::connect(SocketAddr::new(*address, port));
        if let Ok(Ok(stream)) = timeout(CONNECT, connecting).await {
            return Ok(stream);
        }
    }
    Err(SendError::Unreachable)
}

fn request(url: &Url, message: Message) -> Option<Request<Full<Bytes>>> {
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = url.host_str()?;
    let host = url
        .port()
        .map_or(host.to_owned(), |port| format!("{host}:{port}"));
    Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(HOST, host)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(USER_AGENT, HeaderValue::from_static("voicebridge"))
        .header(HeaderName::from_static("webhook-id"), message.id)
        .header(
            HeaderName::from_static("webhook-timestamp"),
            message.timestamp,
        )
        .header(
            HeaderName::from_static("webhook-signature"),
            message.signature,
        )
        .body(Full::new(Bytes::from(message.body)))
        .ok()
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, SendError> {
    let broken = |_: hyper::Error| SendError::Broken;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEADERS_BYTES_MAX);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Ends with this function, however that ends.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let retry_after = response.headers().get(RETRY_AFTER);
    let answer = Answer {
        status: response.status().as_u16(),
        retry_after: retry_after.and_then(|value| value.to_str().ok().map(str::to_owned)),
    };
    // Nobody needs it; but a receiver that is cut off in mid-sentence might count that as an error.
    let _read = timeout(LAST_WORDS, read_a_little(response)).await;
    Ok(answer)
}

async fn read_a_little(mut response: Response<Incoming>) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = response.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > BODY_BYTES_MAX {
            return;
        }
    }
}

/// Why a message didn't arrive: a variant per cause that its receiver would act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendError {
    /// The event is no longer kept.
    Gone,
    /// The host has no address.
    Unresolvable,
    /// It has, but none that webhooks may lead to.
    NotAllowed,
    /// Nobody takes the connection.
    Unreachable,
    /// Its certificate isn't trusted, or it speaks no TLS.
    Tls,
    /// No answer in time.
    Timeout,
    /// The connection broke, or what came isn't HTTP.
    Broken,
}

impl SendError {
    /// The word for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Unresolvable => "unresolvable",
            Self::NotAllowed => "not_allowed",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
        }
    }
}

/// From the look-up to the status.
const PATIENCE: Duration = Duration::from_secs(10);
/// For each address.
const CONNECT: Duration = Duration::from_secs(4);
const LAST_WORDS: Duration = Duration::from_secs(1);
const ADDRESSES_MAX: usize = 4;
const HEADERS_BYTES_MAX: usize = 16 * 1_024;
const BODY_BYTES_MAX: usize = 16 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

    /// An authority, and what a receiver of that name shows by it.
    fn certified(name: &str) -> (CertificateDer<'static>, ServerConfig) {
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = authority.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate().unwrap();
        let receiver = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = receiver.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        (root, config)
    }

    /// Takes one message; what it heard of it.
    async fn receive(listener: &TcpListener, config: ServerConfig) -> Option<String> {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut stream = acceptor.accept(stream).await.ok()?;
        let mut heard = String::new();
        while !heard.ends_with("{}") {
            let mut bytes = [0; 1_024];
            let length = stream.read(&mut bytes).await.ok().filter(|n| *n > 0)?;
            heard.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        stream.write_all(answer).await.ok()?;
        stream.shutdown().await.ok()?;
        Some(heard)
    }

    async fn deliver(
        trusted: CertificateDer<'static>,
        config: ServerConfig,
    ) -> (Result<u16, SendError>, Option<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut roots = RootCertStore::empty();
        roots.add(trusted).unwrap();
        let reach = Reach::new(&["localhost".parse().unwrap()]);
        let sender = Sender::trusting(roots, reach).unwrap();
        let message = Message {
            url: format!("https://localhost:{port}/hook"),
            id: "1".to_owned(),
            timestamp: "2".to_owned(),
            signature: "v1,x".to_owned(),
            body: "{}".to_owned(),
        };
        let (sent, heard) = tokio::join!(sender.send(message), receive(&listener, config));
        (sent.map(|answer| answer.status), heard)
    }

    #[tokio::test]
    async fn a_message_goes_by_tls_to_whom_a_trusted_authority_names_and_to_nobody_else() {
        let (root, config) = certified("localhost");
        let (sent, heard) = deliver(root, config).await;
        assert_eq!(sent, Ok(204));
        let heard = heard.unwrap();
        assert!(heard.starts_with("POST /hook HTTP/1.1\r\n"), "{heard}");
        assert!(heard.contains("webhook-signature: v1,x\r\n"), "{heard}");
        let (_, config) = certified("localhost");
        let (another, _) = certified("localhost");
        assert_eq!(deliver(another, config).await, (Err(SendError::Tls), None));
        let (root, config) = certified("portal.example.org");
        assert_eq!(deliver(root, config).await, (Err(SendError::Tls), None));
    }
}
