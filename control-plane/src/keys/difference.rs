//! What a change has changed, for the audit log.

use edge_protocol::{Algorithm, KeyLimit, OnOutage, Reach};
use std::fmt::{self, Write};

use super::Key;

/// The fields that two states of a key differ in, as `field=old->new` pairs.
///
/// Names and owners are in quotes with everything escaped that could be taken for another part of
/// the line. Of descriptions and metadata it is only said that they have changed: they are long,
/// and nobody knows what is in them.
pub(super) struct Difference<'a>(pub(super) &'a Key, pub(super) &'a Key);

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(old, new) = self;
        let mut fields = Fields { to: f, first: true };
        fields.add("scope", old.scope, new.scope)?;
        fields.add("is_active", old.is_active, new.is_active)?;
        fields.add("expires_at", Expiry(old), Expiry(new))?;
        fields.add("allowed_ips", Networks(old), Networks(new))?;
        fields.add("rate_limit", Limit(old.rate_limit), Limit(new.rate_limit))?;
        fields.add("name", Quoted(Some(&old.name)), Quoted(Some(&new.name)))?;
        fields.add("owner", Quoted(old.owner.as_deref()), Quoted(new.owner.as_deref()))?;
        fields.mention("description", old.description == new.description)?;
        fields.mention("metadata", old.metadata == new.metadata)
    }
}

struct Fields<'a, 'f> {
    to: &'a mut fmt::Formatter<'f>,
    first: bool,
}

impl Fields<'_, '_> {
    fn add(&mut self, name: &str, old: impl fmt::Display, new: impl fmt::Display) -> fmt::Result {
        let (old, new) = (old.to_string(), new.to_string());
        if old == new {
            return Ok(());
        }
        self.separate()?;
        write!(self.to, "{name}={old}->{new}")
    }

    fn mention(&mut self, name: &str, same: bool) -> fmt::Result {
        if same {
            return Ok(());
        }
        self.separate()?;
        write!(self.to, "{name}=changed")
    }

    fn separate(&mut self) -> fmt::Result {
        if std::mem::take(&mut self.first) { Ok(()) } else { self.to.write_char(' ') }
    }
}

struct Expiry<'a>(&'a Key);

impl fmt::Display for Expiry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.expires_at {
            Some(end) => write!(f, "{end}"),
            None => f.write_str("never"),
        }
    }
}

struct Networks<'a>(&'a Key);

impl fmt::Display for Networks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.allowed_ips.is_empty() {
            return f.write_str("anywhere");
        }
        for (index, network) in self.0.allowed_ips.iter().enumerate() {
            write!(f, "{}{network}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

struct Limit(Option<KeyLimit>);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(KeyLimit { requests, window_seconds, algorithm, reach, on_outage }) = self.0
        else {
            return f.write_str("none");
        };
        write!(f, "{requests}/{window_seconds}s")?;
        // What is as usual is left out.
        f.write_str(match algorithm {
            Algorithm::FixedWindow => "",
            Algorithm::SlidingWindow => ",sliding_window",
            Algorithm::TokenBucket => ",token_bucket",
        })?;
        f.write_str(match reach {
            Reach::Envoy => "",
            Reach::Fleet => ",fleet",
        })?;
        f.write_str(match on_outage {
            OnOutage::Deny => "",
            OnOutage::Allow => ",on_outage=allow",
        })
    }
}

struct Quoted<'a>(Option<&'a str>);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(text) = self.0 else {
            return f.write_str("none");
        };
        f.write_char('"')?;
        for c in text.chars() {
            // `|`, `=` and `>` are what the line is made of.
            let plain = c.is_alphanumeric()
                || matches!(c, ' ' | '-' | '_' | '.' | ',' | ':' | '/' | '@' | '+');
            if plain { f.write_char(c)? } else { write!(f, "{}", c.escape_unicode())? }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, at, request};
    use proptest::prelude::*;

    fn key(name: &str) -> Key {
        let new = request(name).check(at(START)).expect("valid");
        new.into_key(key_policy::KeyId::from_u64(1), at(START))
    }

    #[test]
    fn every_field_that_can_change_is_told_with_what_it_was_and_is() {
        let old = key("billing");
        assert_eq!(Difference(&old, &old).to_string(), "");
        let new = Key {
            scope: edge_protocol::Scope::Admin,
            is_active: false,
            expires_at: Some(at("2027-01-01T00:00:00Z")),
            allowed_ips: vec!["10.0.0.0/8".parse().expect("net"), "::1/128".parse().expect("net")],
            rate_limit: Some(KeyLimit {
                requests: 5,
                window_seconds: 60,
                algorithm: Algorithm::FixedWindow,
                reach: Reach::Envoy,
                on_outage: OnOutage::Allow,
            }),
            owner: Some("Team A".to_owned()),
            description: Some("the password is swordfish".to_owned()),
            metadata: [("token".to_owned(), "swordfish".into())].into_iter().collect(),
            ..key("nightly")
        };
        assert_eq!(
            Difference(&old, &new).to_string(),
            "scope=read->admin is_active=true->false expires_at=never->2027-01-01T00:00:00Z \
             allowed_ips=anywhere->10.0.0.0/8,::1/128 rate_limit=none->5/60s,on_outage=allow \
             name=\"billing\"->\"nightly\" owner=none->\"Team A\" description=changed metadata=changed"
        );
    }

    proptest! {
        #[test]
        fn a_name_cannot_be_taken_for_another_part_of_the_line(name in "\\PC{1,60}") {
            let quoted = Quoted(Some(&name)).to_string();
            let inside = quoted.strip_prefix('"').and_then(|it| it.strip_suffix('"')).expect("quotes");
            prop_assert!(!inside.contains(['"', '|', '=', '>', '\n', '\r']));
        }
    }
}
