//! Bookings: who may be in which meeting when, and the PIN that says so.
//!
//! [`Bookings`] is what the rest of the house talks to. It holds the rules; what it keeps goes through
//! the one trait in [`store`]. It never asks the time.

pub mod admission;
pub mod answer;
pub mod audit;
pub mod budget;
pub mod change;
pub mod conference;
pub mod delivery;
pub mod dial;
pub mod event;
pub mod invitation;
pub mod key;
pub mod meeting;
pub mod number;
pub mod organisation;
pub mod persistence;
pub mod pin;
pub mod presence;
pub mod privacy;
pub mod reach;
pub mod recurrence;
pub mod room;
pub mod series;
pub mod service;
pub mod statistics;
pub mod store;
pub mod webhook;

pub use admission::{
    Admission, CallRecord, Direction, HangupBy, MeetingId, NoLine, NoLineWhy, Outcome,
    ParticipantId, PinQuery, PinVerdict, Refusal, Role, SpokenDigits, Standing, Verstat,
};
pub use conference::ConferenceName;
pub use dial::{DialRefusal, DialRules};
pub use event::{Event, EventDocument, EventKind};
pub use invitation::{Invitation, InvitationFormat};
pub use key::{ApiKey, KeyRole, KeySecret, Organisation, Permission, Scope, is_organisation_name};
pub use meeting::{Meeting, MeetingOptions, MeetingState, Schedule, Session, Zone};
pub use number::{DialInNumber, NumberPlan};
pub use privacy::{CallerHash, CallerKey, CallerNumber, Disclosure, Pin, PrivacyPolicy};
pub use reach::Reach;
pub use recurrence::{Recurrence, RecurrenceId};
pub use series::{Occurrence, Repetitions, Series};
pub use service::{BookingError, BookingSettings, Bookings};
pub use store::{SqlStore, Store, StoreError};
pub use webhook::{Delivery, DeliveryState, Webhook};
