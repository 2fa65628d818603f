//! A trunk that answers our calls with where else to go.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::json;

use crate::asterisk::text;
use crate::dialling::{allow, dial, record_of};
use crate::server::{CALLER, Server};
use crate::trunk_calls::Carrier;
use crate::trunks::await_trunks;

#[test]
fn nobody_is_called_where_a_trunk_sends_us() {
    let trunk = Carrier::listening();
    let elsewhere = UdpSocket::bind("127.0.0.9:0").expect("a port");
    elsewhere.set_nonblocking(true).expect("set");
    let at = elsewhere.local_addr().expect("it is bound");
    let server = Server::start(&trunk.trunk("carrier", ""));
    await_trunks(&server, &[("carrier", 1)]);
    let key = allow(&server);
    let meeting = server.book(&json!({}));
    for status in [
        "300 Multiple Choices",
        "301 Moved Permanently",
        "302 Moved Temporarily",
        "305 Use Proxy",
        "380 Alternative Service",
    ] {
        let (told, body) = dial(&server, &key, &meeting, &json!({"to": CALLER}));
        assert_eq!(told, 202, "{body}");
        let invite = trunk.expect("INVITE");
        let contact = format!("Contact: <sip:{CALLER}@{at}>\r\n");
        trunk.reply(&invite, status, &contact, "");
        trunk.expect("ACK");
        let record = record_of(&server, text(&body["call_id"]));
        assert_eq!(text(&record["outcome"]), "error", "{status}: {record}");
        assert_eq!(text(&record["hangup_by"]), "network", "{status}: {record}");
    }
    // Longer than anything that was lost would wait before it goes out again.
    std::thread::sleep(Duration::from_secs(1));
    assert!(
        trunk.has_heard_nothing_of("INVITE"),
        "the trunk was asked again"
    );
    let heard = elsewhere.recv(&mut [0; 1_500]);
    assert!(heard.is_err(), "somebody else was sent something");
}
