//! Participants by Asterisk who are sent on into its dialplan.

use std::time::Duration;

use serde_json::json;

use crate::asterisk::{Asterisk, text};
use crate::asterisk_life::{PATIENT, people, stays, wait_until};
use crate::outcomes::wait_for_participants;
use crate::sipp::Scenario;

#[test]
fn a_participant_by_asterisk_goes_on_at_an_allowed_extension_and_nobody_anywhere_else() {
    let mut asterisk = Asterisk::start();
    asterisk.more = "leave_to = [\"moved\"]";
    let server = asterisk.server(PATIENT);
    let meeting = server.book(&json!({}));
    let direct = Scenario::new("uac-stays")
        .key("pin", &meeting.guest)
        .start(&server);
    wait_for_participants(&server, &meeting.id, 1);
    let by_sip = people(&server, &meeting.id).remove(0);
    let by_asterisk = stays(&server, &asterisk, &meeting, 2);
    wait_for_participants(&server, &meeting.id, 3);
    let all = people(&server, &meeting.id);
    let person = all.iter().find(|person| person["kind"] == "asterisk");
    let person = person.expect("one of two");
    let send = |person: &serde_json::Value, context: &str, extension: &str| {
        let (meeting, person) = (&meeting.id, text(&person["id"]));
        let path = format!("/v1/meetings/{meeting}/participants/{person}/move");
        let body = json!({"context": context, "extension": extension});
        let (status, code) = server.post(&path, &body);
        (status, code.leak() as &str)
    };
    assert_eq!(send(&by_sip, "moved", "42"), (422, "not_supported"));
    assert_eq!(send(person, "inbound", "7100"), (403, "not_allowed"));
    assert_eq!(send(person, "moved", "112"), (403, "emergency_number"));
    assert_eq!(send(person, "moved", "43"), (422, "no_such_extension"));
    assert_eq!(people(&server, &meeting.id), all, "nobody went");

    assert_eq!(send(person, "moved", "42"), (204, ""));
    wait_for_participants(&server, &meeting.id, 2);
    assert_eq!(send(person, "moved", "42"), (404, "not_found"));
    // Two callers, and media and bridge of one.
    asterisk.assert_channels_and_bridges(3, 1);
    let channels = asterisk.cli("core show channels concise");
    assert_eq!(channels.matches("!moved!42!").count(), 1, "{channels}");
    let globals = asterisk.cli("dialplan show globals");
    assert!(globals.contains("MOVED=joined"), "{globals}");
    wait_until("the record is kept", Duration::from_secs(5), || {
        !server.calls().is_empty()
    });
    let record = server.call_after(0);
    assert_eq!(record["outcome"], "joined", "{record}");
    assert_eq!(record["hangup_by"], "moved", "{record}");
    assert_eq!(record["participant_id"], person["id"], "{record}");

    server.delete(&format!("/v1/meetings/{}", meeting.id));
    direct.finish("told goodbye at the end of the meeting");
    // The one who went on is hung up on by the dialplan.
    by_asterisk.finish("told goodbye, here or there");
    asterisk.assert_nothing_is_left();
}
