//! What the configuration says about a request's method and path.

use edge_protocol::{Scope, UsageMethod};

use filter_config::{Config, RouteMatch};

/// What is asked of a request, found once from its method and path and kept while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// No key is needed.
    pub(crate) public: bool,
    /// The scope that a key needs.
    pub(crate) needed: Scope,
    /// One bit for each limit of the configuration that counts this request.
    pub(crate) limits: u64,
    /// The method, as usage counts it.
    pub(crate) method: UsageMethod,
}

/// The path could mean one thing here and another thing upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AmbiguousPath;

impl Plan {
    pub(crate) fn of(config: &Config, method: &[u8], path: &[u8]) -> Result<Self, AmbiguousPath> {
        let path = Path::of(path)?;
        let reads = matches!(method, b"GET" | b"HEAD" | b"OPTIONS");
        let needed = config
            .scopes
            .iter()
            .find(|rule| matches(&rule.route, method, &path))
            .map_or(if reads { Scope::Read } else { Scope::Write }, |rule| rule.scope);
        let mut limits = 0;
        for (i, limit) in config.limits.iter().enumerate() {
            if matches(&limit.route, method, &path) {
                limits |= 1 << i;
            }
        }
        let public = config.public.iter().any(|route| matches(route, method, &path));
        Ok(Self { public, needed, limits, method: UsageMethod::of(method) })
    }
}

fn matches(route: &RouteMatch, method: &[u8], path: &Path<'_>) -> bool {
    (route.methods.is_empty() || route.methods.iter().any(|m| m.as_bytes() == method))
        && path.is_under(route.path_prefix.as_bytes())
}

/// A request's path, without its query, of which no two readers think differently.
struct Path<'a> {
    bytes: &'a [u8],
    /// Whether it has characters that stand for others.
    escaped: bool,
}

impl<'a> Path<'a> {
    fn of(target: &'a [u8]) -> Result<Self, AmbiguousPath> {
        let end = target.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(target.len());
        let bytes = target.get(..end).unwrap_or(target);
        refuse_ambiguous(bytes)?;
        Ok(Self { bytes, escaped: bytes.contains(&b'%') })
    }

    /// Whether it is `prefix` or lies below it. Escaped characters count as what they mean, as
    /// they do upstream. A path parameter (`;`, RFC 3986, section 3.3) ends a segment as `/` does,
    /// since many upstreams drop it.
    fn is_under(&self, prefix: &[u8]) -> bool {
        // `*` and the empty path (OPTIONS, CONNECT) are about everything.
        let path = if self.bytes.starts_with(b"/") { self.bytes } else { b"/" };
        let below =
            if self.escaped { after_escaped(path, prefix) } else { path.strip_prefix(prefix) };
        below.is_some_and(|below| {
            let next = || first_character(below).map(|(character, _)| character);
            prefix.ends_with(b"/") || matches!(next(), None | Some(b'/' | b';'))
        })
    }
}

/// What follows a prefix of a path, whose characters may be escaped.
fn after_escaped<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    prefix.iter().try_fold(path, |rest, wanted| {
        let (character, after) = first_character(rest)?;
        (character == *wanted).then_some(after)
    })
}

/// The first character of a path, unescaped (RFC 3986, section 2.1), and what follows it.
fn first_character(path: &[u8]) -> Option<(u8, &[u8])> {
    if let [b'%', high, low, rest @ ..] = path
        && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
    {
        return Some((high << 4 | low, rest));
    }
    path.split_first().map(|(first, rest)| (*first, rest))
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Refuses what a proxy that normalises paths leaves none of: escaped slashes, back-slashes, dot
/// segments (also escaped), empty segments (also with a parameter). A rule for `/admin` must not
/// be got round by `/x/../admin`, `//admin`, `/;/admin` or `/x%2f..%2fadmin`.
///
/// So is a path without its first slash, but for none at all (CONNECT) and `*` (OPTIONS): some
/// upstreams would add one, and a rule for `/admin` must not be got round by `admin` either.
fn refuse_ambiguous(path: &[u8]) -> Result<(), AmbiguousPath> {
    if !(path.starts_with(b"/") || matches!(path, b"" | b"*")) {
        return Err(AmbiguousPath);
    }
    // One pass finds whether there is anything to look at: nearly always there is not.
    let mut last = 0;
    let mut suspicious = false;
    for &byte in path {
        suspicious |=
            matches!(byte, b'%' | b'\\') || (last == b'/' && matches!(byte, b'/' | b'.' | b';'));
        last = byte;
    }
    if !suspicious {
        return Ok(());
    }
    let escaped = |hex: &[u8; 2]| {
        path.windows(3).any(|w| matches!(w, [b'%', rest @ ..] if rest.eq_ignore_ascii_case(hex)))
    };
    if path.contains(&b'\\') || escaped(b"2f") || escaped(b"5c") {
        return Err(AmbiguousPath);
    }
    let mut segments = path.split(|&b| b == b'/').peekable();
    let mut begun = false;
    while let Some(segment) = segments.next() {
        // The first is what is before the first slash; the last may be empty.
        let is_inner = std::mem::replace(&mut begun, true) && segments.peek().is_some();
        let is_empty = segment.is_empty() && is_inner;
        let is_parameter_alone = matches!(first_character(segment), Some((b';', _)));
        if is_empty || is_parameter_alone || is_dot_segment(segment) {
            return Err(AmbiguousPath);
        }
    }
    Ok(())
}

/// `.` or `..`, plain or escaped, with or without a path parameter.
fn is_dot_segment(segment: &[u8]) -> bool {
    let mut rest = segment;
    let mut dots = 0;
    loop {
        match first_character(rest) {
            None | Some((b';', _)) => return dots == 1 || dots == 2,
            Some((b'.', after)) => rest = after,
            Some(_) => return false,
        }
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
        assert_eq!(plan(&config, "GET", "/%61dmin/x").needed, Scope::Admin);
        assert_eq!(plan(&config, "GET", "/admi%6E%3Bv=1").needed, Scope::Admin);
        assert_eq!(plan(&config, "POST", "/other").needed, Scope::Write);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_rule_for_everything_covers_what_has_no_path() {
        let config = config(r#"{"version":1,"scopes":[{"path_prefix":"/","scope":"admin"}]}"#);
        for (method, path) in [("OPTIONS", "*"), ("CONNECT", ""), ("GET", "/")] {
            assert_eq!(plan(&config, method, path).needed, Scope::Admin);
        }
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
            "/;/a",
            "/a/;x=1/b",
            "/a/%2e%2e%3bx/b",
            "admin",
            "a/../b",
            "%2fadmin",
            "*/admin",
        ] {
            assert_eq!(Plan::of(&config, b"GET", path.as_bytes()), Err(AmbiguousPath), "{path}");
        }
        for path in ["/", "/a.b", "/...", "/.well-known/x", "/a%20b", "/a/b?c=//..%2f", "*", ""] {
            assert!(Plan::of(&config, b"GET", path.as_bytes()).is_ok(), "{path}");
        }
    }

    fn path() -> impl Strategy<Value = String> {
        const TOKENS: &[&str] = &[
            "/", "/", "/", "adm", "adm", "%61dm", "a%64m", ".", "..", "%2e", "%2E", "%2f", ";",
            ";x", "%3b", "x", "\\", "%5c", "A", "%",
        ];
        prop::collection::vec(prop::sample::select(TOKENS), 0..8)
            .prop_map(|tokens| format!("/{}", tokens.concat()))
    }

    fn unescaped(path: &str) -> String {
        let mut out = Vec::new();
        let mut rest = path.as_bytes();
        while let Some((&first, after)) = rest.split_first() {
            let hex = after.get(..2).and_then(|h| std::str::from_utf8(h).ok());
            let byte = hex.and_then(|h| u8::from_str_radix(h, 16).ok()).filter(|_| first == b'%');
            out.push(byte.unwrap_or(first));
            rest = if byte.is_some() { &after[2..] } else { after };
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 4096,
            failure_persistence: None,
            rng_seed: proptest::test_runner::RngSeed::Fixed(7),
            ..ProptestConfig::default()
        })]

        /// A path without escapes is read in a quicker way.
        #[wasm_bindgen_test(unsupported = test)]
        fn a_path_lies_where_it_lies_whichever_way_it_is_read(path in path(), prefix in path()) {
            if let Ok(path) = Path::of(path.as_bytes()) && !path.escaped {
                let slowly = Path { bytes: path.bytes, escaped: true };
                prop_assert_eq!(path.is_under(prefix.as_bytes()), slowly.is_under(prefix.as_bytes()));
            }
        }

        #[wasm_bindgen_test(unsupported = test)]
        fn no_accepted_path_reaches_a_protected_prefix_unseen(path in path()) {
            let config = config(r#"{"version":1,"scopes":[{"path_prefix":"/adm","scope":"admin"}]}"#);
            if let Ok(plan) = Plan::of(&config, b"GET", path.as_bytes()) {
                // What the most forgiving upstreams would make of it: one drops path parameters
                // and then unescapes, the other does it the other way round.
                let without_parameters =
                    |path: &str| path.split(['/', '\\']).map(|s| s.split(';').next().unwrap().to_owned()).collect::<Vec<_>>().join("/");
                for upstream in [unescaped(&without_parameters(&path)), without_parameters(&unescaped(&path))] {
                    let mut stack: Vec<&str> = Vec::new();
                    for segment in upstream.split(['/', '\\']) {
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
}
