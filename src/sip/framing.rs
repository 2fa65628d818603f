//! Messages out of a TCP byte stream (RFC 3261 section 18.3): by Content-Length, nothing else.
//!
//! A message that is framed but wrong is handed on with its fault, and the connection lives on; only
//! when the end of a message can't be known any more is the connection given up.

#![deny(clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use crate::sip::guard::{self, DeclaredLength, Fault};

/// How long a message may take from its first byte to its last.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(10);
/// A body that is too large is skipped up to this size; beyond, closing is cheaper for both.
const SKIP_BYTES_MAX: usize = 1 << 20;

/// The framing of one connection.
#[derive(Debug)]
pub(crate) struct StreamFramer {
    buffer: BytesMut,
    /// Bytes of an oversized body still to be thrown away.
    skip: usize,
    /// When the message that is incomplete now began.
    began: Option<Instant>,
    lost: bool,
    head_max: usize,
    message_max: usize,
}

/// What came out of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A head (without its empty line) and its body.
    Message {
        head: Bytes,
        body: Bytes,
        fault: Option<Fault>,
    },
    /// Double CRLF: to be answered with one CRLF (RFC 5626 section 4.4.1).
    Ping,
    /// The end of a message can't be known: answer 400 if there is a head, then close.
    Lost { head: Option<Bytes> },
}

impl StreamFramer {
    pub(crate) fn new(head_max: usize, message_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            skip: 0,
            began: None,
            lost: false,
            head_max,
            message_max,
        }
    }

    /// Takes bytes; after that call `next_frame` until it returns `None`.
    pub(crate) fn push(&mut self, now: Instant, mut bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        if skipped > 0 && self.skip == 0 {
            self.began = None;
        }
        bytes = bytes.get(skipped..).unwrap_or_default();
        if self.lost {
            return;
        }
        if !bytes.is_empty() {
            self.began.get_or_insert(now);
        }
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn next_frame(&mut self, now: Instant) -> Option<Frame> {
        if self.lost {
            return None;
        }
        if self.buffer.starts_with(b"\r\n\r\n") {
            self.consume(now, 4);
            return Some(Frame::Ping);
        }
        if self.buffer.starts_with(b"\r\n")
            && self.buffer.len() > 2
            && self.buffer.get(2) != Some(&b'\r')
        {
            self.consume(now, 2);
        }
        match guard::head_end(&self.buffer) {
            Some(end) if end <= self.head_max => self.take_message(now, end),
            None if self.buffer.len() <= self.head_max => None,
            Some(_) | None => Some(self.lose(None)),
        }
    }

    /// When an incomplete message is given up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        // A lone CRLF is a keep-alive's first half or its answer, not a message.
        if self.lost || *self.buffer == b"\r\n"[..] {
            None
        } else {
            self.began.map(|began| began + MESSAGE_TIME_MAX)
        }
    }

    /// Gives the stream up; nothing comes out any more.
    pub(crate) fn lose(&mut self, head: Option<Bytes>) -> Frame {
        self.lost = true;
        self.buffer = BytesMut::new();
        Frame::Lost { head }
    }

    fn take_message(&mut self, now: Instant, end: usize) -> Option<Frame> {
        let head = self.buffer.get(..end).unwrap_or_default();
        let (length, mut fault) = match guard::declared_length(head) {
            DeclaredLength::Bytes(length) => (length, None),
            DeclaredLength::Repeated(length) => (length, Some(Fault::ContentLength)),
            DeclaredLength::Absent | DeclaredLength::Unusable => {
                let head = Bytes::copy_from_slice(head);
                return Some(self.lose(Some(head)));
            }
        };
        let whole = (end + 4).saturating_add(length);
        if whole > self.message_max {
            if length > SKIP_BYTES_MAX {
                let head = Bytes::copy_from_slice(head);
                return Some(self.lose(Some(head)));
            }
            fault = Some(Fault::TooLarge);
            let head = Bytes::copy_from_slice(head);
            self.skip = whole.saturating_sub(self.buffer.len());
            let here = whole.min(self.buffer.len());
            self.consume(now, here);
            return Some(Frame::Message {
                head,
                body: Bytes::new(),
                fault,
            });
        }
        if self.buffer.len() < whole {
            return None;
        }
        let mut message = self.buffer.split_to(whole).freeze();
        self.restart_clock(now);
        let head = message.split_to(end);
        message.advance(4);
        Some(Frame::Message {
            head,
            body: message,
            fault,
        })
    }

    fn consume(&mut self, now: Instant, bytes: usize) {
        self.buffer.advance(bytes);
        self.restart_clock(now);
    }

    fn restart_clock(&mut self, now: Instant) {
        self.began = if self.buffer.is_empty() && self.skip == 0 {
            None
        } else {
            Some(now)
        };
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn frames(chunks: &[&[u8]]) -> Vec<Frame> {
        let now = Instant::now();
        let mut framer = StreamFramer::new(1024, 2048);
        let mut out = Vec::new();
        for chunk in chunks {
            framer.push(now, chunk);
            while let Some(frame) = framer.next_frame(now) {
                out.push(frame);
            }
        }
        out
    }

    fn message(head: &'static str, body: &'static str) -> Frame {
        Frame::Message {
            head: Bytes::from_static(head.as_bytes()),
            body: Bytes::from_static(body.as_bytes()),
            fault: None,
        }
    }

    #[test]
    fn messages_come_out_whole_wherever_the_stream_is_cut() {
        let stream = b"INVITE sip:a@b SIP/2.0\r\nl: 5\r\n\r\nv=0\r\nACK sip:a@b SIP/2.0\r\nContent-Length:0\r\n\r\n";
        let expected = [
            message("INVITE sip:a@b SIP/2.0\r\nl: 5", "v=0\r\n"),
            message("ACK sip:a@b SIP/2.0\r\nContent-Length:0", ""),
        ];
        for cut in 0..stream.len() {
            let (a, b) = stream.split_at(cut);
            assert_eq!(frames(&[a, b]), expected, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(frames(&bytes), expected);
    }

    #[test]
    fn keep_alives_are_pings_also_between_messages() {
        let ack = message("ACK sip:a@b SIP/2.0\r\nl:0", "");
        assert_eq!(frames(&[b"\r\n\r\n"]), [Frame::Ping]);
        assert_eq!(frames(&[b"\r\n", b"\r\n"]), [Frame::Ping]);
        assert_eq!(
            frames(&[b"\r\n\r\nACK sip:a@b SIP/2.0\r\nl:0\r\n\r\n"]),
            [Frame::Ping, ack.clone()]
        );
        assert_eq!(frames(&[b"\r\nACK sip:a@b SIP/2.0\r\nl:0\r\n\r\n"]), [ack]);
    }

    #[test]
    fn an_unknown_end_gives_the_stream_up_with_the_head_that_can_be_answered() {
        for length in [
            "",
            "l: 18446744073709551615\r\n",
            "l: 99999999999999999999\r\n",
            "l: 1\r\nl: 2\r\n",
            "l: 2000000\r\n",
        ] {
            let text = format!(
                "BYE sip:a@b SIP/2.0\r\n{length}X: y\r\n\r\nBYE sip:a@b SIP/2.0\r\nl:0\r\n\r\n"
            );
            let out = frames(&[text.as_bytes()]);
            assert!(
                matches!(out.as_slice(), [Frame::Lost { head: Some(_) }]),
                "{length}: {out:?}"
            );
        }
        assert_eq!(frames(&[&[b'x'; 1025]]), [Frame::Lost { head: None }]);
    }

    #[test]
    fn an_oversized_body_is_skipped_and_the_next_message_is_read() {
        let big = format!(
            "MESSAGE sip:a@b SIP/2.0\r\nl: 5000\r\n\r\n{}",
            "z".repeat(5000)
        );
        let ack = b"ACK sip:a@b SIP/2.0\r\nl:0\r\n\r\n";
        for chunk in [1, 7, 600, 10_000] {
            let stream = [big.as_bytes(), ack].concat();
            let chunks: Vec<&[u8]> = stream.chunks(chunk).collect();
            let out = frames(&chunks);
            assert_eq!(out.len(), 2, "{out:?}");
            assert!(matches!(
                &out[0],
                Frame::Message {
                    fault: Some(Fault::TooLarge),
                    ..
                }
            ));
            assert_eq!(out[1], message("ACK sip:a@b SIP/2.0\r\nl:0", ""));
        }
    }

    #[test]
    fn a_message_that_dribbles_in_has_a_deadline_and_an_idle_connection_none() {
        let now = Instant::now();
        let mut framer = StreamFramer::new(1024, 2048);
        assert_eq!(framer.deadline(), None);
        framer.push(now, b"BYE sip:a");
        assert_eq!(framer.next_frame(now), None);
        framer.push(now + Duration::from_secs(9), b"@b SIP/2.0\r\n");
        assert_eq!(framer.deadline(), Some(now + MESSAGE_TIME_MAX));
        framer.push(now + Duration::from_secs(9), b"l: 0\r\n\r\n");
        assert!(framer.next_frame(now + Duration::from_secs(9)).is_some());
        assert_eq!(framer.deadline(), None);
    }
}
