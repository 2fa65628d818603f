//! The bookings, over the store that the configuration names.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use crate::booking::{
    BookingSettings, Bookings, CallerKey, DialInNumber, Disclosure, PrivacyPolicy, Reach, SqlStore,
};
use crate::config::{Config, DatabaseUrl, Number, NumberPrivacy};

/// The bookings over the store that the configuration names.
pub(super) async fn open(config: &Config) -> anyhow::Result<Bookings> {
    let store = open_at(&config.database.url)
        .await
        .context("database.url")?;
    Ok(Bookings::new(settings(config), Arc::new(store))?)
}

/// Opens a store; a file is made with its folder where there is none.
pub(super) async fn open_at(url: &DatabaseUrl) -> anyhow::Result<SqlStore> {
    match url {
        DatabaseUrl::Sqlite(file) => {
            make_folder_of(file)?;
            make_private(file).with_context(|| format!("making {}", file.display()))?;
            SqlStore::sqlite(file)
                .await
                .with_context(|| format!("opening {}", file.display()))
        }
        DatabaseUrl::Postgres(url) => SqlStore::postgres(url.expose())
            .await
            .context("opening the PostgreSQL database"),
    }
}

fn make_folder_of(file: &Path) -> anyhow::Result<()> {
    let Some(folder) = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    else {
        return Ok(());
    };
    fs::create_dir_all(folder)
        .with_context(|| format!("node.data_dir: making the folder {}", folder.display()))
}

/// The file holds PINs: nobody but its owner reads it, whatever the umask says.
fn make_private(file: &Path) -> std::io::Result<()> {
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The numbers that the configuration brings.
pub(super) fn numbers(config: &Config) -> Vec<DialInNumber> {
    config.numbers.iter().map(number).collect()
}

fn settings(config: &Config) -> BookingSettings {
    BookingSettings {
        node: config.node.name.clone(),
        pin_length: config.pin.length as usize,
        pin_attempts: config.pin.attempts,
        failure_budget: config.pin.failure_budget,
        privacy: PrivacyPolicy {
            show: disclosure(config.privacy.show),
            store: disclosure(config.privacy.store),
            retain_days: config.privacy.retain_days,
        },
        caller_key: (config.privacy.hash_key.as_ref())
            .map(|key| CallerKey::new(key.expose().as_bytes())),
        reach: Reach::new(&config.webhooks.allow),
        jitsi: config.jitsi.clone(),
        fsapi: config.fsapi.clone(),
    }
}

const fn disclosure(written: NumberPrivacy) -> Disclosure {
    match written {
        NumberPrivacy::Last4 => Disclosure::Last4,
        NumberPrivacy::None => Disclosure::None,
        NumberPrivacy::Full => Disclosure::Full,
    }
}

fn number(written: &Number) -> DialInNumber {
    DialInNumber {
        number: written.number.clone(),
        country: written.country.map(|country| country.to_string()),
        language: Some(written.language),
        organisation: written.organisation.clone(),
        label: written.label.clone(),
        toll_free: false,
    }
}
