//! Paths, as the gate reads them and as those behind it may.

use std::cell::RefCell;

use gate::{Decision, Problem};

use super::worker::{Worker, key};

const CONFIG: &str =
    r#"{"version":1,"limits":[],"scopes":[{"path_prefix":"/adm","scope":"admin"}]}"#;
const READER: &str =
    r#"{"key_id":"0123456789abcdef","scope":"read","environment":"live","is_active":true}"#;

thread_local! {
    /// A worker that knows a key which may read. Its clock stands still, and so does what it knows.
    static WORKER: RefCell<Worker> = RefCell::new({
        let mut worker = Worker::of(CONFIG);
        worker.learn(&key(1), READER);
        worker
    });
}

pub(crate) fn run(data: &[u8]) {
    let decision =
        WORKER.with_borrow_mut(|worker| worker.ask(b"GET", data, Some(key(1).as_bytes()), None).1);
    let end = data.iter().position(|it| b"?#".contains(it)).unwrap_or(data.len());
    let path = &data[..end];
    match decision {
        Decision::Pass(_) => {
            is_plain(path);
            for reading in readings(path) {
                assert_ne!(reading.first().map(Vec::as_slice), Some(&b"adm"[..]), "{reading:?}");
            }
        }
        Decision::Refuse(refusal) => match refusal.problem {
            Problem::Scope => {
                is_plain(path);
                let protected =
                    readings(path).any(|it| it.first().is_some_and(|first| first == b"adm"));
                assert!(protected, "refused, and no reading leads below the prefix");
            }
            other => assert_eq!(other, Problem::AmbiguousPath),
        },
        Decision::Wait => panic!("the key is known"),
    }
}

/// What is not ambiguous is what a proxy makes of it: nothing to merge, nothing to remove.
fn is_plain(path: &[u8]) {
    assert!(path.starts_with(b"/") || path.is_empty() || path == b"*", "a slash would be added");
    assert!(!path.windows(2).any(|it| it == b"//"), "slashes would be merged");
    let segments: Vec<_> = path.split(|it| *it == b'/').collect();
    for form in [segments.concat(), unescaped(path)] {
        assert!(!form.contains(&b'\\'), "back-slashes would be turned");
    }
    for segment in &segments {
        let plain = unescaped(segment);
        assert!(plain != b"." && plain != b"..", "dot segments would be removed");
        assert!(!plain.contains(&b'/'), "escaped slashes would be unescaped");
    }
}

/// What the most forgiving upstreams make of it: one drops path parameters and then unescapes, one
/// does it the other way round.
fn readings(path: &[u8]) -> impl Iterator<Item = Vec<Vec<u8>>> {
    let without_parameters = |path: &[u8]| -> Vec<u8> {
        let segments = path.split(|it| b"/\\".contains(it));
        let bare = segments.map(|it| it.split(|it| *it == b';').next().unwrap_or_default());
        bare.collect::<Vec<_>>().join(&b'/')
    };
    let forms = [unescaped(&without_parameters(path)), without_parameters(&unescaped(path))];
    forms.into_iter().map(|form| {
        let mut stack: Vec<Vec<u8>> = Vec::new();
        for segment in form.split(|it| b"/\\".contains(it)) {
            match segment {
                b"" | b"." => {}
                b".." => drop(stack.pop()),
                other => stack.push(other.to_vec()),
            }
        }
        stack
    })
}

fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|it| char::from(*it).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap());
                rest = &after[2..];
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}
