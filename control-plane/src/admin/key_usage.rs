//! `GET /api/v1/admin/api-keys/{key_id}/usage`

use axum::{Json, extract::State};
use serde::Deserialize;
use std::sync::Arc;

use super::{
    authenticate::Admin,
    path::{KeyIdParameter, KeyPath},
    query::{Parameters, TIME, invalid, parse},
};
use crate::{
    http::problem::{Code, Problem},
    service::Service,
    usage::{
        period::{Interval, Period, PeriodFault},
        report::UsageReport,
    },
};

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageParameters {
    /// From when on. Unless given, an hour before `until` by the minute, a day before it by the
    /// hour, 30 days before it by the day.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    since: Option<String>,
    /// Until before when; now, unless given.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    until: Option<String>,
    /// How long the parts of the series are. They are minutes, hours and days of UTC, and there
    /// are at most 1500 of them.
    #[serde(default)]
    #[param(value_type = Option<Interval>, inline, nullable = false)]
    interval: Option<String>,
}

/// A period that cannot be asked for.
impl From<PeriodFault> for Problem {
    fn from(fault: PeriodFault) -> Self {
        let field = match fault {
            PeriodFault::UnknownInterval => "interval",
            PeriodFault::Empty | PeriodFault::TooLong => "since",
        };
        invalid(field, fault.to_string())
    }
}

impl UsageParameters {
    fn period(&self, now: jiff::Timestamp) -> Result<Period, Problem> {
        let interval: Option<Interval> = self.interval.as_deref().map(str::parse).transpose()?;
        let since = parse("since", self.since.as_deref(), TIME)?;
        let until = parse("until", self.until.as_deref(), TIME)?;
        Ok(Period::new(since, until, interval.unwrap_or_default(), now)?)
    }
}

/// Shows how often a key was used
///
/// Counted by the filters, by the minute, and reported a second or two later; calls of this API
/// are not among it.
#[utoipa::path(
    get,
    path = "/api/v1/admin/api-keys/{key_id}/usage",
    tag = "keys",
    operation_id = "get_key_usage",
    params(KeyIdParameter, UsageParameters),
    responses((status = OK, description = "Totals, and a series of what was used", body = UsageReport))
)]
pub(super) async fn handler(
    _admin: Admin,
    KeyPath(key_id): KeyPath,
    Parameters(parameters): Parameters<UsageParameters>,
    State(service): State<Arc<Service>>,
) -> Result<Json<UsageReport>, Problem> {
    let period = parameters.period(service.clock.now())?;
    if service.store.key(key_id).await?.is_none() {
        return Err(Problem::new(Code::NotFound));
    }
    let sums = service.store.usage(key_id, &period).await?;
    Ok(Json(UsageReport::new(key_id, &period, &sums)))
}

#[cfg(test)]
mod tests {
    use edge_protocol::{UsageMethod, UsageOutcome};
    use key_policy::KeyId;
    use serde_json::{Value, json};

    use crate::{
        admin::tests::call,
        clock::{Clock, unix_ms},
        store::FilterBatch,
        testing::{TestService, at, request, send},
        usage::{Minute, Use, Uses},
    };

    /// Has a filter report: time, method, outcome, count.
    async fn report(
        it: &TestService,
        key_id: KeyId,
        counts: &[(&str, UsageMethod, UsageOutcome, u64)],
    ) {
        let usage = counts.iter().map(|&(time, method, outcome, count)| {
            let minute = Minute::of(unix_ms(at(time)));
            Uses { of: Use { key_id, minute, method, outcome }, count }
        });
        let batch = FilterBatch {
            source: "f".to_owned(),
            batch: 1,
            at: it.clock.now(),
            entries: Vec::new(),
            usage: usage.collect(),
        };
        it.service.store.append_batch(&batch).await.expect("taken");
    }

    async fn get(
        it: &TestService,
        admin: &str,
        key_id: &str,
        query: &str,
    ) -> crate::testing::Answer {
        let path = format!("/api/v1/admin/api-keys/{key_id}/usage{query}");
        send(&it.admin, call("GET", &path, admin, None)).await
    }

    #[tokio::test]
    async fn totals_and_a_series_are_told_by_method_and_by_outcome() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let (key, _) = it.issue(request("a")).await;
        let counts = [
            ("2026-11-25T10:59:00Z", UsageMethod::Get, UsageOutcome::Allowed, 1),
            ("2026-11-25T11:00:00Z", UsageMethod::Get, UsageOutcome::Allowed, 2),
            ("2026-11-25T11:59:00Z", UsageMethod::Post, UsageOutcome::RateLimited, 4),
            ("2026-10-01T00:00:00Z", UsageMethod::Get, UsageOutcome::Allowed, 8),
        ];
        report(&it, key.key_id, &counts).await;
        let id = key.key_id.to_string();
        let counts = |requests: u64, by_method: Value, by_outcome: Value| json!({"requests": requests, "by_method": by_method, "by_outcome": by_outcome});
        let point = |start: &str, mut counts: Value| {
            counts["start"] = json!(start);
            counts
        };
        let usage = get(&it, &good, &id, "").await.json();
        let expected = json!({
            "key_id": id,
            "since": "2026-11-24T12:00:00Z",
            "until": "2026-11-25T12:00:00Z",
            "interval": "hour",
            "total": counts(7, json!({"GET": 3, "POST": 4}), json!({"allowed": 3, "rate_limited": 4})),
            "series": [
                point("2026-11-25T10:00:00Z", counts(1, json!({"GET": 1}), json!({"allowed": 1}))),
                point(
                    "2026-11-25T11:00:00Z",
                    counts(6, json!({"GET": 2, "POST": 4}), json!({"allowed": 2, "rate_limited": 4})),
                ),
            ],
        });
        assert_eq!(usage, expected);

        let usage = get(&it, &good, &id, "?interval=day&since=2026-09-01T00:00:00Z").await.json();
        assert_eq!(usage["total"]["requests"], 15);
        assert_eq!(usage["series"][0]["start"], "2026-10-01T00:00:00Z");
        let usage = get(&it, &good, &id, "?interval=minute").await.json();
        assert_eq!(usage["series"].as_array().map(Vec::len), Some(2));
    }

    #[tokio::test]
    async fn a_key_that_was_never_used_has_usage_of_nothing_and_no_key_has_none() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let (key, _) = it.issue(request("a")).await;
        let usage = get(&it, &good, &key.key_id.to_string(), "").await.json();
        let nothing = json!({"requests": 0, "by_method": {}, "by_outcome": {}});
        assert_eq!((&usage["total"], &usage["series"]), (&nothing, &json!([])));
        for nobody in ["0000000000000000", "x"] {
            assert_eq!(get(&it, &good, nobody, "").await.problem(), (404, "not_found".to_owned()));
        }
    }

    #[tokio::test]
    async fn a_period_that_means_nothing_is_refused_by_its_field() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let (key, _) = it.issue(request("a")).await;
        for (query, field) in [
            ("interval=second", "interval"),
            ("since=yesterday", "since"),
            ("until=2026-11-25", "until"),
            ("since=2026-11-25T12:00:00Z", "since"),
            ("since=2026-11-25T12:00:00Z&until=2026-11-25T11:00:00Z", "since"),
            ("since=2026-01-01T00:00:00Z", "since"),
            ("since=-009999-01-02T02:00:00Z&interval=day", "since"),
            ("until=9999-12-31T23:59:59Z", "until"),
        ] {
            let answer = get(&it, &good, &key.key_id.to_string(), &format!("?{query}")).await;
            assert_eq!(answer.problem(), (400, "invalid_query".to_owned()), "{query}");
            assert_eq!(answer.json()["errors"][0]["field"], field, "{query}");
        }
        // The ends of time are times.
        for query in ["until=9999-12-30T22:00:00Z", "until=-009999-01-02T03:00:00Z"] {
            let answer = get(&it, &good, &key.key_id.to_string(), &format!("?{query}")).await;
            assert_eq!(answer.status, 200, "{query}: {answer:?}");
        }
        let answer = get(&it, &good, &key.key_id.to_string(), "?group_by=method").await;
        assert_eq!(answer.problem(), (400, "invalid_query".to_owned()));
    }
}
