//! The path of a packet, without sockets, clocks or locks. Nothing here allocates after construction.
//!
//! 1. `source`: is it the peer the leg is locked to?
//! 2. `rtp`, `audio_level`: header and payload, and how loud it is said to be
//! 3. `jitter` (+ `plc`, `dtmf`): in order, in samples, gaps concealed, keys taken out
//! 4. `codec`: payload to PCM
//! 5. `voice`: level and voice activity
//! 6. `resample`: sums, never legs
//! 7. `treatment`, `mixer`: loudness, echo, noise of each voice; sum wide, own voice out, limit
//! 8. `codec`, `rtp`: PCM to payload under the leg's own header
//!
//! `receive` ties 2 to 5 for one leg, `leg` adds the sending side, `command` is all that crosses
//! the line between the control side and a media thread.

pub mod audio_level;
pub mod clip;
pub mod codec;
pub mod command;
pub mod dtmf;
pub mod jitter;
pub mod leg;
pub mod limiter;
pub mod mixer;
pub mod parameters;
pub mod playback;
pub mod plc;
pub mod prefetch;
pub mod receive;
pub mod resample;
pub mod rtcp;
pub mod rtp;
pub mod sender;
pub mod source;
pub mod srtp;
pub mod treatment;
pub mod voice;

#[cfg(test)]
pub(crate) mod seeded;
