//! The call state machine, by any order of events; and what an Asterisk may say.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;
use voicebridge::ari::{AriEvent, Endpoint, EndpointConfig, Transmit};
use voicebridge::booking::admission::{Admission, CallId, PinVerdict, Refusal, Role};
use voicebridge::booking::{CallerNumber, Pin};
use voicebridge::call::{
    Arrival, Call, CallInput, CallLimits, CallOutput, Rejection, RoomNotice, RoomRefusal,
    RoomVerdict, WaitFor,
};
use voicebridge::units::{Brand, Key, Language, Voice};

use super::{records, start};

/// One byte an event; time goes by between them.
pub fn call_events(data: &[u8]) {
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    let mut now = start();
    let mut wall = Timestamp::from_second(1_800_000_000).expect("in range");
    let mut call = Call::new(CallId(Uuid::from_u128(1)), CallLimits::default());
    let mut records = 0;
    let arrival = arrival(*first);
    let begins = match first % 8 {
        0 => CallInput::Unwanted(arrival, Rejection::Overload),
        1 => CallInput::Unwanted(arrival, Rejection::UnknownNumber),
        _ => CallInput::Arrived(arrival),
    };
    call.handle_input(now, wall, begins);
    records += drained(&mut call);
    for event in rest.iter().take(2_000) {
        match input(*event, wall) {
            Some(input) => call.handle_input(now, wall, input),
            None => {
                let step = call.poll_timeout().filter(|_| event.is_multiple_of(2));
                let step = step.map_or(Duration::from_millis(700), |at| {
                    at.saturating_duration_since(now)
                });
                now += step;
                wall += step;
                call.handle_timeout(now, wall);
            }
        }
        records += drained(&mut call);
        assert!(records <= 1, "a call has one record");
    }
    call.handle_input(now, wall, CallInput::HungUp);
    records += drained(&mut call);
    assert_eq!(records, 1, "a call that is over has a record");
    assert_eq!(
        call.poll_timeout(),
        None,
        "a call that is over waits for nothing"
    );
}

fn drained(call: &mut Call) -> usize {
    let outputs = std::iter::from_fn(|| call.poll_output());
    let counted = outputs.take(1_000);
    counted
        .filter(|output| matches!(output, CallOutput::Record(_)))
        .count()
}

fn arrival(first: u8) -> Arrival {
    Arrival {
        kind: "sip",
        caller: CallerNumber::new("+390612345678"),
        number: ["1000", "112", "+3906"][usize::from(first / 8) % 3].to_owned(),
        voice: Voice::everybodys(Language::Italian),
        pin: Pin::parse("1234567890").ok().filter(|_| first >= 128),
        trusted: first.is_multiple_of(2),
        past: None,
        outgoing: None,
        trunk: None,
        verstat: None,
        sip_call_id: Some("x".to_owned()),
        asterisk_channel: None,
    }
}

fn input(event: u8, wall: Timestamp) -> Option<CallInput> {
    let participant = voicebridge::booking::admission::ParticipantId(Uuid::from_u128(2));
    let (others, muted) = (u32::from(event >> 6), event >= 128);
    Some(match event % 40 {
        0..16 => CallInput::Key(Key::from_event(event % 40)?),
        16 => CallInput::Answered,
        17 => CallInput::SayFinished,
        18 => CallInput::PinVerdict(PinVerdict::Refused(Refusal::Wrong)),
        19 => CallInput::PinVerdict(PinVerdict::Refused(Refusal::Ended)),
        20 => CallInput::PinVerdict(PinVerdict::Refused(Refusal::Unavailable)),
        21 | 22 => CallInput::PinVerdict(PinVerdict::Admitted(Box::new(admission(event, wall)))),
        23 | 24 => CallInput::RoomVerdict(RoomVerdict::Joined {
            participant,
            others,
            muted,
        }),
        25 => CallInput::RoomVerdict(RoomVerdict::Wait(WaitFor::Start)),
        26 => CallInput::RoomVerdict(RoomVerdict::Refused(RoomRefusal::Full)),
        27 => CallInput::Room(RoomNotice::Opened {
            participant,
            others,
            muted,
        }),
        28 => CallInput::Room(RoomNotice::Wait(WaitFor::Host)),
        29 => CallInput::Room(RoomNotice::Alone),
        30 => CallInput::Room(RoomNotice::Company),
        31 => CallInput::Room(RoomNotice::HeadCount(others)),
        32 => CallInput::Room(RoomNotice::MutedByHost(muted)),
        33 => CallInput::Room(RoomNotice::EndsIn { minutes: 5 }),
        34 if event >= 200 => CallInput::Room(RoomNotice::Ended),
        34 if event >= 150 => CallInput::Room(RoomNotice::Removed),
        35 if event >= 200 => CallInput::Lost,
        35 if event >= 150 => CallInput::Unsecured,
        36 => CallInput::PickedUp,
        37 if event >= 200 => CallInput::NotReached { q850: 17 },
        _ => return None,
    })
}

fn admission(event: u8, wall: Timestamp) -> Admission {
    let hour = Duration::from_secs(3_600);
    Admission {
        revision: 1,
        meeting: voicebridge::booking::MeetingId(Uuid::from_u128(3)),
        occurrence: None,
        organisation: voicebridge::booking::admission::OrganisationId(Uuid::from_u128(4)),
        brand: Brand::of("demo"),
        role: [Role::Guest, Role::Host, Role::Listener, Role::Bridge][usize::from(event >> 6)],
        name: None,
        opens_at: wall,
        ends_at: Some(wall + hour),
        overrun: hour,
        capacity: None,
        wait_for_host: event.is_multiple_of(2),
        mute_on_join: event.is_multiple_of(3),
        guests_may_unmute: !event.is_multiple_of(5),
        language: None,
        sound: Default::default(),
        echo: false,
    }
}

/// Messages of an Asterisk; `$ID` in them is what our last request was called.
pub fn ari_messages(data: &[u8]) {
    let mut now = start();
    let config = EndpointConfig {
        app: "voicebridge-a".to_owned(),
        seed: 7,
        take_over: vec!["voicebridge-b".to_owned()],
    };
    let mut endpoint = Endpoint::new(now, config);
    let mut last = 0;
    endpoint.handle_opened(now);
    for message in records(data).take(32) {
        let text = String::from_utf8_lossy(message).replace("$ID", &last.to_string());
        endpoint.handle_text(now, &text);
        for _ in 0..1_000 {
            match endpoint.poll_transmit() {
                Some(Transmit::Ask(asked)) => last = asked.id,
                Some(Transmit::Open) => endpoint.handle_opened(now),
                Some(Transmit::Close) => {}
                None => break,
            }
        }
        while let Some(event) = endpoint.poll_event() {
            if let AriEvent::Arrived { caller, .. } = event {
                let rtp = std::net::SocketAddr::from(([127, 0, 0, 1], 4_000));
                endpoint.answer(now, caller, rtp);
            }
        }
        now += Duration::from_millis(300);
        if endpoint.poll_timeout().is_some_and(|at| at <= now) {
            endpoint.handle_timeout(now);
        }
    }
    endpoint.handle_closed(now);
}
