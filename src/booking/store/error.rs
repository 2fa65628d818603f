//! What a store says when it doesn't do what it was asked for.

use crate::booking::room::NextFree;

/// Why the store did not do it: a variant per cause that somebody would act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the database.
    #[error("the database is locked by another process; end it, or wait")]
    Locked,
    /// No connection to it came free in time.
    #[error("the database doesn't answer in time; is it up, and not overloaded?")]
    Busy,
    /// No room on the disk.
    #[error("the disk of the database is full")]
    DiskFull,
    /// The file may not be written.
    #[error("the database can't be written; check the permissions of its file and folder")]
    ReadOnly,
    /// The file is damaged or no database.
    #[error("the database is damaged: {0}; restore it from a backup")]
    Corrupt(String),
    /// A later version made it.
    #[error(
        "the database was made by a later version of voicebridge; use that, or restore a backup"
    )]
    Newer,
    /// What is to be filled holds something already.
    #[error("the database to copy to is not empty; nothing was copied")]
    NotEmpty,
    /// There is no connection to it, or nothing comes back.
    #[error("the database can't be reached: {0}")]
    Away(String),
    /// It can't be opened, or does what it shouldn't.
    #[error("the database can't be used: {0}")]
    Unavailable(String),
    /// What was to be kept is nothing that it can hold.
    #[error("the database can't hold that: {0}")]
    Misfit(String),
    /// What was to be kept contradicts what is there.
    #[error("{0}")]
    Conflict(Conflict),
}

impl StoreError {
    /// May the same succeed later?
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Locked
            | Self::Busy
            | Self::DiskFull
            | Self::ReadOnly
            | Self::Away(_)
            | Self::Unavailable(_) => true,
            Self::Corrupt(_)
            | Self::Newer
            | Self::NotEmpty
            | Self::Misfit(_)
            | Self::Conflict(_) => false,
        }
    }
}

/// What contradicts what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The external id names another meeting of the organisation.
    #[error("this external_id names another meeting")]
    ExternalId,
    /// The `Idempotency-Key` was used meanwhile.
    #[error("this Idempotency-Key is in use")]
    Claim,
    /// Too many PINs of this length are in use.
    #[error(
        "a twentieth (5 %) of the PINs that the rules leave is in use, and no more are given; raise pin.length, or pin_length of the organisation"
    )]
    PinsExhausted,
    /// The PIN is another one's, or begins or is begun by one.
    #[error(
        "this PIN, or one that begins with it or that it begins with, is in use or was within 30 days"
    )]
    PinTaken,
    /// The meeting has as many PINs as it may have.
    #[error("the meeting has too many PINs, with those that were withdrawn within 30 days")]
    PinsMax,
    /// Without this PIN nobody could come any more.
    #[error("it is the meeting's last PIN; replace it or cancel the meeting")]
    LastPin,
    /// The organisation has as many meetings as it may have.
    #[error(
        "the organisation has as many meetings as it may have; wait until some are over, or have meetings_max raised"
    )]
    MeetingsMax,
    /// There are as many numbers as there may be.
    #[error("there are 1,000 numbers, and can't be more; delete one")]
    NumbersMax,
    /// Without any number, whatever is dialled would be answered.
    #[error(
        "it is the last number, and without any, whatever is dialled would be answered; make another one first"
    )]
    LastNumber,
    /// All rooms that would do are taken then.
    #[error("no such room is free at that time{0}")]
    RoomTaken(NextFree),
    /// The organisation has no such room.
    #[error("there is no such room")]
    NoSuchRoom,
    /// More are to come than the room holds.
    #[error("the room holds {most}")]
    RoomTooSmall {
        /// How many it holds.
        most: u32,
    },
    /// No room is so large.
    #[error("the largest room holds {most}")]
    NoRoomSoLarge {
        /// How many that one holds.
        most: u32,
    },
    /// There are bookings ahead in the room, or ones that ask for more.
    #[error("bookings ahead need the room as it is; move or cancel them first")]
    RoomInUse,
    /// The organisation has as many rooms as it may have.
    #[error("the organisation has 200 rooms, and can't have more; delete one")]
    RoomsMax,
    /// Anything else that must be unique.
    #[error("it exists already")]
    Other,
}

impl Conflict {
    /// When it would be possible instead.
    #[must_use]
    pub fn next_free(self) -> NextFree {
        if let Self::RoomTaken(next_free) = self {
            next_free
        } else {
            NextFree::default()
        }
    }
}
