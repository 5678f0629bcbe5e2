//! How the running service is, by its own word.

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    clock::Reading,
    finding::{Check, Finding},
};
use crate::{
    clock::Clock,
    config::Settings,
    probe::{self, Answer},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is read of `/health`.
#[derive(Deserialize)]
struct Health {
    status: String,
    database: String,
    redis: String,
    version: String,
    timestamp: Timestamp,
}

pub(super) async fn examine(
    settings: &Settings,
    clock: &dyn Clock,
) -> (Vec<Finding>, Option<Reading>) {
    let health = probe::own_listener(settings, "/health").await;
    let ours = clock.now();
    let answer = match health {
        Ok(answer) => answer,
        Err(error) => {
            let what = format!("no service answers: {error:#}");
            let mend =
                "start it (keygate serve); or KEYGATE_LISTEN here is not that of the service";
            return (vec![Finding::warning(Check::Service, what, mend)], None);
        }
    };
    let ready = probe::own_listener(settings, "/readyz").await.ok();
    let health = serde_json::from_str(&answer.body).ok();
    let reading = health.as_ref().map(|health: &Health| Reading {
        of: "the service".to_owned(),
        theirs: health.timestamp,
        ours,
    });
    (judge(&settings.listen, health.as_ref(), ready.as_ref()), reading)
}

fn judge(listen: &str, health: Option<&Health>, ready: Option<&Answer>) -> Vec<Finding> {
    let Some(health) = health else {
        let what = format!("what answers at {listen} is no keygate");
        let mend = "see what listens there, and choose another KEYGATE_LISTEN";
        return vec![Finding::failed(Check::Service, what, mend)];
    };
    let Health { status, database, redis, version, .. } = health;
    let told = format!("it says {status}: database {database}, redis {redis}, version {version}");
    let mend = "docs/incident-runbook.md; its log says what is amiss";
    let mut findings = vec![match status.as_str() {
        "healthy" => Finding::ok(Check::Service, told),
        "degraded" => Finding::warning(Check::Service, told, mend),
        _ => Finding::failed(Check::Service, told, mend),
    }];
    match ready {
        Some(ready) if ready.status == 200 => {}
        Some(ready) => {
            let what = format!("it wants no requests: {}", ready.body);
            findings.push(Finding::failed(Check::Service, what, mend));
        }
        None => {
            findings.push(Finding::failed(Check::Service, "/readyz does not answer", mend));
        }
    }
    if version != VERSION {
        findings.push(Finding::warning(
            Check::Service,
            format!("the service is of version {version}, this command of {VERSION}"),
            "restart the service with this version, or use the command of its own",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::finding::Status, testing::at};

    fn worst(status: &str, version: &str, ready: Option<u16>) -> Status {
        let health = Health {
            status: status.to_owned(),
            database: "connected".to_owned(),
            redis: "disabled".to_owned(),
            version: version.to_owned(),
            timestamp: at("2026-11-26T12:00:00Z"),
        };
        let ready = ready.map(|status| Answer { status, body: "stopping".to_owned() });
        let found = judge("127.0.0.1:8080", Some(&health), ready.as_ref());
        found.iter().map(|it| it.status).max().expect("a finding")
    }

    #[test]
    fn the_services_own_word_is_passed_on() {
        assert_eq!(worst("healthy", VERSION, Some(200)), Status::Ok);
        assert_eq!(worst("degraded", VERSION, Some(200)), Status::Warning);
        assert_eq!(worst("unhealthy", VERSION, Some(503)), Status::Failed);
        assert_eq!(worst("healthy", VERSION, Some(503)), Status::Failed);
        assert_eq!(worst("healthy", VERSION, None), Status::Failed);
        assert_eq!(worst("healthy", "0.0.1", Some(200)), Status::Warning);
        assert_eq!(judge("127.0.0.1:8080", None, None)[0].status, Status::Failed);
    }
}
