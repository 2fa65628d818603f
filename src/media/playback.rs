//! What a leg or a bridge plays: prompts one after the other, music that loops, a clip for
//! everybody. Positions only; the sound itself is shared and made ready beforehand.

use std::sync::Arc;

use crate::media::clip::Rendition;
use crate::media::codec::{Codec, CodecError, Encoder, PAYLOAD_BYTES_MAX};
use crate::units::{FRAME_SAMPLES_MAX, SampleRate};

/// Recordings to be played one after the other, under the control side's mark.
#[derive(Debug, Default)]
pub struct Playlist {
    /// What is played, in this order.
    pub items: Vec<Arc<Rendition>>,
    /// Comes back when the last frame was sent.
    pub token: u32,
}

/// A playlist and how far it is.
#[derive(Debug, Default)]
pub struct Player {
    playlist: Option<Playlist>,
    item: usize,
    frame: usize,
}

impl Player {
    /// Starts a playlist; returns the one it replaces, to be dropped elsewhere.
    pub fn start(&mut self, playlist: Playlist) -> Option<Playlist> {
        self.item = 0;
        self.frame = 0;
        self.playlist.replace(playlist)
    }

    /// Stops; returns what was playing.
    pub const fn stop(&mut self) -> Option<Playlist> {
        self.playlist.take()
    }

    /// Is there a frame left to play?
    #[must_use]
    pub fn is_playing(&self) -> bool {
        self.current().is_some()
    }

    /// The recording and frame to be played now.
    #[must_use]
    pub fn current(&self) -> Option<(&Rendition, usize)> {
        let rendition = self.playlist.as_ref()?.items.get(self.item)?;
        Some((rendition, self.frame))
    }

    /// Is this the first frame of the whole playlist?
    #[must_use]
    pub const fn at_start(&self) -> bool {
        self.item == 0 && self.frame == 0
    }

    /// Goes one frame on.
    pub fn advance(&mut self) {
        self.frame += 1;
        self.skip_empty();
    }

    /// The playlist, once it is played to its end.
    pub fn take_finished(&mut self) -> Option<Playlist> {
        self.skip_empty();
        if self.playlist.is_some() && self.current().is_none() {
            self.playlist.take()
        } else {
            None
        }
    }

    fn skip_empty(&mut self) {
        while let Some((rendition, frame)) = self.current() {
            if frame < rendition.frames() {
                return;
            }
            self.item += 1;
            self.frame = 0;
        }
    }
}

/// A clip that everybody in a bridge hears, at each rate it was made for.
#[derive(Debug, Default)]
pub struct BridgeClip {
    renditions: [Option<Arc<Rendition>>; SampleRate::ALL.len()],
    frame: usize,
}

impl BridgeClip {
    /// Takes one recording per sample rate; of several with the same rate the first.
    #[must_use]
    pub fn new(renditions: Vec<Arc<Rendition>>) -> Self {
        let mut clip = Self::default();
        for rendition in renditions {
            let rate = rendition.codec.sample_rate().index();
            if let Some(place) = clip.renditions.get_mut(rate) {
                place.get_or_insert(rendition);
            }
        }
        clip
    }

    /// This frame's sound at a rate.
    #[must_use]
    pub fn pcm(&self, rate: SampleRate) -> Option<&[i16]> {
        self.renditions
            .get(rate.index())?
            .as_ref()?
            .frame_pcm(self.frame)
    }

    /// Goes one frame on.
    pub const fn advance(&mut self) {
        self.frame += 1;
    }

    /// Is nothing left at any rate?
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.renditions
            .iter()
            .flatten()
            .all(|rendition| self.frame >= rendition.frames())
    }
}

/// One encoded frame of silence per codec: what a leg sends while nothing plays, so that its
/// peer does not take the line for dead.
pub struct SilenceFrames([SilenceFrame; Codec::ALL.len()]);

struct SilenceFrame {
    bytes: [u8; PAYLOAD_BYTES_MAX],
    length: usize,
}

impl SilenceFrames {
    /// Encodes silence until the codecs have settled. Allocates while it does.
    ///
    /// # Errors
    /// What the encoders report.
    pub fn new() -> Result<Self, CodecError> {
        Ok(Self([
            SilenceFrame::new(Codec::Pcmu)?,
            SilenceFrame::new(Codec::Pcma)?,
            SilenceFrame::new(Codec::G722)?,
            SilenceFrame::new(Codec::Opus)?,
        ]))
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self, codec: Codec) -> &[u8] {
        let frame = &self.0[codec_index(codec)];
        frame.bytes.get(..frame.length).unwrap_or_default()
    }
}

impl SilenceFrame {
    fn new(codec: Codec) -> Result<Self, CodecError> {
        let pcm = [0; FRAME_SAMPLES_MAX];
        let pcm = &pcm[..codec.sample_rate().frame_samples()];
        let mut encoder = Encoder::new(codec)?;
        let mut frame = Self {
            bytes: [0; PAYLOAD_BYTES_MAX],
            length: 0,
        };
        for _ in 0..SETTLING_FRAMES {
            frame.length = encoder.encode(pcm, &mut frame.bytes)?;
        }
        Ok(frame)
    }
}

/// A codec's position in tables kept per codec.
#[must_use]
pub const fn codec_index(codec: Codec) -> usize {
    match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 1,
        Codec::G722 => 2,
        Codec::Opus => 3,
    }
}

/// Frames of silence after which the encoders' own start is over.
const SETTLING_FRAMES: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    fn rendition(frames: usize) -> Arc<Rendition> {
        Arc::new(Rendition {
            codec: Codec::Pcmu,
            payload: vec![0xFF; frames * 160].into(),
            frame_ends: (1..=frames as u32).map(|n| n * 160).collect(),
            pcm: vec![0; frames * 160].into(),
        })
    }

    #[test]
    fn a_playlist_plays_every_frame_once_and_then_is_finished() {
        let mut player = Player::default();
        let items = vec![rendition(2), rendition(0), rendition(1)];
        assert!(player.start(Playlist { items, token: 7 }).is_none());
        for _ in 0..3 {
            assert!(player.take_finished().is_none());
            assert!(player.is_playing());
            player.advance();
        }
        assert!(!player.is_playing());
        assert_eq!(player.take_finished().unwrap().token, 7);
        assert!(player.take_finished().is_none());
    }

    #[test]
    fn an_empty_playlist_is_finished_at_once() {
        let mut player = Player::default();
        player.start(Playlist {
            items: vec![rendition(0)],
            token: 1,
        });
        assert_eq!(player.take_finished().unwrap().token, 1);
    }

    #[test]
    fn a_replaced_playlist_comes_back_and_the_new_one_starts_at_its_beginning() {
        let mut player = Player::default();
        player.start(Playlist {
            items: vec![rendition(3)],
            token: 1,
        });
        player.advance();
        let old = player.start(Playlist {
            items: vec![rendition(1)],
            token: 2,
        });
        assert_eq!(old.unwrap().token, 1);
        assert!(player.at_start());
        assert_eq!(player.stop().unwrap().token, 2);
        assert!(player.take_finished().is_none());
    }

    #[test]
    fn a_clip_ends_when_its_longest_rendition_ends() {
        let mut clip = BridgeClip::new(vec![rendition(2), rendition(5)]);
        assert!(clip.pcm(SampleRate::Hz8000).is_some());
        assert!(clip.pcm(SampleRate::Hz16000).is_none());
        clip.advance();
        assert!(!clip.is_finished());
        clip.advance();
        assert!(clip.is_finished());
        assert!(BridgeClip::default().is_finished());
    }
}
