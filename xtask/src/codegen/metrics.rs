//! The page of metrics: the control plane's, as the program itself lists them, and the filter's.

use std::fmt::Write;
use std::process::Command;

use anyhow::Result;
use gate::{COUNTER_MEANINGS, COUNTER_NAMES};

use crate::process;
use crate::stack::{Build, build_keygate};

const HEAD: &str = "\
<!-- Made by `cargo xtask codegen` from control-plane/src/metrics/names.rs and gate/src/tally.rs. \
Change it there. -->

# Metrics

The control plane shows its metrics at `/metrics` of the admin listener, in Prometheus' text format. \
Labels take few values: never a key, an address, or a path or method that a client chose. A test \
compares this page with what a service exports, both ways. Counts without labels begin at zero; a \
series with labels appears when it first counts. [ops/prometheus](../ops/prometheus) has a \
configuration that scrapes all of it and alert rules, [ops/grafana](../ops/grafana) a dashboard.

";

const FILTER_HEAD: &str = "
## The filter

The filter counts in Envoy's own statistics, for all workers together; they are up to 50 ms late. \
Envoy's `/stats` has them under `wasmcustom.` and the name below, its `/stats/prometheus` under the \
name in the second column. They cost a request nothing but an addition: each worker adds up, and \
tells Envoy on its timer.

| statistic | in Prometheus | what it counts |
|---|---|---|
";

/// The page.
///
/// # Errors
/// When the program cannot be built or run.
pub(super) fn page() -> Result<String> {
    let mut keygate = Command::new(build_keygate(Build::Debug)?);
    keygate.arg("metrics");
    let mut page = format!("{HEAD}{}{FILTER_HEAD}", process::capture(keygate)?);
    for (name, meaning) in COUNTER_NAMES.iter().zip(COUNTER_MEANINGS) {
        let exported = name.replace('.', "_");
        writeln!(page, "| `{name}` | `{exported}` | {} |", meaning.trim())?;
    }
    Ok(page)
}
