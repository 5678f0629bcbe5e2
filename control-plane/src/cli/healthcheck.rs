//! `keygate healthcheck`: for container runtimes, whose images hold no curl.

use anyhow::bail;

use crate::{config::Settings, probe};

pub(super) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let answer = probe::own_listener(settings, "/health").await?;
    super::output::answer(&format!("{}\n", answer.body))?;
    if answer.status == 200 { Ok(()) } else { bail!("the service is not well") }
}
