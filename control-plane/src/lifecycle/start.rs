//! Putting the service together, and starting its tasks.

use edge_protocol::Deployment;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::{
    Running, hash_cost,
    listeners::{self, ADMIN, EDGE},
    tasks::Tasks,
    upkeep,
};
use crate::{
    admin,
    clock::SystemClock,
    config::{Config, DatabaseUrl, ServeConfig, Settings},
    edge,
    jobs::{self, Jobs},
    keys::pool::HashPool,
    open_files,
    random::{self, SystemRandom},
    service::{Service, Surroundings},
    store,
};

/// Starts the service.
///
/// # Errors
/// When a setting cannot be used, or the database cannot be opened.
pub(super) async fn start(
    settings: &Settings,
    prometheus: PrometheusHandle,
) -> anyhow::Result<Running> {
    let open_files = open_files::raise_limit();
    tracing::info!(open_files, "as many files and connections may be open");
    let config = Config::new(settings)?;
    let serving = ServeConfig::new(settings, &config)?;
    if serving.migrate {
        let done = store::migrate(&config.database).await?;
        tracing::info!(database = %config.database, migrations = done, "the database is up to date");
    }
    report_database_access(&config);
    let store = store::open(&config.database).await?;

    let stop = CancellationToken::new();
    let around = Surroundings {
        store: Arc::clone(&store),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        hash_threads: HashPool::default_threads(),
        stop: stop.clone(),
    };
    let test_keys = config.test_keys(settings);
    let service =
        Arc::new(Service::new(&config, test_keys, serving.edge_token.as_ref(), around).await?);
    listeners::report_edge_access(&serving);
    hash_cost::measure(&service.pool, config.iterations).await?;

    let clock = Arc::clone(&service.clock);
    let admin = listeners::bind(ADMIN, serving.listen, serving.tls.clone(), &clock).await?;
    let edge = listeners::bind(EDGE, serving.edge_listen, serving.edge_tls.clone(), &clock).await?;
    let (admin_address, edge_address) = (admin.address()?, edge.address()?);
    let mut tasks = Tasks::new(stop.clone());
    if let Some(redis) = &service.redis {
        upkeep::start_redis(redis, &mut tasks, &stop).await;
        tasks.spawn_again_and_again("fleet census", {
            let (it, stop) = (Arc::clone(&service), stop.clone());
            move || {
                let (it, stop) = (Arc::clone(&it), stop.clone());
                async move { it.fleet.run(stop).await }
            }
        });
    }
    let routers = [admin::router(&service, prometheus.clone()), edge::router(&service)];
    for (listener, router) in [admin, edge].into_iter().zip(routers) {
        let tls_task = listener.tls_task();
        let (server, tls) = listener.server(router);
        tasks.spawn(server.name, server.run(stop.clone()));
        if let Some(tls) = tls {
            tasks.spawn(tls_task, tls.watch(stop.clone()));
        }
    }
    tasks.spawn_again_and_again("feed watcher", {
        let (store, stop) = (Arc::clone(&store), stop.clone());
        move || upkeep::watch_feed(Arc::clone(&store), stop.clone())
    });
    tasks.spawn_again_and_again("feed listener", {
        let (store, stop) = (Arc::clone(&store), stop.clone());
        move || upkeep::hear_feed(Arc::clone(&store), stop.clone())
    });
    tasks.spawn_again_and_again("metrics upkeep", {
        let (store, clock, stop) = (Arc::clone(&store), Arc::clone(&clock), stop.clone());
        move || {
            let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
            upkeep::metrics(prometheus.clone(), store, clock, stop.clone())
        }
    });
    tasks.spawn_again_and_again("denials teller", {
        let (it, stop) = (Arc::clone(&service), stop.clone());
        move || upkeep::tell_denials(Arc::clone(&it), stop.clone())
    });
    let (pool, pool_stop) = (Arc::clone(&service.pool), stop);
    tasks.spawn("hashing threads", async move {
        tokio::select! { () = pool.failed() => {}, () = pool_stop.cancelled() => {} }
    });
    let writers = start_writers(&service)?;

    tracing::info!(
        admin = %admin_address, edge = %edge_address, environment = %config.environment,
        database = %config.database, test_keys = service.test_keys,
        version = env!("CARGO_PKG_VERSION"), "keygate is ready"
    );
    Ok(Running {
        service,
        tasks,
        writers,
        #[cfg(test)]
        admin: admin_address,
    })
}

/// Says what lets others listen in between here and the database.
fn report_database_access(config: &Config) {
    if let DatabaseUrl::Postgres(database) = &config.database
        && database.is_exposed()
        && config.environment == Deployment::Production
    {
        tracing::warn!(
            %database,
            "what goes to the database can be read or changed on the way: add \
             sslmode=verify-full to KEYGATE_DATABASE_URL (docs/storage.md)"
        );
    }
}

/// Starts what writes. It is told to end when nobody reports any more.
fn start_writers(service: &Arc<Service>) -> anyhow::Result<Tasks> {
    let stop = CancellationToken::new();
    let mut writers = Tasks::new(stop.clone());
    let own = || (Arc::clone(service), stop.clone());
    let (it, told) = own();
    writers.spawn_again_and_again("audit recorder", move || {
        let (it, told) = (Arc::clone(&it), told.clone());
        async move { it.recorder.run(told).await }
    });
    let (it, told) = own();
    writers.spawn_again_and_again("last-used writer", move || {
        let (it, told) = (Arc::clone(&it), told.clone());
        async move { it.last_used.run(&*it.store, told).await }
    });
    let (it, told) = own();
    writers.spawn_again_and_again("credential upkeep", move || {
        let (it, told) = (Arc::clone(&it), told.clone());
        async move { it.verifier.run_upkeep(told).await }
    });
    let (it, told) = own();
    writers.spawn_again_and_again("audit keeper", move || {
        let (it, told) = (Arc::clone(&it), told.clone());
        async move { it.audit_keeper.run(told).await }
    });
    let jobs = Arc::new(jobs(service)?);
    writers.spawn_again_and_again("jobs", move || {
        let (jobs, told) = (Arc::clone(&jobs), stop.clone());
        async move { jobs.run(told).await }
    });
    Ok(writers)
}

/// The jobs that one of all control planes does at a time.
fn jobs(service: &Arc<Service>) -> anyhow::Result<Jobs> {
    let name: [u8; 16] = random::bytes(&*service.random)?;
    Ok(Jobs::new(
        Arc::clone(&service.store),
        Arc::clone(&service.clock),
        hex::encode(name),
        vec![
            jobs::audit_partitions(service),
            jobs::audit_retention(service),
            jobs::usage_retention(service),
            jobs::forget_requests(service),
            jobs::feed_retention(service),
        ],
    ))
}
