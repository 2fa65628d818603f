//! How loud a packet is by its sender's own word (RFC 6464), out of the header extension that it comes
//! in (RFC 8285).
#![deny(clippy::indexing_slicing)]

use crate::media::rtp::RtpExtension;
use crate::units::Decibels;

/// The level of one packet, as its sender measured it before encoding.
///
/// Only the level is used. The flag beside it says whether the sender's own detector heard a voice, by
/// means that differ from one sender to the next, and some set it always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel(u8);

impl AudioLevel {
    /// The level that `extension` has under the identifier agreed on; `None` where it has none.
    #[must_use]
    pub fn read(id: u8, extension: RtpExtension<'_>) -> Option<Self> {
        let mut elements = Elements {
            left: extension.data,
            form: Form::of(extension.profile)?,
        };
        let element = elements.find(|element| element.id == id)?;
        element.data.first().map(|level| Self(level & 0x7F))
    }

    /// In dB below overload.
    #[must_use]
    pub fn decibels(self) -> Decibels {
        Decibels(-f32::from(self.0))
    }
}

/// How each element begins.
#[derive(Clone, Copy)]
enum Form {
    /// Four bits of identifier, four of length less one (RFC 8285 section 4.2).
    OneByte,
    /// A byte each (section 4.3).
    TwoByte,
}

impl Form {
    const fn of(profile: u16) -> Option<Self> {
        match profile {
            0xBEDE => Some(Self::OneByte),
            0x1000..=0x100F => Some(Self::TwoByte),
            _ => None,
        }
    }
}

/// The elements of an extension, until its end or until they make no sense.
struct Elements<'a> {
    left: &'a [u8],
    form: Form,
}

struct Element<'a> {
    id: u8,
    data: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let padding = self.left.iter().take_while(|byte| **byte == 0).count();
        let (first, rest) = self.left.get(padding..)?.split_first()?;
        let (id, length, rest) = match self.form {
            Form::OneByte => (first >> 4, usize::from(first & 0x0F) + 1, rest),
            Form::TwoByte => {
                let (length, rest) = rest.split_first()?;
                (*first, usize::from(*length), rest)
            }
        };
        if matches!(self.form, Form::OneByte) && id == STOP {
            return None;
        }
        let (data, left) = rest.split_at_checked(length)?;
        self.left = left;
        Some(Element { id, data })
    }
}

/// Nothing after this identifier may be read in the short form (RFC 8285 section 4.2).
const STOP: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn level(profile: u16, data: &[u8]) -> Option<f32> {
        AudioLevel::read(3, RtpExtension { profile, data }).map(|level| level.decibels().0)
    }

    #[test]
    fn a_level_is_found_in_both_forms_wherever_it_stands() {
        assert_eq!(level(0xBEDE, &[0x30, 0xB7, 0, 0]), Some(-55.0));
        assert_eq!(
            level(0xBEDE, &[0x12, 1, 2, 3, 0, 0, 0x30, 0x7F]),
            Some(-127.0)
        );
        assert_eq!(level(0x1000, &[0, 3, 1, 0x14]), Some(-20.0));
        assert_eq!(level(0x1005, &[200, 2, 9, 9, 3, 2, 0x94, 1]), Some(-20.0));
    }

    #[test]
    fn what_has_no_level_or_makes_no_sense_has_none() {
        assert_eq!(level(0xBEDE, &[0x40, 20, 0, 0]), None);
        assert_eq!(level(0xBEDE, &[0xF0, 1, 0x30, 20]), None);
        assert_eq!(level(0xBEDE, &[0x2F, 1, 0x30, 20]), None);
        assert_eq!(level(0xBEDE, &[0x30]), None);
        assert_eq!(level(0x1000, &[3, 0, 3, 1]), None);
        assert_eq!(level(0x1000, &[3]), None);
        assert_eq!(level(0x1010, &[3, 1, 20]), None);
        assert_eq!(level(0xBEDE, &[]), None);
    }

    #[test]
    fn no_bytes_panic_or_go_on_for_ever() {
        let mut random = crate::media::seeded::Random::new(64);
        let mut found = 0;
        for _ in 0..30_000 {
            let mut bytes = [0; 24];
            for byte in bytes.iter_mut().take(1 + random.below(24)) {
                *byte = random.next_u32() as u8;
            }
            let profile = [0xBEDE, 0x1000, random.next_u32() as u16][random.below(3)];
            let data = bytes.get(..random.below(25)).unwrap_or_default();
            found += usize::from(level(profile, data).is_some());
        }
        assert!(found > 500, "{found}");
    }
}
