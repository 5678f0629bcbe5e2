//! Which keys are wanted, and how a backend asks for them.

use edge_protocol::{KeyEnvironment, Scope};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use sqlx::{Database, Encode, QueryBuilder, Type};

use super::cursor::KeyCursor;
use crate::keys::state::KeyState;

/// Which keys are wanted: those that meet all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Only those in this state.
    pub state: Option<KeyState>,
    /// Only those of this scope, not of the ones that include it.
    pub scope: Option<Scope>,
    /// Only those that belong to exactly this owner.
    pub owner: Option<String>,
    /// Only those of this environment.
    pub environment: Option<KeyEnvironment>,
    /// Only those that can be used now, and will have ended by themselves in so many days.
    pub expiring_within_days: Option<u32>,
    /// Only those with this text in their name, description or owner, or at the beginning of
    /// their id. ASCII letters match in either case, all others only as they are: so that every
    /// database finds the same.
    pub text: Option<String>,
}

impl KeyFilter {
    /// Names the filter, so that a cursor is used with the one that it was given for.
    pub(super) fn fingerprint(&self) -> String {
        // The same for the same filter, and for no two filters: each part says where it ends.
        let parts = [
            self.state.map(|it| it.as_str().to_owned()),
            self.scope.map(|it| it.as_str().to_owned()),
            self.owner.clone(),
            self.environment.map(|it| it.as_str().to_owned()),
            self.expiring_within_days.map(|it| it.to_string()),
            self.text.clone(),
        ];
        let mut digest = Sha256::new();
        for part in parts.iter().map(Option::as_deref) {
            let length = part.map_or(-1, |part| i64::try_from(part.len()).unwrap_or(i64::MAX));
            digest.update(length.to_be_bytes());
            digest.update(part.unwrap_or_default());
        }
        let mut name = hex::encode(digest.finalize());
        name.truncate(16);
        name
    }
}

/// A page of keys, newest first.
#[derive(Clone, Debug)]
pub struct KeyQuery {
    /// Which keys.
    pub filter: KeyFilter,
    /// What time it is: states come and go with it.
    pub now: Timestamp,
    /// From after this one on.
    pub after: Option<KeyCursor>,
    /// At most so many.
    pub limit: u32,
}

impl KeyQuery {
    /// Writes what follows `FROM api_keys`. `position` is the backend's function that says where
    /// a text has another one in it, 0 for nowhere, and `lower` the one that makes ASCII letters,
    /// and no others, small.
    ///
    /// Only the conditions that there are, and worded as the partial indexes are: a planner takes
    /// no index for `? IS NULL OR owner = ?`.
    pub(super) fn push_to<DB: Database>(
        &self,
        query: &mut QueryBuilder<DB>,
        position: &str,
        lower: impl Fn(&str) -> String,
    ) where
        i64: Encode<'static, DB> + Type<DB>,
        String: Encode<'static, DB> + Type<DB>,
    {
        let now = self.now.as_millisecond();
        query.push(" WHERE TRUE");
        match self.filter.state {
            None => {}
            Some(KeyState::Revoked) => {
                query.push(" AND revoked_at_ms IS NOT NULL");
            }
            Some(KeyState::Disabled) => {
                query.push(" AND NOT is_active AND revoked_at_ms IS NULL");
            }
            Some(KeyState::Active) => {
                query.push(" AND is_active AND (expires_at_ms IS NULL OR expires_at_ms > ");
                query.push_bind(now).push(")");
            }
            Some(KeyState::Expired) => {
                query.push(" AND is_active AND expires_at_ms <= ").push_bind(now);
            }
        }
        if let Some(days) = self.filter.expiring_within_days {
            let length = SignedDuration::from_hours(24 * i64::from(days));
            let until = self.now.saturating_add(length).unwrap_or(Timestamp::MAX);
            query.push(" AND is_active AND expires_at_ms > ").push_bind(now);
            query.push(" AND expires_at_ms <= ").push_bind(until.as_millisecond());
        }
        let mut equal = |column: &str, value: String| {
            query.push(" AND ").push(column).push(" = ").push_bind(value);
        };
        if let Some(scope) = self.filter.scope {
            equal("scope", scope.as_str().to_owned());
        }
        if let Some(owner) = &self.filter.owner {
            equal("owner", owner.clone());
        }
        if let Some(environment) = self.filter.environment {
            equal("environment", environment.as_str().to_owned());
        }
        if let Some(text) = &self.filter.text {
            let wanted = text.to_ascii_lowercase();
            for (index, column) in ["name", "description", "owner"].into_iter().enumerate() {
                query.push(if index == 0 { " AND (" } else { " OR " });
                query.push(format!("{position}({}, ", lower(column)));
                query.push_bind(wanted.clone()).push(") > 0");
            }
            query.push(format!(" OR {position}(key_id, "));
            query.push_bind(wanted).push(") = 1)");
        }
        if let Some(after) = self.after {
            query.push(" AND (created_at_ms, key_id) < (");
            query.push_bind(after.created_at.as_millisecond()).push(", ");
            query.push_bind(after.key_id.to_string()).push(")");
        }
        query.push(" ORDER BY created_at_ms DESC, key_id DESC LIMIT ");
        query.push_bind(i64::from(self.limit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_filters_have_the_same_name() {
        let none = KeyFilter::default();
        let with = |text: &str| Some(text.to_owned());
        let filters = [
            none.clone(),
            KeyFilter { state: Some(KeyState::Active), ..none.clone() },
            KeyFilter { owner: with("active"), ..none.clone() },
            KeyFilter { owner: with(""), ..none.clone() },
            KeyFilter { text: with("active"), ..none.clone() },
            KeyFilter { owner: with("a"), text: with("b"), ..none.clone() },
            KeyFilter { owner: with("ab"), ..none.clone() },
            KeyFilter { expiring_within_days: Some(1), ..none.clone() },
            KeyFilter { scope: Some(Scope::Admin), ..none },
        ];
        let names: HashSet<_> = filters.iter().map(KeyFilter::fingerprint).collect();
        assert_eq!(names.len(), filters.len());
    }
}
