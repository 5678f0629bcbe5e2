//! Reports of errors and panics to Sentry, or to whatever speaks its protocol.
//!
//! What is reported are the log's lines of level error, panics among them, without breadcrumbs,
//! stack variables or anything of a request; and of what is left, all that might be a secret is
//! taken out.

use edge_protocol::Deployment;
use sentry::{
    ClientInitGuard, ClientOptions, Transport, TransportFactory, TransportOptions,
    integrations::tracing::ErrorLayer,
    protocol::{Context, Event, Value},
    transports::ReqwestHttpTransportOptions,
    types::Dsn,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tracing::{Level, Subscriber};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use super::redact::redact;
use crate::{http::request_id, metrics};

/// How long one report may take to be sent. The transport itself would wait for ever.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Reports in a minute: when the database is away every request has one, and the first say it all.
const MOST_A_MINUTE: u32 = 30;
/// A panic in a handler is reported where it happens; that the handler ended by it need not be.
const TWICE_TOLD: &str = "keygate::http::panics";

/// What sends them.
pub(super) struct Reports(ClientInitGuard);

impl Reports {
    /// Starts the thread that sends.
    pub(super) fn start(dsn: Dsn, environment: Deployment) -> Self {
        Self(sentry::init(options(dsn, environment).transport(WithTimeout)))
    }

    /// Sends what is left.
    pub(super) fn end(self, patience: Duration) {
        self.0.close(Some(patience));
    }
}

fn options(dsn: Dsn, environment: Deployment) -> ClientOptions {
    let room = Room::default();
    let mut options = ClientOptions::new()
        .release(concat!("keygate@", env!("CARGO_PKG_VERSION")))
        .environment(environment.as_str())
        .max_breadcrumbs(0)
        .send_default_pii(false)
        // Its hook for panics would keep a thread of ours until the report has left.
        .default_integrations(false)
        .before_send(move |event| {
            let outcome = if room.take() { "sent" } else { "dropped" };
            ::metrics::counter!(metrics::ERROR_REPORTS, "outcome" => outcome).increment(1);
            (outcome == "sent").then(|| scrubbed(event))
        });
    options.dsn = Some(dsn);
    options
}

/// Makes reports of the log's errors.
pub(super) fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    ErrorLayer::new().with_filter(filter_fn(|it| {
        it.is_event()
            && *it.level() == Level::ERROR
            && it.target().starts_with("keygate")
            && it.target() != TWICE_TOLD
    }))
}

/// Sentry's transport, with a limit to its patience.
struct WithTimeout;

impl TransportFactory for WithTimeout {
    fn create_transport_with_options(&self, options: TransportOptions) -> Arc<dyn Transport> {
        let options = ReqwestHttpTransportOptions::from(options);
        let client = reqwest::Client::builder().timeout(SEND_TIMEOUT).build();
        Arc::new(match client {
            Ok(client) => options.with_client(client).build(),
            Err(_) => options.build(),
        })
    }
}

/// Room for so many reports in a minute.
struct Room(Mutex<(Instant, u32)>);

impl Default for Room {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }
}

impl Room {
    fn take(&self) -> bool {
        let mut room = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, taken) = &mut *room;
        if since.elapsed() >= Duration::from_mins(1) {
            (*since, *taken) = (Instant::now(), 0);
        }
        *taken = taken.saturating_add(1);
        *taken <= MOST_A_MINUTE
    }
}

/// The event without anything that might be a secret.
fn scrubbed(mut event: Event<'static>) -> Event<'static> {
    event.user = None;
    event.request = None;
    event.breadcrumbs.values.clear();
    event.extra.clear();
    event.message = event.message.map(|text| redact(&text));
    if let Some(entry) = &mut event.logentry {
        entry.message = redact(&entry.message);
        entry.params.iter_mut().for_each(clean);
    }
    for exception in &mut event.exception.values {
        exception.value = exception.value.take().map(|text| redact(&text));
        exception.stacktrace = None;
        exception.raw_stacktrace = None;
    }
    for context in event.contexts.values_mut() {
        if let Context::Other(fields) = context {
            fields.values_mut().for_each(clean);
        }
    }
    event.tags.clear();
    // It is called where the error is, so by the task of the request that it is about.
    if let Some(id) = request_id::current() {
        event.tags.insert("request_id".to_owned(), redact(&id));
    }
    event
}

fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = redact(text),
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentry::{Client, Envelope, Hub};
    use tracing_subscriber::layer::SubscriberExt;

    const SECRET: &str = "kg_live_3c5588afe5b04bdd_0123456789abcdefghijklmnopqrstuv012345";

    #[derive(Default)]
    struct Caught(Mutex<Vec<u8>>);

    impl Transport for Caught {
        fn send_envelope(&self, envelope: Envelope) {
            let mut caught = self.0.lock().expect("a lock");
            envelope.to_writer(&mut *caught).expect("written");
        }
    }

    /// What leaves the machine of what is said.
    fn sent(say: impl FnOnce()) -> String {
        let caught = Arc::new(Caught::default());
        let dsn = "http://public@127.0.0.1:9/1".parse().expect("a DSN");
        let options = options(dsn, Deployment::Production).transport(Arc::clone(&caught));
        let hub = Arc::new(Hub::new(Some(Arc::new(Client::from(options))), Arc::default()));
        let lines = tracing_subscriber::registry().with(layer());
        Hub::run(hub, || tracing::subscriber::with_default(lines, say));
        let bytes = caught.0.lock().expect("a lock").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn an_error_is_reported_without_what_might_be_a_secret() {
        let sent = sent(|| {
            request_id::CURRENT.sync_scope("0d2a5f7e".to_owned(), || {
                tracing::error!(
                    target: "keygate::admin", error = format!("no place for {SECRET}"),
                    "the database {SECRET} failed"
                );
            });
        });
        assert!(sent.contains("the database [removed] failed"), "{sent}");
        assert!(sent.contains("no place for [removed]"), "{sent}");
        assert!(!sent.contains(SECRET) && sent.contains("0d2a5f7e"), "{sent}");
        assert!(sent.contains("production") && sent.contains("keygate@"), "{sent}");
    }

    #[test]
    fn warnings_other_programs_errors_and_what_is_told_already_are_not_reported() {
        let sent = sent(|| {
            tracing::warn!(target: "keygate::admin", "slow");
            tracing::error!(target: "hyper", "a connection broke");
            tracing::error!(target: TWICE_TOLD, "a handler panicked");
        });
        assert_eq!(sent, "");
    }

    #[test]
    fn a_flood_of_errors_is_a_few_reports() {
        let sent = sent(|| {
            for _ in 0..1000 {
                tracing::error!(target: "keygate::admin", "the database failed");
            }
        });
        let reports = sent.matches("the database failed").count();
        let most = usize::try_from(MOST_A_MINUTE).expect("a number");
        assert!((1..=most).contains(&reports), "{reports}");
    }
}
