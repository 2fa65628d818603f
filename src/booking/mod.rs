//! Bookings: who may be in which meeting when, and the PIN that says so.

pub mod admission;
pub mod privacy;

pub use admission::{Admission, CallRecord, HangupBy, MeetingId, Outcome, ParticipantId, PinQuery, PinVerdict, Refusal, Role};
pub use privacy::{CallerNumber, Pin};
