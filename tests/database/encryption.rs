//! A PostgreSQL across a network: what `sslmode` asks of it, and what `voicebridge check` says of that.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::ports::{port, ports};
use crate::postgres;

#[test]
fn the_database_is_reached_encrypted_where_that_is_asked_for_and_by_whom_its_certificate_names() {
    let database = postgres::Server::start();
    let by_socket = database.database();
    let name = by_socket.split(['/', '?']).nth(3).expect("a name");
    let folder = tempfile::tempdir().expect("a temporary folder");
    // The server is another user.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("may be read");
    write_certificates(folder.path());
    let tcp = port();
    database.encrypt(tcp, folder.path());

    let at = |host: &str, more: &str| {
        let url = format!("postgres://voicebridge@{host}:{tcp}/{name}?{more}");
        store_line(folder.path(), &url)
    };
    let authority = folder.path().join("authority.crt");
    let trusted = format!("sslrootcert={}", authority.display());
    for (host, more, expected) in [
        (
            "localhost",
            format!("sslmode=verify-full&{trusted}"),
            "ok store: readable, writable, sound, encrypted by TLSv1.3, and its certificate was checked",
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&{trusted}"),
            "ok certificate was checked",
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-full&{trusted}"),
            "FAILED certificate not valid for name",
        ),
        (
            "localhost",
            "sslmode=verify-full".to_owned(),
            "FAILED UnknownIssuer",
        ),
        (
            "localhost",
            "sslmode=require".to_owned(),
            "ok encrypted by TLSv1.3, but its certificate was not checked; sslmode=verify-full",
        ),
        (
            "localhost",
            "sslmode=disable".to_owned(),
            "ok without encryption; sslmode=verify-full",
        ),
    ] {
        let line = at(host, &more);
        let (word, text) = expected.split_once(' ').expect("two parts");
        assert!(
            line.starts_with(word) && line.contains(text),
            "{host} {more}: {line}"
        );
    }
    // By the socket nobody else listens; it speaks no TLS, so who insists on that is told.
    let by_socket = by_socket.replace("@localhost/", &format!("@localhost:{tcp}/"));
    let line = store_line(folder.path(), &by_socket);
    assert!(
        line.contains("reached by a socket of this machine"),
        "{line}"
    );
    let line = store_line(folder.path(), &format!("{by_socket}&sslmode=require"));
    assert!(line.starts_with("FAILED") && line.contains("TLS"), "{line}");
}

/// An authority, and a certificate by it for `localhost`.
fn write_certificates(folder: &Path) {
    let key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&key).expect("an authority");
    fs::write(folder.join("authority.crt"), certificate.pem()).expect("written");
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = server.signed_by(&key, &issuer).expect("a certificate");
    fs::write(folder.join("server.crt"), certificate.pem()).expect("written");
    fs::write(folder.join("server.key"), key.serialize_pem()).expect("written");
}

/// The line that `check` has for the store.
fn store_line(folder: &Path, url: &str) -> String {
    let media = ports(4);
    let config = format!(
        "node.data_dir = {data:?}\nsip.listen = [\"udp:127.0.0.1:{sip}\"]\nhttp.listen = \"127.0.0.1:{http}\"\n\
         media.ports = \"{media}-{last}\"\ndatabase.url = {url:?}\n",
        data = folder.join("data"),
        sip = port(),
        http = port(),
        last = media + 3,
    );
    fs::write(folder.join("voicebridge.toml"), config).expect("written");
    let checked = Command::new(env!("CARGO_BIN_EXE_voicebridge"))
        .args(["check", "--config"])
        .arg(folder.join("voicebridge.toml"))
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    let line = said.lines().find(|line| line.contains(" store: "));
    line.unwrap_or_else(|| panic!("nothing about the store in:\n{said}"))
        .to_owned()
}
