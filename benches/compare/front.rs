//! voicebridge behind an Asterisk, which the phones call: by ARI, or dialled by SIP so that the phones' audio
//! doesn't pass Asterisk.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::asterisk::{Instance, PJSIP};
use crate::call::{Answered, Lines};
use crate::scenario::Scenario;
use crate::server::{Counts, MEDIA_PORTS, Server, free_port};
use crate::voicebridge::Voicebridge;

/// Both, on one core.
pub(crate) struct Front {
    asterisk: Instance,
    voicebridge: Voicebridge,
    by_ari: bool,
    lines: Option<Lines>,
}

impl Front {
    pub(crate) fn start(by_ari: bool, scenario: &Scenario, folder: &Path) -> anyhow::Result<Self> {
        let http = free_port()?;
        let more = format!(
            "[[asterisk]]\nname = \"pbx\"\nurl = \"http://127.0.0.1:{http}\"\nuser = \"voicebridge\"\npassword = \"compare\"\n"
        );
        let more = if by_ari { more.as_str() } else { "" };
        let middle = MEDIA_PORTS.0 + (MEDIA_PORTS.1 - MEDIA_PORTS.0) / 2;
        let ours = (middle + 1, MEDIA_PORTS.1);
        let voicebridge = Voicebridge::start_with(more, ours, false, scenario, folder)?;
        let phones = PJSIP.replace("direct_media = no", "direct_media = yes");
        let pjsip = if by_ari {
            PJSIP.to_owned()
        } else {
            format!(
                "{phones}{}",
                PEER.replace("PORT", &voicebridge.sip().port().to_string())
            )
        };
        let extensions = if by_ari { STASIS } else { DIAL };
        let files = [
            ("pjsip.conf", pjsip.as_str()),
            ("extensions.conf", extensions),
            ("ari.conf", ARI),
        ];
        let asterisk = Instance::start(folder, &files, (MEDIA_PORTS.0, middle), Some(http))?;
        let front = Self {
            asterisk,
            voicebridge,
            by_ari,
            lines: None,
        };
        front.wait_for_ari()?;
        Ok(front)
    }

    fn wait_for_ari(&self) -> anyhow::Result<()> {
        for _ in 0..100 {
            let metrics = self.voicebridge.metrics().unwrap_or_default();
            if !self.by_ari || metrics.contains("voicebridge_asterisk_up{name=\"pbx\"} 1") {
                return Ok(());
            }
            sleep(Duration::from_millis(100));
        }
        bail!("voicebridge didn't connect to Asterisk")
    }
}

impl Server for Front {
    fn pid(&self) -> u32 {
        self.voicebridge.pid()
    }

    fn front(&self) -> Option<u32> {
        Some(self.asterisk.pid)
    }

    fn call(&mut self, rtp_port: u16, answered: &mut dyn FnMut(Answered)) -> anyhow::Result<()> {
        let lines = self.lines.insert(Lines::new(self.asterisk.sip, rtp_port)?);
        let phones = self.asterisk.sip;
        lines.place(self.voicebridge.dials(phones), &mut *answered)?;
        lines.follow(ELSEWHERE, answered)
    }

    fn hold(&mut self, duration: Duration) -> anyhow::Result<usize> {
        self.lines.as_mut().context("no calls")?.hold(duration)
    }

    fn hang_up(&mut self) -> anyhow::Result<()> {
        self.lines.as_mut().context("no calls")?.hang_up()
    }

    fn counts(&self) -> Option<Counts> {
        self.voicebridge.counts()
    }
}

/// Until Asterisk has sent the last phone to voicebridge itself.
const ELSEWHERE: Duration = Duration::from_secs(2);

const ARI: &str = "\
[general]
enabled = yes

[voicebridge]
type = user
read_only = no
password = compare
password_format = plain
";

const PEER: &str = "
[voicebridge]
type = endpoint
transport = udp
aors = voicebridge
context = conference
disallow = all
allow = ulaw,alaw,g722,opus
direct_media = yes
dtmf_mode = rfc4733
timers = no

[voicebridge]
type = aor
contact = sip:127.0.0.1:PORT
";

const STASIS: &str = "\
[conference]
exten => 1000,1,Stasis(voicebridge-voicebridge,number=1000,pin=${PJSIP_HEADER(read,X-Conf-PIN)})
 same => n,Hangup()
";

const DIAL: &str = "\
[conference]
exten => 1000,1,Dial(PJSIP/1000@voicebridge,,b(pin^s^1(${PJSIP_HEADER(read,X-Conf-PIN)})))
 same => n,Hangup()

[pin]
exten => s,1,Set(PJSIP_HEADER(add,X-Conf-PIN)=${ARG1})
 same => n,Return()
";
