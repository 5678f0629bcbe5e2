//! Whether Envoy serves, has the filter, and reaches the control plane: by its admin interface.

use anyhow::Context;
use jiff::Timestamp;
use reqwest::{Client, header::DATE};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

use super::{
    clock::Reading,
    finding::{Check, Finding},
};
use crate::clock::Clock;

const TIMEOUT: Duration = Duration::from_secs(3);
/// The oldest Envoy that the filter is made for.
const OLDEST: (u32, u32) = (1, 40);
/// What the filter counts, as Envoy names it.
const FILTER: &str = "wasmcustom.keygate.";
const CLUSTER: &str = "cluster.keygate_control_plane.";
const STATS: &str =
    "stats?format=json&filter=^(wasmcustom%5C.keygate%5C.%7Ccluster%5C.keygate_control_plane%5C.)";

/// What Envoy says of itself.
#[derive(Deserialize)]
struct ServerInfo {
    /// `<commit>/1.40.0/Clean/RELEASE/BoringSSL`.
    version: String,
    state: String,
}

#[derive(Deserialize)]
struct Stats {
    stats: Vec<Stat>,
}

/// Histograms have no value of their own, and are in the list all the same.
#[derive(Deserialize)]
struct Stat {
    name: Option<String>,
    value: Option<serde_json::Value>,
}

/// What was read.
struct Facts {
    info: ServerInfo,
    stats: BTreeMap<String, u64>,
}

/// Asks the Envoy whose admin interface has this URL.
pub(super) async fn examine(url: &str, clock: &dyn Clock) -> (Vec<Finding>, Option<Reading>) {
    match ask(url, clock).await {
        Ok((facts, reading)) => (judge(&facts), reading),
        Err(error) => {
            let what = format!("Envoy's admin interface at {url} does not answer: {error:#}");
            let mend = "see whether Envoy runs, and whether this is its `admin` address; it should be \
                        reachable from its own machine only, so ask there";
            (vec![Finding::failed(Check::Envoy, what, mend)], None)
        }
    }
}

async fn ask(url: &str, clock: &dyn Clock) -> anyhow::Result<(Facts, Option<Reading>)> {
    // What a proxy answers is not what Envoy answers.
    let client = Client::builder().timeout(TIMEOUT).no_proxy().build()?;
    let url = url.trim_end_matches('/');
    let answer = client.get(format!("{url}/server_info")).send().await?.error_for_status()?;
    let date = answer.headers().get(DATE).and_then(|value| value.to_str().ok()).and_then(http_date);
    let reading = date.map(|theirs| Reading { of: "Envoy".to_owned(), theirs, ours: clock.now() });
    let info = answer.json().await.context("what answers is no Envoy")?;
    let answer = client.get(format!("{url}/{STATS}")).send().await?.error_for_status()?;
    let stats: Stats = answer.json().await.context("its statistics cannot be read")?;
    let number = |stat: Stat| Some((stat.name?, stat.value?.as_u64()?));
    let stats = stats.stats.into_iter().filter_map(number).collect();
    Ok((Facts { info, stats }, reading))
}

/// A date as HTTP writes it (RFC 9110 section 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp())
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let stat = |name: &str| facts.stats.get(&format!("{CLUSTER}{name}")).copied();
    let mut findings = Vec::new();
    let mut failed = |what: String, mend: &str| {
        findings.push(Finding::failed(Check::Envoy, what, mend));
    };
    if facts.info.state != "LIVE" {
        failed(format!("it is {}, not LIVE", facts.info.state), "see its log");
    }
    if !facts.stats.keys().any(|name| name.starts_with(FILTER)) {
        failed(
            "it has no Keygate filter: nothing is checked".to_owned(),
            "put the filter into `http_filters`, before the router, as envoy/standalone.yaml does; \
             if it is there, Envoy's log names the mistake in its configuration",
        );
    }
    match stat("membership_healthy") {
        None => failed(
            "it has no cluster keygate_control_plane".to_owned(),
            "take that cluster from envoy/standalone.yaml or envoy/mtls.yaml",
        ),
        Some(0) => failed(
            "its cluster keygate_control_plane has no address".to_owned(),
            "see whether the name of the control plane resolves where Envoy runs",
        ),
        Some(_) if stat("upstream_rq_401") > Some(0) && stat("upstream_rq_2xx") <= Some(0) => {
            failed(
                "the control plane refuses the filter's credential".to_owned(),
                "give Envoy the token that KEYGATE_EDGE_TOKEN is (envoy/keygate_edge_token.yaml)",
            );
        }
        // None at this moment is nothing yet: a connection ends, and another one is made.
        Some(_)
            if stat("upstream_cx_active") == Some(0)
                && stat("upstream_cx_connect_fail") > Some(0) =>
        {
            failed(
                "it has no connection to the control plane: keys that it does not know get 503"
                    .to_owned(),
                "see whether KEYGATE_EDGE_LISTEN is reachable from Envoy, and whether both ends speak TLS \
             or both do not (docs/tls.md)",
            );
        }
        Some(_) => {}
    }
    findings.extend(version(&facts.info.version));
    let dropped = facts.stats.get(&format!("{FILTER}events.dropped")).copied().unwrap_or(0);
    if dropped > 0 {
        findings.push(Finding::warning(
            Check::Envoy,
            format!("its filter has dropped {dropped} event(s) since it was started"),
            "see why the control plane did not take them; the audit log has EVENTS_DROPPED",
        ));
    }
    if findings.is_empty() {
        let what = "it serves, has the filter, and reaches the control plane";
        findings.push(Finding::ok(Check::Envoy, what));
    }
    findings
}

fn version(text: &str) -> Option<Finding> {
    let number = text.split('/').nth(1).unwrap_or_default();
    let mut parts = number.split('.').map(str::parse);
    let known = match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => return None,
    };
    (known < OLDEST).then(|| {
        Finding::warning(
            Check::Envoy,
            format!(
                "it is Envoy {number}; the filter is made for {}.{} and later",
                OLDEST.0, OLDEST.1
            ),
            "update Envoy",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::finding::Status, testing::at};

    fn facts(changes: &[(&str, Option<u64>)]) -> Facts {
        let mut stats: BTreeMap<_, _> = [
            ("wasmcustom.keygate.allowed", 0),
            ("wasmcustom.keygate.events.dropped", 0),
            ("cluster.keygate_control_plane.membership_healthy", 1),
            ("cluster.keygate_control_plane.upstream_cx_active", 2),
            ("cluster.keygate_control_plane.upstream_rq_2xx", 9),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        for (name, value) in changes {
            match value {
                Some(value) => stats.insert((*name).to_owned(), *value),
                None => stats.remove(*name),
            };
        }
        let info = ServerInfo {
            version: "0123456789abcdef0123456789abcdef01234567/1.40.0/Clean/RELEASE/BoringSSL"
                .to_owned(),
            state: "LIVE".to_owned(),
        };
        Facts { info, stats }
    }

    fn told(changes: &[(&str, Option<u64>)]) -> (Status, String) {
        let found = judge(&facts(changes));
        (found[0].status, found[0].what.clone())
    }

    #[test]
    fn an_envoy_that_does_its_work_is_well() {
        assert_eq!(told(&[]).0, Status::Ok);
    }

    #[test]
    fn each_thing_that_keeps_it_from_its_work_is_a_failure_of_its_own() {
        let none_of_filter =
            [("wasmcustom.keygate.allowed", None), ("wasmcustom.keygate.events.dropped", None)];
        let refused = [
            ("cluster.keygate_control_plane.upstream_rq_2xx", None),
            ("cluster.keygate_control_plane.upstream_rq_401", Some(4)),
        ];
        let unreachable = [
            ("cluster.keygate_control_plane.upstream_cx_active", Some(0)),
            ("cluster.keygate_control_plane.upstream_cx_connect_fail", Some(3)),
        ];
        for (changes, words) in [
            (&none_of_filter[..], "no Keygate filter"),
            (&[("cluster.keygate_control_plane.membership_healthy", None)], "has no cluster"),
            (&[("cluster.keygate_control_plane.membership_healthy", Some(0))], "no address"),
            (&unreachable, "no connection"),
            (&refused, "refuses the filter's credential"),
        ] {
            let (status, what) = told(changes);
            assert!(status == Status::Failed && what.contains(words), "{words}: {what}");
        }
        let mut ending = facts(&[]);
        ending.info.state = "DRAINING".to_owned();
        assert_eq!(judge(&ending)[0].status, Status::Failed);
    }

    #[test]
    fn an_old_envoy_and_events_that_were_dropped_are_told() {
        let mut old = facts(&[]);
        old.info.version = old.info.version.replace("1.40", "1.39");
        assert_eq!(judge(&old)[0].status, Status::Warning);
        let (status, what) = told(&[("wasmcustom.keygate.events.dropped", Some(3))]);
        assert!(status == Status::Warning && what.contains('3'), "{what}");
    }

    #[test]
    fn the_date_of_an_answer_is_read() {
        let date = http_date("Thu, 26 Nov 2026 12:00:00 GMT");
        assert_eq!(date, Some(at("2026-11-26T12:00:00Z")));
        assert_eq!(http_date("yesterday"), None);
    }
}
