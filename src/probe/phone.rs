//! A small SIP phone: dials, keys in, sends a tone, listens. `probe` and the tests place real calls with it.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::audio::{Heard, PhoneAudio};
use super::wire::{Target, Wire};
use super::{ProbeError, clock};
use crate::config::PerFamily;
use crate::media::codec::Codec;
use crate::media::parameters::Direction;
use crate::sip::event::{DialogId, Flow, SipEvent};
use crate::sip::sdp::{self, LocalMedia};
use crate::sip::{Endpoint, EndpointConfig};
use crate::units::{FRAME, Key};

/// A call that the phone placed.
pub struct Phone {
    endpoint: Endpoint,
    wire: Wire,
    flow: Flow,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    local: LocalMedia,
    dialog: DialogId,
    state: State,
    tone_hz: f64,
    audio: Option<PhoneAudio>,
    ticks: Interval,
    buffer: Vec<u8>,
}

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Calling,
    Up,
    Refused(u16),
    Ended,
}

impl Phone {
    /// Dials, with `codec` alone in the offer, and waits for the answer. From then on it sends a tone.
    ///
    /// # Errors
    /// Whatever kept the call from being answered in time.
    pub async fn dial(target: &Target, codec: Codec, tone_hz: f64) -> Result<Self, ProbeError> {
        let (wire, address, flow) = Wire::open(target).await?;
        let (rtp, rtcp) = bind_media(address).await.map_err(ProbeError::Media)?;
        let config = EndpointConfig {
            udp_contacts: vec![PerFamily::both(address.to_string())],
            tcp_contact: PerFamily::both(address.to_string()),
            ..EndpointConfig::default()
        };
        let mut endpoint = Endpoint::new(config, super::random()?);
        let local = LocalMedia {
            address: address.ip(),
            other: None,
            by_other: false,
            rtp_port: rtp.local_addr().map_err(ProbeError::Media)?.port(),
            codecs: vec![codec],
            session_id: super::random()? >> 1,
            session_version: 1,
            direction: Direction::SendRecv,
            prefer_own_order: false,
            keys: None,
            handshake: None,
        };
        let from = format!("sip:probe@{address}");
        let offer = Some(sdp::offer(&local));
        let dialog = endpoint
            .invite(clock::now(), flow, &target.uri, &from, offer, &[])
            .map_err(|_| ProbeError::Target)?;
        let mut ticks = interval(FRAME);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut phone = Self {
            endpoint,
            wire,
            flow,
            rtp,
            rtcp,
            local,
            dialog,
            state: State::Calling,
            tone_hz,
            audio: None,
            ticks,
            buffer: vec![0; 2_048],
        };
        phone.wait_for_answer().await?;
        Ok(phone)
    }

    async fn wait_for_answer(&mut self) -> Result<(), ProbeError> {
        let deadline = clock::now() + ANSWER;
        while self.state == State::Calling && clock::now() < deadline {
            self.step(deadline).await?;
        }
        match self.state {
            State::Up => Ok(()),
            State::Refused(status) => Err(ProbeError::Refused(status)),
            State::Calling | State::Ended => Err(ProbeError::NoAnswer),
        }
    }

    /// Talks and listens for so long, or until the other side hangs up; is it still up?
    ///
    /// # Errors
    /// A socket failed.
    pub async fn talk(&mut self, duration: Duration) -> Result<bool, ProbeError> {
        let until = clock::now() + duration;
        while self.state == State::Up && clock::now() < until {
            self.step(until).await?;
        }
        Ok(self.state == State::Up)
    }

    /// Keys in by RFC 4733 while it talks on: 100 ms a key, 80 ms between keys.
    pub fn press(&mut self, keys: impl IntoIterator<Item = Key>) {
        if let Some(audio) = &mut self.audio {
            audio.press(keys);
        }
    }

    /// Stops or resumes the tone; silence is sent instead.
    pub fn be_silent(&mut self, silent: bool) {
        if let Some(audio) = &mut self.audio {
            audio.silent = silent;
        }
    }

    /// Keeps all that is heard from now on, as PCM at the codec's rate.
    pub fn record(&mut self) {
        if let Some(audio) = &mut self.audio {
            audio.recording = Some(Vec::new());
        }
    }

    /// What was kept so far.
    pub fn recording(&mut self) -> Vec<i16> {
        self.audio
            .as_mut()
            .and_then(|audio| audio.recording.take())
            .unwrap_or_default()
    }

    /// What was heard so far.
    #[must_use]
    pub fn heard(&self) -> Heard {
        self.audio
            .as_ref()
            .map(|audio| audio.heard.clone())
            .unwrap_or_default()
    }

    /// Hangs up, unless the other side did.
    ///
    /// # Errors
    /// A socket failed, or nobody answered the BYE.
    pub async fn hang_up(mut self) -> Result<Heard, ProbeError> {
        if self.state == State::Up {
            self.endpoint
                .hang_up(clock::now(), self.dialog, Q850_NORMAL_CLEARING);
            self.state = State::Ended;
        }
        let until = clock::now() + GOODBYE;
        while self.endpoint.counters().dialogs > 0 && clock::now() < until {
            self.step(until).await?;
        }
        Ok(self.heard())
    }

    /// One thing that happens: a message, a packet, a 20 ms tick, a timer.
    async fn step(&mut self, until: Instant) -> Result<(), ProbeError> {
        self.flush().await?;
        let timer = self
            .endpoint
            .poll_timeout()
            .map_or(until, |at| at.min(until));
        let mut control = [0; 512];
        tokio::select! {
            bytes = self.wire.receive() => {
                let bytes = bytes.map_err(ProbeError::Connect)?;
                self.take_signalling(&bytes);
            }
            Ok((length, _)) = self.rtp.recv_from(&mut self.buffer) => {
                if let Some(audio) = &mut self.audio {
                    audio.take_rtp(clock::now(), self.buffer.get(..length).unwrap_or_default());
                }
            }
            Ok((length, _)) = self.rtcp.recv_from(&mut control) => {
                if let Some(audio) = &mut self.audio {
                    audio.take_rtcp(control.get(..length).unwrap_or_default());
                }
            }
            _ = self.ticks.tick() => self.tick().await,
            () = tokio::time::sleep_until(timer.into()) => self.endpoint.handle_timeout(clock::now()),
        }
        self.flush().await
    }

    fn take_signalling(&mut self, bytes: &[u8]) {
        match self.flow {
            Flow::Udp { .. } => self
                .endpoint
                .handle_datagram(clock::now(), self.flow, bytes),
            Flow::Stream { .. } => self.endpoint.handle_stream(clock::now(), self.flow, bytes),
        }
    }

    async fn tick(&mut self) {
        if self.state != State::Up {
            return;
        }
        if let Some(audio) = &mut self.audio {
            let destination = audio.destination();
            let packet = audio.tick(clock::now());
            // A packet that the kernel does not take is a packet lost; the server counts it.
            let _sent = self.rtp.send_to(packet, destination).await;
        }
    }

    async fn flush(&mut self) -> Result<(), ProbeError> {
        while let Some(event) = self.endpoint.poll_event() {
            self.take_event(event)?;
        }
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.wire
                .send(&transmit.bytes)
                .await
                .map_err(ProbeError::Connect)?;
        }
        Ok(())
    }

    fn take_event(&mut self, event: SipEvent) -> Result<(), ProbeError> {
        match event {
            SipEvent::Established { sdp, .. } => {
                let agreed = sdp::accept(&sdp, &self.local).map_err(|_| ProbeError::Answer)?;
                if self.audio.is_none() {
                    self.audio = Some(PhoneAudio::new(agreed, self.tone_hz)?);
                }
                self.state = State::Up;
            }
            SipEvent::Failed { status, .. } => self.state = State::Refused(status),
            SipEvent::Bye { .. } | SipEvent::Lost { .. } | SipEvent::Cancelled { .. } => {
                self.state = State::Ended
            }
            SipEvent::Reinvite { dialog, .. } => {
                self.endpoint.reject_reinvite(clock::now(), dialog, 488)
            }
            SipEvent::Invite { dialog, .. } => {
                self.endpoint.reject(clock::now(), dialog, 486, None, None)
            }
            SipEvent::Provisional { .. }
            | SipEvent::Refreshed { .. }
            | SipEvent::Acknowledged { .. }
            | SipEvent::Info { .. }
            | SipEvent::ReinviteFailed { .. }
            | SipEvent::OtherRealm { .. }
            | SipEvent::Trunk { .. } => {}
        }
        Ok(())
    }
}

/// An even port for RTP and the next one for RTCP.
async fn bind_media(address: SocketAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIES {
        let rtp = UdpSocket::bind((address.ip(), 0)).await?;
        let port = rtp.local_addr()?.port();
        if port % 2 == 1 || port == u16::MAX - 1 {
            continue;
        }
        match UdpSocket::bind((address.ip(), port + 1)).await {
            Ok(rtcp) => return Ok((rtp, rtcp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

const ANSWER: Duration = Duration::from_secs(20);
const GOODBYE: Duration = Duration::from_secs(3);
const Q850_NORMAL_CLEARING: u8 = 16;
const PORT_TRIES: usize = 100;
