//! What becomes of refusals when there are too many: the first one of each caller and minute is an
//! audit entry, those after it are counted, and the count becomes an entry when the minute is over.
//! So a flood of refused calls leaves a few rows a minute, and none of them is left out. The same
//! becomes of calls that failed before it was known whose they are.

use edge_protocol::EventKind;
use jiff::Timestamp;
use key_policy::KeyId;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use super::limit::network;
use crate::audit::{Actor, AuditEntry, trail};

/// Callers that are told apart in a minute; of all other addresses there is one count. Good keys are
/// told apart always: there are only as many as were made.
const MAX_CALLERS: usize = 1024;
const MINUTE_MS: i64 = 60_000;

/// Whose calls are refused.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caller {
    /// Someone at an address, who has been refused too often.
    Address(IpAddr),
    /// A good key that calls too often, and from where it does.
    Key(KeyId, IpAddr),
    /// A good key whose second factor is not accepted, from where it calls, and why.
    SecondFactor(KeyId, IpAddr, &'static str),
    /// Someone at an address whose credential could not be looked at.
    Unknown(IpAddr),
}

impl Caller {
    fn name(self) -> String {
        match self {
            Self::Address(client_ip) => network(client_ip),
            Self::Key(key_id, _) => key_id.to_string(),
            Self::SecondFactor(key_id, _, reason) => format!("{key_id} {reason}"),
            Self::Unknown(client_ip) => format!("{} not_verified", network(client_ip)),
        }
    }

    /// As the log has it.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Address(_) => "too_many_failures",
            Self::Key(..) => "rate_limited",
            Self::SecondFactor(_, _, reason) => reason,
            Self::Unknown(_) => "not_verified",
        }
    }

    /// What its entries are.
    fn kind(self) -> EventKind {
        match self {
            Self::Address(_) | Self::Key(..) => EventKind::AdminDenied,
            Self::SecondFactor(..) => EventKind::TotpDenied,
            Self::Unknown(_) => EventKind::AdminFailed,
        }
    }

    /// An entry about this caller.
    fn entry(self, at: Timestamp, more: &str) -> AuditEntry {
        let details = format!("reason={} {more}", self.reason());
        let denied = |client_ip| {
            let mut entry = AuditEntry::of(self.kind(), at, details.clone());
            entry.event.client_ip = Some(client_ip);
            entry
        };
        match self {
            Self::Address(client_ip) | Self::Unknown(client_ip) => denied(client_ip),
            Self::Key(key_id, client_ip) => {
                let mut entry = denied(client_ip);
                entry.event.key_id = Some(key_id.to_string());
                entry
            }
            Self::SecondFactor(key_id, client_ip, _) => {
                let by = Actor::Key { key_id, client_ip };
                AuditEntry::by(&by, self.kind(), key_id, at, &details)
            }
        }
    }
}

/// The refusals of a caller in a minute, after the first.
struct Refused {
    caller: Caller,
    minute: i64,
    more: u64,
}

#[derive(Default)]
struct Counts {
    callers: HashMap<String, Refused>,
    /// Of callers that found no room of their own, by what became of them.
    others: HashMap<(EventKind, &'static str), u64>,
}

/// Counts refusals.
#[derive(Default)]
pub struct Denials(Mutex<Counts>);

impl Denials {
    /// Notes a refusal. `what` is what the entry says of it, if it is to be one.
    pub(super) fn note(&self, caller: Caller, now: Timestamp, what: &str) -> Option<AuditEntry> {
        trail::told();
        let minute = minute(now);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = caller.name();
        if let Some(refused) = counts.callers.get_mut(&name) {
            // One that is of an earlier minute is taken out by `due`, with its count.
            refused.more += 1;
            return None;
        }
        let is_anybody = matches!(caller, Caller::Address(_) | Caller::Unknown(_));
        if is_anybody && counts.callers.len() >= MAX_CALLERS {
            *counts.others.entry((caller.kind(), caller.reason())).or_default() += 1;
            return None;
        }
        counts.callers.insert(name, Refused { caller, minute, more: 0 });
        Some(caller.entry(now, what))
    }

    /// What was counted in minutes that are over.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<AuditEntry> {
        self.take(now, |refused| refused.minute < minute(now))
    }

    /// All that was counted.
    pub(crate) fn rest(&self, now: Timestamp) -> Vec<AuditEntry> {
        self.take(now, |_| true)
    }

    fn take(&self, now: Timestamp, over: impl Fn(&Refused) -> bool) -> Vec<AuditEntry> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = counts.callers.extract_if(|_, refused| over(refused));
        let over: Vec<_> = over.map(|(_, refused)| refused).collect();
        let others =
            if over.is_empty() { HashMap::new() } else { std::mem::take(&mut counts.others) };
        drop(counts);
        let told = over.into_iter().filter(|refused| refused.more > 0);
        let mut entries: Vec<_> = told
            .map(|it| it.caller.entry(now, &format!("more_in_that_minute={}", it.more)))
            .collect();
        for ((kind, reason), count) in others {
            let details = format!("reason={reason} callers=others count={count}");
            entries.push(AuditEntry::of(kind, now, details));
        }
        entries
    }
}

fn minute(at: Timestamp) -> i64 {
    at.as_millisecond().div_euclid(MINUTE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, at};
    use std::time::Duration;

    fn from(address: &str) -> Caller {
        Caller::Address(address.parse().expect("an address"))
    }

    fn details(entries: &[AuditEntry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.event.details.as_str()).collect()
    }

    #[test]
    fn the_first_refusal_is_an_entry_and_the_others_are_a_count() {
        let (denials, now) = (Denials::default(), at(START));
        let first = denials.note(from("192.0.2.1"), now, "limit=30").expect("an entry");
        assert_eq!(first.event.details, "reason=too_many_failures limit=30");
        for _ in 0..99 {
            assert!(denials.note(from("192.0.2.1"), now, "limit=30").is_none());
        }
        assert!(denials.note(from("192.0.2.2"), now, "limit=30").is_some());
        assert!(denials.due(now).is_empty());
        let next = now + Duration::from_mins(1);
        assert_eq!(
            details(&denials.due(next)),
            ["reason=too_many_failures more_in_that_minute=99"]
        );
        assert!(denials.due(next).is_empty());
        assert!(denials.note(from("192.0.2.1"), next, "limit=30").is_some());
    }

    #[test]
    fn a_flood_from_everywhere_is_a_bounded_number_of_entries_and_nothing_is_left_out() {
        let (denials, now) = (Denials::default(), at(START));
        let mut entries = 0;
        for number in 0..10_000_u32 {
            let caller = Caller::Address(std::net::Ipv4Addr::from_bits(number).into());
            entries += usize::from(denials.note(caller, now, "").is_some());
        }
        assert_eq!(entries, MAX_CALLERS);
        let key = Caller::SecondFactor(KeyId::from_u64(1), [192, 0, 2, 1].into(), "missing_code");
        assert!(denials.note(key, now, "").is_some(), "a good key always finds room");
        let rest = denials.rest(now);
        let expected =
            format!("reason=too_many_failures callers=others count={}", 10_000 - MAX_CALLERS);
        assert_eq!(details(&rest), [expected]);
    }

    #[test]
    fn the_addresses_of_one_network_are_one_caller() {
        let (denials, now) = (Denials::default(), at(START));
        assert!(denials.note(from("2001:db8::1"), now, "").is_some());
        assert!(denials.note(from("2001:db8::2:1"), now, "").is_none());
        assert!(denials.note(from("2001:db8:0:1::1"), now, "").is_some());
    }
}
