//! Calls that go out past the proxies that a registrar names (RFC 3608).

use super::by_trunk::{OURS, challenge, with_line};
use super::calling::response;
use super::trunks::{CHALLENGE, answer, reach, with_trunk};
use super::*;

/// `message`'s Route headers, in their order.
fn routes(message: &str) -> Vec<&str> {
    let lines = message.lines();
    lines
        .filter_map(|line| line.strip_prefix("Route: "))
        .collect()
}

#[test]
fn calls_pass_where_the_registrar_wants_them_to() {
    let mut bench = with_trunk(false);
    let register = reach(&mut bench).remove(0);
    let told = "Service-Route: <sip:edge.carrier.example;lr>, <sip:home.carrier.example;lr>\r\n";
    let sent = answer(&mut bench, &register, "401 Unauthorized", CHALLENGE);
    answer(
        &mut bench,
        &sent[0],
        "200 OK",
        &format!("Expires: 600\r\n{told}"),
    );
    bench.events();
    let passed = [
        "<sip:edge.carrier.example;lr>",
        "<sip:home.carrier.example;lr>",
    ];
    let (_, invite) = bench.dial_by_trunk();
    assert!(
        invite.starts_with("INVITE sip:+39061@carrier.example "),
        "{invite}"
    );
    assert_eq!(routes(&invite), passed);
    let again = bench.hears_trunk(&challenge(&invite, 407, OURS));
    assert_eq!(statuses(&again), ["ACK", "INVITE"]);
    again
        .iter()
        .for_each(|sent| assert_eq!(routes(sent), passed));
    // From the answer on it is the dialog's own routes that count (RFC 3261 section 12.1.2).
    let answered = with_line(
        &response(&again[1], 200, "pt"),
        "Record-Route: <sip:media.carrier.example;lr>",
    );
    let acknowledged = bench.hears_trunk(&answered);
    assert_eq!(routes(&acknowledged[0]), ["<sip:media.carrier.example;lr>"]);
    // A registration renewed without them has none.
    let mut refreshed = bench.pass(Duration::from_secs(600)).into_iter();
    let (_, register) = refreshed
        .rfind(|(_, message)| message.starts_with("REGISTER"))
        .unwrap();
    answer(&mut bench, &register, "200 OK", "Expires: 600\r\n");
    assert_eq!(routes(&bench.dial_by_trunk().1), [""; 0]);
}
