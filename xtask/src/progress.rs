//! What the tool says while it works: one line a step.

/// Announces a step.
pub fn step(what: &str) {
    eprintln!("==> {what}");
}

/// Says something within a step.
pub fn note(what: &str) {
    eprintln!("    {what}");
}
