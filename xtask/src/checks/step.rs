//! The steps, and how each went.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

/// One step of `cargo xtask test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// Formatting
    Fmt,
    /// Lints, for this machine and for WebAssembly
    Clippy,
    /// Generated files are up to date
    Codegen,
    /// Tests on this machine, all but the end-to-end ones
    Native,
    /// Tests of the pure crates as WebAssembly, in Node
    Node,
    /// The admin API, fuzzed by its description
    Api,
    /// The filter, finished
    Wasm,
    /// End-to-end tests with a real Envoy
    E2e,
    /// Each claim about security is held by a test that has passed
    Security,
}

impl Step {
    /// All of them: what fails fast comes first.
    pub const ALL: [Self; 9] = [
        Self::Fmt,
        Self::Codegen,
        Self::Clippy,
        Self::Native,
        Self::Node,
        Self::Api,
        Self::Wasm,
        Self::E2e,
        Self::Security,
    ];

    /// What it does, in a few words.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Fmt => "formatting",
            Self::Clippy => "lints, for this machine and for WebAssembly",
            Self::Codegen => "generated files are up to date",
            Self::Native => "tests on this machine",
            Self::Node => "tests of the pure crates as WebAssembly, in Node",
            Self::Api => "the admin API, fuzzed by its description",
            Self::Wasm => "the filter, finished",
            Self::E2e => "end-to-end tests with a real Envoy",
            Self::Security => "each claim about security is held by a test that has passed",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Codegen => "codegen",
            Self::Native => "native",
            Self::Node => "node",
            Self::Api => "api",
            Self::Wasm => "wasm",
            Self::E2e => "e2e",
            Self::Security => "security",
        })
    }
}

/// How a step went.
pub(super) struct Outcome {
    pub(super) step: Step,
    pub(super) passed: bool,
    pub(super) took: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed { "passed" } else { "FAILED" };
        let seconds = self.took.as_secs();
        write!(f, "{verdict}  {:8} {:3} min {:02} s", self.step, seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::Step;
    use clap::ValueEnum;

    #[test]
    fn every_step_is_run_and_is_named_as_on_the_command_line() {
        for step in Step::value_variants() {
            assert!(Step::ALL.contains(step), "{step}");
            assert_eq!(step.to_possible_value().unwrap().get_name(), step.to_string());
        }
    }
}
