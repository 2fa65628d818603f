//! Phones behind Asterisk that put the meeting on hold, and play music of their own meanwhile.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::asterisk::Asterisk;
use crate::baresip::{LEVEL_ERROR_DB, PCMU, Phone, SENT_DBFS, SEPARATION_DB, Voice};
use crate::outcomes::wait_for_participants;
use crate::sipp::Scenario;

#[test]
fn a_phone_by_asterisk_that_holds_plays_no_music_into_the_meeting_and_is_heard_again_afterwards() {
    let asterisk = Asterisk::start();
    let server = asterisk.server("");
    let meeting = server.book(&json!({}));
    let number = format!("2{}", meeting.guest);
    let mut hears = Phone::calling(&server, &PCMU, asterisk.sip, &number);
    hears.dial();
    wait_for_participants(&server, &meeting.id, 1);
    let holding = ["sendonly", "inactive"].iter().zip(&HOLD);
    let running: Vec<_> = holding
        .map(|(hold, voice)| {
            Scenario::new("uac-holds-with-music")
                .key("hold", hold)
                .voice(voice)
                .number(&number)
                .by(asterisk.sip)
                .start(&server)
        })
        .collect();
    wait_for_participants(&server, &meeting.id, 3);
    sleep(Duration::from_millis(11_500));
    hears.write("\n/quit\n");
    let heard = hears.finish();
    for (voice, hold) in HOLD.iter().zip(["sendonly", "inactive"]) {
        // Before it holds, while it does, and afterwards; from the end.
        let [before, held, after] = [(9.8, 8.4), (7.0, 4.6), (2.5, 0.5)]
            .map(|(from, to)| heard.level_between(voice, from, to));
        eprintln!("{hold}: {before:.1}, {held:.1}, {after:.1} dBFS");
        // Its loudness is still being found at first.
        assert!(before > SENT_DBFS - 2.0 * LEVEL_ERROR_DB, "{hold}: before");
        assert!((after - SENT_DBFS).abs() <= LEVEL_ERROR_DB, "{hold}: after");
        assert!(held < SENT_DBFS - SEPARATION_DB, "{hold}: music");
    }
    for call in running {
        call.finish("held and taken back");
    }
    asterisk.assert_nothing_is_left();
}

const HOLD: [Voice; 2] = [
    Voice {
        tone_hz: 1_050.0,
        ..PCMU
    },
    Voice {
        tone_hz: 1_700.0,
        ..PCMU
    },
];
