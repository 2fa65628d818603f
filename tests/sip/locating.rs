//! Where a trunk's name leads, by a real DNS server: to the first of its places that serves, within a call and across
//! calls (RFC 3263).

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::asterisk::text;
use crate::asterisk_life::wait_until;
use crate::dialling::{allow, dial};
use crate::ports::port;
use crate::server::{CALLER, Server};
use crate::trunk_calls::{Carrier, sdp};
use crate::trunks::await_trunks;

#[test]
fn a_call_that_one_place_refuses_goes_to_the_next_and_later_calls_go_there_at_once() {
    let (first, second) = (Carrier::listening(), Carrier::listening());
    let names = Names::served(&[
        "--naptr-record=carrier.test,10,10,s,SIPS+D2T,,_sips._tcp.carrier.test".to_owned(),
        "--naptr-record=carrier.test,20,10,s,SIP+D2U,,_sip._udp.elsewhere.test".to_owned(),
        format!(
            "--srv-host=_sip._udp.elsewhere.test,first.test,{},0,1",
            first.port()
        ),
        format!(
            "--srv-host=_sip._udp.elsewhere.test,second.test,{},1,1",
            second.port()
        ),
        "--host-record=first.test,127.0.0.1".to_owned(),
        "--host-record=second.test,127.0.0.1".to_owned(),
    ]);
    let server = Server::start(&format!(
        "{}[[sip.trunk]]\nname = \"carrier\"\ndial = \"sip:{{number}}@carrier.test\"\n",
        names.setting()
    ));
    let trunk = trunks(&server);
    await_trunks(&server, &[("carrier", 1)]);
    goes_to(&trunk, &format!("udp:127.0.0.1:{}", first.port()));
    let key = allow(&server);
    let meeting = server.book(&json!({}));
    let call = || {
        let asked = json!({"to": CALLER});
        let (status, body) = dial(&server, &key, &meeting, &asked);
        assert_eq!(status, 202, "{body}");
    };
    call();
    let invite = first.expect("INVITE");
    first.reply(
        &invite,
        "503 Service Unavailable",
        "Retry-After: 300\r\n",
        "",
    );
    let invite = second.expect("INVITE");
    assert!(invite.contains("@carrier.test SIP/2.0"), "{invite}");
    second.reply(&invite, "200 OK", "", &sdp());
    second.expect("ACK");
    let shown = goes_to(&trunk, &format!("udp:127.0.0.1:{}", second.port()));
    let left = &shown["left_alone"][0];
    assert_eq!(text(&left["fault"]), "answered 503", "{shown}");
    assert!(
        (200..=300).contains(&left["seconds"].as_u64().expect("seconds")),
        "{shown}"
    );
    call();
    second.expect("INVITE");
    assert!(first.has_heard_nothing_of("INVITE"));
}

#[test]
fn a_place_that_takes_no_connection_is_passed_over_and_check_says_so() {
    let here = TcpListener::bind(("127.0.0.1", port())).expect("a port");
    let (gone, here_port) = (port(), here.local_addr().expect("bound").port());
    let names = Names::served(&[
        format!("--srv-host=_sip._tcp.carrier.test,a.test,{gone},0,1"),
        format!("--srv-host=_sip._tcp.carrier.test,a.test,{here_port},5,1"),
        "--host-record=a.test,127.0.0.1".to_owned(),
    ]);
    let server = Server::start(&format!(
        "{}[[sip.trunk]]\nname = \"carrier\"\ndial = \"sip:{{number}}@carrier.test\"\ntransport = \"auto\"\n",
        names.setting()
    ));
    let trunk = trunks(&server);
    await_trunks(&server, &[("carrier", 1)]);
    let shown = goes_to(&trunk, &format!("tcp:127.0.0.1:{here_port}"));
    let left = &shown["left_alone"][0];
    assert_eq!(
        text(&left["target"]),
        format!("tcp:127.0.0.1:{gone}"),
        "{shown}"
    );
    assert_eq!(text(&left["fault"]), "connection refused", "{shown}");
    let said = server.check();
    let expected = format!(
        "reached at 127.0.0.1:{here_port} over tcp (by SRV records, 0 more to go to), not at 127.0.0.1:{gone} over tcp (connection refused"
    );
    assert!(said.contains(&expected), "{said}");
}

/// How the first trunk stands, by the API.
fn trunks(server: &Server) -> impl Fn() -> Value {
    let platform = server.create_key(&["--organisation", "test", "--role", "platform"]);
    move || server.get_by("/v1/trunks", &platform)["items"][0].clone()
}

/// Waits until that is where its requests go.
fn goes_to(trunk: &impl Fn() -> Value, target: &str) -> Value {
    wait_until("it goes there", Duration::from_secs(20), || {
        trunk()["target"] == target
    });
    trunk()
}

/// A DNS server of a few names; ended when dropped.
struct Names {
    process: Child,
    port: u16,
}

impl Names {
    fn served(records: &[String]) -> Self {
        let port = port();
        let process = Command::new("dnsmasq")
            .args([
                "--keep-in-foreground",
                "--no-resolv",
                "--no-hosts",
                "--conf-file=/dev/null",
            ])
            .args([
                "--bind-interfaces",
                "--listen-address=127.0.0.1",
                "--pid-file=",
            ])
            .args(["--user=", "--local=/test/"])
            .arg(format!("--port={port}"))
            .args(records)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq; scripts/install-test-deps installs it");
        wait_until("names are served", Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { process, port }
    }

    fn setting(&self) -> String {
        format!("sip.dns_servers = [\"127.0.0.1:{}\"]\n", self.port)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}
