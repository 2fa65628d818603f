//! Phones that prove by a password whose calls theirs are, as real clients do it.

use std::time::Duration;

use serde_json::json;

use crate::asterisk_life::wait_until;
use crate::baresip::{PCMA, Phone};
use crate::outcomes::wait_for_participants;
use crate::server::Server;

#[test]
fn phones_of_one_network_are_told_apart_by_their_passwords() {
    let phone = |user: &str, password: &str| {
        format!(
            "[[sip.trunk]]\nname = \"phone of {user}\"\npeers = [\"127.0.0.0/8\"]\n\
             auth_user = {user:?}\nauth_password = {password:?}\nauth_algorithms = [\"MD5\"]\n"
        )
    };
    let server = Server::start(&[phone("bert", BERTS), phone("anna", ANNAS)].concat());
    server.remember(&[ANNAS, BERTS]);
    let meeting = server.book(&json!({}));
    let known = server.calls().len();
    for (user, password, number) in [("anna", ANNAS, 0), ("bert", BERTS, 1)] {
        let mut phone = Phone::proving(&server, &PCMA, user, password);
        phone.enter(&meeting);
        wait_for_participants(&server, &meeting.id, 1);
        phone.write("\n/quit\n");
        let call = server.call_after(known + number);
        let shown = (&call["trunk"], &call["outcome"]);
        let expected = (&json!(format!("phone of {user}")), &json!("joined"));
        assert_eq!(shown, expected, "{call}");
        wait_for_participants(&server, &meeting.id, 0);
    }
    let asked = "voicebridge_admission_refused_total{reason=\"asked who calls\"}";
    wait_until("it is counted", Duration::from_secs(20), || {
        server.metrics().contains(asked)
    });
}

const ANNAS: &str = "canary-of-the-phone";
const BERTS: &str = "canary-of-the-other-phone";
