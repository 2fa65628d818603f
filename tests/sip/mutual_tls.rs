//! Trunks and we know each other by certificates: whose calls are a trunk's, and who we are where it asks.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType, date_time_ymd,
};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use crate::asterisk_life::wait_until;
use crate::ports::port;
use crate::server::{CERTIFICATE, Server, signal};

#[test]
fn a_trunk_that_must_show_its_certificate_is_known_by_it_and_by_nothing_else() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let authority = folder.path().join("authority.pem");
    fs::write(&authority, &ours.pem).expect("written");
    let server = Server::start(&format!(
        "[[sip.trunk]]\nname = \"carrier\"\npeers = [\"127.0.0.1\"]\nnumbers = [\"+3906555\"]\n\
         tls_authority = {authority:?}\ntls_names = [\"sip.carrier.test\"]\ntls_required = true\n"
    ));
    let right = ours.certificate(&domain("sip.carrier.test"), 2096);
    let by_host_name = ours.certificate(&["sip.carrier.test".to_owned()], 2096);
    let call = |shown: Option<&Shown>| Caller::new(&server, shown).calls();
    // What a trunk doesn't bring is refused to the trunk alone.
    assert_eq!(call(Some(&right)), 404);
    assert_eq!(call(Some(&by_host_name)), 404);
    assert_eq!(call(None), 403, "missing");
    let name = domain("sip.carrier.test");
    let server_s = [ExtendedKeyUsagePurpose::ServerAuth];
    let only_for_servers = ours.certificate_for(&server_s, &name, 2096);
    assert_eq!(call(Some(&only_for_servers)), 404);
    let code_s = [ExtendedKeyUsagePurpose::CodeSigning];
    let for_something_else = ours.certificate_for(&code_s, &name, 2096);
    for (shown, why) in [
        (
            foreign.certificate(&domain("sip.carrier.test"), 2096),
            "foreign",
        ),
        (
            ours.certificate(&domain("sip.carrier.test"), 2020),
            "expired",
        ),
        (ours.certificate(&domain("another.test"), 2096), "another's"),
        (
            ours.certificate(&["*.carrier.test".to_owned()], 2096),
            "anybody's",
        ),
        (for_something_else, "no peer's"),
        (
            foreign.certificate_for(&server_s, &name, 2096),
            "a foreign server's",
        ),
    ] {
        assert_eq!(call(Some(&shown)), 403, "{why}");
    }
    let refused = "voicebridge_admission_refused_total{reason=\"certificates\"} 6";
    wait_until("they are counted", Duration::from_secs(20), || {
        server.metrics().contains(refused)
    });

    // Another authority from now on; who is there stays.
    let mut before = Caller::new(&server, Some(&right));
    assert_eq!(before.calls(), 404);
    fs::write(&authority, &foreign.pem).expect("written");
    signal(server.pid(), "HUP");
    let newcomer = foreign.certificate(&domain("sip.carrier.test"), 2096);
    wait_until(
        "the other authority counts",
        Duration::from_secs(20),
        || call(Some(&newcomer)) == 404,
    );
    assert_eq!((before.calls(), call(Some(&right))), (404, 403));
}

#[test]
fn who_we_are_is_shown_to_a_trunk_that_asks_and_its_own_authority_is_believed() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("authority.pem"), &authority.pem).expect("written");
    let shown = authority.certificate(&["gateway.test".to_owned()], 2096);
    fs::write(path("own.pem"), &shown.certificate).expect("written");
    fs::write(path("own-key.pem"), &shown.key).expect("written");
    let carrier = Carrier::asking(&authority);
    let trunk = |name: &str, more: &str| {
        format!(
            "[[sip.trunk]]\nname = {name:?}\nregistrar = \"127.0.0.1:{}\"\nuser = {name:?}\ntransport = \"tls\"\n\
             tls_authority = {:?}\n{more}",
            carrier.port,
            path("authority.pem"),
        )
    };
    let certificate = format!(
        "tls_certificate = {:?}\ntls_key = {:?}\n",
        path("own.pem"),
        path("own-key.pem")
    );
    let _server = Server::start(&[trunk("known", &certificate), trunk("nobody", "")].concat());
    let registered = carrier.first_request();
    assert!(
        registered.starts_with("REGISTER sip:127.0.0.1:"),
        "{registered}"
    );
    assert!(registered.contains("<sip:known@"), "{registered}");
}

fn domain(name: &str) -> [String; 1] {
    [format!("sip:{name}")]
}

/// Who vouches for certificates.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, PEM.
struct Shown {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let pem = issuer.pem();
        Self { issuer, pem }
    }

    /// Good until the end of that year; a name with `sip:` in front is one of a SIP domain.
    fn certificate(&self, names: &[String], year: i32) -> Shown {
        self.certificate_for(&[], names, year)
    }

    /// One that is for these uses alone.
    fn certificate_for(
        &self,
        uses: &[ExtendedKeyUsagePurpose],
        names: &[String],
        year: i32,
    ) -> Shown {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.subject_alt_names = names
            .iter()
            .map(|name| {
                let text = name.as_str().try_into().expect("plain");
                match (name.starts_with("sip:"), name.parse::<IpAddr>()) {
                    (_, Ok(ip)) => SanType::IpAddress(ip),
                    (true, Err(_)) => SanType::URI(text),
                    (false, Err(_)) => SanType::DnsName(text),
                }
            })
            .collect();
        params.extended_key_usages = uses.to_vec();
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &self.issuer).expect("signed");
        Shown {
            certificate: made.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Shown {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("PEM")]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM")
    }
}

/// Somebody who calls over TLS.
struct Caller {
    stream: StreamOwned<ClientConnection, TcpStream>,
    calls: u32,
}

impl Caller {
    fn new(server: &Server, shown: Option<&Shown>) -> Self {
        let certificate: PathBuf = server.folder.path().join(CERTIFICATE);
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(trusting(&certificate));
        let config = match shown {
            Some(shown) => builder
                .with_client_auth_cert(shown.chain(), shown.key())
                .expect("it fits"),
            None => builder.with_no_client_auth(),
        };
        let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST).into());
        let tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        let tcp = TcpStream::connect(("127.0.0.1", server.tls_port)).expect("connected");
        let patience = Some(Duration::from_secs(20));
        tcp.set_read_timeout(patience).expect("a timeout");
        let stream = StreamOwned::new(tls, tcp);
        Self { stream, calls: 0 }
    }

    /// The status that a call is refused with.
    fn calls(&mut self) -> u16 {
        self.calls += 1;
        let id = format!(
            "{}-{}",
            self.stream.sock.local_addr().expect("bound"),
            self.calls
        );
        let invite = format!(
            "INVITE sip:7000@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bK{id}\r\n\
             From: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:7000@127.0.0.1>\r\nCall-ID: {id}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:a@127.0.0.1:9>\r\nContent-Length: 0\r\n\r\n"
        );
        self.stream.write_all(invite.as_bytes()).expect("written");
        let mut heard = String::new();
        loop {
            let statuses = heard.match_indices("SIP/2.0 ").filter_map(|(at, _)| {
                let status = heard.get(at + 8..at + 11)?;
                status.parse::<u16>().ok()
            });
            if let Some(last) = statuses.filter(|status| *status >= 200).last() {
                return last;
            }
            let mut buffer = [0; 4_096];
            let length = self.stream.read(&mut buffer).expect("an answer");
            assert!(length > 0, "it closes: {heard}");
            heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }
}

fn trusting(certificate: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_file(certificate).expect("a certificate");
    roots.add(trusted).expect("a root");
    roots
}

/// A registrar that serves nobody without a certificate, and tells what it is asked first.
struct Carrier {
    port: u16,
    heard: std::sync::mpsc::Receiver<String>,
}

impl Carrier {
    fn asking(authority: &Authority) -> Self {
        let own = authority.certificate(&["127.0.0.1".to_owned()], 2096);
        let mut roots = RootCertStore::empty();
        let pem = authority.pem.as_bytes();
        roots
            .add(CertificateDer::from_pem_slice(pem).expect("PEM"))
            .expect("a root");
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(own.chain(), own.key())
            .expect("it fits");
        let config = Arc::new(config);
        let listener = TcpListener::bind(("127.0.0.1", port())).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (tell, heard) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let tls = ServerConnection::new(config.clone()).expect("a server");
                let mut stream = StreamOwned::new(tls, stream);
                let mut buffer = [0; 4_096];
                // Who shows nothing gets no further than this.
                if let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    if tell.send(text).is_err() {
                        return;
                    }
                }
            }
        });
        Self { port, heard }
    }

    fn first_request(&self) -> String {
        let patience = Duration::from_secs(30);
        self.heard
            .recv_timeout(patience)
            .expect("somebody is let in")
    }
}
