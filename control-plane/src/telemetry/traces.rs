//! Traces, sent to a collector by OTLP over HTTP (protobuf).

use anyhow::Context;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
    },
};
use std::time::Duration;
use tracing::Subscriber;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use super::spans;
use crate::{config::TraceConfig, metrics};

/// How long a collector may take for a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a span waits for company.
const GATHER: Duration = Duration::from_secs(1);
/// Spans that may wait; at some 500 bytes each, 1 MB. What finds no room is dropped.
const QUEUE: usize = 2048;

/// What makes and sends them.
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts the thread that sends.
    ///
    /// # Errors
    /// When there can be no client for that address.
    pub(super) fn start(config: &TraceConfig) -> anyhow::Result<Self> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(config.endpoint.as_str())
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .context("KEYGATE_OTLP_ENDPOINT")?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_scheduled_delay(GATHER)
            .build();
        let processor =
            BatchSpanProcessor::builder(Counted(exporter)).with_batch_config(batches).build();
        let resource = Resource::builder()
            .with_service_name("keygate")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let sampled = Sampler::TraceIdRatioBased(config.ratio);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            // Whoever began the trace has decided whether it is kept.
            .with_sampler(Sampler::ParentBased(Box::new(sampled)))
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// Makes spans of those that belong into a trace.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("keygate"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|it| it.is_span() && it.target() == spans::TARGET))
    }

    /// Sends what is left.
    pub(super) fn end(self, patience: Duration) {
        if let Err(error) = self.0.shutdown_with_timeout(patience) {
            tracing::warn!(%error, "the last traces may be lost");
        }
    }
}

/// Counts what becomes of spans: a collector that is away is no failure of the service.
#[derive(Debug)]
struct Counted<E>(E);

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let result = self.0.export(batch).await;
        let outcome = if result.is_ok() { "sent" } else { "lost" };
        ::metrics::counter!(metrics::TRACE_SPANS, "outcome" => outcome).increment(spans);
        if let Err(error) = &result {
            tracing::debug!(%error, spans, "the collector has not taken a batch of spans");
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}
