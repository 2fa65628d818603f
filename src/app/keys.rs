//! `voicebridge key`: API keys, made and taken back where the store is.

use std::process::ExitCode;

use anyhow::Context as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use uuid::Uuid;

use super::cli::{KeyArgs, KeyCommand, KeyCreateArgs, KeyRole as WrittenRole, KeyScope};
use crate::booking::service::NewKey;
use crate::booking::{BookingError, Bookings, KeyRole, Scope};

/// Does it.
pub(super) fn run(args: &KeyArgs) -> anyhow::Result<ExitCode> {
    let config = super::load(&args.config)?;
    super::runtime()?.block_on(async {
        let bookings = super::store::open(&config).await?;
        match &args.command {
            KeyCommand::Create(create_args) => create(&bookings, create_args).await,
            KeyCommand::List => list(&bookings).await,
            KeyCommand::Revoke { id } => revoke(&bookings, *id).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The key, alone, on standard output, once.
async fn create(bookings: &Bookings, args: &KeyCreateArgs) -> anyhow::Result<()> {
    let new = NewKey {
        organisation: args.organisation.clone(),
        role: role(args.role),
        scopes: args
            .scopes
            .iter()
            .map(|KeyScope::Dial| Scope::Dial)
            .collect(),
        expires_at: args.expires.map(end_of).transpose()?,
    };
    let (_, secret) = bookings.create_key(wall(), new).await?;
    Ok(super::say(secret.expose())?)
}

async fn list(bookings: &Bookings) -> anyhow::Result<()> {
    super::say(&format!(
        "{:36}  {:20}  {:8}  {:20}  {:10}  state",
        "id", "organisation", "role", "created", "expires"
    ))?;
    let now = wall();
    for key in bookings.list_keys().await? {
        let expires = key
            .expires_at
            .map_or_else(|| "never".to_owned(), |at| at.strftime("%F").to_string());
        let state = match (key.revoked_at, key.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(at)) if at <= now => "expired",
            (None, _) => "good",
        };
        super::say(&format!(
            "{:36}  {:20}  {:8}  {:20}  {:10}  {state}",
            key.id,
            key.organisation.name,
            key.role.word(),
            key.created_at.strftime("%FT%TZ"),
            expires,
        ))?;
    }
    Ok(())
}

async fn revoke(bookings: &Bookings, id: Uuid) -> anyhow::Result<()> {
    match bookings.revoke_key(wall(), id).await {
        Err(BookingError::NotFound) => {
            anyhow::bail!("there is no key {id}; `voicebridge key list` shows them")
        }
        revoked => Ok(revoked?),
    }
}

/// The end of the day, in UTC: the key is good on the day that is named.
fn end_of(day: Date) -> anyhow::Result<Timestamp> {
    let next = day
        .checked_add(1.day())
        .context("--expires is too far in the future")?;
    Ok(next.to_zoned(TimeZone::UTC)?.timestamp())
}

const fn role(written: WrittenRole) -> KeyRole {
    match written {
        WrittenRole::Platform => KeyRole::Platform,
        WrittenRole::Admin => KeyRole::Admin,
        WrittenRole::Operator => KeyRole::Operator,
        WrittenRole::Booking => KeyRole::Booking,
        WrittenRole::Reader => KeyRole::Reader,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a shell: keys are made and revoked now"
)]
fn wall() -> Timestamp {
    Timestamp::now()
}
