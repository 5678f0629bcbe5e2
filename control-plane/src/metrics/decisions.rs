//! Counting decisions: what filters report, and what this service decides itself. Each label has
//! few values, whatever a filter ships: a reason that no gate gives counts as `other`.

use edge_protocol::{Event, EventKind};

use super::DECISIONS;

/// Reasons that a gate gives in its events' details, apart from those of layers 3 and 4.
const REASONS: &[&str] = &[
    "no_api_key_header",
    "several_api_key_headers",
    "not_printable",
    "comma",
    "test_key_in_production",
    "ambiguous_path",
    "unknown",
    "too_many_lookups",
    "control_plane_unreachable",
    "no_answer_from_control_plane",
    "revoked",
    "expired",
    "address_not_in_allowed_ips",
    "scope_not_sufficient",
];
/// What layer 3 finds (`key_policy::FormatFault`).
const FORMAT_REASONS: &[&str] =
    &["too_short", "too_few_kinds", "too_little_entropy", "malformed", "checksum"];
/// What layer 4 finds (`key_policy::Weakness`).
const WEAK_REASONS: &[&str] =
    &["weak_sequence", "weak_repeat", "weak_only_fragments", "weak_too_little_left"];
const OVERLONG: &str = "too_long";
const FAILED_ATTEMPTS: &str = "failed_attempts";

/// Who decided.
#[derive(Clone, Copy, Debug)]
pub enum By {
    /// This service, asked by a filter.
    Edge,
    /// This service, on a call to the admin API.
    Admin,
}

impl By {
    fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Admin => "admin",
        }
    }
}

/// Counts a decision of this service. The event is the audit log's word for it.
pub fn count(by: By, layer: &'static str, event: EventKind, reason: &'static str) {
    metrics::counter!(DECISIONS, "by" => by.as_str(), "layer" => layer, "event" => event.as_str(),
        "reason" => reason, "shadow" => "false")
    .increment(1);
}

/// Counts what filters have decided.
pub fn count_reported<'a>(events: impl Iterator<Item = &'a Event>) {
    for event in events {
        let Some((layer, reason)) = told(event) else { continue };
        let shadow = if event.shadow { "true" } else { "false" };
        metrics::counter!(DECISIONS, "by" => "filter", "layer" => layer,
            "event" => event.kind.as_str(), "reason" => reason, "shadow" => shadow)
        .increment(1);
    }
}

/// The layer that an event tells of, and why; none: it tells of no decision.
fn told(event: &Event) -> Option<(&'static str, &'static str)> {
    let reason = detail(&event.details, "reason=");
    let of = |reasons: &[&'static str]| reasons.iter().find(|it| Some(**it) == reason).copied();
    let known = || of(REASONS).unwrap_or("other");
    Some(match event.kind {
        EventKind::MissingApiKey => ("presence", known()),
        EventKind::InvalidFormat => {
            if let Some(reason) = of(FORMAT_REASONS) {
                ("format", reason)
            } else if let Some(reason) = of(WEAK_REASONS) {
                ("weak_patterns", reason)
            } else {
                ("credential", of(&[OVERLONG]).unwrap_or_else(known))
            }
        }
        EventKind::SecurityViolation if reason == Some("ambiguous_path") => ("path", known()),
        EventKind::SecurityViolation => ("environment", known()),
        EventKind::InvalidKey | EventKind::DbError => ("known", known()),
        EventKind::ValidApiKey => ("known", "first_seen"),
        EventKind::ExpiredKey | EventKind::RevokedKey => ("expiry", known()),
        EventKind::IpDenied => ("address", known()),
        EventKind::ScopeDenied => ("scope", known()),
        EventKind::RateLimited => match detail(&event.details, "limit=") {
            Some(FAILED_ATTEMPTS) => (FAILED_ATTEMPTS, "limit"),
            // Which limit it was is the configuration's to name, so it is no label.
            _ => ("limits", "limit"),
        },
        _ => return None,
    })
}

fn detail<'a>(details: &'a str, name: &str) -> Option<&'a str> {
    details.split(' ').find_map(|word| word.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use key_policy::{FormatFault, Weakness};
    use metrics_exporter_prometheus::PrometheusBuilder;

    fn event(kind: EventKind, details: &str) -> Event {
        Event {
            kind,
            at_ms: 0,
            key_hash: None,
            key_id: None,
            client_ip: None,
            details: details.to_owned(),
            shadow: false,
        }
    }

    #[test]
    fn every_reason_of_a_gate_names_its_layer() {
        let cases = [
            (EventKind::MissingApiKey, "reason=no_api_key_header", "presence", "no_api_key_header"),
            (EventKind::InvalidFormat, "reason=comma", "credential", "comma"),
            (EventKind::InvalidFormat, "reason=too_long", "credential", "too_long"),
            (EventKind::InvalidFormat, "reason=checksum", "format", "checksum"),
            (EventKind::InvalidFormat, "reason=weak_repeat", "weak_patterns", "weak_repeat"),
            (EventKind::InvalidKey, "reason=unknown cached=true", "known", "unknown"),
            (EventKind::RevokedKey, "reason=revoked", "expiry", "revoked"),
            (EventKind::RateLimited, "limit=failed_attempts", "failed_attempts", "limit"),
            (EventKind::RateLimited, "limit=address-get", "limits", "limit"),
            (EventKind::SecurityViolation, "reason=ambiguous_path", "path", "ambiguous_path"),
        ];
        for (kind, details, layer, reason) in cases {
            assert_eq!(told(&event(kind, details)), Some((layer, reason)), "{details}");
        }
        assert_eq!(told(&event(EventKind::EventsDropped, "count=3")), None);
    }

    #[test]
    fn what_the_policy_finds_is_among_the_reasons() {
        use FormatFault::{Comma, NotPrintable, TooLong};
        let found =
            |reason: &str| told(&event(EventKind::InvalidFormat, &format!("reason={reason}")));
        for fault in FormatFault::ALL {
            let (layer, reason) = found(fault.as_str()).expect("a decision");
            let is_credential = matches!(fault, NotPrintable | Comma | TooLong);
            let wanted = if is_credential { "credential" } else { "format" };
            assert_eq!((layer, reason), (wanted, fault.as_str()));
        }
        for fault in Weakness::ALL {
            let (layer, reason) = found(&format!("weak_{}", fault.as_str())).expect("a decision");
            assert_eq!(
                (layer, reason.strip_prefix("weak_")),
                ("weak_patterns", Some(fault.as_str()))
            );
        }
    }

    #[test]
    fn a_filter_that_makes_up_reasons_makes_no_new_series() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            for kind in EventKind::ALL {
                for n in 0..1000 {
                    let event = event(*kind, &format!("reason=made_up_{n} limit=also_{n}"));
                    count_reported(std::iter::once(&event));
                }
            }
        });
        let series = recorder.handle().render().lines().filter(|it| !it.starts_with('#')).count();
        assert!(series < 20, "{series}");
    }
}
