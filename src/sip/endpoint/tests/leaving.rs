//! Calls that are over for us: whom we must still tell, and who answers too late.

use super::by_trunk::{OURS, challenge};
use super::calling::response;
use super::trunks::REGISTRAR;
use super::*;

/// A connection to the trunk.
fn over(connection: u64) -> Flow {
    Flow::Stream {
        connection: ConnectionId(connection),
        peer: REGISTRAR.parse().unwrap(),
        over: StreamTransport::Tcp,
    }
}

impl Bench {
    /// The trunk is reached by this connection; what that makes us send there.
    fn reach_by(&mut self, connection: u64) -> Vec<String> {
        let (now, flow) = (self.now, over(connection));
        self.endpoint
            .trunk_reached(now, TrunkId(0), flow, "192.0.2.1:5060");
        let sent = &self.endpoint.transmits;
        assert!(sent.iter().all(|transmit| transmit.flow == flow));
        self.sent()
    }

    fn hears_by(&mut self, connection: u64, message: &str) -> Vec<String> {
        let (now, flow) = (self.now, over(connection));
        self.endpoint.handle_stream(now, flow, message.as_bytes());
        self.sent()
    }

    fn cut(&mut self, connection: u64) {
        self.endpoint
            .handle_closed(self.now, ConnectionId(connection));
    }

    /// A call of ours by a trunk's first connection that is up.
    fn up_by_connection() -> (Self, DialogId) {
        let mut bench = Self::with(|config| config.trunks = vec![TrunkSettings::default()]);
        assert_eq!(bench.reach_by(1), [""; 0]);
        let (target, from) = ("sip:+39061@carrier.example", "<sip:gw@carrier.example>");
        let begun = bench
            .endpoint
            .invite_by(bench.now, TrunkId(0), target, from, b"v=0\r\nours");
        let invite = bench.sent().remove(0);
        let ack = bench.hears_by(1, &response(&invite, 200, "pt"));
        assert_eq!(statuses(&ack), ["ACK"]);
        bench.events();
        (bench, begun.unwrap())
    }
}

#[test]
fn a_call_that_ends_while_nothing_leads_to_its_trunk_is_ended_by_the_next_way_there() {
    let (mut bench, dialog) = Bench::up_by_connection();
    bench.cut(1);
    bench.endpoint.hang_up(bench.now, dialog, 17);
    assert!(bench.sent().is_empty());
    assert!(bench.endpoint.is_taking_leave());
    assert!(bench.pass(Duration::from_secs(20)).is_empty());
    let bye = bench.reach_by(2);
    assert_eq!(statuses(&bye), ["BYE"]);
    assert_eq!(header(&bye[0], "Reason"), Some("Q.850;cause=17"));
    assert!(bench.reach_by(2).is_empty(), "once by each way");
    assert!(bench.hears_by(2, &response(&bye[0], 200, "pt")).is_empty());
    assert!(!bench.endpoint.is_taking_leave());
    bench.assert_empty_after(LONG);
}

#[test]
fn a_bye_whose_connection_breaks_goes_once_more_by_the_next_one() {
    let (mut bench, dialog) = Bench::up_by_connection();
    bench.endpoint.hang_up(bench.now, dialog, 16);
    assert_eq!(statuses(&bench.sent()), ["BYE"]);
    for connection in [1, 2] {
        bench.cut(connection);
        assert!(bench.sent().is_empty());
        let again = bench.reach_by(connection + 1);
        assert_eq!(statuses(&again), ["BYE"]);
        let number = connection + 2;
        assert_eq!(header(&again[0], "CSeq"), Some(&*format!("{number} BYE")));
        assert_eq!(header(&again[0], "Reason"), Some("Q.850;cause=16"));
        if connection == 2 {
            // The first one has arrived after all.
            bench.hears_by(3, &response(&again[0], 481, "pt"));
        }
    }
    assert!(!bench.endpoint.is_taking_leave());
    bench.assert_empty_after(LONG);
}

#[test]
fn a_bye_whose_own_connection_breaks_goes_at_once_by_the_one_that_the_trunk_is_called_by() {
    let (mut bench, dialog) = Bench::up_by_connection();
    bench.endpoint.dialogs.get_mut(&dialog).unwrap().flow = Some(over(9));
    bench.endpoint.hang_up(bench.now, dialog, 16);
    assert_eq!(bench.endpoint.transmits.front().unwrap().flow, over(9));
    assert_eq!(statuses(&bench.sent()), ["BYE"]);
    bench.cut(9);
    assert_eq!(bench.endpoint.transmits.front().unwrap().flow, over(1));
    let again = bench.sent();
    assert_eq!(statuses(&again), ["BYE"]);
    bench.hears_by(1, &response(&again[0], 200, "pt"));
    bench.assert_empty_after(LONG);
}

#[test]
fn a_bye_that_finds_no_way_is_given_up_in_time_however_often_one_breaks() {
    let (mut bench, dialog) = Bench::up_by_connection();
    bench.cut(1);
    bench.endpoint.hang_up(bench.now, dialog, 16);
    bench.pass(Duration::from_millis(31_999));
    assert!(bench.endpoint.is_taking_leave());
    bench.assert_empty_after(Duration::from_millis(1));
    assert!(bench.reach_by(2).is_empty());
    let (mut bench, dialog) = Bench::up_by_connection();
    bench.endpoint.hang_up(bench.now, dialog, 16);
    let mut byes = bench.sent().len();
    for connection in 1..20 {
        bench.cut(connection);
        bench.pass(Duration::from_secs(5));
        byes += bench.reach_by(connection + 1).len();
    }
    assert_eq!(byes, 7, "one each 5 s, for 32 s");
    bench.assert_empty_after(LONG);
}

#[test]
fn a_bye_that_waits_for_the_ack_is_sent_without_it_by_the_next_way_to_the_trunk() {
    let mut bench = Bench::with(|config| {
        config.trunks = vec![TrunkSettings {
            peers: vec!["192.0.2.7/32".parse().unwrap()],
            ..TrunkSettings::default()
        }];
    });
    bench.tcp(invite().replace("SIP/2.0/UDP", "SIP/2.0/TCP").as_bytes());
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!("no INVITE was told")
    };
    bench.endpoint.answer(bench.now, dialog, Bytes::new());
    assert_eq!(statuses(&bench.sent()), ["200"]);
    bench.endpoint.hang_up(bench.now, dialog, 16);
    bench.endpoint.handle_closed(bench.now, TCP);
    assert!(bench.pass(Duration::from_secs(40)).is_empty());
    let bye = bench.reach_by(2);
    assert_eq!(statuses(&bye), ["BYE"]);
    assert!(bench.events().is_empty());
    bench.assert_empty_after(LONG);
}

#[test]
fn who_is_called_no_more_is_waited_for_as_who_is_hung_up_on() {
    let mut bench = Bench::new();
    let (dialog, invite) = bench.dial();
    assert!(!bench.endpoint.is_taking_leave());
    bench.endpoint.hang_up(bench.now, dialog, 16);
    assert!(bench.endpoint.is_taking_leave());
    let cancel = bench.udp(&response(&invite, 180, "pt"));
    assert_eq!(statuses(&cancel), ["CANCEL"]);
    bench.udp(&response(&cancel[0], 200, "pt"));
    assert!(bench.endpoint.is_taking_leave());
    assert_eq!(statuses(&bench.udp(&response(&invite, 487, "pt"))), ["ACK"]);
    assert!(!bench.endpoint.is_taking_leave());
    bench.assert_empty_after(LONG);
}

#[test]
fn a_branch_that_answers_when_the_call_is_over_is_acknowledged_and_ended() {
    let mut bench = Bench::new();
    let (dialog, invite) = bench.dial();
    bench.udp(&response(&invite, 180, "a"));
    bench.endpoint.hang_up(bench.now, dialog, 16);
    assert_eq!(statuses(&bench.sent()), ["CANCEL"]);
    let first = bench.udp(&response(&invite, 200, "a"));
    assert_eq!(statuses(&first), ["ACK", "BYE"]);
    bench.udp(&response(&first[1], 200, "a"));
    assert_eq!(bench.endpoint.counters.dialogs, 0);
    let other = bench.udp(&response(&invite, 200, "b"));
    assert_eq!(statuses(&other), ["ACK", "BYE"]);
    for (message, cseq) in other.iter().zip(["1 ACK", "2 BYE"]) {
        assert!(message.contains(" sip:room@192.0.2.7:5070 SIP/2.0\r\n"));
        assert_eq!(header(message, "To"), Some("<sip:100@192.0.2.7>;tag=b"));
        assert_eq!(header(message, "CSeq"), Some(cseq));
        for same in ["From", "Call-ID"] {
            assert_eq!(header(message, same), header(&invite, same));
        }
    }
    assert_eq!(bench.udp(&response(&invite, 200, "b")), [other[0].clone()]);
    bench.udp(&response(&other[1], 200, "b"));
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Provisional { .. }]
    ));
    bench.assert_empty_after(LONG);
}

#[test]
fn a_trunk_may_ask_for_credentials_when_such_a_branch_is_ended() {
    let mut bench = Bench::registered();
    let (dialog, invite) = bench.dial_by_trunk();
    bench.hears_trunk(&response(&invite, 200, "a"));
    bench.endpoint.hang_up(bench.now, dialog, 16);
    let bye = bench.sent().remove(0);
    bench.hears_trunk(&response(&bye, 200, "a"));
    assert_eq!(bench.endpoint.counters.dialogs, 0);
    let other = bench.hears_trunk(&response(&invite, 200, "b"));
    assert_eq!(statuses(&other), ["ACK", "BYE"]);
    let again = bench.hears_trunk(&challenge(&other[1], 401, OURS));
    assert_eq!(statuses(&again), ["BYE"]);
    assert!(header(&again[0], "Authorization").is_some());
    assert_eq!(header(&again[0], "CSeq"), Some("3 BYE"));
}
