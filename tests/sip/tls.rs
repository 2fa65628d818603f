//! SIP over TLS: who we are, and that a new certificate costs no connection.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::resilience::options;
use crate::server::{CERTIFICATE, Server, signal, write_certificate};

#[test]
fn a_new_certificate_is_taken_over_without_losing_a_connection() {
    let server = Server::start("");
    let certificate = server.folder.path().join(CERTIFICATE);
    let mut before = Caller::trusting(&server, &certificate);
    assert!(before.asks_and_is_answered());
    let outdated = server.folder.path().join("outdated.pem");
    fs::copy(&certificate, &outdated).expect("copied");

    write_certificate(server.folder.path());
    signal(server.pid(), "HUP");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !Caller::trusting(&server, &certificate).asks_and_is_answered() {
        assert!(Instant::now() < deadline, "the new certificate isn't shown");
        sleep(Duration::from_millis(50));
    }
    assert!(!Caller::trusting(&server, &outdated).asks_and_is_answered());
    assert!(before.asks_and_is_answered(), "the old connection goes on");

    let good = fs::read(&certificate).expect("read");
    fs::write(&certificate, "not a certificate").expect("written");
    signal(server.pid(), "HUP");
    let refused = "the certificate was not reloaded, the old one stays";
    while !server.log().contains(refused) {
        assert!(Instant::now() < deadline, "the broken one isn't told of");
        sleep(Duration::from_millis(50));
    }
    fs::write(&certificate, good).expect("written");
    assert!(Caller::trusting(&server, &certificate).asks_and_is_answered());
}

#[test]
fn who_speaks_no_tls_is_shut_out_and_others_are_served_meanwhile() {
    let server = Server::start("");
    let mut plain = TcpStream::connect(("127.0.0.1", server.tls_port)).expect("connected");
    plain
        .write_all(options("").as_bytes())
        .expect("written before it is looked at");
    let silent = TcpStream::connect(("127.0.0.1", server.tls_port)).expect("connected");
    let certificate = server.folder.path().join(CERTIFICATE);
    assert!(Caller::trusting(&server, &certificate).asks_and_is_answered());
    let mut answer = Vec::new();
    // An alert and the end, or a reset: nothing of SIP.
    let _ended = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"SIP/2.0"));
    drop(silent);
}

/// A connection over TLS that trusts one certificate only.
struct Caller(StreamOwned<ClientConnection, TcpStream>);

impl Caller {
    fn trusting(server: &Server, certificate: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::from_pem_file(certificate).expect("a certificate");
        roots.add(trusted).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into());
        let tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        let tcp = TcpStream::connect(("127.0.0.1", server.tls_port)).expect("connected");
        tcp.set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout");
        Self(StreamOwned::new(tls, tcp))
    }

    /// `false` where the handshake fails, or nobody answers.
    fn asks_and_is_answered(&mut self) -> bool {
        let request = options("Content-Length: 0\r\n").replace("SIP/2.0/UDP", "SIP/2.0/TLS");
        let mut buffer = [0; 4_096];
        self.0.write_all(request.as_bytes()).is_ok()
            && self
                .0
                .read(&mut buffer)
                .is_ok_and(|length| buffer[..length].starts_with(b"SIP/2.0 200"))
    }
}
