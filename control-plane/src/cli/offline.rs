//! Working on the database itself, without the service. The rules are the service's: the same
//! code, in the same transactions.

use std::{num::NonZeroUsize, sync::Arc};

use crate::{
    clock::SystemClock,
    config::{Config, Settings},
    keys::{issue::Issuer, pool::HashPool},
    random::SystemRandom,
    secret_key,
    store::{self, Store},
};

/// Opens the database, which must be up to date: a command never migrates it by the way.
pub(super) async fn open(settings: &Settings) -> anyhow::Result<(Config, Arc<dyn Store>)> {
    let config = Config::new(settings)?;
    let store = store::open(&config.database).await?;
    Ok((config, store))
}

/// All that issuing takes.
pub(super) async fn issuer(config: &Config, store: &Arc<dyn Store>) -> anyhow::Result<Issuer> {
    let random = Arc::new(SystemRandom);
    let secrets = secret_key::load(config, &**store, &*random).await?;
    Ok(Issuer {
        store: Arc::clone(store),
        policy: config.policy.clone(),
        secret: secrets.current,
        previous_secret: secrets.previous,
        iterations: config.iterations,
        pool: Arc::new(HashPool::start(NonZeroUsize::MIN)?),
        clock: Arc::new(SystemClock),
        random,
    })
}
