//! What the configuration says about a request's method and path.

use edge_protocol::Scope;

use crate::config::{Config, RouteMatch};

/// What is asked of a request, found once from its method and path and kept while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// No key is needed.
    pub(crate) public: bool,
    /// The scope that a key needs.
    pub(crate) needed: Scope,
    /// One bit for each limit of the configuration that counts this request.
    pub(crate) limits: u64,
}

/// The path could mean one thing here and another thing upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AmbiguousPath;

impl Plan {
    pub(crate) fn of(config: &Config, method: &[u8], path: &[u8]) -> Result<Self, AmbiguousPath> {
        let path = without_query(path);
        refuse_ambiguous(path)?;
        let reads = matches!(method, b"GET" | b"HEAD" | b"OPTIONS");
        let needed = config
            .scopes
            .iter()
            .find(|rule| rule.route.matches(method, path))
            .map_or(if reads { Scope::Read } else { Scope::Write }, |rule| rule.scope);
        let mut limits = 0;
        for (i, limit) in config.limits.iter().enumerate() {
            if limit.route.matches(method, path) {
                limits |= 1 << i;
            }
        }
        let public = config.public.iter().any(|route| route.matches(method, path));
        Ok(Self { public, needed, limits })
    }
}

impl RouteMatch {
    fn matches(&self, method: &[u8], path: &[u8]) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|m| m.as_bytes() == method))
            && is_under(path, self.path_prefix.as_bytes())
    }
}

fn without_query(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(path.len());
    path.get(..end).unwrap_or(path)
}

/// Whether `path` is `prefix` or lies below it. A path parameter (`;`, RFC 3986, section 3.3)
/// ends a segment as `/` does, since many upstreams drop it.
fn is_under(path: &[u8], prefix: &[u8]) -> bool {
    match path.strip_prefix(prefix) {
        None => false,
        Some(rest) => prefix.ends_with(b"/") || matches!(rest.first(), None | Some(b'/' | b';')),
    }
}

/// Refuses what a proxy that normalises paths leaves none of: escaped slashes, back-slashes, dot
/// segments (also escaped), empty segments. A rule for `/admin` must not be got round by
/// `/x/../admin`, `//admin` or `/x%2f..%2fadmin`.
fn refuse_ambiguous(path: &[u8]) -> Result<(), AmbiguousPath> {
    // One pass finds whether there is anything to look at: nearly always there is not.
    let mut last = 0;
    let mut suspicious = false;
    for &byte in path {
        suspicious |= matches!(byte, b'%' | b'\\') || (last == b'/' && matches!(byte, b'/' | b'.'));
        last = byte;
    }
    if !suspicious {
        return Ok(());
    }
    let escaped = |hex: &[u8; 2]| {
        path.windows(3).any(|w| matches!(w, [b'%', rest @ ..] if rest.eq_ignore_ascii_case(hex)))
    };
    if path.contains(&b'\\')
        || escaped(b"2f")
        || escaped(b"5c")
        || path.windows(2).any(|w| w == b"//")
    {
        return Err(AmbiguousPath);
    }
    if path.split(|&b| b == b'/').any(is_dot_segment) {
        return Err(AmbiguousPath);
    }
    Ok(())
}

/// `.` or `..`, plain or escaped, with or without a path parameter.
fn is_dot_segment(segment: &[u8]) -> bool {
    let mut rest = segment.split(|&b| b == b';').next().unwrap_or_default();
    let mut dots = 0;
    loop {
        rest = match rest {
            [] => return dots == 1 || dots == 2,
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return false,
        };
        dots += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    fn config(json: &str) -> Config {
        Config::parse(json.as_bytes()).unwrap()
    }

    fn plan(config: &Config, method: &str, path: &str) -> Plan {
        Plan::of(config, method.as_bytes(), path.as_bytes()).unwrap()
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn reading_needs_read_and_all_else_write_by_default() {
        let config = config(r#"{"version":1}"#);
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(plan(&config, method, "/x").needed, Scope::Read);
        }
        for method in ["POST", "PUT", "DELETE", "PATCH", "get", "BREW"] {
            assert_eq!(plan(&config, method, "/x").needed, Scope::Write);
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn the_first_scope_rule_that_matches_decides() {
        let config = config(
            r#"{"version":1,"scopes":[
                {"path_prefix":"/admin/open","scope":"read"},
                {"path_prefix":"/admin","scope":"admin"}]}"#,
        );
        assert_eq!(plan(&config, "GET", "/admin").needed, Scope::Admin);
        assert_eq!(plan(&config, "GET", "/admin/open?x=/admin").needed, Scope::Read);
        assert_eq!(plan(&config, "GET", "/admin;v=1/x").needed, Scope::Admin);
        assert_eq!(plan(&config, "GET", "/administrator").needed, Scope::Read);
        assert_eq!(plan(&config, "POST", "/other").needed, Scope::Write);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_public_route_covers_whole_segments_only() {
        let config = config(r#"{"version":1,"public":[{"methods":["GET"],"path_prefix":"/pub"}]}"#);
        assert!(plan(&config, "GET", "/pub").public);
        assert!(plan(&config, "GET", "/pub/a?b").public);
        assert!(!plan(&config, "GET", "/public").public);
        assert!(!plan(&config, "POST", "/pub").public);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_limit_counts_what_its_methods_and_prefix_say() {
        let config = config(r#"{"version":1}"#);
        assert_eq!(plan(&config, "GET", "/").limits, 0b01);
        assert_eq!(plan(&config, "POST", "/").limits, 0b10);
        assert_eq!(plan(&config, "PUT", "/").limits, 0);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_path_of_two_meanings_is_refused() {
        let config = config(r#"{"version":1}"#);
        for path in [
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a//b",
            "//a",
            "/a/../b",
            "/a/..",
            "/./a",
            "/a/%2e%2E/b",
            "/a/.%2e/b",
            "/a/..;x=1/b",
        ] {
            assert_eq!(Plan::of(&config, b"GET", path.as_bytes()), Err(AmbiguousPath), "{path}");
        }
        for path in ["/", "/a.b", "/...", "/.well-known/x", "/a%20b", "/a/b?c=//..%2f", "*", ""] {
            assert!(Plan::of(&config, b"GET", path.as_bytes()).is_ok(), "{path}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

        #[wasm_bindgen_test(unsupported = test)]
        fn no_accepted_path_reaches_a_protected_prefix_unseen(path in "/[/a.%2eEfF;\\\\dm]{0,24}") {
            let config = config(r#"{"version":1,"scopes":[{"path_prefix":"/adm","scope":"admin"}]}"#);
            if let Ok(plan) = Plan::of(&config, b"GET", path.as_bytes()) {
                // What the most forgiving upstream would make of it.
                let upstream = path.replace("%2e", ".").replace("%2E", ".").replace("%2f", "/").replace("%2F", "/");
                let mut stack: Vec<&str> = Vec::new();
                for segment in upstream.split(['/', '\\']) {
                    let segment = segment.split(';').next().unwrap();
                    match segment {
                        "" | "." => {}
                        ".." => { stack.pop(); }
                        other => stack.push(other),
                    }
                }
                if stack.first() == Some(&"adm") {
                    prop_assert_eq!(plan.needed, Scope::Admin, "{}", path);
                }
            }
        }
    }
}
