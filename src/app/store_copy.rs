//! `voicebridge store copy`: a grown installation moves from one store to another.

use std::process::ExitCode;

use anyhow::Context as _;

use super::cli::{StoreArgs, StoreCommand};
use crate::config::DatabaseUrl;

/// Does it.
pub(super) fn run(args: &StoreArgs) -> anyhow::Result<ExitCode> {
    let StoreCommand::Copy { from, to } = &args.command;
    super::runtime()?.block_on(copy(from, to))?;
    Ok(ExitCode::SUCCESS)
}

async fn copy(from: &DatabaseUrl, to: &DatabaseUrl) -> anyhow::Result<()> {
    if let DatabaseUrl::Sqlite(file) = from
        && !file.exists()
    {
        anyhow::bail!("there is no {}", file.display());
    }
    let from = super::store::open_at(from).await.context("FROM")?;
    let to = super::store::open_at(to).await.context("TO")?;
    let copied = from.copy_to(&to).await.context("copying")?;
    for (table, rows) in copied {
        super::say(&format!("{rows:10} {table}"))?;
    }
    from.close().await;
    to.close().await;
    Ok(())
}
